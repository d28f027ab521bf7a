"""Options of `experiments.short_term_memory`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from pcsim.training import Training

from ..base import OPTIONS, Count, Repeated, Some

STEP = 20.0
"""Euler step, ms"""
Time = Annotated[float, Field(gt=0, multiple_of=STEP)]


@dataclass(frozen=True, config=OPTIONS)
class ShortTermMemory(Repeated):
    """Options of the experiment, whose defaults depend on the preset."""

    out: Path = Path("results/short_term_memory")
    """output folder"""
    repetitions: Count = 3
    """number of repetitions, each with different weights, trials and noise"""
    parameters: Annotated[int, Field(ge=1_000)] = 4_000
    """approximate number of weights of each network; the number of units is chosen to match it"""
    items: Annotated[int, Field(ge=6)] = 8
    """number of different items in delayed match to sample"""
    shown: Time = 60.0
    """duration of samples, distractors and tests, ms; must be a multiple of 20 ms"""
    delays: tuple[Time, Time] = (100.0, 400.0)
    """shortest and longest delay in training, ms"""
    distractors: Annotated[int, Field(ge=0, le=4)] = 2
    """largest number of distractors in training"""
    test_delays: Some[Time] = (100.0, 200.0, 400.0, 800.0, 1_600.0)
    """delays of the tests without distractors, ms"""
    test_distractors: Some[Annotated[int, Field(ge=0, le=4)]] = (0, 1, 2, 3, 4)
    """numbers of distractors in the tests at the longest training delay"""
    element: Time = 60.0
    """duration of an element in serial order, ms"""
    stretch: Some[Annotated[float, Field(gt=0)]] = (1.0, 2.0)
    """factors by which elements are stretched in training"""
    test_stretch: Some[Annotated[float, Field(gt=0)]] = (1.0, 2.0, 3.0, 4.0, 6.0)
    """largest stretch in each test; every element is stretched by this factor or by 1"""
    noise: Annotated[float, Field(ge=0)] = 0.1
    """standard deviation of the noise in the drive of each memory unit, redrawn in each step"""
    trials: Annotated[int, Field(ge=40)] = 200
    """number of test trials of each condition and repetition"""
    training: Training = Training(updates=300, batch=32, learning_rate=5e-3, clip=1.0)
    """training settings; each repetition uses its own seed"""


PRESETS = {
    "smoke": ShortTermMemory(
        smoke=True,
        out=Path("results/short_term_memory-smoke"),
        repetitions=1,
        parameters=1_000,
        items=6,
        delays=(100.0, 200.0),
        distractors=1,
        test_delays=(100.0, 200.0),
        test_distractors=(0, 1),
        test_stretch=(1.0, 2.0),
        trials=60,
        training=Training(updates=6, batch=8, learning_rate=5e-3, clip=1.0),
        workers=1,
    ),
    "quick": ShortTermMemory(),
    "standard": ShortTermMemory(
        out=Path("results/short_term_memory-standard"),
        repetitions=5,
        trials=1_000,
        training=dataclasses.replace(ShortTermMemory().training, updates=3_000),
    ),
}
