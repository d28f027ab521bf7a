"""Test whether the time to group two dots grows with their distance along a curve (Goetschalckx et al. 2023).

Three networks of about equal size learn to tell whether two dots are on the same curve: an hGRU (Linsley et al. 2018),
a ConvRNN with plain lateral connections, and a feed-forward network. The reaction time of a trial is the area under the
uncertainty of a Dirichlet readout, or the time at which accumulated evidence reaches a bound. Controls are the straight
distance between the dots, trials with dots on different curves, lesions, and runs of fewer and more steps.

    python -m experiments.grouping                       three repetitions, about 4 minutes on 2 cores
    python -m experiments.grouping --preset standard     longer training, for longer paths
"""

from __future__ import annotations

from .. import base
from .options import PRESETS, Grouping
from .page import report
from .science import check, find

__all__ = ["PRESETS", "run"]


def run(config: Grouping) -> None:
    """Run the experiment, or resume it from its output folder."""
    base.conduct(config, find, report, check)
