"""The axes and figures on which this package draws, with their style and formatting."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from typing import Any, Literal, cast

import numpy as np
from cycler import cycler
from matplotlib import font_manager, pyplot, rc_context, rcParams, rcParamsDefault
from matplotlib.artist import Artist, ArtistInspector
from matplotlib.axes import Axes
from matplotlib.cbook import normalize_kwargs
from matplotlib.collections import LineCollection, QuadMesh
from matplotlib.figure import Figure, SubFigure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch
from matplotlib.ticker import MaxNLocator, NullLocator
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from pcsim.core.checks import Positive, checked
from pcsim.core.exceptions import StimulusError

PALETTE = ("#0072b2", "#d55e00", "#56b4e9", "#cc79a7", "#e69f00", "#000000", "#009e73", "#999999")
"""colours of Okabe and Ito (2008), distinguishable to colour-blind readers; green is listed far from vermillion"""
ARTISTS: dict[str, type[Artist]] = {
    "plot": Line2D,
    "imshow": AxesImage,
    "pcolormesh": QuadMesh,
    "streamplot": LineCollection,
    "arrow": FancyArrowPatch,
}
"""main artists of the functions in this package"""
WIDTHS_MM = {1: 89.0, 1.5: 120.0, 2: 183.0}
"""widths of figures that span 1, 1.5 or 2 columns of a journal (Nature's guide for authors)"""
FONTS = ("Arial", "Helvetica", "DejaVu Sans")
"""fonts of `style("paper")`, in order of preference; the last one is bundled with matplotlib"""


@checked(StimulusError)
@contextmanager
def style(name: Literal["paper", "screen"] = "paper", columns: float = 1) -> Iterator[None]:
    """Draw the figures of a `with` block in a given style.

    paper   7 pt sans-serif type, thin lines, a width of 1, 1.5 or 2 journal columns (89, 120 or 183 mm), and 300 dpi.
            Text in PDF and SVG files can be searched and edited.
    screen  matplotlib's sizes

    Both styles use a colour-blind-safe palette and hide the top and right spines.

        with pcsim.plots.style("paper", columns=2):
            ax = pcsim.plots.activity(run)
            ax.figure.savefig("activity.pdf")
    """
    require(columns in WIDTHS_MM, f"columns={columns!r}", "1, 1.5 or 2 columns", "pass columns=1")
    settings: dict[str, Any] = {
        "axes.prop_cycle": cycler(color=PALETTE),
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.frameon": False,
        "pdf.fonttype": 42,
        "svg.fonttype": "none",
    }
    if name == "paper":
        width = WIDTHS_MM[columns] / 25.4
        settings |= {
            "figure.figsize": (width, min(0.7 * width, 3.0)),
            "figure.dpi": 150,
            "savefig.dpi": 300,
            "font.size": 7,
            "axes.titlesize": 7,
            "axes.labelsize": 7,
            "xtick.labelsize": 6,
            "ytick.labelsize": 6,
            "legend.fontsize": 6,
            "figure.titlesize": 8,
            "axes.linewidth": 0.5,
            "lines.linewidth": 1.0,
            "lines.markersize": 3,
            "xtick.major.width": 0.5,
            "ytick.major.width": 0.5,
            "xtick.major.size": 2.5,
            "ytick.major.size": 2.5,
            "font.family": [font for font in FONTS if font in font_manager.get_font_names()],
        }
    with rc_context(cast(Any, settings)):
        yield


def size(width: float, height: float) -> tuple[float, float]:
    """Return a figure size in inches, scaled to the width in rcParams["figure.figsize"] if the user has set one."""
    if tuple(rcParams["figure.figsize"]) == tuple(rcParamsDefault["figure.figsize"]):
        return width, height
    wanted = rcParams["figure.figsize"][0]
    return wanted, height * wanted / width


@checked(StimulusError)
def axes(width: Positive = 5.0, height: Positive = 3.5) -> Axes:
    """Return axes on a new pyplot figure, with the given size in inches.

    Like any pyplot figure, the figure is shown by `plt.show()` or at the end of a notebook cell, and is kept in memory
    until it is closed with `plt.close(ax.figure)`.
    """
    return pyplot.figure(figsize=size(width, height), layout="constrained").add_subplot()


@contextmanager
def drawing(ax: Axes | None, width: float = 5.0, height: float = 3.5) -> Iterator[Axes]:
    """Yield `ax`, or axes on a new figure if it is None; a new figure is closed if drawing fails."""
    target = ax if ax is not None else axes(width, height)
    try:
        yield target
    except BaseException:
        if ax is None:
            pyplot.close(target.get_figure(root=True))
        raise


@contextmanager
def panels(
    ax: Axes | None, rows: int, columns: int, width: float, height: float, **options: Any
) -> Iterator[tuple[Figure | SubFigure, NDArray[Any]]]:
    """Yield a figure and its panels (rows, columns). With `ax`, the panels take the place of these axes.

    options  passed to `Figure.subplots`
    """
    figure: Figure | SubFigure
    if ax is None:
        figure = pyplot.figure(figsize=size(width, height), layout="constrained")
    else:
        place, whole = ax.get_subplotspec(), ax.figure
        if place is None:
            raise StimulusError(
                given="axes at a free position",
                expected="axes in a grid, which can be replaced with several panels",
                remedy="create the axes with plt.subplots() or figure.add_subplot()",
            )
        ax.remove()
        figure = whole.add_subfigure(place)
    try:
        yield figure, figure.subplots(rows, columns, squeeze=False, **options)
    except BaseException:
        if isinstance(figure, Figure):
            pyplot.close(figure)
        raise


def merged(
    kind: Literal["plot", "imshow", "pcolormesh", "streamplot", "arrow"],
    defaults: Mapping[str, Any],
    given: Mapping[str, Any],
) -> dict[str, Any]:
    """Return keyword arguments for an artist, under their full names: `defaults` overridden by those in `given`.

    Raises StimulusError for names that neither the artist nor its `Axes` method accepts.
    """
    artist = ARTISTS[kind]
    known = _keywords(kind)
    if unknown := [name for name in given if name not in known]:
        near = difflib.get_close_matches(unknown[0], known, 1)
        raise StimulusError(
            given=f"the keyword {unknown[0]!r}",
            expected=f"an option of this function, or a property of a {artist.__name__} in matplotlib",
            remedy=f"did you mean {near[0]!r}?" if near else "list the options with help(), or omit this one",
        )
    if "norm" in given:
        defaults = {name: value for name, value in defaults.items() if name not in ("vmin", "vmax")}
    return {**normalize_kwargs(dict(defaults), artist), **normalize_kwargs(dict(given), artist)}


@cache
def _keywords(kind: str) -> frozenset[str]:
    """Return the names and aliases of the properties of an artist, and of the arguments of the method that draws it."""
    inspector = ArtistInspector(ARTISTS[kind])
    names = {*inspector.get_setters(), *(alias for aliases in inspector.aliasd.values() for alias in aliases)}
    arguments = inspect.signature(getattr(Axes, kind)).parameters if kind != "arrow" else {}
    return frozenset({*names, *arguments} - {"self", "args", "kwargs", "data", "label", "transform"})


def whole(figure: Figure | SubFigure) -> Figure:
    """Return the figure that contains a subfigure, or the figure itself."""
    return figure.get_figure(root=True)


def require(is_valid: bool, given: str, expected: str, remedy: str) -> None:
    """Raise StimulusError if the data cannot be drawn."""
    if not is_valid:
        raise StimulusError(given=given, expected=expected, remedy=remedy)


def as_numbers(values: ArrayLike | Tensor) -> NDArray[Any]:
    """Convert an array or tensor to a NumPy array, detached from the autograd graph."""
    return np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values)


def plain_logs(ax: Axes) -> None:
    """Label logarithmic axes with plain numbers instead of powers of ten, except for very small or large numbers."""
    for axis in (axis for axis in (ax.xaxis, ax.yaxis) if axis.get_scale() == "log"):
        low, high = sorted(axis.get_view_interval())
        if high / low < 8:  # may contain no power of ten
            axis.set_major_locator(MaxNLocator(5))
            axis.set_minor_locator(NullLocator())
        if 1e-4 < low < high < 1e6:
            axis.set_major_formatter("{x:g}")
            axis.set_minor_formatter(partial(_two_or_five, high / low < 50))


def _two_or_five(shown: bool, value: float, _: int | None = None) -> str:
    return f"{value:g}" if shown and f"{value:.0e}"[0] in "25" else ""


def tidy(ax: Axes) -> None:
    """Hide the top and right spines."""
    ax.spines[["top", "right"]].set_visible(False)
