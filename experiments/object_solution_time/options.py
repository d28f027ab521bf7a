"""Options of `experiments.object_solution_time`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from experiments import flows
from experiments.base import OPTIONS, Count, Options
from pcsim.training import Training

Name = Literal["cornet_s", "blt", "predictive_coding", "feed_forward"]
NAMES: tuple[Name, ...] = ("cornet_s", "blt", "predictive_coding", "feed_forward")


@dataclass(frozen=True, config=OPTIONS)
class ObjectSolutionTime(Options):
    """Options of the experiment; a preset gives the defaults."""

    out: Path = Path("results/object_solution_time")
    """folder for everything that comes out"""
    networks: tuple[Name, ...] = NAMES
    """networks to look at"""
    fragments: Count = 10
    """pieces of debris over an occluded digit; training has those of the recipe"""
    images: Annotated[int, Field(ge=50)] = 200
    """digits, each shown clean and occluded"""
    until: Annotated[float, Field(gt=0)] = 200.0
    """ms for which networks that are flows are shown an image"""
    every: Annotated[float, Field(gt=0)] = 5.0
    """ms between the times at which they are decoded"""
    dt: Annotated[float, Field(gt=0)] = 1.0
    """ms, of Euler"""
    noise: Annotated[float, Field(ge=0)] = 1.0
    """sd of the noise on every unit at every time, in units of its sd over images at the end (mean over units): without
    noise the slightest response could be decoded"""
    criterion: Annotated[float, Field(gt=0)] = 2.0
    """d' at which an image counts as solved"""
    macaque_criterion: Annotated[float, Field(gt=0)] = 1.5
    """the same of objects seen by the macaque: a height of d' depends on how many units and repeats there are"""
    penalty: Annotated[float, Field(gt=0)] = 100.0
    """of the decoders, 1 / C"""
    folds: Annotated[int, Field(ge=2)] = 5
    """of cross-validation"""
    recipe: flows.Recipe = flows.Recipe()
    """how BLT and predictive coding are trained"""
    training: Training = Training(updates=600, batch=32, learning_rate=5e-3, over_time="last")
    """of CORnet-S and the feed-forward network; its seed is that of the experiment"""
    channels: Count = 16
    """of V1 in CORnet-S; V2, V4 and IT have two, three and four times as many"""
    neural: Path | None = None
    """folder with the recordings (else PCSIM_NEURAL, else without them)"""


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
