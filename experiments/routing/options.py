"""Options of `experiments.routing`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from ..base import OPTIONS, Count, Repeated, Some

Tau = Annotated[float, Field(ge=10, le=1_000)]
DT = 5.0
"""Euler step in ms"""


@dataclass(frozen=True, config=OPTIONS)
class Routing(Repeated):
    """Options of the experiment, whose defaults depend on the preset."""

    out: Path = Path("results/routing")
    """output folder"""
    repetitions: Count = 3
    """number of repetitions, each with different weights and images"""
    updates: Count = 200
    """number of training updates"""
    batch: Count = 50
    """number of images per update"""
    images: Annotated[int, Field(ge=50)] = 4_000
    """number of training images"""
    test_images: Annotated[int, Field(ge=40)] = 300
    """number of test images in each condition and repetition"""
    noise: Annotated[float, Field(ge=0, le=2)] = 0.25
    """standard deviation of pixel noise, on a scale from black (0) to white (1)"""
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 3e-3
    """initial learning rate; the control's learning rate is ten times as high"""
    taus: Some[Tau] = (20.0, 50.0, 100.0)
    """time constants of the control in ms, for switches within a trial"""
    stores: Some[Tau] = (20.0, 100.0)
    """time constants in ms of the first area, which retains the image for late cues"""
    onsets: Some[Annotated[float, Field(ge=-200, le=1_000, multiple_of=2 * DT)]] = (-100.0, 0.0, 50.0, 100.0, 200.0)
    """onsets of the cue in ms after the end of the image"""


PRESETS = {
    "smoke": Routing(
        smoke=True,
        out=Path("results/routing-smoke"),
        repetitions=1,
        updates=120,
        images=500,
        test_images=60,
        taus=(20.0,),
        stores=(20.0,),
        onsets=(-100.0, 100.0),
        workers=1,
    ),
    "quick": Routing(),
    "standard": Routing(
        out=Path("results/routing-standard"), repetitions=10, updates=1_000, images=20_000, test_images=2_000
    ),
}
