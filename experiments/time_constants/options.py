"""Options of `experiments.time_constants`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from pcsim.training import Training

from .. import flows
from ..base import OPTIONS, Count, Parallel, Some


@dataclass(frozen=True, config=OPTIONS)
class TimeConstants(Parallel):
    """Options of the experiment, whose defaults depend on the preset."""

    out: Path = Path("results/time_constants")
    """output folder"""
    networks: Some[flows.Name] = flows.NAMES
    """networks to compare"""
    taus: Some[Annotated[float, Field(gt=0)]] = (5.0, 10.0, 20.0, 40.0, 80.0)
    """time constants of the lower and upper area, ms; all combinations are tested"""
    dt: Annotated[float, Field(gt=0)] = 1.0
    """Euler step in the sweep over time constants, ms"""
    until: Annotated[float, Field(gt=0)] = 400.0
    """duration of the runs that measure settling, ms"""
    deadline: Annotated[float, Field(gt=0)] = 40.0
    """time at which the sweep over time constants measures accuracy, ms"""
    images: Count = 40
    """number of test images for each pair of time constants"""
    dts: Some[Annotated[float, Field(gt=0)]] = (0.5, 1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 24)
    """values of dt at which the accuracy of each solver is measured, ms; they must divide `read`"""
    read: Annotated[float, Field(gt=0)] = 120.0
    """time at which the sweep over dt measures accuracy, ms"""
    read_images: Count = 100
    """number of test images for each dt"""
    precise: Some[Annotated[float, Field(gt=0)]] = (5.0, 2.5, 1.25, 0.625, 0.3125)
    """values of dt at which the errors of fixed-step solvers are measured, ms; they must divide 40 ms"""
    fragments: Annotated[int, Field(ge=0)] = 10
    """number of debris fragments covering each test digit"""
    recipe: flows.Recipe = flows.Recipe()
    """training settings of the networks"""
    where: str = "processes:2"
    """executor of the sweeps: here, processes:4, dask:4, dask:tcp://host:8786, slurm:partition=cpu,timeout_min=60"""


QUICK = flows.Recipe(
    through_time=Training(updates=400, batch=32, learning_rate=5e-3, over_time="mean"),
    steps=15,
)
PRESETS = {
    "smoke": TimeConstants(
        smoke=True,
        out=Path("results/time_constants-smoke"),
        networks=("predictive_coding", "leaky_rcnn"),
        taus=(10.0, 20.0),
        dt=2.0,
        until=80.0,
        images=4,
        dts=(1.0, 4.0, 24.0),
        read=24.0,
        read_images=10,
        precise=(5.0, 2.5),
        recipe=flows.SMOKE,
        where="here",
        workers=1,
    ),
    "quick": TimeConstants(recipe=QUICK),
    "standard": TimeConstants(
        out=Path("results/time_constants-standard"),
        taus=(5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 40.0, 60.0, 80.0, 120.0, 160.0),
        until=1_600.0,
        images=64,
        read_images=1_000,
        recipe=flows.STANDARD,
    ),
}
