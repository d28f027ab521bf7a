"""Does a network predict the next frame, and what follows when it sees only its own predictions?

Trains PredNets with two kinds of cells on films, first on the next frame, then (fine-tuning) on frames that they have
to extrapolate, and an encoder-forecaster on the latter. Scores stand beside what costs nothing: copying the last frame,
going on linearly, the training mean. Then films surprise the PredNets: they turn round, or are cut.

    python -m experiments.extrapolation                        moving digits, three repetitions, about 7 minutes
    python -m experiments.extrapolation --data walk.gif        your own clip; a folder of frames, .npy, .npz, mp4
    python -m experiments.extrapolation --preset paper         PredNet's KITTI size and schedule, for a GPU
"""

from __future__ import annotations

from experiments import base
from experiments.extrapolation.options import PRESETS, Extrapolation
from experiments.extrapolation.page import report
from experiments.extrapolation.science import check, find

__all__ = ["PRESETS", "run"]


def run(config: Extrapolation) -> None:
    """Run the whole experiment. Resumes in its folder."""
    base.conduct(config, find, report, check)
