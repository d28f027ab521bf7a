"""Benchmark pcsim against a plain PyTorch loop, and against only the convolutions of this loop.

The contenders for each workload are pcsim (a Simulator that has run before, a compiled Simulator, and a first call of
`simulate`), a hand-written PyTorch loop with the same arithmetic, the same loop with torch.compile or torchdiffeq, and
only its convolutions (by oneDNN) or matrix products. The contenders take turns in one process. A result is the median
over rounds of a contender's time divided by the time of the plain loop in the same round.

    python -m experiments.speed                      one thread, nothing compiled, a few minutes
    python -m experiments.speed --preset standard    all workloads, also compiled and with other packages; an hour
"""

from __future__ import annotations

from experiments import base
from experiments.speed.options import PRESETS, Speed
from experiments.speed.page import report
from experiments.speed.science import check, find

__all__ = ["PRESETS", "run"]


def run(config: Speed) -> None:
    """Time the workloads missing from the output folder, then write the tables and the figure."""
    base.conduct(config, find, report, check)
