"""Figures of `experiments.time_constants`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from pcsim.plots.canvas import axes, plain_logs

Curve = tuple[ArrayLike, ArrayLike]
"""x and y values of a line"""
MARKS = "osD^vP*X"


def curves_by_tau(curves: Mapping[str, Mapping[str, Mapping[float, Curve]]], labels: Mapping[str, str]) -> Figure:
    """Plot curves against time, coloured by the varied time constant, with one column per network and one row per area.

    curves[network][varied][tau] is (times in ms, values); labels[network] is the y-axis label.
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
            plain_logs(panel)
        grid[0, column].set_title(network, fontsize=10)
        grid[-1, column].set(xlabel="time (ms)")
    bar = figure.colorbar(colour, ax=grid, label="time constant (ms)", shrink=0.8, aspect=30)
    bar.set_ticks(taus, labels=[f"{tau:g}" for tau in taus])
    bar.minorticks_off()
    return figure


def by_ratio(curves: Mapping[str, Curve], mean: float, label: str, ax: Axes | None = None) -> Axes:
    """Plot a quantity against the ratio of two time constants with geometric mean `mean` ms, one line per network.

    Non-finite values are omitted.
    """
    ax = ax or axes()
    known = [np.isfinite(np.asarray(values, float)).any() for _, values in curves.values()]
    for mark, (network, (ratios, values)) in zip(MARKS, curves.items(), strict=False):
        finite = np.isfinite(np.asarray(values, float))
        ax.plot(np.asarray(ratios)[finite], np.asarray(values)[finite], mark + "-", ms=5, label=network)
    ax.axvline(1.0, color="0.8", linewidth=1, zorder=0)
    ax.set(xscale="log", yscale="log" if any(known) else "linear", ylabel=label)
    ax.set_xlabel(f"tau of the upper / tau of the lower area (geometric mean {mean:g} ms)")
    plain_logs(ax)
    ax.legend(frameon=False, fontsize=9)
    return ax


def accuracy_by_dt(
    curves: Mapping[str, Mapping[str, Curve]], borders: Mapping[str, Mapping[str, float]], chance: float = 0.1
) -> Figure:
    """Plot accuracy against dt / tau for each solver, one panel per network.

    curves[network][solver] is (dt / tau, accuracy). The accuracy is NaN, and drawn as a cross at the bottom, if samples
    diverge or pcsim rejects the step. borders[network][solver] is the stability limit (largest stable dt / tau), drawn
    as a dotted line. The grey line shows chance.
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
                # Euler and Heun have the same limit for real eigenvalues, so offset dots keep both lines visible.
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
    """Plot the state error against the number of right-hand-side evaluations (log-log), one panel per network."""
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


def _in_a_row(curves: Mapping[str, Mapping[str, Curve]], height: float) -> tuple[Figure, Sequence[Axes], list[str]]:
    """Create a row of panels, one per network; return the figure, panels and line names, which determine colours."""
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
