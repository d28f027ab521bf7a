"""Pure functions that plot numbers or a network and return an `Axes` or `Figure`, without saving or displaying it.

Figures specific to one experiment are in `experiments/`, next to its code.
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
