"""Figures of sweeps and searches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from pcsim.core.checks import Count, Whole, checked
from pcsim.core.exceptions import StimulusError
from pcsim.plots.canvas import drawing, merged, panels, require, tidy, whole


@checked(StimulusError)
def tau_maps(
    maps: Mapping[str, Mapping[str, NDArray[np.float64]]],
    low: Sequence[float],
    high: Sequence[float],
    beyond: str = "none",
    *,
    ax: Axes | None = None,
    **image: Any,
) -> Figure:
    """Draw heat maps over the time constants of two areas, with quantities in rows and networks in columns.

    maps[quantity][network] is (low, high). Quantities whose name contains "(ms)" have a log colour scale; the others
    are fractions, shown as percentages. Non-finite cells are labelled `beyond`. `image` is passed to `ax.imshow`.
    """
    networks = list(next(iter(maps.values()), {}))
    shapes = {np.shape(value) for found in maps.values() for value in found.values()}
    require(
        shapes == {(len(low), len(high))} and all(list(found) == networks for found in maps.values()),
        f"maps of {[list(found) for found in maps.values()]} with shapes {shapes}, {len(low)} low and {len(high)} high",
        "maps (low, high) of the same networks for every quantity",
        "pass table.over(quantity, 'tau.low', 'tau.high')[..., 0] of each network",
    )
    width, height = 1.0 + 2.9 * len(networks), 0.6 + 2.7 * len(maps)
    with panels(ax, len(maps), len(networks), width, height, sharex=True, sharey=True) as (figure, grid):
        for row, (quantity, found) in enumerate(maps.items()):
            _map_row(figure, grid[row], quantity, found, (low, high), beyond, image)
        for panel, network in zip(grid[0], networks, strict=True):
            panel.set_title(network)
        figure.supxlabel("tau of the upper area (ms)", fontsize="medium")
        figure.supylabel("tau of the lower area (ms)", fontsize="medium")
        return whole(figure)


def _map_row(
    figure: Figure | SubFigure,
    row: Sequence[Axes],
    quantity: str,
    found: Mapping[str, NDArray[np.float64]],
    taus: tuple[Sequence[float], Sequence[float]],
    beyond: str,
    image: Mapping[str, Any],
) -> None:
    """Draw a quantity of every network, with one colour bar."""
    known = np.concatenate([value[np.isfinite(value)] for value in found.values()])
    in_ms = "(ms)" in quantity
    ends = (known.min(), known.max()) if len(known) and known.min() < known.max() else (1.0, 2.0)
    scale = LogNorm(*ends) if in_ms else Normalize(*ends)
    defaults = {"norm": scale, "cmap": "magma" if in_ms else "cividis", "origin": "lower"}
    style = merged("imshow", defaults, image)
    for panel, value in zip(row, found.values(), strict=True):
        shown = panel.imshow(np.ma.masked_invalid(value), **style)
        _annotate(panel, value, scale, beyond, 1.0 if in_ms else 100.0)
        panel.set_xticks(range(len(taus[1])), [f"{tau:g}" for tau in taus[1]])
        panel.set_yticks(range(len(taus[0])), [f"{tau:g}" for tau in taus[0]])
    bar = figure.colorbar(shown, ax=row, label=quantity, aspect=15)
    if in_ms:
        ticks = [tick for tick in (5, 10, 20, 50, 100, 200, 500, 1000) if ends[0] <= tick <= ends[1]]
        bar.set_ticks(ticks, labels=[str(tick) for tick in ticks])
        bar.minorticks_off()
    else:
        bar.ax.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.0f} %")


def _annotate(panel: Axes, value: NDArray, scale: Normalize, beyond: str, factor: float) -> None:
    for (y, x), number in np.ndenumerate(value):
        if np.isfinite(number):
            dark = float(scale(number)) < 0.55
            panel.text(x, y, f"{factor * number:.0f}", ha="center", va="center", fontsize=8, color="w" if dark else "k")
        else:
            panel.text(x, y, beyond, ha="center", va="center", fontsize=7, color="0.4")


@checked(StimulusError)
def search_progress(
    scores: ArrayLike,
    complete: ArrayLike,
    random: Whole,
    window: Count = 20,
    label: str = "score",
    scale: float = 1.0,
    *,
    ax: Axes | None = None,
    **line: Any,
) -> Axes:
    """Draw all scores, the mean of the last `window` scores and the best so far, as in Nayebi et al. 2018, figure 3b.

    scores    (trial,): the final score of each trial, including pruned trials; NaN if a trial has no score
    complete  (trial,): True for trials that ran to completion; others are drawn as hollow markers and contribute only
              to the mean
    random    number of random trials, shown to the left of the dotted line
    label, scale  axis label, and a factor that multiplies the scores: "correct (%)" and 100 for fractions
    line      passed to the `ax.plot` of the trials
    """
    require(
        np.ndim(scores) == 1 and np.shape(scores) == np.shape(complete) != (0,),
        f"scores of shape {np.shape(scores)} and complete of shape {np.shape(complete)}",
        "both (trial,), with at least one trial",
        "pass [trial.values[-1] for trial in trials] and [trial.state == 'complete' for trial in trials]",
    )
    values, whole = scale * np.asarray(scores, float), np.asarray(complete, bool)
    number, window = np.arange(len(values)), min(window, len(values))
    known = np.isfinite(values)
    with drawing(ax, 6.5, 3.8) as ax:
        style = merged("plot", {"marker": "o", "ls": "", "ms": 3.5, "color": "C0", "alpha": 0.8}, line)
        ax.plot(number[known & whole], values[known & whole], **style, label="trial")
        pruned = known & ~whole
        if pruned.any():
            ax.plot(number[pruned], values[pruned], **{**style, "markerfacecolor": "none"}, label="pruned")
        mean = [_mean(values[max(0, last + 1 - window) : last + 1]) for last in number]
        ax.plot(number, mean, color="C1", linewidth=2, label=f"mean of the last {window}")
        best = np.maximum.accumulate(np.where(known & whole, values, -np.inf))
        ax.plot(number[np.isfinite(best)], best[np.isfinite(best)], color="k", linewidth=2, label="best so far")
        ax.axvline(random - 0.5, color="0.5", linestyle=":", linewidth=1.2)
        above: dict[str, Any] = {"transform": ax.get_xaxis_transform(), "fontsize": "small", "color": "0.4"}
        ax.text(random - 0.5, 1.01, "random ", ha="right", **above)
        ax.text(random - 0.5, 1.01, " proposed", **above)
        ax.set(xlabel="trial", ylabel=label, xlim=(-1, len(values)))
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.legend(frameon=False, fontsize="small", ncols=4, loc="upper center", bbox_to_anchor=(0.5, -0.14))
        tidy(ax)
        return ax


def _mean(values: np.ndarray) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else np.nan
