"""What do time constants do to a recurrent network, and which dt and solver does it need?

Trains four networks to name digits under debris: hierarchical predictive coding (by its local rule), PCN with global
loops, BLT and a leaky RCNN (through time). Then sweeps the time constant of each area, the ratio between areas, dt and
the solver, and draws how errors fall, when networks settle, how well they name the digit at a deadline, how large dt
may be, and what accuracy costs. The report has pages to explore, if plotly is there (pip install "pcsim[viz]").

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
    """Run the whole experiment: train, sweep, draw, report. Resumes in its folder."""
    base.conduct(config, find, report)
