"""Training, testing and analysis of `experiments.occlusion`."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch

from pcsim import Iterate, Network, Record, Simulator, models, stimuli
from pcsim.analysis import compare_pairs, correct_choices, error_rate, hit_rate, state_change
from pcsim.core import storage
from pcsim.network.saving import save_network
from pcsim.training import Training, evaluate

from .. import base
from ..base import TEST_SEED
from .options import Occlusion

DEBRIS = ("debris-light", "debris-moderate", "debris-heavy")
CLUTTER = ("clutter-light", "clutter-moderate", "clutter-heavy")
LESIONS = {"no lateral": ("lateral",), "no top-down": ("top_down",), "neither": ("lateral", "top_down")}
SHOWN = 8
SETTLING_IMAGES, SETTLING_STEPS = 100, 12


def check(config: Occlusion) -> None:
    """Raise an error for invalid options before any network is trained."""
    for model in config.models:
        models.build(model, channels=(config.width, config.width), unroll=config.unroll)
        if config.pretrained:
            models.build(model, weights=config.task)
    glyphs(config, "test")


def find(config: Occlusion) -> dict[str, Any]:
    """Train, test and analyse all networks; export the trained networks as small weight files."""
    keys = [(model, seed) for seed in config.seeds for model in config.models[::-1]]
    if not config.pretrained:
        base.train_all(config, fit, keys)
    for _ in base.run_jobs(score, [(config, *key) for key in keys], config.workers, "testing"):
        pass
    results = analyse(config)
    if not config.pretrained:
        export(config, results)
    return results


# ---------------------------------------------------------------------- training and testing


def settings_for(config: Occlusion, repetition: int) -> Training:
    """Return the training settings of one repetition, with its own seed and the loss of the task."""
    loss: Literal["softmax", "sigmoid"] = "sigmoid" if config.task in CLUTTER else "softmax"
    return dataclasses.replace(config.training, loss=loss, seed=repetition)


def options_for(config: Occlusion) -> dict[str, Any]:
    """Return the options for building the networks."""
    return {"channels": (config.width, config.width), "unroll": config.unroll}


def fit(config: Occlusion, model: str, repetition: int) -> list[float]:
    """Train one network, or resume its training, and return the loss curve."""
    seed = hashlib.sha256(f"{model} {repetition}".encode()).digest()[:4]
    torch.manual_seed(int.from_bytes(seed))
    network = models.build(model, **options_for(config))
    shown = stimuli.scenes(config.task, repetition, 0, config.images, glyphs(config, "train"))
    settings, images = settings_for(config, repetition), torch.from_numpy(shown.images)
    return base.fit(config, network, images, shown.targets(), settings, model, repetition)


def trained(config: Occlusion, model: str, repetition: int) -> Network:
    """Return the trained network."""
    if config.pretrained:
        return models.build(model, weights=config.task).to(base.device_of(config))
    return base.trained(config, models.build(model, **options_for(config)), model, repetition)


def score(config: Occlusion, model: str, repetition: int) -> None:
    """Test one network in each condition, intact and lesioned; write whether each answer at each step is correct."""
    path = base.kept(config, "scores", model, repetition)
    if path.exists():
        return
    network = trained(config, model, repetition)
    tensors: dict[str, torch.Tensor] = {}
    for condition in test_conditions(config.task):
        shown = test_scenes(config, condition, config.test_images)
        images, targets = shown.pixels(), shown.targets()
        logits = evaluate(network, images)
        tensors[f"{condition}/intact"] = correct_choices(logits, targets)
        tensors[f"{condition}/hits"] = hit_rate(logits[-1:], targets)[0]
        for name, kinds in LESIONS.items() if condition in lesion_conditions(config.task) else ():
            if {edge.kind for edge in network.projections}.issuperset(kinds):
                tensors[f"{condition}/{name}"] = correct_choices(evaluate(network.without(*kinds), images), targets)
    tensors |= settling(config, network)
    shown = test_scenes(config, config.task, SHOWN)
    tensors["guesses"] = probabilities(config, evaluate(network, shown.pixels()))
    storage.write_tensors(path, {k: v.contiguous() for k, v in tensors.items()}, {"kind": "scores"})


def settling(config: Occlusion, network: Network) -> dict[str, torch.Tensor]:
    """Return the relative state change of the top area for `SETTLING_STEPS` steps, or {} for one-step networks."""
    if network.steps == 1:
        return {}
    sim, changes = Simulator(network, solver=Iterate(), record=Record(states=["l2"])), {}
    for condition in settling_conditions(config):
        states = sim(test_scenes(config, condition, SETTLING_IMAGES).pixels(), steps=SETTLING_STEPS)["l2"]
        changes[f"settling/{condition}"] = state_change(states.cpu()).median(1).values
    return changes


def settling_conditions(config: Occlusion) -> tuple[str, ...]:
    """Return the conditions of the settling analysis: clean, and the conditions used to test lesions."""
    return tuple(dict.fromkeys(("clean", *lesion_conditions(config.task))))


def probabilities(config: Occlusion, logits: torch.Tensor) -> torch.Tensor:
    """Convert the readout to probabilities of the digits."""
    return logits.sigmoid() if config.task in CLUTTER else logits.softmax(-1)


def test_conditions(task: str) -> tuple[str, ...]:
    """Return the test conditions for networks trained on `task`."""
    if task in CLUTTER:
        return ("clean", *CLUTTER, "debris-light", "noise")
    return ("clean", *DEBRIS, "clutter-light", "noise")


def lesion_conditions(task: str) -> tuple[str, str]:
    """Return the training condition and the hardest one of its type, or "clean" and `task` if these are the same."""
    hardest = CLUTTER[-1] if task in CLUTTER else DEBRIS[-1]
    return (task, hardest) if task != hardest else ("clean", task)


def test_scenes(config: Occlusion, condition: str, count: int) -> stimuli.Scenes:
    """Generate the first `count` test images, which are the same for all networks and are never used in training."""
    return stimuli.scenes(condition, TEST_SEED, 0, min(count, config.test_images), glyphs(config, "test"))


def glyphs(config: Occlusion, split: str) -> stimuli.Glyphs | None:
    """Return the MNIST glyphs, or None if the digits are rendered from a font."""
    return handwritten(split, config.mnist) if config.digits == "handwritten" else None


@cache
def handwritten(split: str, folder: Path | None) -> stimuli.Glyphs:
    """Load the MNIST digits, once per process."""
    return stimuli.HandwrittenGlyphs(split, folder)


def label(model: str) -> str:
    """Return the paper's name for a model; for example, blt_bf becomes BF."""
    return model.removeprefix("blt_").upper()


def export(config: Occlusion, results: dict) -> None:
    """Save the networks of the first repetition as small files for `pcsim.load` and `pcsim.models.weights`."""
    for model in config.models:
        errors = {c: by_model[label(model)][0] for c, by_model in results["error_by_repetition"].items()}
        save_network(
            trained(config, model, config.seed),
            config.out / "weights" / f"{model}.{config.task}.safetensors",
            overwrite=True,
            about={"trained_with": base.recorded(config), "error": errors},
        )


# ---------------------------------------------------------------------- analysis


def analyse(config: Occlusion) -> dict[str, Any]:
    """Compute all numbers for the tables and figures from the saved scores."""
    scores = {
        label(model): [storage.read_tensors(base.kept(config, "scores", model, r), "scores")[0] for r in config.seeds]
        for model in config.models
    }
    results: dict[str, Any] = {"parameters": {label(m): count_parameters(config, m) for m in config.models}}
    results["trained_steps"] = max(models.build(m).steps or 1 for m in config.models)
    per_condition: dict[str, Any] = {
        key: {} for key in ("chance", "error", "error_by_repetition", "hit_rate", "mcnemar", "accuracy_over_time")
    }
    for condition in test_conditions(config.task):
        correct = {model: torch.stack([s[f"{condition}/intact"] for s in rows]) for model, rows in scores.items()}
        final = {model: value[:, -1].numpy() for model, value in correct.items()}
        hits = {model: torch.stack([s[f"{condition}/hits"] for s in rows]) for model, rows in scores.items()}
        numbers = (
            1 - 1 / math.comb(10, stimuli.CONDITIONS[condition].digits),
            {model: vars(error_rate(value)) for model, value in final.items()},
            {model: (1 - value.mean(1)).tolist() for model, value in final.items()},
            {model: base.finite_or_none(value.double().mean()) for model, value in hits.items()},
            [vars(pair) | {"significant": pair.significant} for pair in compare_pairs(final)],
            {model: value.double().mean((0, 2)).tolist() for model, value in correct.items()},
        )
        for key, value in zip(per_condition, numbers, strict=True):
            per_condition[key][condition] = value
    results |= per_condition
    results["lesions_at_test"] = lesion_costs(config, scores)
    results["settling"] = {
        model: {
            c: base.finite_or_none(torch.stack([s[f"settling/{c}"] for s in rows]).mean(0))
            for c in settling_conditions(config)
        }
        for model, rows in scores.items()
        if f"settling/{config.task}" in rows[0]
    }
    results["loss_per_step"] = {} if config.pretrained else loss_curves(config)
    results["guesses"] = {model: base.finite_or_none(rows[0]["guesses"]) for model, rows in scores.items()}
    return results


def lesion_costs(config: Occlusion, scores: dict[str, list[dict[str, torch.Tensor]]]) -> dict[str, Any]:
    """Return the final error of recurrent networks, by condition, network and lesion (including "intact")."""
    costs: dict[str, Any] = {}
    for condition in lesion_conditions(config.task):
        for model, rows in scores.items():
            kinds = [name for name in LESIONS if f"{condition}/{name}" in rows[0]]
            for name in ("intact", *kinds) if kinds else ():
                correct = torch.stack([s[f"{condition}/{name}"][-1] for s in rows])
                costs.setdefault(condition, {}).setdefault(model, {})[name] = 1 - correct.double().mean().item()
    return costs


def count_parameters(config: Occlusion, model: str) -> int:
    """Return the number of learnable parameters of a network."""
    options = models.weights.about(model, config.task)["options"] if config.pretrained else options_for(config)
    return models.build(model, **options).parameter_count


def loss_curves(config: Occlusion) -> dict[str, list[float]]:
    """Return the loss curves of the first repetition, divided by the number of steps over which the loss is summed."""
    curves = {}
    for model in config.models:
        _, facts = storage.read_tensors(base.kept(config, "training", model, config.seed), "training")
        summed = models.build(model, **options_for(config)).steps if config.training.over_time == "sum" else 1
        curves[label(model)] = [value / (summed or 1) for value in facts["history"]]
    return curves
