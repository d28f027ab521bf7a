"""Options of `experiments.grouping`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from pcsim.training import Training

from ..base import OPTIONS, Count, Repeated, Some

LENGTH = 11
"""number of dashes in each curve"""
Path_ = Annotated[int, Field(ge=1, le=LENGTH)]
Channels = Annotated[int, Field(ge=2)]
Steps = Annotated[int, Field(ge=4)]


@dataclass(frozen=True, config=OPTIONS)
class Grouping(Repeated):
    """Options of the experiment, whose defaults depend on the preset."""

    out: Path = Path("results/grouping")
    """output folder"""
    channels: Channels = 16
    """number of channels in the hGRU; the other networks have about as many parameters"""
    layers: Annotated[int, Field(ge=1)] = 6
    """number of layers in the feed-forward network"""
    steps: Steps = 6
    """number of steps that the recurrent networks run in training; tests also run twice as many"""
    phases: Some[Path_] = (3, 5, 7)
    """longest path in each training phase, in dashes"""
    images: Count = 8_000
    """number of training images in each phase"""
    training: Training = Training(updates=700, batch=64, learning_rate=1e-2, over_time="last")
    """training settings for each phase; each repetition uses its own seed"""
    test_images: Annotated[int, Field(ge=8, multiple_of=4)] = 400
    """number of test images for each path length, up to the length of the curves"""
    bound: Annotated[float, Field(gt=0)] = 2.0
    """accumulated difference in log alpha at which a decision is made"""
    repetitions: Count = 3
    """number of repetitions, each with different weights and stimuli"""
    checkpoint_every: Count = 200
    """number of updates between checkpoints"""


PRESETS = {
    "smoke": Grouping(
        smoke=True,
        out=Path("results/grouping-smoke"),
        channels=4,
        layers=2,
        steps=4,
        phases=(2,),
        images=40,
        training=Training(updates=3, batch=8, over_time="last"),
        test_images=8,
        repetitions=1,
        workers=1,
    ),
    "quick": Grouping(),
    "standard": Grouping(
        out=Path("results/grouping-standard"),
        phases=(3, 5, 7, 9),
        images=32_000,
        training=dataclasses.replace(Grouping().training, updates=3_000),
    ),
}
