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
    """folder for everything that comes out"""
    device: Device = "auto"
    """where to run"""
    networks: tuple[Name, ...] = ("prednet-convlstm", "prednet-subconvlstm", "forecaster-convlstm")
    """to compare"""
    channels: tuple[int, ...] = (1, 8, 8)
    """of A in each layer of a PredNet; the first become those of the frames"""
    representations: tuple[int, ...] = (8, 8, 8)
    """of R in each layer of a PredNet"""
    forecaster: tuple[int, ...] = (16, 16)
    """channels in each layer of the encoder-forecaster"""
    repetitions: Count = 3
    """how many times to train each network, with other weights and films"""
    data: Path | None = None
    """a film of your own, instead of moving digits: its last fifth is the test"""
    rate: Annotated[float | None, Field(gt=0)] = None
    """frames a second of the film, if its file does not say it"""
    grey: bool = False
    """of a film in colour, only the luminance"""
    crop: tuple[int, int] | None = None
    """(height, width) of what is seen of a film: in tests its middle, in training anywhere"""
    size: tuple[int, int] | None = None
    """(height, width) to which a film is resized first; what is seen is cropped to what the network needs"""
    moving: MovingDigits = MovingDigits(digits=1, size=28, side=14, speed=(1.5, 2.5))
    """what moves where no film is given"""
    seen: Annotated[int, Field(gt=2)] = 8
    """frames that a network sees before the loop is closed"""
    horizon: Count = 5
    """frames after that, which it extrapolates"""
    clips: Count = 5_000
    """different training sequences"""
    test_clips: Count = 100
    """test sequences, at most; of a film as many as lie end to end"""
    training: Training = Training(updates=370, batch=6, learning_rate=4e-3)
    """on the next frame of sequences of `seen` frames; its seed is that of the repetition"""
    loss: Literal["errors", "absolute", "squared"] = "squared"
    """what is learned: the errors of the layers, as published, with which small networks on dark frames fall into
    predicting nothing; or the distance of pixels"""
    above: Annotated[float, Field(ge=0)] = 0.0
    """weight of the errors of higher layers: 0 is the paper's L_0, 0.1 its L_all"""
    closing: Training = Training(updates=100, batch=6, learning_rate=1e-3)
    """the fine-tuning, on the pixels of sequences of which `horizon` frames more are extrapolated"""
    checkpoint_every: Count = 100
    """updates between checkpoints"""

    @property
    def length(self) -> int:
        """Frames of a sequence."""
        return self.seen + self.horizon


PRESETS = {
    "smoke": Extrapolation(
        out=Path("results/extrapolation-smoke"),
        channels=(1, 4),
        representations=(4, 4),
        forecaster=(4,),
        repetitions=1,
        moving=MovingDigits(digits=1, size=16, side=7, speed=(1.0, 2.0)),
        seen=4,
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
        seen=10,
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
        seen=10,
        horizon=5,
        loss="errors",
        training=Training(updates=18_750, batch=4, learning_rate=1e-3, schedule="constant"),
        closing=Training(updates=18_750, batch=4, learning_rate=1e-4, schedule="constant"),
        workers=1,
    ),
}
