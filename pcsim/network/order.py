"""Pure functions that derive the evaluation order and arrival times of populations from the edges."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

from pcsim.core.exceptions import WiringError
from pcsim.network.parts import ALWAYS, Population, Projection
from pcsim.rules.time_constants import TimeConstant

Node = TypeVar("Node", bound=Hashable)


def _topological_order(nodes: Sequence[Node], before: Mapping[Node, Sequence[Node]]) -> tuple[Node, ...]:
    """Sort the nodes so that each follows all its predecessors in `before`. Raises WiringError for a cycle."""
    order: dict[Node, None] = {}
    for start in nodes:
        path: list[Node] = [start]
        while path:
            node = path[-1]
            waiting = next((other for other in before.get(node, ()) if other not in order), None)
            if waiting is None:
                order[path.pop()] = None
            elif waiting in path:
                cycle = path[path.index(waiting) :]
                _refuse_cycle([*reversed(cycle), cycle[-1]])
            else:
                path.append(waiting)
            while path and path[-1] in order:
                path.pop()
    return tuple(order)


def evaluation_order(names: Sequence[str], edges: Iterable[Projection]) -> tuple[str, ...]:
    """Sort the populations so that each follows the sources of its incoming `edges`."""
    before: dict[str, list[str]] = {name: [] for name in names}
    for edge in edges:
        if edge.source in before:
            before[edge.target].append(edge.source)
    return _topological_order(names, before)


def _refuse_cycle(cycle: Sequence[object]) -> None:
    raise WiringError(
        given=f"a cycle with zero delay: {' -> '.join(map(str, cycle))}",
        expected="at least one edge with a delay in every cycle",
        remedy="set delay=1 on the edge that should transmit the previous value (usually a lateral or top-down edge)",
    )


def arrivals(
    inputs: Sequence[str],
    populations: Mapping[str, Population],
    projections: Sequence[Projection],
    is_flow: bool,
    early: Sequence[str] = (),
) -> dict[str, float]:
    """Return the time at which an input onset first reaches each population, along the shortest path (Bellman-Ford).

    Times are in steps, or in ms for a flow. Windows of edges and populations can delay the arrival. The onset reaches
    the populations in `early` before the first step.
    """
    reached = dict.fromkeys(populations, math.inf) | dict.fromkeys(inputs, 0.0) | dict.fromkeys(early, -1.0 + is_flow)
    edges = [edge for edge in projections if ALWAYS not in edge.lesioned]
    for _ in range(len(populations) + 1):
        for edge in edges:
            steps = 0.0 if is_flow else edge.delay or 0
            delay = edge.delay_ms.smallest() if isinstance(edge.delay_ms, TimeConstant) else steps
            at = _within(edge.active, reached[edge.source] + delay)
            reached[edge.target] = min(reached[edge.target], _within(populations[edge.target].active, at))
        for name, population in populations.items():
            if population.starts_from and population.active and reached[population.starts_from] < population.active[0]:
                reached[name] = min(reached[name], population.active[0])
    kind = float if is_flow else int
    return {name: kind(max(reached[name], 0)) if reached[name] < math.inf else math.inf for name in populations}


def _within(window: tuple[float, float] | None, at: float) -> float:
    """Return the first time at or after `at` that lies in the window, or infinity if the window has ended."""
    if window is None:
        return at
    return max(at, window[0]) if at < window[1] else math.inf
