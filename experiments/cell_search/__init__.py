"""Which recurrent cell, and which long-range feedback, names occluded digits best at a given number of parameters?

Searches the space of reciprocal gated cells of Nayebi et al. (2018), with every feedback edge between layers that have
one: a third of the trials at random, then by tree-structured Parzen estimators, poor ones given up early. Each trial
trains a small ConvRNN of the same number of parameters for a short while. The best cell, the median one of the last
third, the median one of the random third, the cell as published, the best one with minimal unroll, and a feed-forward
control are then trained anew for longer, and tested on digits that the search has not seen.

    python -m experiments.cell_search                       24 trials, about 10 minutes on 2 cores
    python -m experiments.cell_search --preset standard     120 trials and three repetitions, under an hour

It needs optuna: pip install -e ".[sweep]". Killed, it goes on where it was.
"""

from __future__ import annotations

from experiments import base
from experiments.cell_search.options import PRESETS, CellSearch
from experiments.cell_search.page import report
from experiments.cell_search.science import find, search_of

__all__ = ["PRESETS", "run"]


def run(config: CellSearch) -> None:
    """Run the whole experiment. Resumes in its folder, within a trial too."""
    base.conduct(config, find, report, check=search_of)
