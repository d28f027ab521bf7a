"""Four continuous-time networks that classify small occluded digits, with shared code to build and train them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass as checked
from torch import Tensor
from torch.nn import functional

from pcsim import Euler, Network, models, stimuli
from pcsim.training import Training, local

from . import base
from .base import OPTIONS, Count, Options

Name = Literal["predictive_coding", "pcn_global", "blt", "leaky_rcnn"]
NAMES: tuple[Name, ...] = ("predictive_coding", "pcn_global", "blt", "leaky_rcnn")
TITLES = {
    "predictive_coding": "hierarchical predictive coding",
    "pcn_global": "PCN, global loops",
    "blt": "BLT",
    "leaky_rcnn": "leaky RCNN",
}
AREAS = {
    "predictive_coding": ("r1", "r2"),
    "pcn_global": ("r1", "r2"),
    "blt": ("l1", "l2"),
    "leaky_rcnn": ("l1", "l2"),
}
"""lower and upper area of each network; experiments vary the time constants of these areas"""
TAUS = (10.0, 20.0)
"""time constants of the lower and upper area during training, ms"""
SIDE, FULL_SIDE = 16, 32
"""side length of the images in pixels: downsampled (as used here) and at full resolution"""
RELAXED = 30.0
"""duration of relaxation before each weight update in predictive coding, ms"""


@checked(frozen=True, config=OPTIONS)
class Recipe:
    """Training settings of the four networks."""

    images: Count = 4_000
    """number of training images"""
    fragments: Annotated[int, Field(ge=0)] = 5
    """number of debris fragments covering each training digit"""
    through_time: Training = Training(updates=500, batch=32, learning_rate=5e-3, over_time="mean")
    """settings of networks trained by backpropagation through time, with the loss averaged over time"""
    steps: Count = 20
    """number of 10 ms steps covered by backpropagation through time"""
    local: Training = Training(updates=500, batch=50)
    """settings of predictive coding, which is trained with its local rule"""
    reconstruction: Annotated[float, Field(ge=0)] = 0.3
    """weight of the relative prediction error in the PCN loss"""


SMOKE = Recipe(
    images=100,
    through_time=Training(updates=20, batch=10, learning_rate=5e-3, over_time="mean"),
    steps=5,
    local=Training(updates=40, batch=20),
)
STANDARD = Recipe(
    images=20_000,
    through_time=Training(updates=4_000, batch=32, learning_rate=5e-3, over_time="mean"),
    local=Training(updates=4_000, batch=50),
)


@dataclass(frozen=True)
class Digits:
    """Centred digits: images (n, 1, side, side) in [-0.5, 0.5] and one-hot targets (n, 10)."""

    images: Tensor
    targets: Tensor

    def is_correct(self, answers: Tensor) -> Tensor:
        """Return a Boolean (..., n): True if the maximum of `answers` (..., n, 10) is at the correct digit."""
        return answers.argmax(-1) == self.targets.argmax(-1)


def digits(fragments: int, seed: int, count: int, side: int = SIDE) -> Digits:
    """Generate the first `count` digits of a seed, downsampled to `side` pixels; `side` must divide `FULL_SIDE`."""
    shown = stimuli.scenes(stimuli.Condition(fragments=fragments, spread=0.0), seed, 0, count)
    return Digits(functional.avg_pool2d(shown.pixels(), FULL_SIDE // side) - 0.5, shown.targets())


def build(name: Name, taus: tuple[float, float] = TAUS) -> Network:
    """Build an untrained network with the given time constants (ms) of its lower and upper area.

    predictive_coding  fully connected, with the image at the bottom and the digit at the top; it infers the digit that
                       best predicts the image
    pcn_global         with normalisation and tied weights, because the published network does not settle in long runs
    """
    image = (1, SIDE, SIDE)
    if name == "predictive_coding":
        layers = (image, (64,), (10,))
        return models.predictive_coding(layers, clamped=("r0",), tau=(1.0, *taus), activation="tanh")
    if name == "pcn_global":
        net = models.pcn_global((8, 16), (1, 2), 3, tied=True, rates=(0.1, 0.1), norm="group", image=image)
        return net.as_ode(taus)
    return models.blt(width=8, size=SIDE).as_ode(taus) if name == "blt" else models.leaky_rcnn((8, 16), taus, size=SIDE)


def answers_of(network: Network) -> str:
    """Return the name of the population that represents the digit."""
    return network.readout or "r2"


def fit(config: Options, name: Name, recipe: Recipe) -> list[float]:
    """Train one network, or resume its training; return the loss curve (energy for predictive coding)."""
    seed = config.seed
    torch.manual_seed(seed)
    network, shown = build(name), digits(recipe.fragments, seed, recipe.images)
    if name == "predictive_coding":
        settings = dataclasses.replace(recipe.local, seed=seed)
        both = {"r0": shown.images, "r2": shown.targets}
        kept, bar = base.kept(config, "training", name), base.job_bar(name)
        learning = network.clamped("r2")
        return local.learn(learning, both, settings, solver=Euler(dt=1.0), until=RELAXED, checkpoint=kept, bar=bar)
    weight = recipe.reconstruction if network.errors else 0.0
    settings = dataclasses.replace(recipe.through_time, seed=seed, reconstruction=weight)
    options = {"solver": Euler(dt=TAUS[0]), "steps": recipe.steps}
    return base.fit(config, network, shown.images, shown.targets, settings, name, **options)


def trained(config: Options, name: Name, taus: tuple[float, float] = TAUS) -> Network:
    """Return the trained network with the given time constants."""
    return base.trained(config, build(name, taus), name)
