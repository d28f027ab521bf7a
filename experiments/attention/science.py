"""Runs and analysis of `experiments.attention`."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from pcsim import Iterate, Network, Record, Simulator, analysis, models, stimuli
from pcsim.core import storage

from .. import base
from ..base import TEST_SEED
from .options import Attention

WEIGHTS = "debris-light"
AREAS = {"l1": ("l1",), "l2": ("l2",), "all": ("l1", "l2")}
GOALS = ("valid", "invalid", "neutral", "foil")
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
    jobs = [(config, seed) for seed in config.seeds]
    for _ in base.run_jobs(measure, jobs, config.workers, "attention"):
        pass
    return analyse(config)


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
            for cue in (*GOALS, "absent"):
                given = {"image": blends.pixels(), "goal": blends.goals(cast(Any, cue))}
                found[f"blend/{name}/{strength:g}/{cue}"] = readouts(cued, given)
    cued = models.attend(net, *AREAS["all"], feature=tuned, strength=strongest, port="value")
    for lesion, kinds in LESIONS.items():
        for cue in ("valid", "absent"):
            given = {"image": blends.pixels(), "goal": blends.goals(cast(Any, cue))}
            if {edge.kind for edge in cued.projections}.issuperset(kinds):
                found[f"lesion/{lesion}/{cue}"] = readouts(cued.without(*kinds), given)
    larger = models.build(config.model, weights=WEIGHTS, image=arrays.images.shape[1:])
    for name, areas in AREAS.items():
        cued = models.attend(larger, *areas, place=True, strength=strongest)
        for cue in (*PLACES, "absent"):
            given = {"image": arrays.pixels(), "spotlight": arrays.spotlights(cast(Any, cue))}
            found[f"array/{name}/{strongest:g}/{cue}"] = readouts(cued, given)
    storage.write_tensors(path, {key: value.contiguous() for key, value in found.items()}, {"kind": "scores"})


def tuning(config: Attention, net: Network, seed: int) -> dict[str, Tensor]:
    """Return the tuning of each area for digits, measured with single digits that are not test images."""
    digits = stimuli.scenes("clean", seed, 0, config.tuning_images)
    run = Simulator(net, solver=Iterate(), record=Record(states=AREAS["all"]))(digits.pixels())
    labels = torch.from_numpy(digits.identities[:, 0])
    return {name: analysis.tuning(run[name], labels) for name in AREAS["all"]}


def readouts(net: Network, given: dict[str, Tensor]) -> Tensor:
    """Return the readout at every step, (time, n, classes)."""
    return Simulator(net, solver=Iterate(), record=Record(states=["readout"]))(given)["readout"].detach()


# ---------------------------------------------------------------------- analysis


def analyse(config: Attention) -> dict[str, Any]:
    """Compute accuracies, their time courses and the detection of the cued digit from the saved readouts."""
    sets = [storage.read_tensors(base.kept(config, "scores", seed), "scores")[0] for seed in config.seeds]
    keys = [key for key in sets[0] if "/" in key]
    results: dict[str, Any] = {"accuracy": {}, "accuracy_over_time": {}, "foil_answers": {}, "detection": {}}
    for key in keys:
        task = "array" if key.startswith("array") else "blend"
        answers = torch.stack([scores[key].argmax(-1) for scores in sets], dim=1)  # (time, set, image)
        correct = answers == torch.stack([scores[task] for scores in sets])
        error = analysis.error_rate(correct[-1].numpy())
        results["accuracy"][key] = {"mean": 1 - error.mean, "low": 1 - error.high, "high": 1 - error.low}
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


def detection(present: Tensor, missing: Tensor, scores: dict[str, Tensor]) -> float:
    """Return the area under the ROC curve of the readout of a digit, in the image against not in the image.

    present, missing  readouts (time, n, classes) of the images with a cue to the target, and to the foil
    """
    rows = torch.arange(present.shape[1])
    hits, alarms = present[-1, rows, scores["blend"]], missing[-1, rows, scores["foil"]]
    wins = (hits[:, None] > alarms).double() + 0.5 * (hits[:, None] == alarms).double()
    return wins.mean().item()
