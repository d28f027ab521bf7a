"""Pure functions from numbers (or a network) to an `Axes` or `Figure`. They do not compute, save or show anything.

Figures of a single experiment are in `experiments/`, beside it.
"""

from pcsim.plots.canvas import axes
from pcsim.plots.circuits import circuit
from pcsim.plots.curves import accuracy_by_cycles, activity, decoding_over_time, error_convergence
from pcsim.plots.films import animation, errors_over_frames, forecast, surprise
from pcsim.plots.interactive import explore
from pcsim.plots.sweeps import search_progress, tau_maps

__all__ = [
    "accuracy_by_cycles",
    "activity",
    "animation",
    "axes",
    "circuit",
    "decoding_over_time",
    "error_convergence",
    "errors_over_frames",
    "explore",
    "forecast",
    "search_progress",
    "surprise",
    "tau_maps",
]
