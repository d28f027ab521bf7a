"""Images of matrices: results of sweeps, dissimilarities and receptive fields."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from pcsim.core.checks import Count, Labels, checked
from pcsim.core.exceptions import StimulusError
from pcsim.plots.canvas import as_numbers, drawing, merged, require
from pcsim.sweeps import Table

MOST_NUMBERS = 150
"""largest number of cells for which a heat map shows numbers by default"""


@checked(StimulusError)
def heatmap(
    table: Table,
    x: str,
    y: str,
    value: str,
    *,
    repeats: Literal["mean", "median", "min", "max"] | None = None,
    label: str | None = None,
    numbers: str | None = None,
    ax: Axes | None = None,
    **image: Any,
) -> Axes:
    """Draw one result of a sweep against two of its parameters. Missing or non-finite points are marked with an x.

    repeats  how to combine several points with the same x and y, such as seeds; required if there are any
    label    label of the colour bar; the name of the value by default
    numbers  format of the numbers in the cells, such as ".2f", or "" for none; by default three digits, if there are at
             most 150 cells
    image    passed to `ax.imshow`, for example norm="log" or cmap="magma"

    Raises StimulusError if points are repeated and `repeats` is not given, if the values are not single numbers, or if
    the format is invalid.
    """
    try:
        format(0.0, numbers or "")
    except ValueError as reason:
        require(False, f"numbers={numbers!r} ({reason})", "a format for a float", "pass numbers='.2f', or '' for none")
    found = table.over(value, x, y)
    others = ", ".join(name for name in table.axes if name not in (x, y))
    require(
        found.ndim == 3,
        f"{value!r} with values of shape {found.shape[3:]}",
        "one number for each point",
        f"reduce {value!r} to a number in the sweep's function",
    )
    require(
        found.shape[2] == 1 or repeats is not None,
        f"{found.shape[2]} points for the same {x} and {y}, which differ in {others}",
        "one point for each cell, or a way to combine several",
        "pass repeats='mean', or select points with table.where(...)",
    )
    ways: dict[str, Callable[..., Any]] = {
        "mean": np.nanmean,
        "median": np.nanmedian,
        "min": np.nanmin,
        "max": np.nanmax,
    }
    cells = np.full(found.shape[:2], np.nan)
    known = np.isfinite(found).any(2)
    cells[known] = ways[repeats or "mean"](np.where(np.isfinite(found), found, np.nan)[known], axis=1)
    columns, rows = table.values(x), table.values(y)
    with drawing(ax, 1.6 + 0.5 * max(5, len(columns)), 1.0 + 0.42 * max(5, len(rows))) as ax:
        shown = ax.imshow(
            np.ma.masked_invalid(cells.T),
            **merged("imshow", {"origin": "lower", "cmap": "cividis", "aspect": "auto"}, image),
        )
        bar = ax.figure.colorbar(shown, ax=ax)
        bar.set_label(label or (f"{value} ({repeats} of {found.shape[2]})" if found.shape[2] > 1 else value))
        ax.set_xticks(range(len(columns)), [_written(v) for v in columns])
        ax.set_yticks(range(len(rows)), [_written(v) for v in rows])
        ax.set(xlabel=x, ylabel=y)
        shape = numbers if numbers is not None else ".3g" if cells.size <= MOST_NUMBERS else ""
        _write_numbers(ax, cells, shown, shape)
        return ax


def _write_numbers(ax: Axes, cells: NDArray[np.float64], shown: AxesImage, shape: str) -> None:
    """Write the number in each cell (column, row) in a font size that fits, or an x if the number is not finite."""
    texts = {at: format(number, shape) if shape else "" for at, number in np.ndenumerate(cells) if np.isfinite(number)}
    longest = max((len(text) for text in texts.values()), default=1)
    inches = cast(Figure, ax.get_figure(root=True)).get_figwidth() * ax.get_position().width / len(cells)
    size = float(np.clip(0.6 * 72 * inches / (0.6 * max(1, longest)), 3.0, 8.0))
    for (column, row), number in np.ndenumerate(cells):
        if not np.isfinite(number):
            ax.text(column, row, "x", ha="center", va="center", color="0.4")
        else:
            dark = sum(shown.cmap(shown.norm(np.asarray(number)))[:3]) < 1.5
            colour = "w" if dark else "k"
            ax.text(column, row, texts[column, row], ha="center", va="center", color=colour, fontsize=size)


def _written(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, tuple | list):
        return ", ".join(map(_written, value))
    return str(value)


@checked(StimulusError)
def matrix(
    values: ArrayLike | Tensor,
    labels: Labels | None = None,
    *,
    ranked: bool = False,
    label: str = "dissimilarity",
    ax: Axes | None = None,
    **image: Any,
) -> Axes:
    """Draw a dissimilarity matrix, given as (n, n) or as the vector of its upper triangle, (n (n - 1) / 2,).

    labels  (n,): adjacent stimuli with the same label form a block, which is labelled once; the order is not changed
    ranked  if True, draw the rank of each dissimilarity, scaled to [0, 1], as in Kriegeskorte et al. (2008)
    image   passed to `ax.imshow`

    Raises StimulusError for other shapes, and for a matrix that is not symmetric.
    """
    square = as_numbers(values).astype(float)
    if square.ndim == 1:
        side = (1 + np.sqrt(1 + 8 * len(square))) / 2
        require(
            side == int(side) and side > 1,
            f"a vector of {len(square)} dissimilarities",
            "n (n - 1) / 2 dissimilarities between n stimuli",
            "pass a matrix (n, n)",
        )
        square = _square(square, int(side))
    require(
        square.ndim == 2 and square.shape[0] == square.shape[1] > 1 and np.allclose(square, square.T, equal_nan=True),
        f"an array of shape {square.shape}" + (", not symmetric" if square.ndim == 2 else ""),
        "a symmetric matrix (n, n)",
        "pass the result of pcsim.brain.dissimilarity(...)",
    )
    if ranked:
        above = np.triu_indices(len(square), 1)
        from scipy.stats import rankdata

        square = _square((rankdata(square[above], nan_policy="omit") - 1) / max(1, len(above[0]) - 1), len(square))
    with drawing(ax, 4.6, 3.8) as ax:
        shown = ax.imshow(square, **merged("imshow", {"cmap": "viridis", "interpolation": "nearest"}, image))
        ax.figure.colorbar(shown, ax=ax, label=f"rank of {label} (0 to 1)" if ranked else label)
        if labels is None:
            ax.set(xlabel="stimulus", ylabel="stimulus")
            return ax
        names = as_numbers(labels)
        require(
            names.shape == (len(square),),
            f"labels of shape {names.shape} for {len(square)} stimuli",
            "one label for each stimulus",
            "pass labels=[...], (n,)",
        )
        starts = np.flatnonzero(np.concatenate([[True], names[1:] != names[:-1], [True]]))
        middles = (starts[:-1] + starts[1:] - 1) / 2
        for start in starts[1:-1]:
            ax.axhline(start - 0.5, color="w", linewidth=0.8)
            ax.axvline(start - 0.5, color="w", linewidth=0.8)
        words = [str(names[start]) for start in starts[:-1]]
        ax.set_xticks(middles, words, rotation=45, ha="right", rotation_mode="anchor")
        ax.set_yticks(middles, words)
        return ax


@checked(StimulusError)
def receptive_fields(
    weights: ArrayLike | Tensor,
    *,
    shape: tuple[Count, Count] | None = None,
    columns: Count | None = None,
    most: Count = 144,
    each: bool = True,
    ax: Axes | None = None,
    **image: Any,
) -> Axes:
    """Draw the weights of units as a grid of small images, with zero in the middle of the colour scale.

    weights  (unit, height, width), (unit, channel, height, width) with 1 channel, or 3 for colour images, or
             (unit, pixel) with `shape`
    columns  number of images in a row; by default the grid is about square
    most     maximum number of units; if units are omitted, the title says so
    each     if True, every field is scaled to its own largest absolute weight; otherwise all share one scale, shown
             in a colour bar
    image    passed to `ax.imshow`

    The weights of an edge are stored in its transform. In `models.predictive_coding`,
    `net.transforms["e0_to_r1"].weight` is (unit, pixel), and the prediction edge "r1_to_p0" uses its transpose.
    """
    fields = as_numbers(weights).astype(float)
    if fields.ndim == 2 and shape is not None and fields.shape[1] == shape[0] * shape[1]:
        fields = fields.reshape(len(fields), *shape)
    in_colour = fields.ndim == 4 and fields.shape[1] == 3
    if fields.ndim == 4 and fields.shape[1] in (1, 3):
        fields = np.moveaxis(fields, 1, -1) if in_colour else fields[:, 0]
    require(
        fields.size > 0 and (fields.ndim == 3 or in_colour),
        f"weights of shape {np.shape(as_numbers(weights))} and shape={shape}",
        "(unit, height, width), (unit, 1 or 3, height, width), or (unit, pixel) with shape=(height, width)",
        "pass weights.flatten(0, 1) to draw each channel as a separate image",
    )
    shown = fields[:most]
    largest = np.abs(shown).reshape(len(shown), -1).max(1)
    scale = np.where(largest > 0, largest, 1.0) if each else np.full(len(shown), largest.max() or 1.0)
    scaled = shown / scale.reshape(-1, *(1,) * (shown.ndim - 1))
    tiled = _tiled(scaled, columns or int(np.ceil(np.sqrt(len(shown)))))
    with drawing(ax, 4.0, 4.0 * tiled.shape[0] / tiled.shape[1] + 0.4) as ax:
        if in_colour:
            ax.imshow(
                np.nan_to_num(0.5 + tiled / 2, nan=1.0).clip(0, 1),
                **merged("imshow", {"interpolation": "nearest"}, image),
            )
        else:
            limits = {"vmin": -1.0, "vmax": 1.0} if each else {"vmin": -scale[0], "vmax": scale[0]}
            drawn = ax.imshow(
                np.ma.masked_invalid(tiled * (1.0 if each else scale[0])),
                **merged("imshow", {"cmap": "RdBu_r", "interpolation": "nearest", **limits}, image),
            )
            if not each:
                ax.figure.colorbar(drawn, ax=ax, label="weight", shrink=0.6)
        ax.axis("off")
        if len(fields) > most:
            ax.set_title(f"{most} of {len(fields):,} units")
        return ax


def _square(above: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """Return the symmetric matrix with zeros on the diagonal and the given upper triangle."""
    matrix = np.zeros((side, side))
    matrix[np.triu_indices(side, 1)] = above
    return matrix + matrix.T


def _tiled(fields: NDArray[np.float64], columns: int) -> NDArray[np.float64]:
    """Arrange fields (unit, height, width, ...) in a grid, with a border of NaN around each."""
    count, height, width = fields.shape[:3]
    columns = min(columns, count)
    rows = -(-count // columns)
    grid = np.full((rows * (height + 1) + 1, columns * (width + 1) + 1, *fields.shape[3:]), np.nan)
    for number, field in enumerate(fields):
        top, left = (number // columns) * (height + 1) + 1, (number % columns) * (width + 1) + 1
        grid[top : top + height, left : left + width] = field
    return grid
