"""Accuracy curves: over network cycles, and over time in decoding."""

from __future__ import annotations

from collections.abc import KeysView, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from pcsim.core.checks import checked
from pcsim.core.exceptions import StimulusError
from pcsim.plots.canvas import merged, panels, require, tidy, whole

Curve = tuple[ArrayLike, ArrayLike]
"""a curve: (times in ms, values)"""
COLOURS = {"clean": "C0", "occluded": "C1"}
"""colours of conditions that appear in several figures"""


@checked(StimulusError)
def accuracy_by_cycles(
    curves: Mapping[str, Sequence[ArrayLike]],
    cycles: Mapping[str, int],
    unit: str = "cycle",
    *,
    ax: Axes | None = None,
    **line: Any,
) -> Figure:
    """Draw the accuracy of networks after the T cycles they were trained for (left) and after every cycle (right).

    curves[network] is a list of arrays (cycles,), one per repetition, starting at cycle 1, or a single value for a
    network without cycles. cycles[network] is T, and `unit` is the word for a cycle in the labels.
    Horizontal lines on the left show means over repetitions. `line` is passed to `ax.plot` on the right.
    """
    for name, rows in curves.items():
        shape = np.shape(np.asarray(rows, float)) if len({np.shape(row) for row in rows}) == 1 else ()
        require(
            len(shape) == 2 and cycles.get(name, 0) <= shape[1] > 0 and name in cycles,
            f"curves of {name!r} of shapes {[np.shape(row) for row in rows]} and cycles={dict(cycles)}",
            "arrays (cycles,), one per repetition, and the number of cycles of each network",
            f"pass cycles={{{name!r}: len(curve)}}",
        )
    with panels(ax, 1, 2, 9.0, 3.6, sharey=True) as (figure, ((left, right),)):
        for index, (name, rows) in enumerate(curves.items()):
            values, at, colour = 100 * np.asarray(rows), max(cycles[name] - 1, 0), f"C{index}"
            ends = values[:, at]
            left.plot(np.full(len(ends), index), ends, "o", ms=5, color=colour)
            left.hlines(ends.mean(), index - 0.25, index + 0.25, color=colour, linewidth=2)
            if values.shape[1] == 1:
                right.axhline(values.mean(), color=colour, linestyle="--", linewidth=1.2, label=name)
                continue
            mean = values.mean(0)
            right.plot(np.arange(1, len(mean) + 1), mean, **merged("plot", {"color": colour, "label": name}, line))
            right.plot(at + 1, mean[at], "o", ms=7, color=colour)
        left.set_xticks(range(len(curves)), list(curves), rotation=20, ha="right", rotation_mode="anchor")
        left.set(ylabel="correct (%)", ylim=(0, 102), title=f"at the last {unit} of training")
        right.set(xlabel=unit, title=f"read out at every {unit}")
        right.legend(frameon=False, fontsize="small")
        tidy(left)
        tidy(right)
        return whole(figure)


@checked(StimulusError)
def decoding_over_time(
    curves: Mapping[str, Mapping[str, Curve]],
    chance: Mapping[str, float],
    *,
    bands: Mapping[str, Mapping[str, tuple[ArrayLike, ArrayLike]]] | None = None,
    ax: Axes | None = None,
    **line: Any,
) -> Figure:
    """Draw decoding accuracy against time since image onset, with one panel per network or recording.

    curves[panel][condition] is one line, (times, fraction correct); chance[panel] is drawn as a dashed line.
    bands[panel][condition] is an interval around the line, such as a confidence interval: (low, high), each (time,).
    `line` is passed to `ax.plot`.
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
    with panels(ax, 1, len(curves), 0.6 + 2.6 * len(curves), 3.1, sharey=True) as (figure, (row,)):
        shown: KeysView[str] = {}.keys()
        for number, (panel, (name, conditions)) in enumerate(zip(row, curves.items(), strict=True)):
            taken = len(COLOURS) if COLOURS.keys() & conditions.keys() else 0
            for index, (condition, (times, shares)) in enumerate(conditions.items()):
                few = len(np.asarray(times)) < 12
                style = {"color": COLOURS.get(condition, f"C{index + taken}"), "marker": "o" if few else "", "ms": 4}
                panel.plot(times, 100 * np.asarray(shares), **merged("plot", {**style, "label": condition}, line))
                if bands and condition in bands.get(name, {}):
                    low, high = (100 * np.asarray(end) for end in bands[name][condition])
                    panel.fill_between(times, low, high, color=panel.lines[-1].get_color(), alpha=0.2, linewidth=0)
                if few:
                    panel.set_xticks(np.asarray(times))
            panel.axhline(100 * chance[name], color="0.6", linestyle="--", linewidth=1)
            if number == 0:
                panel.annotate(
                    "chance",
                    (1, 100 * chance[name]),
                    xycoords=("axes fraction", "data"),
                    xytext=(-2, 2),
                    textcoords="offset points",
                    ha="right",
                    color="0.4",
                    fontsize="small",
                )
            panel.set(title=name, xlabel="time (ms)", ylim=(0, 103))
            tidy(panel)
            if conditions.keys() != shown:
                panel.legend(frameon=False, fontsize="small")
                shown = conditions.keys()
        row[0].set_ylabel("decoded correctly (%)")
        return whole(figure)
