"""Options of `experiments.cell_search`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from experiments.base import OPTIONS, Count, Repeated
from pcsim.training import Training


@dataclass(frozen=True, config=OPTIONS)
class CellSearch(Repeated):
    """Options of the experiment; a preset gives the defaults."""

    out: Path = Path("results/cell_search")
    """folder for all output"""
    trials: Annotated[int, Field(ge=6)] = 24
    """number of cells to try, a third of them at random"""
    keep: Annotated[float, Field(gt=0, le=1)] = 0.75
    """share of trials, the best ones, that continue after a stage; the others are pruned"""
    stages: Count = 2
    """number of stages of a trial; its updates are a multiple of 20 in each"""
    parameters: Annotated[int, Field(ge=2_000)] = 12_000
    """parameters of each network, as nearly as a whole number of feature maps allows"""
    fragments: Annotated[int, Field(ge=0)] = 5
    """pieces of debris over each digit"""
    images: Count = 6_000
    """number of training images"""
    test_images: Count = 1_000
    """number of validation images that score a trial, and of test images for the retrained networks"""
    training: Training = Training(updates=120, batch=20, learning_rate=5e-3, over_time="last")
    """training of a trial; the seed is the number of the trial"""
    final: Training = Training(updates=300, batch=20, learning_rate=5e-3, over_time="last")
    """training of the networks in the table; the seed is that of the repetition"""
    where: str = "processes:2"
    """where trials run: here, processes:4, dask:4, dask:tcp://host:8786, slurm:partition=cpu,timeout_min=60"""


PRESETS = {
    "smoke": CellSearch(
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
