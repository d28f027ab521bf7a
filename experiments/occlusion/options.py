"""Options of `experiments.occlusion`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic.dataclasses import dataclass

from pcsim.training import Training, published_settings

from ..base import OPTIONS, Count, Device, Repeated, Some


@dataclass(frozen=True, config=OPTIONS)
class Occlusion(Repeated):
    """Options of the experiment, whose defaults depend on the preset."""

    out: Path = Path("results/occlusion")
    """output folder"""
    device: Device = "auto"
    """device on which to train and run the networks"""
    models: Some[str] = ("blt_b", "blt_bf", "blt_bl", "blt")
    """networks to compare"""
    task: Literal[
        "debris-light", "debris-moderate", "debris-heavy", "clutter-light", "clutter-moderate", "clutter-heavy"
    ] = "debris-light"
    """training condition"""
    width: Count = 16
    """number of feature maps (32 in the published networks); BF has twice this number"""
    unroll: Literal["engineering", "biological"] = "engineering"
    """what one step covers: a full feed-forward pass (engineering) or one connection (biological)"""
    images: Count = 8_000
    """number of training images"""
    test_images: Count = 2_000
    """number of test images in each condition"""
    training: Training = Training()
    """training settings; the loss is determined by the task and the seed by the repetition"""
    digits: Literal["rendered", "handwritten"] = "rendered"
    """source of the digits: rendered from a font, or MNIST"""
    mnist: Path | None = None
    """folder with the MNIST idx files; if omitted, PCSIM_MNIST is used or, if that is unset, MNIST is downloaded"""
    pretrained: bool = False
    """use the weights that ship with pcsim instead of training the networks"""
    checkpoint_every: Count = 100
    """number of updates between checkpoints"""


SIX = ("blt_b", "blt_bk", "blt_bf", "blt_bl", "blt_bt", "blt")
PRESETS = {
    "smoke": Occlusion(
        smoke=True,
        out=Path("results/occlusion-smoke"),
        models=("blt_b", "blt"),
        width=4,
        images=400,
        test_images=200,
        training=Training(updates=60),
        checkpoint_every=20,
        workers=1,
    ),
    "quick": Occlusion(),
    "standard": Occlusion(
        out=Path("results/occlusion-standard"),
        models=SIX,
        width=32,
        repetitions=3,
        images=40_000,
        test_images=2_000,
        training=Training(updates=4_000),
    ),
    "pretrained": Occlusion(
        out=Path("results/occlusion-pretrained"), models=SIX, width=32, test_images=300, pretrained=True
    ),
    "paper": Occlusion(
        out=Path("results/occlusion-paper"),
        models=SIX,
        width=32,
        repetitions=5,
        images=100_000,
        test_images=10_000,
        training=published_settings(),
        workers=1,
    ),
}
FLAGS = {"--pretrained": "pretrained"}
"""flags that select a preset"""
