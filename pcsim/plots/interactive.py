"""Interactive plotly figures for the browser, which require the `viz` extra."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex
from numpy.typing import ArrayLike

from pcsim.core.checks import checked
from pcsim.core.exceptions import PcsimError, needs_extra

Panels = Mapping[str, tuple[ArrayLike, ArrayLike]]
"""maps panel labels to curves (times in ms, values)"""


@checked(PcsimError)
def explore(
    curves: Mapping[float, Mapping[float, Panels]], moved: str, coloured: str, title: str = "", log: bool = True
) -> Any:
    """Build a plotly figure with a slider for the first parameter, colours for the second, and values on hover.

    curves[first][second][label] is (times in ms, values), with one panel per label. `moved` and `coloured` are the
    names of the two parameters, with units. If `log`, the time axes and the y axis of the first panel are logarithmic
    if all their values are positive. Axis ranges stay fixed as the slider moves. Raises PcsimError if plotly is not
    installed, or if curves have shape (time, n).
    """
    with needs_extra("viz", PcsimError, "explore()"):
        from plotly.graph_objects import Figure, Scatter
        from plotly.subplots import make_subplots
    shapes = [np.shape(y) for found in curves.values() for panels in found.values() for _, y in panels.values()]
    if not shapes or any(len(shape) != 1 for shape in shapes):
        raise PcsimError(
            given=f"curves of shapes {', '.join(map(str, sorted(set(shapes)))) or 'none'}",
            expected="one curve (time,) for each setting and panel",
            remedy="average over samples first, with curve.mean(-1)",
        )
    layouts = {(tuple(found), *map(tuple, found.values())) for found in curves.values()}
    if len(layouts) != 1 or len(set(next(iter(layouts))[1:])) != 1:
        raise PcsimError(
            given=f"{len(layouts)} sets of settings and panels",
            expected="the same second settings and panels for every first setting",
            remedy="fill missing curves with NaN",
        )
    firsts = list(curves)
    seconds, labels = list(curves[firsts[0]]), list(next(iter(curves[firsts[0]].values())))
    palette = colormaps["viridis"].resampled(max(2, len(seconds)))
    figure: Figure = make_subplots(cols=len(labels), horizontal_spacing=0.1)
    for first, found in curves.items():
        hover = f"{moved} {first:g}<br>{coloured}"
        for index, (second, panels) in enumerate(found.items()):
            for column, (times, values) in enumerate(panels.values(), 1):
                line = Scatter(
                    x=times,
                    y=values,
                    name=f"{second:g}",
                    legendgroup=f"{second:g}",
                    showlegend=column == 1,
                    visible=first == firsts[0],
                    line={"color": to_hex(palette(index))},
                    hovertemplate=f"{hover} {second:g}<br>%{{x:.0f}} ms: %{{y:.4g}}<extra></extra>",
                )
                figure.add_trace(line, row=1, col=column)
    each = len(seconds) * len(labels)
    places = [
        {
            "method": "update",
            "label": f"{first:g}",
            "args": [{"visible": [at // each == place for at in range(each * len(firsts))]}],
        }
        for place, first in enumerate(firsts)
    ]
    for column, label in enumerate(labels, 1):
        values = [v for found in curves.values() for panels in found.values() for v in _finite(panels[label][1])]
        times = [t for found in curves.values() for panels in found.values() for t in _finite(panels[label][0])]
        figure.update_xaxes(title="time (ms)", **_scale(times, log), row=1, col=column)
        figure.update_yaxes(title=label, **_scale(values, log and column == 1), row=1, col=column)
    figure.update_layout(
        title=title,
        height=420,
        margin={"t": 50, "b": 40, "l": 70, "r": 20},
        template="simple_white",
        legend={"title": coloured},
        sliders=[{"steps": places, "active": 0, "currentvalue": {"prefix": f"{moved}: "}, "pad": {"t": 50}}],
    )
    return figure


def _finite(values: ArrayLike) -> list[float]:
    array = np.asarray(values, float)
    return array[np.isfinite(array)].tolist()


def _scale(values: list[float], log: bool) -> dict[str, Any]:
    """Return the range of an axis and, on a log scale, ticks at 1, 2 and 5 times powers of ten."""
    low, high = min(values), max(values)
    if not log or low <= 0:
        room = 0.05 * (high - low or 1.0)
        return {"range": [low - room, high + room]}
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [first * 10.0**power for power in powers for first in (1, 2, 5)]
    ends = [math.log10(low) - 0.05, math.log10(high) + 0.05]
    return {"type": "log", "range": ends, "tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}
