"""Plots of results with matplotlib.

Every function draws on the axes passed as `ax=` or, by default, on a new pyplot figure, which appears in a notebook or
with `plt.show()`. Functions that draw a single panel return the `Axes`. Those that draw several panels return the
`Figure`; if `ax` is given, the panels replace it in its figure. Further keyword arguments are passed to the main
artist, which is named in the docstring. Close figures that are no longer needed with `plt.close(figure)`, as with any
pyplot figure.

`animation` returns images, and `explore` a plotly figure. Figures specific to one experiment are in `experiments/`.
"""

from typing import TYPE_CHECKING

from pcsim.core.renamed import names_of
from pcsim.plots.canvas import axes, style
from pcsim.plots.curves import accuracy_by_cycles, decoding_over_time
from pcsim.plots.diagrams import network
from pcsim.plots.films import animation, errors_over_frames, forecast, surprise
from pcsim.plots.grids import heatmap, matrix, receptive_fields
from pcsim.plots.interactive import explore
from pcsim.plots.page import export_page
from pcsim.plots.planes import phase_plane
from pcsim.plots.protocols import stimulus
from pcsim.plots.runs import activity, compare, error_convergence, unit_map
from pcsim.plots.sweeps import search_progress, tau_maps

__all__ = [
    "accuracy_by_cycles",
    "activity",
    "animation",
    "axes",
    "compare",
    "decoding_over_time",
    "error_convergence",
    "errors_over_frames",
    "explore",
    "export_page",
    "forecast",
    "heatmap",
    "matrix",
    "network",
    "phase_plane",
    "receptive_fields",
    "search_progress",
    "stimulus",
    "style",
    "surprise",
    "tau_maps",
    "unit_map",
]

if not TYPE_CHECKING:
    __getattr__ = names_of(__name__)
