"""Comparison of models with neural data: recordings, predictivity, similarity, latencies and Brain-Score subjects."""

from pcsim.brain import object_solution, recordings, regression, similarity, subject
from pcsim.brain.latency import first_difference, latencies

__all__ = [
    "first_difference",
    "latencies",
    "object_solution",
    "recordings",
    "regression",
    "similarity",
    "subject",
]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
