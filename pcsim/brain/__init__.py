"""Models beside neurons: recordings, predictivity, similarity, latencies, Brain-Score's subject."""

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
