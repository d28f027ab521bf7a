"""Sweep the time constants, dt and the solver of recurrent networks.

Trains four networks to classify digits under debris: hierarchical predictive coding (by its local rule), PCN with
global loops, BLT and a leaky RCNN (by backpropagation through time). Then sweeps the time constant of each area, the
ratio between areas, dt and the solver, and shows how errors fall, when networks settle, their accuracy at a deadline,
the largest stable dt, and the cost of numerical precision. With plotly (pip install "pcsim[viz]"), the report has
interactive curves.

    python -m experiments.time_constants                               about 6 minutes on 2 cores
    python -m experiments.time_constants --where slurm:partition=cpu   the sweeps as job arrays; see docs/sweeps.md
"""

from __future__ import annotations

from experiments import base
from experiments.time_constants.options import PRESETS, TimeConstants
from experiments.time_constants.page import report
from experiments.time_constants.science import find

__all__ = ["PRESETS", "run"]


def run(config: TimeConstants) -> None:
    """Run the whole experiment (train, sweep, draw, report), or resume it in its folder."""
    base.conduct(config, find, report)
