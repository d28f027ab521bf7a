"""Creation and formatting of axes."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from pcsim.core.checks import Positive, checked
from pcsim.core.exceptions import StimulusError


@checked(StimulusError)
def axes(width: Positive = 5.0, height: Positive = 3.5) -> Axes:
    """Return axes on a new figure, with the given size in inches."""
    return Figure(figsize=(width, height), layout="constrained").subplots()


def require(is_valid: bool, given: str, expected: str, remedy: str) -> None:
    """Raise StimulusError if the data cannot be drawn."""
    if not is_valid:
        raise StimulusError(given=given, expected=expected, remedy=remedy)


def as_numbers(values: ArrayLike | Tensor) -> NDArray[Any]:
    """Return an array or tensor as an array, detached from its autograd graph."""
    return np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values)


def plain_logs(ax: Axes) -> None:
    """Label logarithmic axes with plain numbers instead of powers of ten."""
    for axis in (axis for axis in (ax.xaxis, ax.yaxis) if axis.get_scale() == "log"):
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:g}".strip("0.")[:1] in "25" else "")
