"""Compare cells as short-term memories: delays, distractors, lesions, persistent and dynamic codes, serial order.

Six cells with about the same number of weights learn delayed match to sample and serial order: leaky units, LSTM, gated
units with input-dependent time constants, reciprocal gated cells, a ring attractor, and facilitating synapses without
recurrent weights. Each drives the same decision layer. The tests use longer delays, more distractors and other
durations than training. Lateral edges are cut during the delay, and the sample is decoded across time.

    python -m experiments.short_term_memory                       three repetitions, about 2 minutes on 2 cores
    python -m experiments.short_term_memory --preset standard     longer training
"""

from __future__ import annotations

from .. import base
from .options import PRESETS, ShortTermMemory
from .page import report
from .science import check, find

__all__ = ["PRESETS", "run"]


def run(config: ShortTermMemory) -> None:
    """Run the experiment, or resume it from its output folder."""
    base.conduct(config, find, report, check)
