"""Search for the recurrent cell and the long-range feedback that classify occluded digits best at a fixed size.

Searches the space of reciprocal gated cells of Nayebi et al. (2018), with or without every feedback edge between layers
that have a cell: a third of the trials at random, the others by tree-structured Parzen estimators with pruning. Each
trial briefly trains a small ConvRNN with the same number of parameters. Six networks are then retrained for longer and
tested on digits that the search does not use: the best cell, the median one of the last third, the median one of the
random third, the published cell, the best one with minimal unroll, and a feed-forward control.

    python -m experiments.cell_search                       24 trials, about 10 minutes on 2 cores
    python -m experiments.cell_search --preset standard     120 trials and three repetitions, under an hour

Needs optuna: pip install -e ".[sweep]". A run that was stopped resumes where it was.
"""

from __future__ import annotations

from experiments import base
from experiments.cell_search.options import PRESETS, CellSearch
from experiments.cell_search.page import report
from experiments.cell_search.science import find, make_search

__all__ = ["PRESETS", "run"]


def run(config: CellSearch) -> None:
    """Run the whole experiment, or resume it from its folder, even within a trial."""
    base.conduct(config, find, report, check=make_search)
