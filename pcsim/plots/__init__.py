"""Pure functions from numbers (or a network) to an `Axes` or `Figure`. They neither compute, save nor show."""

from pcsim.plots.canvas import axes
from pcsim.plots.circuits import circuit
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
from pcsim.plots.interactive import explore
from pcsim.plots.neural import decoding_over_time, similarities, solution_times
from pcsim.plots.searches import choice_effects, search_progress
from pcsim.plots.sweeps import (
    accuracy_by_dt,
    by_ratio,
    curves_by_tau,
    settling,
    tau_histograms,
    tau_maps,
    work_precision,
)

__all__ = [
    "accuracy_by_cycles",
    "accuracy_by_dt",
    "accuracy_over_time",
    "activity",
    "alignment",
    "animation",
    "axes",
    "by_ratio",
    "capacity",
    "choice_effects",
    "circuit",
    "completion",
    "curves_by_tau",
    "decoding_over_time",
    "error_by_condition",
    "error_convergence",
    "errors_over_cycles",
    "errors_over_frames",
    "explore",
    "forecast",
    "guesses",
    "horizon",
    "learning_curves",
    "lesions",
    "search_progress",
    "settling",
    "similarities",
    "solution_times",
    "state_change",
    "surprise",
    "tau_histograms",
    "tau_maps",
    "training_curves",
    "work_precision",
]
