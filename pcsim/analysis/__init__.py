"""Analysis of recorded arrays: choices, decoding, convergence, frame predictions, readouts and statistics."""

from typing import TYPE_CHECKING

from pcsim.analysis import convergence, decoding, frames
from pcsim.analysis.choices import accuracy_over_time, correct_choices, hit_rate
from pcsim.analysis.convergence import state_change
from pcsim.analysis.readouts import (
    answer_steps,
    bound_crossings,
    cumulative,
    decision_times,
    decode,
    entropy,
    entropy_threshold,
    evidential_uncertainty,
    reaction_times,
    uncertainty_area,
)
from pcsim.analysis.selectivity import population_angle, tuning
from pcsim.analysis.statistics import (
    Comparison,
    Estimate,
    compare_pairs,
    error_rate,
    estimate,
    mcnemar,
    rank_correlation,
)
from pcsim.core.renamed import names_of

__all__ = [
    "Comparison",
    "Estimate",
    "accuracy_over_time",
    "answer_steps",
    "bound_crossings",
    "compare_pairs",
    "convergence",
    "correct_choices",
    "cumulative",
    "decision_times",
    "decode",
    "decoding",
    "entropy",
    "entropy_threshold",
    "error_rate",
    "estimate",
    "evidential_uncertainty",
    "frames",
    "hit_rate",
    "mcnemar",
    "population_angle",
    "rank_correlation",
    "reaction_times",
    "state_change",
    "tuning",
    "uncertainty_area",
]

if not TYPE_CHECKING:
    __getattr__ = names_of(__name__)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
