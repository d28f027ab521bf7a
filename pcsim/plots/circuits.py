"""Wiring diagrams of networks."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from pcsim.core.checks import checked
from pcsim.core.exceptions import StimulusError
from pcsim.network import Network, Projection
from pcsim.plots.canvas import axes

KIND_STYLE = {
    "bottom_up": ("#1f77b4", "-", "bottom-up"),
    "lateral": ("#2ca02c", "-", "lateral"),
    "top_down": ("#d62728", "--", "top-down"),
    "prediction": ("#9467bd", "--", "prediction"),
    "error": ("#ff7f0e", "-", "prediction error"),
}
LESION = "#bbbbbb"
START: dict[str, Any] = {"arrowstyle": "-|>", "color": "#666666", "linestyle": ":", "mutation_scale": 12}


@checked(StimulusError)
def circuit(net: Network, ax: Axes | None = None) -> Axes:
    """Draw a wiring diagram: populations are boxes, and edges are coloured by kind.

    Lesioned edges are light grey, and edges used only for the initial state are dark grey. Populations whose names end
    in a number (r1, p1, e1) share a row with the same number and a column with the same prefix. In a discrete network,
    delayed edges are labelled with their delay in steps.
    """
    place = _places(net)
    across, height = max(x for x, _ in place.values()), max(y for _, y in place.values())
    ax = ax or axes(3.8 + 2.0 * across, 1.6 + 1.25 * height)
    for name, (x, y) in place.items():
        is_input = name in net.inputs
        face = "#eeeeee" if is_input else "#ffffff"
        box = FancyBboxPatch((x - 0.5, y - 0.2), 1.0, 0.4, boxstyle="round,pad=0.02", fc=face, ec="#333333", zorder=3)
        ax.add_patch(box)
        shape = "x".join(map(str, net.shape(name)))
        ax.text(x, y, f"{name}\n{shape}", ha="center", va="center", fontsize=9, zorder=4)
    for edge in net.projections:
        _draw_edge(ax, edge, place[edge.source], place[edge.target], net.is_flow)
    connected = {edge.source for edge in net.projections}
    starts = [e for e in net.initialiser.projections if e.source not in connected] if net.initialiser else []
    for edge in starts:
        arrow = FancyArrowPatch(place[edge.source], place[edge.target], shrinkA=16, shrinkB=16, **START)
        ax.add_patch(arrow)
    shown = dict.fromkeys(edge.kind for edge in net.projections)
    handles = [
        ax.plot([], [], KIND_STYLE[kind][1], color=KIND_STYLE[kind][0], label=KIND_STYLE[kind][2])[0] for kind in shown
    ]
    if starts:
        handles.append(ax.plot([], [], ":", color=START["color"], label="start")[0])
    if any(edge.lesioned for edge in net.projections):
        handles.append(ax.plot([], [], ":", color=LESION, label="lesioned")[0])
    ax.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=9)
    widest = max((abs(place[e.source][0] - place[e.target][0]) for e in net.projections), default=0.0)
    ax.set(xlim=(-across - 1.3, across + 1.3), ylim=(-0.6, height + 0.55 + 0.13 * widest), title=net.name)
    ax.axis("off")
    return ax


def _places(net: Network) -> dict[str, tuple[float, float]]:
    """Return the position (x, y) of every input and population, with x centred and y counting rows from the bottom."""
    names = [*net.inputs, *net.populations]
    split = {name: re.fullmatch(r"(.*?)(\d+)", name) for name in names}
    numbers = sorted({int(found[2]) for found in split.values() if found})
    numbered = {name: (found[1], numbers.index(int(found[2]))) for name, found in split.items() if found}
    rows: dict[float, list[str]] = {}
    if not numbered:
        rows = {float(y): row for y, row in enumerate(_levels(net))}
        return {name: (2.0 * (i - (len(row) - 1) / 2), y) for y, row in rows.items() for i, name in enumerate(row)}
    columns = list(dict.fromkeys(prefix for prefix, _ in numbered.values()))
    middle = (len(columns) - 1) / 2
    low, high = (pick(number for _, number in numbered.values()) for pick in (min, max))
    place = {name: (2.0 * (columns.index(prefix) - middle), float(n)) for name, (prefix, n) in numbered.items()}
    for name in names:
        if name not in place:
            # Inputs, and populations fed only by inputs, are placed below the numbered rows; all others above.
            early = name in net.inputs or all(edge.source in net.inputs for edge in net.incoming[name])
            rows.setdefault(low - 1.0 if early else high + 1.0, []).append(name)
    for y, row in rows.items():
        place |= {name: (2.0 * (i - (len(row) - 1) / 2), y) for i, name in enumerate(row)}
    bottom = min(y for _, y in place.values())
    return {name: (x, y - bottom) for name, (x, y) in place.items()}


def _levels(net: Network) -> list[list[str]]:
    """Return rows of names from the inputs upwards, with each population one row above its lowest source."""
    rows, placed = [list(net.inputs)], set(net.inputs)
    roots = [n for n in net.populations if all(e.source in (*net.inputs, n) for e in net.incoming[n])]
    fresh = roots or list(net.memories)
    while fresh:
        rows.append(fresh)
        placed |= set(fresh)
        reached = (edge.target for edge in net.projections if edge.source in fresh and edge.target not in placed)
        fresh = list(dict.fromkeys(reached))
    return [*rows, *([rest] if (rest := [n for n in net.populations if n not in placed]) else [])]


def _draw_edge(ax: Axes, edge: Projection, start: tuple, end: tuple, is_flow: bool) -> None:
    colour, line, _ = KIND_STYLE[edge.kind]
    if edge.lesioned:
        colour, line = LESION, ":"
    style: dict[str, Any] = {
        "arrowstyle": "-|>",
        "color": colour,
        "linestyle": line,
        "mutation_scale": 12,
        "linewidth": 1.5,
    }
    (x0, y0), (x1, y1) = start, end
    delay = "" if is_flow or not edge.delay else str(edge.delay)
    if edge.source == edge.target:
        ends = (x0 - 0.28, y0 + 0.2), (x0 - 0.52, y0 + 0.06)
        ax.add_patch(FancyArrowPatch(*ends, connectionstyle="arc3,rad=1.3", **style))
        ax.text(x0 - 0.68, y0 + 0.24, delay, color=colour, fontsize=8, va="center", ha="right")
        return
    if y1 == y0:
        left, far = -0.52 if x1 < x0 else 0.52, abs(x1 - x0) > 2.1
        points = ((x0 + left / 2, y0 + 0.2), (x1 - left / 2, y1 + 0.2)) if far else ((x0 + left, y0), (x1 - left, y1))
        curve = (0.18 if x1 > x0 else 0.26) * np.sign(x0 - x1) if far else 0.12
    else:
        lift, shift = 0.22 * np.sign(y1 - y0), -0.15 if y1 > y0 else 0.25
        points = ((x0 + shift, y0 + lift), (x1 + shift, y1 - lift))
        curve = 0.0 if abs(y1 - y0) <= 1 else 0.25 * np.sign(y1 - y0)
    ax.add_patch(FancyArrowPatch(*points, connectionstyle=f"arc3,rad={curve}", **style))
    # The midpoint of the arc is half as far from the straight line as its control point.
    (xa, ya), (xb, yb) = points
    middle = (xa + xb) / 2 + curve * (yb - ya) / 2, (ya + yb) / 2 - curve * (xb - xa) / 2
    paper = {"fc": "white", "ec": "none", "pad": 0.6}
    ax.text(*middle, delay, color=colour, fontsize=8, va="center", ha="center", bbox=paper)
