"""Axes to draw into."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure


def axes(width: float = 5.0, height: float = 3.5) -> Axes:
    """A fresh axes on a figure of its own, size in inches."""
    return Figure(figsize=(width, height), layout="constrained").subplots()


def plain_logs(ax: Axes) -> None:
    """Write numbers without powers of ten on the axes that have a log scale."""
    for axis in (axis for axis in (ax.xaxis, ax.yaxis) if axis.get_scale() == "log"):
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:g}".strip("0.")[:1] in "25" else "")
