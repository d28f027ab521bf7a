"""Options of `experiments.extrapolation`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from experiments.base import OPTIONS, Count, Device, Repeated
from pcsim.stimuli import MovingDigits
from pcsim.training import Training

Name = Literal["prednet-convlstm", "prednet-subconvlstm", "forecaster-convlstm"]


@dataclass(frozen=True, config=OPTIONS)
class Extrapolation(Repeated):
    """Options of the experiment; a preset gives the defaults."""

    out: Path = Path("results/extrapolation")
    """folder for all output"""
    device: Device = "auto"
    """device to run on"""
    networks: tuple[Name, ...] = ("prednet-convlstm", "prednet-subconvlstm", "forecaster-convlstm")
    """networks to compare"""
    channels: tuple[int, ...] = (1, 8, 8)
    """channels of A in each layer of a PredNet; the first number is replaced by the channels of the frames"""
    representations: tuple[int, ...] = (8, 8, 8)
    """channels of R in each layer of a PredNet"""
    forecaster: tuple[int, ...] = (16, 16)
    """channels in each layer of the encoder-forecaster"""
    repetitions: Count = 3
    """number of trainings of each network, each with its own weights and films"""
    data: Path | None = None
    """film to use instead of moving digits; its last fifth is the test film"""
    rate: Annotated[float | None, Field(gt=0)] = None
    """frames per second of the film, if its file does not contain it"""
    grey: bool = False
    """reduce a film in colour to its luminance"""
    crop: tuple[int, int] | None = None
    """(height, width) to which a film is cropped: to its middle in tests, to random places in training"""
    size: tuple[int, int] | None = None
    """(height, width) to which a film is resized before it is cropped to a size that the network accepts"""
    moving: MovingDigits = MovingDigits(digits=1, size=28, side=14, speed=(1.5, 2.5))
    """moving digits to use where no film is given"""
    input_frames: Annotated[int, Field(gt=2)] = 8
    """number of input frames, before the loop is closed"""
    horizon: Count = 5
    """number of frames to extrapolate after the input frames"""
    clips: Count = 5_000
    """number of different training sequences"""
    test_clips: Count = 100
    """largest number of test sequences; those of a film do not overlap"""
    training: Training = Training(updates=370, batch=6, learning_rate=4e-3)
    """training on the next frame of sequences of `input_frames` frames; the seed is that of the repetition"""
    loss: Literal["errors", "absolute", "squared"] = "squared"
    """training loss: pixel errors, or the published errors of the layers, with which small networks may predict zero"""
    above: Annotated[float, Field(ge=0)] = 0.0
    """weight of the errors of higher layers in the loss: 0 is the paper's L_0, 0.1 its L_all"""
    closing: Training = Training(updates=100, batch=6, learning_rate=1e-3)
    """fine-tuning in the closed loop, on the pixels of sequences that go on for `horizon` extrapolated frames"""
    checkpoint_every: Count = 100
    """updates between checkpoints"""

    @property
    def length(self) -> int:
        """Number of frames of a sequence."""
        return self.input_frames + self.horizon


PRESETS = {
    "smoke": Extrapolation(
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
