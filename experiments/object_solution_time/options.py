"""Options of `experiments.object_solution_time`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from experiments import flows
from experiments.base import OPTIONS, Count, Parallel
from pcsim.training import Training

Name = Literal["cornet_s", "blt", "predictive_coding", "feed_forward"]
NAMES: tuple[Name, ...] = ("cornet_s", "blt", "predictive_coding", "feed_forward")


@dataclass(frozen=True, config=OPTIONS)
class ObjectSolutionTime(Parallel):
    """Options of the experiment; a preset gives the defaults."""

    out: Path = Path("results/object_solution_time")
    """folder for all output"""
    networks: tuple[Name, ...] = NAMES
    """networks to compare"""
    fragments: Count = 10
    """pieces of debris over an occluded digit; those in training are --recipe.fragments"""
    images: Annotated[int, Field(ge=50)] = 200
    """number of digits, each shown clean and occluded"""
    until: Annotated[float, Field(gt=0)] = 200.0
    """duration of an image for networks that are flows, ms"""
    every: Annotated[float, Field(gt=0)] = 5.0
    """interval between the times at which flows are decoded, ms"""
    dt: Annotated[float, Field(gt=0)] = 1.0
    """step of Euler, ms"""
    noise: Annotated[float, Field(ge=0)] = 1.0
    """sd of the noise on every unit at every time, relative to the sd over images at the end (mean over units)"""
    criterion: Annotated[float, Field(gt=0)] = 2.0
    """d' at which an image counts as solved"""
    macaque_criterion: Annotated[float, Field(gt=0)] = 1.5
    """d' at which macaque IT counts as having solved an object; d' depends on the numbers of units and repeats"""
    penalty: Annotated[float, Field(gt=0)] = 100.0
    """L2 penalty of the decoders, 1 / C"""
    folds: Annotated[int, Field(ge=2)] = 5
    """number of folds in cross-validation"""
    recipe: flows.Recipe = flows.Recipe()
    """training of BLT and predictive coding"""
    training: Training = Training(updates=600, batch=32, learning_rate=5e-3, over_time="last")
    """training of CORnet-S and the feed-forward network; the seed is that of the experiment"""
    channels: Count = 16
    """feature maps of V1 in CORnet-S; V2, V4 and IT have two, three and four times as many"""
    neural: Path | None = None
    """folder with the recordings; if None, the environment variable PCSIM_NEURAL, else no recordings"""


PRESETS = {
    "smoke": ObjectSolutionTime(
        out=Path("results/object_solution_time-smoke"),
        networks=("blt", "feed_forward"),
        images=100,
        folds=3,
        until=40.0,
        every=20.0,
        criterion=0.1,
        recipe=flows.SMOKE,
        training=Training(updates=20, batch=10, learning_rate=5e-3, over_time="last"),
        channels=4,
        workers=1,
    ),
    "quick": ObjectSolutionTime(),
    "standard": ObjectSolutionTime(
        out=Path("results/object_solution_time-standard"),
        images=500,
        recipe=flows.STANDARD,
        training=Training(updates=4_000, batch=32, learning_rate=5e-3, over_time="last"),
    ),
}
