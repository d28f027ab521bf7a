"""Networks of `experiments.object_solution_time`, with functions to train, lesion and run them."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcsim import Euler, Iterate, Network, Record, Run, models, simulate

from .. import base, flows
from .options import Name, ObjectSolutionTime

AREAS = {
    "cornet_s": ("v1", "v2", "v4", "it"),
    "blt": ("l1", "l2"),
    "predictive_coding": ("r1", "r2"),
    "feed_forward": ("l1", "l2"),
}
"""areas of each network, from lowest to highest"""
DECODED = {"cornet_s": "it", "blt": "l2", "predictive_coding": "r1", "feed_forward": "l2"}
"""area from which the digit is decoded: the top area, except in predictive coding, whose r2 has one unit per digit"""
LESIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "cornet_s": {},
    "blt": {"without top-down": ("top_down",), "without recurrence": ("top_down", "lateral")},
    "predictive_coding": {"without predictions": ("prediction",)},
    "feed_forward": {},
}
"""kinds of projections that are cut in the trained network; in predictive coding, top-down projections are predictions.

CORnet-S has no top-down projections. It cannot be tested without recurrence, because each repeat replaces the state of
its area, so the image would be lost."""
INTACT = "intact"
SWEEPS = 8
"""number of steps of the feed-forward network, whose activity does not change over time"""


def build(config: ObjectSolutionTime, name: Name) -> Network:
    """Build an untrained network."""
    if name == "cornet_s":
        c = config.channels
        return models.cornet_s((c, 2 * c, 3 * c, 4 * c), image=(1, side(name), side(name)), classes=10)
    return (
        models.blt_b(channels=(8, 8), image=(1, flows.SIDE, flows.SIDE))
        if name == "feed_forward"
        else flows.build(name)
    )


def side(name: Name) -> int:
    """Return the image side in pixels: full resolution for CORnet-S, because it halves its maps five times."""
    return flows.FULL_SIDE if name == "cornet_s" else flows.SIDE


def fit(config: ObjectSolutionTime, name: Name) -> list[float]:
    """Train one network, or resume its training, and return the loss curve."""
    if name in ("blt", "predictive_coding"):
        return flows.fit(config, name, config.recipe)
    torch.manual_seed(config.seed)
    network, recipe = build(config, name), config.recipe
    shown = flows.digits(recipe.fragments, config.seed, recipe.images, side(name))
    settings = dataclasses.replace(config.training, seed=config.seed)
    return base.fit(config, network, shown.images, shown.targets, settings, name)


def trained(config: ObjectSolutionTime, name: Name, lesion: str = INTACT) -> Network:
    """Return the trained network, intact or with projections cut."""
    network = base.trained(config, build(config, name), name)
    return network if lesion == INTACT else network.without(*LESIONS[name][lesion])


def run_on(config: ObjectSolutionTime, network: Network, images: Tensor, record: Record) -> Run:
    """Run a network on images.

    Flows run for `config.until` ms, CORnet-S for its own number of steps, and B for `SWEEPS` steps.
    """
    if network.is_flow:
        record = dataclasses.replace(record, every=max(1, round(config.every / config.dt)))
        return simulate(network, images, solver=Euler(config.dt), until=config.until, record=record)
    steps = SWEEPS if network.steps == 1 else network.steps
    return simulate(network, images, solver=Iterate(), steps=steps or 1, record=record)


def decoding_times(network: Network, run_: Run, area: str) -> tuple[NDArray, NDArray[np.int64]]:
    """Return the decoding times of an area in ms after image onset, (time,), and the corresponding rows of the run.

    Flows are decoded from image onset. Discrete networks are decoded while the area is active, and steps are converted
    to ms by the network's own mapping.
    """
    if network.is_flow:
        return np.asarray(run_.times), np.arange(len(run_.times))
    begin, end = network.populations[area].active or (0, len(run_.times))
    rows = np.arange(int(begin), int(end))
    return np.array([network.time_of(area, int(row)) for row in rows]), rows
