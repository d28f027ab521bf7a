"""Pure functions from numbers (or a network) to an `Axes` or `Figure`. They neither compute, save nor show."""

from pcsim.plots.canvas import axes
from pcsim.plots.circuits import network
from pcsim.plots.curves import (
    accuracy_by_cycles,
    accuracy_over_time,
    activity,
    alignment,
    capacity,
    completion,
    error_by_condition,
    error_convergence,
    errors_over_cycles,
    guesses,
    learning_curves,
    lesions,
    state_change,
    training_curves,
)
from pcsim.plots.films import animation, errors_over_frames, forecast, horizon, surprise

__all__ = [
    "accuracy_by_cycles",
    "accuracy_over_time",
    "activity",
    "alignment",
    "animation",
    "axes",
    "capacity",
    "completion",
    "error_by_condition",
    "error_convergence",
    "errors_over_cycles",
    "errors_over_frames",
    "forecast",
    "guesses",
    "horizon",
    "learning_curves",
    "lesions",
    "network",
    "state_change",
    "surprise",
    "training_curves",
]
