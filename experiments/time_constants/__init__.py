"""Sweep the time constants, dt and the solver of recurrent networks.

The experiment trains four networks to classify digits under debris: hierarchical predictive coding by its local rule,
and a PCN with global loops, BLT and a leaky RCNN by backpropagation through time. It then sweeps the time constant of
each area, the ratio between areas, dt and the solver. The report shows the decrease of errors, settling times,
accuracies at a deadline, the largest stable dt, and the trade-off between numerical error and cost. It includes
interactive curves if plotly is installed (pip install "pcsim[viz]").

    python -m experiments.time_constants                               about 3 minutes on 2 cores
    python -m experiments.time_constants --where slurm:partition=cpu   run the sweeps as job arrays (see docs/sweeps.md)
"""

from __future__ import annotations

from .. import base
from .options import PRESETS, TimeConstants
from .page import report
from .science import find

__all__ = ["PRESETS", "run"]


def run(config: TimeConstants) -> None:
    """Run the experiment (train, sweep, report), or resume it from its output folder."""
    base.conduct(config, find, report)
