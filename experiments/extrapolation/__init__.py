"""Predict the next frame of videos, and extrapolate further frames from a network's own predictions.

The experiment trains PredNets with two kinds of cells on next-frame prediction and then fine-tunes them on
extrapolation. It trains an encoder-forecaster on extrapolation only. All networks are compared with three baselines:
copying the last frame, linear extrapolation, and the training mean. Finally, the PredNets are tested on videos that
are reversed or cut, to measure how their prediction errors respond to surprise.

    python -m experiments.extrapolation                        moving digits, three repetitions, about 3 minutes
    python -m experiments.extrapolation --data walk.gif        your own video: GIF, mp4, .npy, .npz or frame folder
    python -m experiments.extrapolation --preset paper         PredNet's KITTI size and schedule, for a GPU
"""

from __future__ import annotations

from .. import base
from .options import PRESETS, Extrapolation
from .page import report
from .science import check, find

__all__ = ["PRESETS", "run"]


def run(config: Extrapolation) -> None:
    """Run the experiment, or resume it from its output folder."""
    base.conduct(config, find, report, check)
