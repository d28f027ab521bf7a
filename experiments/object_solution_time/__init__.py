"""Measure object solution times of networks, and whether occlusion delays them (Kar et al. 2019).

Trains CORnet-S, BLT, hierarchical predictive coding and a feed-forward network to classify digits under debris. Shows
each the same digits clean and occluded, decodes the digit from an upper area at every time, and measures when the
decoder's d' between an image and the other digits reaches a criterion: in the whole network, with top-down connections
cut, and without recurrence. With a folder of public recordings (--neural, see docs/neural.md), the report adds decoding
of macaque IT, and compares the representational similarity of areas with that of monkey and human IT. Networks trained
on digits are no models of IT: nothing here is a fit to the brain.

    python -m experiments.object_solution_time                        about 4 minutes on 2 cores
    python -m experiments.object_solution_time --neural FOLDER        with the recordings
"""

from __future__ import annotations

from experiments import base, neural_data
from experiments.object_solution_time.options import PRESETS, ObjectSolutionTime
from experiments.object_solution_time.page import report
from experiments.object_solution_time.science import find

__all__ = ["PRESETS", "run"]


def run(config: ObjectSolutionTime) -> None:
    """Run the whole experiment; trainings and decodings that are in its folder are not repeated."""
    base.conduct(config, find, report, check=lambda options: neural_data.folder(options.neural))
