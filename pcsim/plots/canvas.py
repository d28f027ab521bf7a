"""Axes to draw into."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure


def axes(width: float = 5.0, height: float = 3.5) -> Axes:
    """A fresh axes on a figure of its own, size in inches."""
    return Figure(figsize=(width, height), layout="constrained").subplots()


# ---------------------------------------------------------------------- the network
