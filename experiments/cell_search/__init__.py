"""Search for the recurrent cell and long-range feedback that best classify occluded digits at a fixed network size.

The search space comprises the reciprocal gated cells of Nayebi et al. (2018) and optional feedback projections between
all layers that have a cell. The first third of the trials is random. The others are proposed by a tree-structured
Parzen estimator and can be pruned. Each trial briefly trains a small ConvRNN; all of them have about the same number of
parameters. Six networks are then retrained for longer and tested on digits not used in the search: the best network,
the median networks of the last and the random third, the published cell, the best network with minimal unrolling, and
a feed-forward control.

    python -m experiments.cell_search                       24 trials, about 10 minutes on 2 cores
    python -m experiments.cell_search --preset standard     120 trials and three repetitions, less than an hour

This experiment requires optuna (pip install -e ".[sweep]"). An interrupted run resumes where it stopped.
"""

from __future__ import annotations

from .. import base
from .options import PRESETS, CellSearch
from .page import report
from .science import find, make_search

__all__ = ["PRESETS", "run"]


def run(config: CellSearch) -> None:
    """Run the experiment, or resume it from its output folder, even in the middle of a trial."""
    base.conduct(config, find, report, check=make_search)
