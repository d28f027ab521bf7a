"""Recipes of the networks whose weights ship with pcsim: how each is built, trained and scored."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from pcsim import Euler, Iterate, Network, Record, Run, models, predict, simulate, stimuli
from pcsim.analysis import correct_choices
from pcsim.rules import Prediction
from pcsim.stimuli import Condition, MovingDigits
from pcsim.stimuli.pixels import as_pixels
from pcsim.training import Training, evaluate, local, train
from pcsim.training.frames import Goal, train_to_predict

from ..occlusion.options import PRESETS as OCCLUSION
from ..occlusion.science import fit as fit_occlusion
from ..occlusion.science import trained as trained_on_occlusion

Values = dict[str, NDArray[np.float64]]
"""score -> its value for each test image or clip, (n,)"""
BATCH = 250
"""number of clips that are predicted simultaneously"""
SIDE = 32
"""side length of the images that `stimuli.scenes` draws, in pixels"""


@dataclass(frozen=True)
class Saving:
    """The folder of the training checkpoints, the interval between them in updates, and the progress bar."""

    folder: Path
    every: int = 100
    bar: Callable[..., Any] | None = None

    def options(self, name: str) -> dict[str, Any]:
        """Return the keyword arguments of the training functions."""
        bar = {} if self.bar is None else {"bar": self.bar}
        return {"checkpoint": self.folder / f"{name}.safetensors", "every": self.every} | bar


@dataclass(frozen=True, kw_only=True)
class Recipe(ABC):
    """A network with its training and its scores."""

    model: str
    """name of the registered model"""
    task: str
    """what the network was trained on, in a phrase"""
    headline: str
    """the score shown in lists"""

    @property
    @abstractmethod
    def settings(self) -> tuple[Training, ...]:
        """The settings of each training stage."""

    @abstractmethod
    def fit(self, seed: int, saving: Saving) -> Network:
        """Train a network, or resume its training; `seed` determines its weights, its data and their order."""

    @abstractmethod
    def score(self, network: Network, seed: int, count: int) -> Values:
        """Return the scores of a network on `count` test images or clips drawn with `seed`."""


# ---------------------------------------------------------------------- digits


@dataclass(frozen=True)
class Digits:
    """Images of digits: under `fragments` pieces of debris, at random positions (or centred), averaged to `side`."""

    fragments: int = 0
    spread: float = 1.0
    side: int = SIDE

    def draw(self, seed: int, count: int) -> tuple[Tensor, Tensor]:
        """Return images (n, 1, side, side) in [0, 1] and one-hot targets (n, 10)."""
        shown = stimuli.scenes(Condition(fragments=self.fragments, spread=self.spread), seed, 0, count)
        return functional.avg_pool2d(shown.pixels(), SIDE // self.side), shown.targets()

    def under(self, fragments: int) -> Digits:
        """Return the same digits under another number of fragments."""
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
        """Return whether the last answer to each image is correct and, with prediction errors, how they change."""
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
    """Return the squared error of the predicted image relative to the image, in the first and the last cycle."""
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


def set_bias(network: Network, population: str, value: float) -> None:
    """Set the bias of a prediction to one value for all channels."""
    rule = network.populations[population].rule
    if isinstance(rule, Prediction) and rule.bias is not None:
        torch.nn.init.constant_(rule.bias, value)


# ---------------------------------------------------------------------- moving digits


@dataclass(frozen=True, kw_only=True)
class Frames(Recipe):
    """Prediction of the next frame, then fine-tuning in closed loop, on moving digits."""

    options: Mapping[str, Any]
    moving: MovingDigits
    clips: int
    input_frames: int
    horizon: int
    training: Training
    closing: Training
    bias: float = 0.1
    """initial bias of the predicted frame, so that its rectified output starts above zero"""

    @property
    def settings(self) -> tuple[Training, ...]:
        """The settings of each training stage."""
        return (self.training, self.closing)

    def fit(self, seed: int, saving: Saving) -> Network:
        """Train a network, or resume its training."""
        torch.manual_seed(seed)
        network = models.build(self.model, **self.options)
        set_bias(network, "p0", self.bias)
        together = self.input_frames + self.horizon
        film = self.moving.film(seed, 0, self.clips, together)
        closed = Goal(loss="squared", closed_loop_from=self.input_frames)
        stages = {
            "next": (self.training, Goal(loss="squared"), self.input_frames),
            "ahead": (self.closing, closed, together),
        }
        for name, (settings, goal, length) in stages.items():
            clip = partial(_clip, film, seed, length)
            settings = dataclasses.replace(settings, seed=seed)
            train_to_predict(network, clip, self.clips, settings, goal, **saving.options(name))
        return network.eval()

    def score(self, network: Network, seed: int, count: int) -> Values:
        """Return the squared error of each clip's predicted frames, for the network and for copying the last frame."""
        together, first = self.input_frames + self.horizon, self.input_frames
        film = self.moving.film(seed, 0, count, together)
        frames = as_pixels(torch.from_numpy(film.sequences(together)))
        made = [predict(network, part, closed_loop_from=first).predictions for part in frames.split(BATCH)]
        off = (torch.cat(made) - frames).double().square().mean((2, 3, 4))
        step = (frames[:, 1:first] - frames[:, : first - 1]).double().square().mean((1, 2, 3, 4))
        stays = (frames[:, -1] - frames[:, first - 1]).double().square().mean((1, 2, 3))
        found = {
            "MSE of the next frame": off[:, 1:first].mean(1),
            f"MSE {self.horizon} frames ahead": off[:, -1],
            "next frame, network / copying": off[:, 1:first].mean(1) / step.mean(),
            f"{self.horizon} frames ahead, network / copying": off[:, -1] / stays.mean(),
        }
        return {name: values.numpy() for name, values in found.items()}


def _clip(film: stimuli.Film, seed: int, length: int, index: int) -> Any:
    return film.draw(seed, index, 1, length)[0]


# ---------------------------------------------------------------------- the BLT family


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


# ---------------------------------------------------------------------- the list

OCCLUDED = "accuracy, 5 fragments"
"""headline of networks trained on `CENTRED`"""
CENTRED = Digits(fragments=5, spread=0.0, side=16)
DEBRIS = Digits(fragments=10)
MOVING = MovingDigits(digits=1, size=28, side=14, speed=(1.5, 2.5))
FAMILY = ("blt_b", "blt_bk", "blt_bf", "blt_bl", "blt_bt", "blt")
TASKS: dict[Literal["debris-light", "clutter-light"], str] = {
    "debris-light": "digits at random positions under 10 fragments of debris, 32x32 pixels",
    "clutter-light": "three overlapping digits, all of which it names, 32x32 pixels",
}


def _prednet(cell: str) -> Frames:
    return Frames(
        model="prednet",
        options={"channels": (1, 8, 8), "representations": (8, 8, 8), "cell": cell, "image": (1, 28, 28)},
        task="moving digits: one 14x14 digit in frames of 28x28 pixels, 8 input frames, then 5 of its own predictions",
        moving=MOVING,
        clips=5_000,
        input_frames=8,
        horizon=5,
        training=Training(updates=700, batch=6, learning_rate=4e-3),
        closing=Training(updates=200, batch=6, learning_rate=1e-3),
        headline="MSE of the next frame",
    )


RECIPES: dict[str, Recipe] = {
    "predictive_coding.digits": LocalRule(
        model="predictive_coding",
        options={
            "layers": ((1, 16, 16), (64,), (10,)),
            "clamped": ("r0",),
            "tau": (1.0, 10.0, 20.0),
            "activation": "tanh",
        },
        task="centred digits under 5 fragments of debris, 16x16 pixels, with the digit at the top (local rule)",
        digits=CENTRED,
        images=10_000,
        training=Training(updates=1_500, batch=50),
        tested=(0, 5, 10),
        headline=OCCLUDED,
        dt=0.5,
        relax=30.0,
        until=200.0,
        grey=0.5,
    ),
    "pcn_global.digits": Supervised(
        model="pcn_global",
        options={
            "channels": (16, 32),
            "pooled": (1, 2),
            "cycles": 4,
            "tied": True,
            "norm": "group",
            "rates": (0.0, 0.3),
            "image": (1, 16, 16),
        },
        task="centred digits under 5 fragments of debris, 16x16 pixels, with the prediction error in the loss",
        digits=CENTRED,
        images=10_000,
        training=Training(updates=600, batch=32, learning_rate=5e-3, clip=5.0, over_time="mean", reconstruction=0.3),
        tested=(0, 5, 10),
        headline=OCCLUDED,
    ),
    "leaky_rcnn.digits": Supervised(
        model="leaky_rcnn",
        options={"channels": (8, 16, 32), "tau": (10.0, 20.0, 40.0), "image": (1, 16, 16)},
        task="centred digits under 5 fragments of debris, 16x16 pixels",
        digits=CENTRED,
        images=10_000,
        training=Training(updates=500, batch=32, learning_rate=5e-3, over_time="mean"),
        tested=(0, 5, 10),
        headline=OCCLUDED,
        dt=10.0,
        test_dt=2.0,
        until=200.0,
    ),
    "cornet_s.digits": Supervised(
        model="cornet_s",
        options={"channels": (16, 24, 32, 48), "image": (1, 32, 32), "classes": 10, "scale": 2},
        task="centred digits under 5 fragments of debris, 32x32 pixels",
        digits=dataclasses.replace(CENTRED, side=SIDE),
        images=10_000,
        training=Training(updates=1_200, batch=32, learning_rate=3e-3, over_time="last"),
        tested=(0, 5, 10),
        headline=OCCLUDED,
    ),
    "prednet.moving-digits-convlstm": _prednet("convlstm"),
    "prednet.moving-digits-subconvlstm": _prednet("subconvlstm"),
    **{
        f"{model}.{weights}": Occlusion(model=model, weights=weights, task=task, headline=f"accuracy, {weights}")
        for weights, task in TASKS.items()
        for model in FAMILY
    },
}
"""model.weights -> recipe"""
