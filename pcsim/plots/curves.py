"""Curves over time: errors, activity, accuracy and decoding."""

from __future__ import annotations

from collections.abc import KeysView, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from pcsim.core.checks import checked
from pcsim.core.exceptions import StimulusError
from pcsim.plots.canvas import axes, require
from pcsim.simulation.run import Run

Curve = tuple[ArrayLike, ArrayLike]
"""a curve: (times in ms, values)"""
COLOURS = {"clean": "C0", "occluded": "C1"}
"""colours of conditions that appear in several figures"""


@checked(StimulusError)
def error_convergence(run: Run, ax: Axes | None = None) -> Axes:
    """Draw the mean squared prediction error of each population over time: median and quartiles over samples."""
    if not run.errors:
        raise StimulusError(
            given="a run without prediction errors",
            expected="a run that recorded the errors of a predictive network",
            remedy="write simulate(..., record=Record(errors='all'))",
        )
    ax = ax or axes()
    for name, value in run.errors.items():
        _banded(ax, run.times_of[f"{name}.mean_square"], value.cpu().numpy(), name)
    ax.set(xlabel="time (ms)", ylabel="mean squared prediction error", yscale="log")
    ax.legend(frameon=False)
    return ax


@checked(StimulusError)
def activity(run: Run, keys: Sequence[str] | None = None, ax: Axes | None = None) -> Axes:
    """Draw recorded values over time, one line per key: the median over samples, with a band between the quartiles.

    A population recorded unit by unit is reduced to the root mean square over its units.
    """
    ax = ax or axes()
    for key in keys or run.keys():
        value = run[key].cpu().numpy()
        _banded(
            ax,
            run.times_of[key],
            value if value.ndim == 2 else np.sqrt((value**2).mean(tuple(range(2, value.ndim)))),
            key,
        )
    ax.set(xlabel="time (ms)", ylabel="activity (root mean square)")
    ax.legend(frameon=False)
    return ax


def _banded(ax: Axes, times: ArrayLike, values: ArrayLike, label: str) -> None:
    """Draw the median over samples of values (time, batch), with a band between the quartiles."""
    low, middle, high = np.quantile(np.asarray(values), [0.25, 0.5, 0.75], axis=1)
    (line,) = ax.plot(times, middle, label=label)
    ax.fill_between(times, low, high, color=line.get_color(), alpha=0.2, linewidth=0)


@checked(StimulusError)
def accuracy_by_cycles(
    curves: Mapping[str, Sequence[ArrayLike]], cycles: Mapping[str, int], unit: str = "cycle"
) -> Figure:
    """Draw the accuracy of networks after the T cycles they were trained with (left) and after every cycle (right).

    curves[network] is a list of arrays (cycles,), one per repetition, starting at cycle 1, or a
    single value for a network without cycles. cycles[network] is T, and `unit` is the name of a cycle in the labels.
    """
    for name, rows in curves.items():
        shape = np.shape(np.asarray(rows, float)) if len({np.shape(row) for row in rows}) == 1 else ()
        require(
            len(shape) == 2 and cycles.get(name, 0) <= shape[1] > 0 and name in cycles,
            f"curves of {name!r} of shapes {[np.shape(row) for row in rows]} and cycles={dict(cycles)}",
            "arrays (cycles,), one per repetition, and the number of cycles of each network",
            f"pass cycles={{{name!r}: len(curve)}}",
        )
    figure = Figure(figsize=(9.0, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for index, (name, rows) in enumerate(curves.items()):
        values, at, colour = 100 * np.asarray(rows), max(cycles[name] - 1, 0), f"C{index}"
        ends = values[:, at]
        left.plot(np.full(len(ends), index), ends, "o", ms=5, color=colour)
        left.hlines(ends.mean(), index - 0.25, index + 0.25, color=colour, linewidth=2)
        if values.shape[1] == 1:
            right.axhline(values.mean(), color=colour, linestyle="--", linewidth=1.2, label=name)
            continue
        mean = values.mean(0)
        right.plot(np.arange(1, len(mean) + 1), mean, "-", color=colour, label=name)
        right.plot(at + 1, mean[at], "o", ms=7, color=colour)
    left.set_xticks(range(len(curves)), list(curves), rotation=20, ha="right", rotation_mode="anchor")
    left.set(ylabel="correct (%)", ylim=(0, 102), title=f"at the last {unit} of training")
    right.set(xlabel=unit, title=f"read out at every {unit}")
    right.legend(frameon=False, fontsize=8)
    return figure


@checked(StimulusError)
def decoding_over_time(curves: Mapping[str, Mapping[str, Curve]], chance: Mapping[str, float]) -> Figure:
    """Draw decoding accuracy against time since image onset, with one panel per network or recording.

    curves[panel][condition] is one line, (times, fraction correct); chance[panel] is drawn as a dashed line.
    """
    shapes = [(np.shape(times), np.shape(shares)) for lines in curves.values() for times, shares in lines.values()]
    require(
        bool(shapes)
        and set(curves) <= set(chance)
        and all(x == y and len(x) == 1 for x, y in shapes)
        and all(np.isfinite(np.asarray(times)).all() for lines in curves.values() for times, _ in lines.values()),
        f"curves for {', '.join(curves) or 'nothing'} of shapes {shapes}, chance for {', '.join(chance) or 'nothing'}",
        "finite times and values (time,) of each curve, and the chance level of each panel",
        "pass chance={panel: 1 / classes for panel in curves}",
    )
    figure = Figure(figsize=(0.6 + 2.6 * len(curves), 3.1), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(curves), sharey=True))
    shown: KeysView[str] = {}.keys()
    for panel, (name, conditions) in zip(panels, curves.items(), strict=True):
        for index, (condition, (times, shares)) in enumerate(conditions.items()):
            few = len(np.asarray(times)) < 12
            colour = COLOURS.get(condition, f"C{index + 2}")
            panel.plot(times, 100 * np.asarray(shares), "o-" if few else "-", ms=4, color=colour, label=condition)
            if few:
                panel.set_xticks(np.asarray(times))
        panel.axhline(100 * chance[name], color="0.6", linestyle="--", linewidth=1)
        panel.set_title(name, fontsize=10)
        panel.set(xlabel="time (ms)", ylim=(0, 103))
    for panel, conditions in zip(panels, curves.values(), strict=True):
        if conditions.keys() != shown:
            panel.legend(frameon=False, fontsize=8)
            shown = conditions.keys()
    panels[0].set_ylabel("decoded correctly (%)")
    return figure
