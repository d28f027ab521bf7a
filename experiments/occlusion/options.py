"""Options of `experiments.occlusion`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic.dataclasses import dataclass

from experiments.base import OPTIONS, Count, Device, Repeated
from pcsim.training import Training, published_settings


@dataclass(frozen=True, config=OPTIONS)
class Occlusion(Repeated):
    """Options of the experiment; a preset gives the defaults."""

    out: Path = Path("results/occlusion")
    """folder for all output"""
    device: Device = "auto"
    """device to run on"""
    models: tuple[str, ...] = ("blt_b", "blt_bf", "blt_bl", "blt")
    """networks to compare"""
    task: Literal[
        "debris-light", "debris-moderate", "debris-heavy", "clutter-light", "clutter-moderate", "clutter-heavy"
    ] = "debris-light"
    """condition that the networks are trained on"""
    width: Count = 16
    """feature maps of B (the published networks have 32; BF has twice as many)"""
    unroll: Literal["engineering", "biological"] = "engineering"
    """what one step covers: a feed-forward sweep (engineering) or one connection (biological)"""
    images: Count = 8_000
    """number of training images"""
    test_images: Count = 2_000
    """number of test images of each condition"""
    training: Training = Training()
    """training settings; loss and seed are set by the task and the repetition"""
    digits: Literal["rendered", "handwritten"] = "rendered"
    """source of the digits: rendered from a font, or MNIST"""
    mnist: Path | None = None
    """folder with the idx files of MNIST; if None, the environment variable PCSIM_MNIST, else a download"""
    pretrained: bool = False
    """use the weights that ship with pcsim instead of training"""
    checkpoint_every: Count = 100
    """updates between checkpoints"""


SIX = ("blt_b", "blt_bk", "blt_bf", "blt_bl", "blt_bt", "blt")
PRESETS = {
    "smoke": Occlusion(
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
"""options that select a preset"""
