"""Recipes for networks that classify digits: backpropagation through time, the local rule, and the BLT family."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from pcsim import Euler, Iterate, Network, Record, Run, models, simulate, stimuli
from pcsim.analysis import correct_choices
from pcsim.stimuli import Condition
from pcsim.training import Training, evaluate, local, train

from ..occlusion.options import PRESETS as OCCLUSION
from ..occlusion.science import fit as fit_occlusion
from ..occlusion.science import trained as trained_on_occlusion
from .recipe import Recipe, Saving, Values, set_bias

SIDE = 32
"""side length of the images that `stimuli.scenes` draws, in pixels"""


@dataclass(frozen=True)
class Digits:
    """Images of digits under `fragments` pieces of debris, at random positions or centred, pooled to `side` pixels."""

    fragments: int = 0
    spread: float = 1.0
    side: int = SIDE

    def draw(self, seed: int, count: int) -> tuple[Tensor, Tensor]:
        """Return images (n, 1, side, side) in [0, 1] and one-hot targets (n, 10)."""
        shown = stimuli.scenes(Condition(fragments=self.fragments, spread=self.spread), seed, 0, count)
        return functional.avg_pool2d(shown.pixels(), SIDE // self.side), shown.targets()

    def under(self, fragments: int) -> Digits:
        """Return the same digits under a different number of fragments."""
        return dataclasses.replace(self, fragments=fragments)


def conditions(fragments: tuple[int, ...]) -> dict[str, int]:
    """Return the name of each test condition and its number of fragments."""
    return {"clean" if each == 0 else f"{each} fragments": each for each in fragments}


@dataclass(frozen=True, kw_only=True)
class Supervised(Recipe):
    """Backpropagation through time on digits."""

    options: Mapping[str, Any]
    digits: Digits
    images: int
    training: Training
    tested: tuple[int, ...]
    """numbers of fragments of the test images"""
    dt: float | None = None
    """Euler step in training, ms; None for a discrete network"""
    test_dt: float | None = None
    """Euler step in tests, ms"""
    until: float = 0.0
    """duration of a run in training and tests, ms; for a discrete network, `net.steps` steps"""

    @property
    def settings(self) -> tuple[Training, ...]:
        """The settings of each training stage."""
        return (self.training,)

    def fit(self, seed: int, saving: Saving) -> Network:
        """Train a network, or resume its training."""
        torch.manual_seed(seed)
        network = models.build(self.model, **self.options)
        images, targets = self.digits.draw(seed, self.images)
        settings = dataclasses.replace(self.training, seed=seed)
        running: dict[str, Any] = {}
        if self.dt is not None:
            running = {"solver": Euler(self.dt), "steps": round(self.until / self.dt)}
        train(network, images, targets, settings, **running, **saving.options("training"))
        return network.eval()

    def score(self, network: Network, seed: int, count: int) -> Values:
        """Return whether the last answer to each image is correct and how prediction errors, if any, change."""
        found: Values = {}
        for name, fragments in conditions(self.tested).items():
            images, targets = self.digits.under(fragments).draw(seed, count)
            running: dict[str, Any] = {}
            if self.test_dt is not None:
                running = {"solver": Euler(self.test_dt), "steps": round(self.until / self.test_dt)}
            answers = evaluate(network, images, **running)
            found[f"accuracy, {name}"] = correct_choices(answers, targets)[-1].double().numpy()
            if network.errors:
                found |= relative_errors(network, images, name)
        return found


def relative_errors(network: Network, images: Tensor, name: str) -> Values:
    """Return the squared error of the predicted image relative to the image, at the first and last cycles."""
    record = Record(errors=["e0"], relative=True)
    error = simulate(network, images, solver=Iterate(), steps=network.steps, record=record).relative_errors["e0"]
    values = error.double().numpy()
    return {
        f"relative image error in cycle 1, {name}": values[0],
        f"relative image error in cycle {len(values)}, {name}": values[-1],
        f"image error falls, {name}": (values[-1] < values[0]).astype(float),
    }


@dataclass(frozen=True, kw_only=True)
class LocalRule(Recipe):
    """Hierarchical predictive coding: the image at the bottom, the digit at the top, learned with the local rule."""

    options: Mapping[str, Any]
    digits: Digits
    images: int
    training: Training
    tested: tuple[int, ...]
    dt: float
    """Euler step, ms"""
    relax: float
    """duration of the relaxation before each update, ms"""
    until: float
    """duration of the relaxation in tests, ms"""
    grey: float
    """initial bias of the predicted image: the brightness of the background"""

    @property
    def settings(self) -> tuple[Training, ...]:
        """The settings of each training stage."""
        return (self.training,)

    @property
    def top(self) -> str:
        """The population that represents the digit."""
        return f"r{len(self.options['layers']) - 1}"

    def fit(self, seed: int, saving: Saving) -> Network:
        """Train a network, or resume its training."""
        torch.manual_seed(seed)
        network = models.build(self.model, **self.options)
        set_bias(network, "p0", self.grey)
        images, targets = self.digits.draw(seed, self.images)
        local.learn(
            network.clamped(self.top),
            {"r0": images, self.top: targets},
            dataclasses.replace(self.training, seed=seed),
            solver=Euler(self.dt),
            until=self.relax,
            **saving.options("training"),
        )
        return network.eval()

    def run(self, network: Network, images: Tensor) -> Run:
        """Return a run with only the image clamped, recorded every 10 ms from the start."""
        every = round(10.0 / self.dt)
        record = Record(states=[self.top, "energy"], errors="all", every=every, initial=True)
        return simulate(network, images, solver=Euler(self.dt), until=self.until, record=record)

    def score(self, network: Network, seed: int, count: int) -> Values:
        """Return whether the largest unit of the top layer is the digit, and the prediction errors over time."""
        found: Values = {}
        for name, fragments in conditions(self.tested).items():
            images, targets = self.digits.under(fragments).draw(seed, count)
            run = self.run(network, images)
            energy = run["energy"].double().flatten(1)
            found[f"accuracy, {name}"] = correct_choices(run[self.top], targets)[-1].double().numpy()
            for error, values in run.errors.items():
                for row in (0, -1):
                    at = f"{run.times[row]:g} ms"
                    found[f"{error} at {at}, {name}"] = values[row].double().numpy()
            found[f"energy never rises, {name}"] = (energy.diff(dim=0) <= 1e-6).all(0).double().numpy()
        return found


@dataclass(frozen=True, kw_only=True)
class Occlusion(Recipe):
    """A network of `experiments.occlusion --preset standard`, trained on one task."""

    weights: Literal["debris-light", "clutter-light"]

    @property
    def settings(self) -> tuple[Training, ...]:
        """The settings of each training stage."""
        return (OCCLUSION["standard"].training,)

    def config(self, out: Path) -> Any:
        """Return the options of the experiment."""
        return dataclasses.replace(OCCLUSION["standard"], task=self.weights, out=out, device="cpu")

    def fit(self, seed: int, saving: Saving) -> Network:
        """Train a network, or resume its training."""
        config = self.config(saving.folder)
        fit_occlusion(config, self.model, seed)
        return trained_on_occlusion(config, self.model, seed)

    def score(self, network: Network, seed: int, count: int) -> Values:
        """Return whether the last answer to each image is correct."""
        found: Values = {}
        for condition in ("clean", self.weights):
            shown = stimuli.scenes(condition, seed, 0, count)
            correct = correct_choices(evaluate(network, shown.pixels()), shown.targets())
            found[f"accuracy, {condition}"] = correct[-1].double().numpy()
        return found
