"""Benchmark pcsim against a plain PyTorch loop, and against the convolutions of this loop alone.

Each workload has several implementations: pcsim (a Simulator that has run before, a compiled Simulator, and a call to
`simulate`), a hand-written PyTorch loop with the same arithmetic, the same loop with torch.compile or torchdiffeq, and
only the loop's convolutions (by oneDNN) or matrix products. The implementations take turns in one process. Each result
is the median over rounds of an implementation's time, divided by the time of the plain loop in the same round.

    python -m experiments.speed                      one thread, without compilation, less than a minute
    python -m experiments.speed --preset standard    all workloads, with compilation and other packages, an hour
"""

from __future__ import annotations

from .. import base
from .options import PRESETS, Speed
from .page import report
from .science import check, find

__all__ = ["PRESETS", "run"]


def run(config: Speed) -> None:
    """Time the workloads that are missing from the output folder, then write the tables and the figure."""
    base.conduct(config, find, report, check)
