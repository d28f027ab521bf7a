"""Test whether recurrence helps networks to recognise occluded digits (Spoerer, McClure & Kriegeskorte 2017).

The experiment trains networks with bottom-up (B), lateral (L) and top-down (T) connections on digits under debris or in
clutter. It then tests them on clean digits, on digits under more debris, in clutter and in noise, and after lesions of
the recurrent connections.

    python -m experiments.occlusion                       B, BF, BL, BLT at half width, less than 8 minutes on 2 cores
    python -m experiments.occlusion --preset standard     all six at the published width, three seeds, less than 2 hours
    python -m experiments.occlusion --pretrained          the full report, using weights that ship with pcsim
"""

from __future__ import annotations

from .. import base
from .options import FLAGS, PRESETS, Occlusion
from .page import report
from .science import check, find

__all__ = ["FLAGS", "PRESETS", "run"]


def run(config: Occlusion) -> None:
    """Run the experiment (train, test, analyse, report), or resume it from its output folder."""
    base.conduct(config, find, report, check)
