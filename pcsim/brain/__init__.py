"""Comparison of models with neurons: recordings, predictivity, similarity, latencies, a Brain-Score subject."""

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
