"""Options of `experiments.attention`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from ..base import OPTIONS, Count, Repeated, Some

Strength = Annotated[float, Field(gt=0, le=10)]


@dataclass(frozen=True, config=OPTIONS)
class Attention(Repeated):
    """Options of the experiment, whose defaults depend on the preset."""

    out: Path = Path("results/attention")
    """output folder"""
    model: str = "blt"
    """network of the BLT family, with the weights that ship with pcsim"""
    strengths: Some[Strength] = (0.25, 0.5, 1.0)
    """strengths of attention; areas, cues, lesions and time courses are compared at the last strength in the list"""
    spotlight_strengths: Some[Strength] = (0.05, 0.1, 0.2, 1.0)
    """strengths at which multiplicative and divisive spotlights are compared"""
    tuning_images: Count = 300
    """number of single digits from which the tuning is measured"""
    images: Count = 200
    """number of test images of each kind and repetition"""
    repetitions: Count = 3
    """number of sets of images; learned steering is trained separately for each"""
    steering_images: Count = 800
    """number of blends on which steering is trained"""
    updates: Count = 100
    """number of training updates for steering"""
    batch: Count = 32
    """blends per update"""
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 0.05
    """initial learning rate of steering"""
    cue_delays: Some[Annotated[int, Field(gt=0, lt=8)]] = (1, 2, 4)
    """delays of late cues after image onset, in steps"""


PRESETS = {
    "smoke": Attention(
        smoke=True,
        out=Path("results/attention-smoke"),
        strengths=(0.5,),
        spotlight_strengths=(0.5,),
        tuning_images=60,
        images=12,
        repetitions=1,
        steering_images=16,
        updates=2,
        batch=4,
        cue_delays=(2,),
        workers=1,
    ),
    "quick": Attention(),
    "standard": Attention(
        out=Path("results/attention-standard"),
        strengths=(0.125, 0.25, 0.5, 1.0, 2.0),
        tuning_images=2_000,
        images=1_000,
        steering_images=4_000,
        updates=400,
    ),
}
