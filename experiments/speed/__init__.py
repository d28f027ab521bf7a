"""Time pcsim relative to a plain PyTorch loop, and to the convolutions of that loop alone.

Every workload is run by pcsim (a Simulator that has run before, the same compiled, and a first `simulate`), by a plain
hand-written loop of the same arithmetic, by torch.compile and torchdiffeq on that loop, and as its convolutions (by
oneDNN) or matrix products alone. All take turns in one process; a number is the median over rounds of a contender's
time divided by that of the plain loop in the same round.

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
    """Time the workloads that are not in the folder, then write the tables and the figure."""
    base.conduct(config, find, report, check)
