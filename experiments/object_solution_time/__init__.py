"""Measure the object solution times of networks, and test whether occlusion delays them (Kar et al. 2019).

The experiment trains CORnet-S, BLT, hierarchical predictive coding and a feed-forward network to classify digits under
debris. It then presents clean and occluded test digits, decodes the digit from an upper area over time, and measures
when the decoder's d' between an image and the other digits reaches a criterion. BLT and predictive coding are also
tested with their top-down projections cut, and BLT with all recurrent projections cut.

If --neural specifies a folder of public recordings (see docs/neural.md), the experiment also decodes macaque IT and
compares the areas with monkey and human IT by representational similarity. Networks trained on digits are not
models of IT, so none of these results is a fit to brain data.

    python -m experiments.object_solution_time                        about 2 minutes on 2 cores
    python -m experiments.object_solution_time --neural FOLDER        with the recordings
"""

from __future__ import annotations

from .. import base, neural_data
from .options import PRESETS, ObjectSolutionTime
from .page import report
from .science import find

__all__ = ["PRESETS", "run"]


def run(config: ObjectSolutionTime) -> None:
    """Run the experiment, skipping any training and decoding already completed in the output folder."""
    base.conduct(config, find, report, check=lambda options: neural_data.folder(options.neural))
