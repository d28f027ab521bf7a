"""Options of `experiments.cell_search`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from pcsim.training import Training

from ..base import OPTIONS, Count, Repeated


@dataclass(frozen=True, config=OPTIONS)
class CellSearch(Repeated):
    """Options of the experiment, whose defaults depend on the preset."""

    out: Path = Path("results/cell_search")
    """output folder"""
    trials: Annotated[int, Field(ge=6)] = 24
    """number of trials, of which the first third is random"""
    keep: Annotated[float, Field(gt=0, le=1)] = 0.75
    """fraction of the trials that continue after each stage, best first; the others are pruned"""
    stages: Count = 2
    """number of stages per trial; the number of updates in each stage must be a multiple of 20"""
    parameters: Annotated[int, Field(ge=2_000)] = 12_000
    """approximate number of parameters of each network; the number of feature maps is chosen to match it"""
    fragments: Annotated[int, Field(ge=0)] = 5
    """number of debris fragments covering each digit"""
    images: Count = 6_000
    """number of training images"""
    test_images: Count = 1_000
    """number of validation images for each trial, and number of test images for the retrained networks"""
    training: Training = Training(updates=120, batch=20, learning_rate=5e-3, over_time="last")
    """training settings of the trials; each trial uses its number as the seed"""
    final: Training = Training(updates=300, batch=20, learning_rate=5e-3, over_time="last")
    """settings for retraining the selected networks; each repetition uses its own seed"""
    where: str = "processes:2"
    """executor of the trials: here, processes:4, dask:4, dask:tcp://host:8786, slurm:partition=cpu,timeout_min=60"""


PRESETS = {
    "smoke": CellSearch(
        smoke=True,
        out=Path("results/cell_search-smoke"),
        trials=6,
        parameters=4_000,
        images=60,
        test_images=60,
        stages=1,
        training=Training(updates=20, batch=2, learning_rate=5e-3, over_time="last"),
        final=Training(updates=20, batch=2, learning_rate=5e-3, over_time="last"),
        where="here",
        workers=1,
    ),
    "quick": CellSearch(),
    "standard": CellSearch(
        out=Path("results/cell_search-standard"),
        trials=120,
        final=Training(updates=600, batch=20, learning_rate=5e-3, over_time="last"),
        repetitions=3,
    ),
}
