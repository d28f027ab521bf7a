"""Readouts, tuning and scores that all conditions of `experiments.attention` share."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from pcsim import Iterate, Network, Record, Simulator, analysis, stimuli
from pcsim.stimuli import Timeline

from .options import Attention

WEIGHTS = "debris-light"
AREAS = {"l1": ("l1",), "l2": ("l2",), "all": ("l1", "l2")}


def tuning(config: Attention, net: Network, seed: int) -> dict[str, Tensor]:
    """Return the tuning of each area for digits, measured with single digits that are not test images."""
    digits = stimuli.scenes("clean", seed, 0, config.tuning_images)
    run = Simulator(net, solver=Iterate(), record=Record(states=AREAS["all"]))(digits.pixels())
    labels = torch.from_numpy(digits.identities[:, 0])
    return {name: analysis.tuning(run[name], labels) for name in AREAS["all"]}


def reader(net: Network) -> Simulator:
    """Return a simulator that records the readout; reuse it for all cues, because its first run is the slowest."""
    return Simulator(net, solver=Iterate(), record=Record(states=["readout"]))


def readouts(sim: Simulator, given: Mapping[str, Tensor | Timeline], steps: int | None = None) -> Tensor:
    """Return the readout at every step, (time, n, classes)."""
    return sim(given, steps=steps)["readout"].detach()


def percent(cell: dict[str, float]) -> str:
    """Format an estimate in percent, with its interval."""
    return f"{100 * cell['mean']:.1f} [{100 * cell['low']:.1f}, {100 * cell['high']:.1f}]"


def detection(present: Tensor, missing: Tensor, scores: dict[str, Tensor]) -> float:
    """Return the area under the ROC curve of a digit's readout, for images with versus without the digit.

    present, missing  readouts (time, n, classes) with a cue to the target, and with a cue to the foil
    """
    rows = torch.arange(present.shape[1])
    hits, alarms = present[-1, rows, scores["blend"]], missing[-1, rows, scores["foil"]]
    wins = (hits[:, None] > alarms).double() + 0.5 * (hits[:, None] == alarms).double()
    return wins.mean().item()
