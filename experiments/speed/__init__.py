"""How long does pcsim take, in units of a plain PyTorch loop and of its convolutions alone?

Every workload is run by pcsim (a Simulator that has run before, the same compiled, and `simulate` afresh), by a plain
hand-written loop of the same arithmetic, by torch.compile and torchdiffeq on that loop, and as its convolutions (by
oneDNN) or matrix products alone. All take turns in one process; a number is the median over rounds of a contender's
time over that of the plain loop in the same round.

    python -m experiments.speed                      one thread, nothing compiled, some minutes
    python -m experiments.speed --preset standard    every workload, also compiled, beside other packages; an hour
"""

from __future__ import annotations

from experiments import base
from experiments.speed.options import PRESETS, Speed
from experiments.speed.page import report
from experiments.speed.science import check, find

__all__ = ["PRESETS", "run"]


def run(config: Speed) -> None:
    """Time what is not timed yet, then write the tables and the figure."""
    base.conduct(config, find, report, check)
