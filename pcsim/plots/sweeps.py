"""What sweeps over time constants, steps and solvers found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from pcsim.plots.canvas import axes

Curve = tuple[ArrayLike, ArrayLike]
"""x and y"""
MARKS = "osD^vP*X"


def curves_by_tau(curves: Mapping[str, Mapping[str, Mapping[float, Curve]]], labels: Mapping[str, str]) -> Figure:
    """Curves against time, coloured by a time constant on a log scale: a column a network, a row what was varied.

    curves[network][varied][tau] is (times, values), ms; labels[network] says what the values are.
    """
    rows = list(next(iter(curves.values())))
    taus = sorted({tau for panels in curves.values() for found in panels.values() for tau in found})
    colour = ScalarMappable(LogNorm(taus[0], taus[-1]), colormaps["viridis"].resampled(256))
    figure = Figure(figsize=(1.2 + 3.0 * len(curves), 0.7 + 2.4 * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), len(curves), squeeze=False, sharex=True, sharey="col")
    for column, (network, panels) in enumerate(curves.items()):
        for row, (varied, found) in enumerate(panels.items()):
            panel = grid[row, column]
            for tau, (times, values) in found.items():
                panel.plot(times, values, color=colour.to_rgba(np.array(tau)), linewidth=1.4)
            panel.set(yscale="log", xscale="log")
            panel.text(0.97, 0.96, varied, transform=panel.transAxes, fontsize=8, color="0.35", ha="right", va="top")
            panel.set_ylabel(labels[network], fontsize=9)
            _plain_logs(panel)
        grid[0, column].set_title(network, fontsize=10)
        grid[-1, column].set(xlabel="time (ms)")
    bar = figure.colorbar(colour, ax=grid, label="time constant (ms)", shrink=0.8, aspect=30)
    bar.set_ticks(taus, labels=[f"{tau:g}" for tau in taus])
    bar.minorticks_off()
    return figure


def tau_maps(
    maps: Mapping[str, Mapping[str, NDArray]], low: Sequence[float], high: Sequence[float], beyond: str = "none"
) -> Figure:
    """Heat maps over the time constants of a lower and an upper area: a row a quantity, a column a network.

    maps[quantity][network] is (low, high); quantities in ms have a log scale, the others (shares) a scale of
    percent. A cell that is not finite says `beyond`.
    """
    networks = list(next(iter(maps.values())))
    figure = Figure(figsize=(1.0 + 2.9 * len(networks), 0.6 + 2.7 * len(maps)), layout="constrained")
    grid = figure.subplots(len(maps), len(networks), squeeze=False, sharex=True, sharey=True)
    for row, (quantity, found) in enumerate(maps.items()):
        known = np.concatenate([value[np.isfinite(value)] for value in found.values()])
        in_ms = "(ms)" in quantity
        ends = (known.min(), known.max()) if len(known) and known.min() < known.max() else (1.0, 2.0)
        scale = LogNorm(*ends) if in_ms else Normalize(*ends)
        for panel, (network, value) in zip(grid[row], found.items(), strict=True):
            shown = panel.imshow(
                np.ma.masked_invalid(value), norm=scale, cmap="magma" if in_ms else "cividis", origin="lower"
            )
            _annotate(panel, value, scale, beyond, 1.0 if in_ms else 100.0)
            panel.set_xticks(range(len(high)), [f"{tau:g}" for tau in high])
            panel.set_yticks(range(len(low)), [f"{tau:g}" for tau in low])
            if row == 0:
                panel.set_title(network, fontsize=10)
        bar = figure.colorbar(shown, ax=grid[row], label=quantity, aspect=15)
        if in_ms:
            ticks = [tick for tick in (5, 10, 20, 50, 100, 200, 500, 1000) if ends[0] <= tick <= ends[1]]
            bar.set_ticks(ticks, labels=[str(tick) for tick in ticks])
            bar.minorticks_off()
        else:
            bar.ax.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.0f} %")
    figure.supxlabel("tau of the upper area (ms)", fontsize=10)
    figure.supylabel("tau of the lower area (ms)", fontsize=10)
    return figure


def _annotate(panel: Axes, value: NDArray, scale: Normalize, beyond: str, factor: float) -> None:
    for (y, x), number in np.ndenumerate(value):
        if np.isfinite(number):
            dark = float(scale(number)) < 0.55
            panel.text(x, y, f"{factor * number:.0f}", ha="center", va="center", fontsize=8, color="w" if dark else "k")
        else:
            panel.text(x, y, beyond, ha="center", va="center", fontsize=7, color="0.4")


def by_ratio(curves: Mapping[str, Curve], mean: float, label: str, ax: Axes | None = None) -> Axes:
    """A quantity against the ratio between two time constants whose geometric mean is `mean` ms, a line a network.

    What is not finite is left out.
    """
    ax = ax or axes()
    known = [np.isfinite(np.asarray(values, float)).any() for _, values in curves.values()]
    for mark, (network, (ratios, values)) in zip(MARKS, curves.items(), strict=False):
        finite = np.isfinite(np.asarray(values, float))
        ax.plot(np.asarray(ratios)[finite], np.asarray(values)[finite], mark + "-", ms=5, label=network)
    ax.axvline(1.0, color="0.8", linewidth=1, zorder=0)
    ax.set(xscale="log", yscale="log" if any(known) else "linear", ylabel=label)
    ax.set_xlabel(f"tau of the upper / tau of the lower area (geometric mean {mean:g} ms)")
    _plain_logs(ax)
    ax.legend(frameon=False, fontsize=9)
    return ax


def accuracy_by_dt(
    curves: Mapping[str, Mapping[str, Curve]], borders: Mapping[str, Mapping[str, float]], chance: float = 0.1
) -> Figure:
    """Accuracy against dt / tau for every solver, a panel a network; stability borders are dotted, chance is grey.

    curves[network][solver] is (dt / tau, share correct), NaN where samples diverge or the step was refused: drawn
    as crosses at the bottom. borders[network][solver] is the largest stable dt / tau.
    """
    figure, panels, known = _in_a_row(curves, 3.6)
    for panel, (network, solvers) in zip(panels, curves.items(), strict=True):
        for solver, (steps, shares) in solvers.items():
            index = known.index(solver)
            x, y, colour = np.asarray(steps), 100 * np.asarray(shares, float), f"C{index}"
            panel.plot(x, y, MARKS[index] + "-", ms=4, color=colour, label=solver, alpha=0.85)
            gone = np.isnan(y)
            panel.plot(x[gone], np.full(gone.sum(), -3.0 - 4.0 * index), "x", ms=5, color=colour)
            if np.isfinite(border := borders[network].get(solver, np.inf)):
                # Borders of Euler and Heun are the same where eigenvalues are real: dots of one fill the gaps.
                panel.axvline(border, color=colour, linestyle=(3 * index, (2, 4)), linewidth=1.4, zorder=0)
        panel.axhline(100 * chance, color="0.8", linewidth=1, zorder=0)
        panel.axhspan(-20, -1, color="0.96", zorder=-1)
        panel.set(xscale="log", xlabel="dt / tau of the lower area", ylim=(-18, 103), yticks=range(0, 101, 20))
        panel.set_title(network, fontsize=10)
        panel.xaxis.set_major_formatter("{x:g}")
    panels[0].set(ylabel="correct (%)")
    panels[0].text(0.02, 0.075, "diverged\nor refused", transform=panels[0].transAxes, fontsize=7, va="center")
    _legend(figure, panels)
    return figure


def work_precision(curves: Mapping[str, Mapping[str, Curve]]) -> Figure:
    """Error of the state against evaluations of the right-hand side, a panel a network, a line a solver, both log."""
    figure, panels, known = _in_a_row(curves, 3.5)
    for panel, (network, solvers) in zip(panels, curves.items(), strict=True):
        for solver, (work, errors) in solvers.items():
            index = known.index(solver)
            panel.plot(work, errors, MARKS[index] + "-", ms=4, color=f"C{index}", label=solver)
        panel.set(xscale="log", yscale="log", xlabel="evaluations of dr/dt")
        panel.set_title(network, fontsize=10)
    panels[0].set(ylabel="largest error / largest activity")
    _legend(figure, panels)
    return figure


def settling(
    curves: Mapping[str, Mapping[str, Mapping[str, Curve]]], marks: Mapping[str, Mapping[str, Mapping[str, float]]]
) -> Figure:
    """Curves against time with the times at which they have settled: a row a quantity, a column a condition.

    curves[quantity][condition][line] is (times, values (time, n)), drawn as the median over samples and the band
    between the quartiles; marks[quantity][condition][line] in ms, drawn as a triangle on the median; NaN for none.
    """
    conditions = list(next(iter(curves.values())))
    figure = Figure(figsize=(0.8 + 3.3 * len(conditions), 0.6 + 2.4 * len(curves)), layout="constrained")
    grid = figure.subplots(len(curves), len(conditions), squeeze=False, sharex=True, sharey="row")
    for (row, (quantity, found)), (column, condition) in product(enumerate(curves.items()), enumerate(conditions)):
        panel = grid[row, column]
        for line, (times, values) in found[condition].items():
            low, middle, high = np.quantile(np.asarray(values), [0.25, 0.5, 0.75], axis=1)
            (drawn,) = panel.plot(times, middle, label=line, linewidth=1.4)
            panel.fill_between(times, low, high, color=drawn.get_color(), alpha=0.2, linewidth=0)
            mark = marks.get(quantity, {}).get(condition, {}).get(line, np.nan)
            if np.isfinite(mark):
                level = np.interp(mark, np.asarray(times), middle)
                panel.plot(mark, level, "v", ms=7, color=drawn.get_color(), markeredgecolor="k", zorder=3)
        if row == 0:
            panel.set_title(condition, fontsize=10)
        if row == len(curves) - 1:
            panel.set_xlabel("time (ms)")
        if column == 0:
            panel.set_ylabel(quantity, fontsize=9)
            panel.legend(frameon=False, fontsize=8)
        if min(float(np.min(values)) for line in found.values() for _, values in line.values()) > 0:
            panel.set_yscale("log")
            _plain_logs(panel)
    return figure


def tau_histograms(
    before: ArrayLike, after: ArrayLike, scales: Sequence[float], losses: Mapping[str, Sequence[float]], every: int
) -> Figure:
    """Time constants of all channels before and after training (log axis), the scales of the task, and the losses.

    before and after (n,) in ms; losses[name] one value for every `every` updates.
    """
    figure = Figure(figsize=(9.5, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    every_tau = np.concatenate([np.ravel(before), np.ravel(after)])
    edges = np.geomspace(0.9 * every_tau.min(), 1.1 * every_tau.max(), 28)
    left.hist(np.ravel(before), edges, color="0.6", label="before", alpha=0.8)
    left.hist(np.ravel(after), edges, color="C3", label="after", alpha=0.7)
    for scale in scales:
        left.axvline(scale, color="k", linestyle=":", linewidth=1.2)
    left.set(xscale="log", xlabel="time constant of a channel (ms)", ylabel="channels")
    left.set_title("dotted: time scales of the task", fontsize=9, color="0.35")
    left.xaxis.set_major_formatter("{x:g}")
    left.set_ylim(0, 1.2 * left.get_ylim()[1])
    left.legend(frameon=False, ncols=2, loc="upper center")
    for name, curve in losses.items():
        right.plot(every * np.arange(1, len(curve) + 1), curve, label=name, linewidth=1.4)
    right.set(yscale="log", xlabel="update", ylabel="mean squared error")
    right.legend(frameon=False)
    return figure


def _in_a_row(curves: Mapping[str, Mapping[str, Curve]], height: float) -> tuple[Figure, Sequence[Axes], list[str]]:
    """Panels for networks, and the names of all their lines: one has its colour also where a panel lacks another."""
    figure = Figure(figsize=(1.0 + 2.9 * len(curves), height), layout="constrained")
    panels = figure.subplots(1, len(curves), sharey=True, squeeze=False)[0]
    return (
        figure,
        panels,
        list(dict.fromkeys(name for lines in sorted(curves.values(), key=len, reverse=True) for name in lines)),
    )


def _legend(figure: Figure, panels: Sequence[Axes]) -> None:
    found = {name: handle for panel in panels for handle, name in zip(*panel.get_legend_handles_labels(), strict=True)}
    figure.legend(found.values(), found.keys(), loc="outside upper center", ncols=len(found), frameon=False)


def _plain_logs(ax: Axes) -> None:
    """Numbers without powers of ten on the axes that have a log scale."""
    for axis in (axis for axis in (ax.xaxis, ax.yaxis) if axis.get_scale() == "log"):
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:g}".strip("0.")[:1] in "25" else "")
