"""When is an object solved, and does it take recurrence longer where the object is occluded (Kar et al. 2019)?

Trains networks to name digits under debris: CORnet-S, BLT and hierarchical predictive coding, and a feed-forward one.
Shows each of them the same digits clean and occluded, decodes the digit from an upper area at every time, and measures
when the decoder tells each image from the other digits as well as a criterion asks: whole, with top-down connections
cut, and without recurrence. With a folder of public recordings (--neural, see docs/neural.md) the report shows decoding
of macaque IT beside it, and how areas of the networks compare with IT of monkeys and humans in which images they find
alike. Networks trained on digits are no models of IT: nothing here is a fit to the brain.

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
    """Run the whole experiment. What is trained or decoded already is not done again."""
    base.conduct(config, find, report, check=lambda options: neural_data.folder(options.neural))
