"""Layout of wiring diagrams: positions of populations, and routes of edges that do not cross populations."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pcsim.network import Network, Projection

Place = tuple[float, float]
Route = NDArray[np.float64]
"""corners of a polyline, (n, 2)"""
WIDE, HIGH = 0.5, 0.2
"""half the width and height of a box; columns are 2 apart, and rows 1"""
_PITCH, _LOOP, _GAP = 2.0, 0.28, 0.12
"""distance between columns, size of the loop of an edge to its own population, minimum gap between parallel lines"""


@dataclass(frozen=True)
class Layout:
    """Positions of the boxes (x, y), and the route of each edge by name, from the source to the target."""

    places: dict[str, Place]
    routes: dict[str, Route]

    @property
    def limits(self) -> tuple[Place, Place]:
        """Return the lower left and upper right corners of the diagram, with a margin."""
        boxes = np.array(list(self.places.values()))
        half = np.array([WIDE, HIGH])
        low, high = boxes.min(0) - half, boxes.max(0) + half
        for route in self.routes.values():
            low, high = np.minimum(low, route.min(0)), np.maximum(high, route.max(0))
        (left, bottom), (right, top) = (low - 0.15).tolist(), (high + 0.15).tolist()
        return (left, bottom), (right, top)


def laid_out(net: Network, edges: Sequence[Projection]) -> Layout:
    """Place the populations of a network, and route the edges."""
    places = _places(net)
    looped = {edge.source for edge in edges if edge.source == edge.target}
    lanes: list[tuple[float, float, float]] = []
    bends = {edge.name: _bends(edge, places, looped, lanes) for edge in edges if edge.source != edge.target}
    ports = _ports(edges, places, bends)
    routes, loops = {}, dict.fromkeys(looped, 0)
    for edge in edges:
        if edge.source == edge.target:
            routes[edge.name] = _loop(places[edge.source], loops[edge.source])
            loops[edge.source] += 1
        else:
            first, last = ports[edge.name, "source"], ports[edge.name, "target"]
            routes[edge.name] = np.array([first, *bends[edge.name], last])
    return Layout(places, routes)


def _bends(
    edge: Projection, places: dict[str, Place], looped: set[str], lanes: list[tuple[float, float, float]]
) -> list[Place]:
    """Return the corners of an edge between its ends. An edge that spans several rows has its own vertical lane."""
    (x0, y0), (x1, y1) = places[edge.source], places[edge.target]
    if y0 == y1:
        if not _between(places, x0, x1, y0):
            return []
        height = y0 + _free_lane((y0 + HIGH + 0.12, y0 + 0.5), min(x0, x1), max(x0, x1), lanes, 0.06) - y0
        return [(x0 + np.sign(x1 - x0) * 0.2, height), (x1 - np.sign(x1 - x0) * 0.2, height)]
    if abs(y1 - y0) <= 1:
        return []
    low, high = sorted((y0, y1))
    rows = [(x, name in looped) for name, (x, y) in places.items() if low < y < high]
    best = min(
        (x for x in _candidates(places) if _is_free(x, rows, low, high, lanes)),
        key=lambda x: abs(x - x0) + abs(x - x1) + 0.01 * abs(x),
    )
    lanes.append((best, low, high))
    up = np.sign(y1 - y0)
    return [(best, y0 + 0.5 * up), (best, y1 - 0.5 * up)]


def _between(places: dict[str, Place], x0: float, x1: float, row: float) -> bool:
    return any(y == row and min(x0, x1) < x < max(x0, x1) for x, y in places.values())


def _candidates(places: dict[str, Place]) -> NDArray[np.float64]:
    xs = [x for x, _ in places.values()]
    return np.arange(min(xs) - 6 * _PITCH, max(xs) + 6 * _PITCH, 0.04)


def _is_free(
    x: float, boxes: Sequence[tuple[float, bool]], low: float, high: float, lanes: Sequence[tuple[float, float, float]]
) -> bool:
    is_clear = all(not -WIDE - 0.1 - _LOOP * has_loop < x - box < WIDE + 0.1 for box, has_loop in boxes)
    return is_clear and all(abs(x - lane) >= _GAP or bottom >= high or top <= low for lane, bottom, top in lanes)


def _free_lane(
    span: tuple[float, float], left: float, right: float, lanes: list[tuple[float, float, float]], gap: float
) -> float:
    """Return the lowest free height in `span` for a horizontal line; horizontal lines are stored as (-height, ...)."""
    for height in np.arange(span[0], span[1], gap):
        key = -1e3 - height  # far from the x of any vertical lane
        if all(abs(key - other) >= gap / 2 or begin >= right or end <= left for other, begin, end in lanes):
            break
    lanes.append((-1e3 - height, left, right))
    return float(height)


def _ports(
    edges: Sequence[Projection], places: dict[str, Place], bends: dict[str, list[Place]]
) -> dict[tuple[str, str], Place]:
    """Return the ends of each edge, spread along the sides of the boxes in an order that avoids most crossings."""
    sides: dict[tuple[str, float], list[tuple[float, int, str, str]]] = {}
    ports: dict[tuple[str, str], Place] = {}
    for number, edge in enumerate(edges):
        if edge.source == edge.target:
            continue
        start, end = places[edge.source], places[edge.target]
        if start[1] == end[1] and not bends[edge.name]:
            towards = np.sign(end[0] - start[0])
            y = start[1] - (0.04 if towards > 0 else 0.12)
            ports[edge.name, "source"] = (start[0] + towards * WIDE, y)
            ports[edge.name, "target"] = (end[0] - towards * WIDE, y)
            continue
        corners = bends[edge.name]
        for which, own, other in (
            ("source", start, corners[0] if corners else end),
            ("target", end, corners[-1] if corners else start),
        ):
            side = 1.0 if other[1] > own[1] else -1.0
            name = edge.source if which == "source" else edge.target
            sides.setdefault((name, side), []).append((other[0], number, edge.name, which))
    for (name, side), attached in sides.items():
        x, y = places[name]
        count = len(attached)
        offsets = np.linspace(-0.36, 0.36, count) if count > 2 else np.linspace(-0.16, 0.16, 2)[:count]
        offsets = offsets - offsets.mean() if count == 1 else offsets
        for offset, (_, _, edge_name, which) in zip(offsets, sorted(attached), strict=True):
            ports[edge_name, which] = (x + float(offset), y + side * HIGH)
    return ports


def _loop(place: Place, number: int) -> Route:
    """Return a loop at the upper left corner of a box; further loops are larger."""
    x, y = place
    size = _LOOP * (1 + 0.5 * number)
    left, top = x - WIDE, y + HIGH
    inside = 0.06 + 0.05 * number
    return np.array(
        [
            (left + inside, top),
            (left + inside, top + size / 2),
            (left - size / 1.4, top + size / 2),
            (left - size / 1.4, y + 0.1),
            (left, y + 0.1),
        ]
    )


def _places(net: Network) -> dict[str, Place]:
    """Return the position (x, y) of every input and population, with x centred and y counting rows from the bottom."""
    names = [*net.inputs, *net.populations]
    split = {name: re.fullmatch(r"(.*?)(\d+)", name) for name in names}
    numbers = sorted({int(found[2]) for found in split.values() if found})
    numbered = {name: (found[1], numbers.index(int(found[2]))) for name, found in split.items() if found}
    rows: dict[float, list[str]] = {}
    if not numbered:
        rows = {float(y): row for y, row in enumerate(_levels(net))}
        return {name: (_PITCH * (i - (len(row) - 1) / 2), y) for y, row in rows.items() for i, name in enumerate(row)}
    columns = list(dict.fromkeys(prefix for prefix, _ in numbered.values()))
    middle = (len(columns) - 1) / 2
    low, high = (pick(number for _, number in numbered.values()) for pick in (min, max))
    place = {name: (_PITCH * (columns.index(prefix) - middle), float(n)) for name, (prefix, n) in numbered.items()}
    for name in names:
        if name not in place:
            # Inputs, and populations fed only by inputs, are placed below the numbered rows; all others above.
            early = name in net.inputs or all(edge.source in net.inputs for edge in net.incoming[name])
            rows.setdefault(low - 1.0 if early else high + 1.0, []).append(name)
    for y, row in rows.items():
        place |= {name: (_PITCH * (i - (len(row) - 1) / 2), y) for i, name in enumerate(row)}
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
