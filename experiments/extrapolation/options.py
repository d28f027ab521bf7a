"""Options of `experiments.extrapolation`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from pcsim.stimuli import MovingDigits
from pcsim.training import Training

from ..base import OPTIONS, Count, Device, Repeated, Some

Name = Literal["prednet-convlstm", "prednet-subconvlstm", "forecaster-convlstm"]


@dataclass(frozen=True, config=OPTIONS)
class Extrapolation(Repeated):
    """Options of the experiment, whose defaults depend on the preset."""

    out: Path = Path("results/extrapolation")
    """output folder"""
    device: Device = "auto"
    """device on which to train and run the networks"""
    networks: Some[Name] = ("prednet-convlstm", "prednet-subconvlstm", "forecaster-convlstm")
    """networks to compare"""
    channels: Some[Count] = (1, 8, 8)
    """number of channels of A in each PredNet layer; the first is replaced with the number of image channels"""
    representations: Some[Count] = (8, 8, 8)
    """number of channels of R in each PredNet layer"""
    forecaster: Some[Count] = (16, 16)
    """number of channels in each layer of the encoder-forecaster"""
    repetitions: Count = 3
    """number of times each network is trained, each time with different weights and training sequences"""
    data: Path | None = None
    """video to use instead of moving digits; its last fifth is used for testing"""
    rate: Annotated[float | None, Field(gt=0)] = None
    """frame rate of the video in frames per second, if the file does not specify one"""
    grey: bool = False
    """convert a colour video to greyscale (luminance)"""
    crop: tuple[Count, Count] | None = None
    """(height, width) to which the video is cropped, at the centre in tests and at random positions in training"""
    size: tuple[Count, Count] | None = None
    """(height, width) to which the video is resized before being cropped to a size that the network accepts"""
    moving: MovingDigits = MovingDigits(digits=1, size=28, side=14, speed=(1.5, 2.5))
    """moving digits to use if `data` is None"""
    input_frames: Annotated[int, Field(gt=2)] = 8
    """number of input frames before the loop is closed"""
    horizon: Count = 5
    """number of frames to extrapolate after the input frames"""
    clips: Count = 5_000
    """number of distinct training sequences"""
    test_clips: Count = 100
    """maximum number of test sequences; sequences from the same video do not overlap"""
    training: Training = Training(updates=370, batch=6, learning_rate=4e-3)
    """settings for next-frame prediction on sequences of `input_frames` frames; each repetition uses its own seed"""
    loss: Literal["errors", "absolute", "squared"] = "squared"
    """training loss: pixel error, or the published layer errors, with which small networks may learn to predict zero"""
    above: Annotated[float, Field(ge=0)] = 0.0
    """weight of the higher layers' errors in the loss: 0 corresponds to L_0 in the paper, 0.1 to L_all"""
    closing: Training = Training(updates=100, batch=6, learning_rate=1e-3)
    """settings for closed-loop fine-tuning with a pixel loss on sequences that include `horizon` extrapolated frames"""
    checkpoint_every: Count = 100
    """number of updates between checkpoints"""

    @property
    def length(self) -> int:
        """The number of frames in each sequence."""
        return self.input_frames + self.horizon


PRESETS = {
    "smoke": Extrapolation(
        smoke=True,
        out=Path("results/extrapolation-smoke"),
        channels=(1, 4),
        representations=(4, 4),
        forecaster=(4,),
        repetitions=1,
        moving=MovingDigits(digits=1, size=16, side=7, speed=(1.0, 2.0)),
        input_frames=4,
        horizon=2,
        clips=20,
        test_clips=4,
        training=Training(updates=20, batch=4),
        closing=Training(updates=20, batch=4),
        checkpoint_every=20,
        workers=1,
    ),
    "quick": Extrapolation(),
    "standard": Extrapolation(
        out=Path("results/extrapolation-standard"),
        channels=(1, 16, 32),
        representations=(16, 32, 32),
        forecaster=(64, 32, 32),
        moving=MovingDigits(),
        input_frames=10,
        horizon=10,
        training=Training(updates=6_000, batch=8, learning_rate=1e-3),
        closing=Training(updates=2_000, batch=8, learning_rate=5e-4),
    ),
    "paper": Extrapolation(
        out=Path("results/extrapolation-paper"),
        channels=(3, 48, 96, 192),
        representations=(3, 48, 96, 192),
        forecaster=(128, 64, 64),
        repetitions=1,
        input_frames=10,
        horizon=5,
        loss="errors",
        training=Training(updates=18_750, batch=4, learning_rate=1e-3, schedule="constant"),
        closing=Training(updates=18_750, batch=4, learning_rate=1e-4, schedule="constant"),
        workers=1,
    ),
}
