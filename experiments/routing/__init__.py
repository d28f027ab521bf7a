"""Test how gates route information: which stream or place reaches the response, and what a late cue or a lesion costs.

A network with a what and a where stream has gates controlled by a cue that names the task. A shifter circuit has
control neurons that open a window at the cued place (Olshausen, Anderson & Van Essen 1993). The report shows which
edges carry which information under each cue, what happens if gates are half open, wrong or lesioned, how fast a network
switches if the cue changes within a trial, and how late a cue can come. The experiment requires `pip install -e
".[analysis]"`.

    python -m experiments.routing                       three repetitions, about 3 minutes on 2 cores
    python -m experiments.routing --preset standard     more images and updates
"""

from __future__ import annotations

from .. import base
from .options import PRESETS, Routing
from .page import report
from .science import find

__all__ = ["PRESETS", "run"]


def run(config: Routing) -> None:
    """Run the experiment, or resume it from its output folder."""
    base.conduct(config, find, report)
