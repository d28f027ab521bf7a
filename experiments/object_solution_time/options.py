"""Options of `experiments.object_solution_time`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from pcsim.training import Training

from .. import flows
from ..base import OPTIONS, Count, Parallel, Some

Name = Literal["cornet_s", "blt", "predictive_coding", "feed_forward"]
NAMES: tuple[Name, ...] = ("cornet_s", "blt", "predictive_coding", "feed_forward")


@dataclass(frozen=True, config=OPTIONS)
class ObjectSolutionTime(Parallel):
    """Options of the experiment, whose defaults depend on the preset."""

    out: Path = Path("results/object_solution_time")
    """output folder"""
    networks: Some[Name] = NAMES
    """networks to compare"""
    fragments: Count = 10
    """number of debris fragments covering each occluded test digit (in training: --recipe.fragments)"""
    images: Annotated[int, Field(ge=50)] = 200
    """number of digits, each presented both clean and occluded"""
    until: Annotated[float, Field(gt=0)] = 200.0
    """duration of each image in continuous-time networks, ms"""
    every: Annotated[float, Field(gt=0)] = 5.0
    """interval between decoding times in continuous-time networks, ms"""
    dt: Annotated[float, Field(gt=0)] = 1.0
    """Euler step, ms"""
    noise: Annotated[float, Field(ge=0)] = 1.0
    """sd of the noise added to each unit at each time, relative to the final sd over images (averaged over units)"""
    criterion: Annotated[float, Field(gt=0)] = 2.0
    """d' at which an image is considered solved"""
    macaque_criterion: Annotated[float, Field(gt=0)] = 1.5
    """d' at which an object is considered solved in macaque IT; d' depends on the number of units and repeats"""
    penalty: Annotated[float, Field(gt=0)] = 100.0
    """L2 penalty of the decoders, 1 / C"""
    folds: Annotated[int, Field(ge=2)] = 5
    """number of cross-validation folds"""
    recipe: flows.Recipe = flows.Recipe()
    """training settings of BLT and predictive coding"""
    training: Training = Training(updates=600, batch=32, learning_rate=5e-3, over_time="last")
    """training settings of CORnet-S and the feed-forward network; --seed overrides their seed"""
    channels: Count = 16
    """number of feature maps in V1 of CORnet-S; V2, V4 and IT have two, three and four times this number"""
    neural: Path | None = None
    """folder with the recordings; by default, the folder in PCSIM_NEURAL, if that is set"""


PRESETS = {
    "smoke": ObjectSolutionTime(
        smoke=True,
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
