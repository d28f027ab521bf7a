"""Wiring diagrams of networks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path

from pcsim.core.checks import NonNegative, checked
from pcsim.core.exceptions import StimulusError
from pcsim.network import Network, Projection
from pcsim.plots.canvas import as_numbers, drawing, merged
from pcsim.plots.routes import HIGH, WIDE, Layout, Route, laid_out

STYLES: dict[str, tuple[str, Any, str, str]] = {
    "bottom_up": ("#0072b2", "-", "-|>", "bottom-up"),
    "lateral": ("#444444", "-.", "-|>", "lateral"),
    "top_down": ("#d55e00", "--", "->", "top-down"),
    "prediction": ("#aa4a8a", ":", "->", "prediction"),
    "error": ("#c48500", (0, (8, 2)), "-|>", "prediction error"),
    "modulatory": ("#009e73", (0, (5, 1, 1, 1, 1, 1)), "-o", "modulatory"),
}
"""colour, line, arrowhead ("-o" is a circle) and label of each kind of edge; kinds also differ in line style"""
LESION = "#999999"
START = "#777777"
_HAIRLINE = 0.2
_ROUND = 0.12
"""radius of the corners of a route"""


@checked(StimulusError)
def network(
    net: Network,
    *,
    shapes: bool = True,
    legend: bool = True,
    widths: Mapping[str, NonNegative] | None = None,
    ax: Axes | None = None,
    **edge: Any,
) -> Axes:
    """Draw a wiring diagram, with populations as boxes, and edges whose colour, line and arrowhead show their kind.

    Edges are labelled with their delays: steps in a discrete network, ms in a flow. Lesioned edges are grey and crossed
    out; temporary lesions are labelled with their window. Grey arrows mark edges that only set the initial state.
    Populations whose names end in a number (r1, p1, e1) are arranged with one row per number and one column per prefix.

    shapes  if True, boxes contain the shape (channel, height, width) of each population
    legend  if True, the kinds of edges are listed on the right
    widths  line widths of edges in points, by name, for example proportional to the drive that each edge delivers;
            edges with a width of 0 are drawn as hairlines
    edge    passed to the `FancyArrowPatch` of every edge, such as linewidth=1

    Raises StimulusError if `widths` names an unknown edge.
    """
    widths = widths or {}
    if unknown := [name for name in widths if name not in {each.name for each in net.projections}]:
        raise StimulusError(
            given=f"widths of {', '.join(map(repr, unknown))}",
            expected=f"edges of {net.name!r}: {', '.join(each.name for each in net.projections)}",
            remedy=f"pass widths={{{net.projections[0].name!r}: 2.0}}",
        )
    connected = {each.source for each in net.projections}
    starts = [e for e in net.initialiser.projections if e.source not in connected] if net.initialiser else []
    known = {*net.inputs, *net.populations}
    starts = [each for each in starts if {each.source, each.target} <= known]
    layout = laid_out(net, net.projections)
    (left, bottom), (right, top) = layout.limits
    with drawing(ax, 1.1 * (right - left) + 1.6 * legend, 1.15 * (top - bottom) + 0.3) as ax:
        ax.set(xlim=(left, right), ylim=(bottom, top), title=net.name)
        ax.axis("off")
        size = _font_size(ax, layout, net, shapes, legend)
        for name, (x, y) in layout.places.items():
            _box(ax, net, name, x, y, size, shapes)
        for each in net.projections:
            own = {"linewidth": max(_HAIRLINE, widths[each.name])} if each.name in widths else {}
            _edge(ax, net, each, layout.routes[each.name], size, edge | own)
        for each in starts:
            ends = layout.places[each.source], layout.places[each.target]
            style: dict[str, Any] = {
                "arrowstyle": "-|>",
                "color": START,
                "linestyle": (0, (1, 3)),
                "shrinkA": 1.6 * size,
            }
            ax.add_patch(FancyArrowPatch(*ends, mutation_scale=1.2 * size, shrinkB=1.6 * size, **style))
        if legend:
            handles = _handles(net, bool(starts))
            ax.legend(
                handles=handles, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize="small",
                handlelength=3.2,
            )  # fmt: skip
        return ax


def _font_size(ax: Axes, layout: Layout, net: Network, shapes: bool, legend: bool) -> float:
    """Return the font size, in points, at which every label fits into its box; at least 3.5."""
    (left, bottom), (right, top) = layout.limits
    figure_width, figure_height = 72 * cast(Figure, ax.get_figure(root=True)).get_size_inches()
    place = ax.get_position()
    width = place.width * figure_width - 110 * legend  # constrained layout moves the axes later
    across = max(width, 40.0) / (right - left)
    upwards = place.height * figure_height / (top - bottom)
    longest = max(len(line) for name in layout.places for line in _label(net, name, shapes).split("\n"))
    lines = 2 if shapes else 1
    return float(np.clip(min(2 * WIDE * across / (0.62 * longest), 2 * HIGH * upwards / (1.3 * lines)), 3.5, 9.0))


def _label(net: Network, name: str, shapes: bool) -> str:
    return f"{name}\n{'x'.join(map(str, net.shape(name)))}" if shapes else name


def _box(ax: Axes, net: Network, name: str, x: float, y: float, size: float, shapes: bool) -> None:
    face = "#eeeeee" if name in net.inputs else "#ffffff"
    shape = "round,pad=0,rounding_size=0.08"
    corner = (x - WIDE, y - HIGH)
    ax.add_patch(FancyBboxPatch(corner, 2 * WIDE, 2 * HIGH, boxstyle=shape, fc=face, ec="#333333", zorder=3))
    ax.text(x, y, _label(net, name, shapes), ha="center", va="center", fontsize=size, zorder=4)


def _edge(ax: Axes, net: Network, edge: Projection, route: Route, size: float, options: dict[str, Any]) -> None:
    colour, line, head, _ = STYLES[edge.kind]
    ends_in_circle = head == "-o"
    style: dict[str, Any] = {"arrowstyle": "-" if ends_in_circle else head, "color": colour, "linestyle": line}
    style["linewidth"] = max(0.8, size / 6)
    if edge.lesioned:
        style["color"] = LESION
    path = _rounded(route)
    arrow = {"mutation_scale": 1.3 * size, "shrinkA": 0, "shrinkB": 0, "zorder": 2, "capstyle": "butt"}
    ax.add_patch(FancyArrowPatch(path=path, **merged("arrow", {**arrow, **style}, options)))
    if ends_in_circle:
        ax.plot(*route[-1], "o", color=style["color"], markersize=0.6 * size, zorder=5)
    middle = _middle(route)
    if edge.lesioned:
        ax.plot(*middle, "x", color="k", markersize=0.8 * size, markeredgewidth=1.5, zorder=5)
    if text := _note(net, edge):
        paper = {"fc": "white", "ec": "none", "pad": 0.4}
        up = 0.11 if edge.lesioned else 0.0
        ax.text(
            middle[0], middle[1] + up, text, color=style["color"], fontsize=0.85 * size, va="center", ha="center",
            bbox=paper, zorder=4,
        )  # fmt: skip


def _note(net: Network, edge: Projection) -> str:
    """Return the label of an edge: its delay and the windows of its temporary lesions."""
    notes = []
    if net.is_flow and edge.delay_ms is not None:
        delay: Any = net.delays[edge.key]() if edge.key in net.delays else edge.delay_ms
        values = np.ravel(as_numbers(delay))
        low, high = float(values.min()), float(values.max())
        notes.append(f"{low:.3g} ms" if math.isclose(low, high) else f"{low:.3g}-{high:.3g} ms")
    elif not net.is_flow and edge.delay:
        notes.append(str(edge.delay))
    unit = " ms" if net.is_flow else ""
    for begin, end in edge.lesioned:
        if math.isfinite(begin) or math.isfinite(end):
            notes.append(f"cut {begin:g}-{end:g}{unit}")
    return "\n".join(notes)


def _rounded(route: Route) -> Path:
    """Return a polyline with rounded corners."""
    vertices, codes = [tuple(route[0])], [Path.MOVETO]
    for before, corner, after in zip(route, route[1:], route[2:], strict=False):
        for end in (before, after):
            length = np.linalg.norm(end - corner)
            near = corner + (end - corner) * min(_ROUND, length / 2) / max(length, 1e-9)
            if end is before:
                vertices += [tuple(near), tuple(corner)]
                codes += [Path.LINETO, Path.CURVE3]
            else:
                vertices.append(tuple(near))
                codes.append(Path.CURVE3)
    return Path([*vertices, tuple(route[-1])], [*codes, Path.LINETO])


def _middle(route: Route) -> tuple[float, float]:
    """Return the point halfway along a polyline."""
    lengths = np.linalg.norm(np.diff(route, axis=0), axis=1)
    ends = np.concatenate([[0.0], np.cumsum(lengths)])
    half = ends[-1] / 2
    return float(np.interp(half, ends, route[:, 0])), float(np.interp(half, ends, route[:, 1]))


def _handles(net: Network, has_starts: bool) -> list[Line2D]:
    """Return the entries of the legend."""
    handles = []
    for kind in dict.fromkeys(edge.kind for edge in net.projections):
        colour, line, head, label = STYLES[kind]
        marker = {"-|>": ">", "->": "$>$", "-o": "o"}[head]
        handles.append(Line2D([], [], color=colour, linestyle=line, label=label, marker=marker, markevery=[1]))
        handles[-1].set_markersize(5)
    if has_starts:
        handles.append(Line2D([], [], linestyle=(0, (1, 3)), color=START, label="sets the initial state"))
    if any(edge.lesioned for edge in net.projections):
        handles.append(Line2D([], [], color=LESION, marker="x", markeredgecolor="k", label="lesioned"))
    return handles
