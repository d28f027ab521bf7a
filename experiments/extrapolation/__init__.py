"""Predict the next frame of films, and extrapolate frames from a network's own predictions.

Trains PredNets with two kinds of cells on films, first on the next frame, then (fine-tuning) on frames to extrapolate,
and an encoder-forecaster on extrapolation alone. Scores are compared with three baselines: copying the last frame,
linear extrapolation, and the training mean. Films that are reversed or cut then show how the errors of the PredNets
respond to surprise.

    python -m experiments.extrapolation                        moving digits, three repetitions, about 7 minutes
    python -m experiments.extrapolation --data walk.gif        your own clip; also .npy, .npz, mp4, a folder of frames
    python -m experiments.extrapolation --preset paper         PredNet's KITTI size and schedule, for a GPU
"""

from __future__ import annotations

from experiments import base
from experiments.extrapolation.options import PRESETS, Extrapolation
from experiments.extrapolation.page import report
from experiments.extrapolation.science import check, find

__all__ = ["PRESETS", "run"]


def run(config: Extrapolation) -> None:
    """Run the whole experiment, or resume it in its folder."""
    base.conduct(config, find, report, check)
