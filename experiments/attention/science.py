"""Runs and analysis of `experiments.attention`."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from pcsim import models, stimuli
from pcsim.core import storage

from .. import base
from ..base import TEST_SEED
from . import steering
from .measures import AREAS, WEIGHTS, detection, reader, readouts, tuning
from .options import Attention

GOALS = ("valid", "invalid", "neutral", "foil")
SPOTLIGHTS = ("multiplicative", "divisive")
"""drive (1 + s mask), or drive / (1 + s (1 - mask)): at the same s, both have the same ratio of centre to surround"""
PLACES = ("valid", "invalid", "neutral")
LESIONS = {
    "no modulatory": ("modulatory",),
    "no top-down": ("top_down",),
    "no lateral": ("lateral",),
    "neither": ("top_down", "lateral"),
}


def check(config: Attention) -> None:
    """Raise an error for an unknown network before anything is computed."""
    models.build(config.model, weights=WEIGHTS)


def find(config: Attention) -> dict[str, Any]:
    """Run all conditions for each set of images, and analyse the answers."""
    jobs = [(config, part, seed) for part in PARTS for seed in config.seeds]
    for _ in base.run_jobs(run_part, jobs, config.workers, "attention"):
        pass
    return analyse(config) | {"steering": steering.analyse(config)}


def run_part(config: Attention, part: str, seed: int) -> None:
    """Run one part of the experiment for one set of images."""
    PARTS[part](config, seed)


def measure(config: Attention, seed: int) -> None:
    """Write the readout of every condition for one set of images."""
    path = base.kept(config, "scores", seed)
    if path.exists():
        return
    blends = stimuli.digit_blends(TEST_SEED + seed, 0, config.images)
    arrays = stimuli.digit_arrays(TEST_SEED + seed, 0, config.images)
    found: dict[str, Tensor] = {"foil": blends.labels("foil"), "blend": blends.labels(), "array": arrays.labels()}
    net = models.build(config.model, weights=WEIGHTS)
    tuned = tuning(config, net, seed)
    strongest = config.strengths[-1]
    for name, areas in AREAS.items():
        for strength in config.strengths:
            cued = models.attend(net, *areas, feature=tuned, strength=strength, port="value")
            sim = reader(cued)
            for cue in (*GOALS, "absent"):
                given = {"image": blends.pixels(), "goal": blends.goals(cast(Any, cue))}
                found[f"blend/{name}/{strength:g}/{cue}"] = readouts(sim, given)
    cued = models.attend(net, *AREAS["all"], feature=tuned, strength=strongest, port="value")
    for lesion, kinds in LESIONS.items():
        if {edge.kind for edge in cued.projections}.issuperset(kinds):
            sim = reader(cued.without(*kinds))
            for cue in ("valid", "absent"):
                given = {"image": blends.pixels(), "goal": blends.goals(cast(Any, cue))}
                found[f"lesion/{lesion}/{cue}"] = readouts(sim, given)
    larger = models.build(config.model, weights=WEIGHTS, image=arrays.images.shape[1:])
    for name, areas in AREAS.items():
        sim = reader(models.attend(larger, *areas, place=True, strength=strongest))
        for cue in (*PLACES, "absent"):
            given = {"image": arrays.pixels(), "spotlight": arrays.spotlights(cast(Any, cue))}
            found[f"array/{name}/{strongest:g}/{cue}"] = readouts(sim, given)
    storage.write_tensors(path, {key: value.contiguous() for key, value in found.items()}, {"kind": "scores"})


def compare_spotlights(config: Attention, seed: int) -> None:
    """Write the readout of arrays with multiplicative and divisive spotlights for one set of images."""
    path = base.kept(config, "spotlights", seed)
    if path.exists():
        return
    arrays = stimuli.digit_arrays(TEST_SEED + seed, 0, config.images)
    net, found = models.build(config.model, weights=WEIGHTS, image=arrays.images.shape[1:]), {}
    for kind in SPOTLIGHTS:
        for strength in config.spotlight_strengths:
            cued = models.attend(net, *AREAS["all"], place=True, strength=strength, divisive=kind == "divisive")
            sim = reader(cued)
            for cue in ("valid", "invalid"):
                mask = arrays.spotlights(cast(Any, cue))
                given = {"image": arrays.pixels(), "spotlight": 1 - mask if kind == "divisive" else mask}
                found[f"array/{kind}/{strength:g}/{cue}"] = readouts(sim, given)
    storage.write_tensors(path, {key: value.contiguous() for key, value in found.items()}, {"kind": "spotlights"})


PARTS = {"steering": steering.steer, "spotlights": compare_spotlights, "gains": measure}


# ---------------------------------------------------------------------- analysis


def analyse(config: Attention) -> dict[str, Any]:
    """Compute accuracies, their time courses and the detection of the cued digit from the saved readouts."""
    sets = [
        storage.read_tensors(base.kept(config, "scores", seed), "scores")[0]
        | storage.read_tensors(base.kept(config, "spotlights", seed), "spotlights")[0]
        for seed in config.seeds
    ]
    keys = [key for key in sets[0] if "/" in key]
    results: dict[str, Any] = {"accuracy": {}, "accuracy_over_time": {}, "foil_answers": {}, "detection": {}}
    for key in keys:
        task = "array" if key.startswith("array") else "blend"
        answers = torch.stack([scores[key].argmax(-1) for scores in sets], dim=1)  # (time, set, image)
        correct = answers == torch.stack([scores[task] for scores in sets])
        results["accuracy"][key] = base.accuracy(correct[-1])
        results["accuracy_over_time"][key] = correct.double().mean((1, 2)).tolist()
        if task == "blend":
            foils = torch.stack([scores["foil"] for scores in sets])
            results["foil_answers"][key] = (answers[-1] == foils).double().mean().item()
    for key in keys:
        if key.startswith("blend") and key.endswith("valid") and not key.endswith("invalid"):
            with_cue = [detection(s[key], s[key.replace("valid", "foil")], s) for s in sets]
            absent = key.replace("valid", "absent")
            without_cue = [detection(s[absent], s[absent], s) for s in sets]
            results["detection"][key.removesuffix("/valid")] = {"cued": with_cue, "uncued": without_cue}
    return results
