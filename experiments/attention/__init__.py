"""Test where and when attention helps a recurrent network (Lindsay & Miller 2018; Konkle & Alvarez 2023).

The networks ship with pcsim and were trained on single digits. They see blends of two digits with a cue to a digit
(feature-similarity gain), or arrays of four digits with a cue to a place (spotlight). The cue can be valid, invalid,
neutral, absent, or a foil (a digit that is not in the image). The gain is applied to each area separately, and to all
areas together.

    python -m experiments.attention                       BLT, three sets of images, about 5 minutes on 2 cores
    python -m experiments.attention --preset standard     more images and strengths
"""

from __future__ import annotations

from .. import base
from .options import PRESETS, Attention
from .page import report
from .science import check, find

__all__ = ["PRESETS", "run"]


def run(config: Attention) -> None:
    """Run the experiment, or resume it from its output folder."""
    base.conduct(config, find, report, check)
