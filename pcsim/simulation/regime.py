"""Regimes: everything that a step depends on except tensors, as a function of the step number only.

The regimes of a run are known before it starts, so no step has to check whether an edge is active.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

from pcsim.connections import Phased
from pcsim.core.clock import first_step, is_within
from pcsim.core.exceptions import SolverError
from pcsim.network.parts import Projection
from pcsim.network.wiring import Wiring
from pcsim.rules.time_constants import TimeConstant
from pcsim.simulation.past import ROUNDING

MOST_KEPT = 10_000
LATE = 10**6
"""a step at which all sources have a value"""


@dataclass(frozen=True)
class Regime:
    """The activity of populations and edges in a step.

    resting  populations outside their window, whose value stays constant
    opening  populations whose window opens at this step and whose initial value is that of another population
    shut     edges that deliver nothing: outside their window, lesioned, or with a source that has no value yet
    phases   (edge, index of its step) for transforms that differ from step to step
    waiting  (edge, steps until its conduction delay has elapsed), if positive; infinity replaces values above 1
    ages     (edge, current conduction delay in ms) for learned delays
    """

    resting: frozenset[str] = frozenset()
    opening: frozenset[str] = frozenset()
    shut: frozenset[str] = frozenset()
    phases: tuple[tuple[str, int], ...] = ()
    waiting: tuple[tuple[str, float], ...] = ()
    ages: tuple[tuple[str, float], ...] = ()


class Regimes:
    """A cache of a network's regimes by step, valid as long as the settings of the network do not change."""

    def __init__(self, network: Wiring, dt: float) -> None:
        self.network, self.dt = network, dt
        delays = [edge.delay_ms for edge in network.projections if isinstance(edge.delay_ms, TimeConstant)]
        self._changing = any(True for delay in delays for _ in delay.parameters())
        self._steady = None if _may_change(network) else Regime()
        self._found: dict[tuple[int, frozenset[str]], Regime] = {}
        self._changes: dict[tuple[int, int], frozenset[int]] = {}

    @property
    def is_steady(self) -> bool:
        """True if all steps have the same regime, regardless of which populations have a value at the start."""
        return self._steady is not None

    def at(self, step: int, spoken: frozenset[str]) -> Regime:
        """Return the regime of a step."""
        if self._steady is not None:
            return self._steady
        key = (step, spoken)
        if key not in self._found or self._changing:
            self._found = self._found if len(self._found) < MOST_KEPT else {}
            self._found[key] = regime_of(self.network, step, self.dt, spoken)
        return self._found[key]

    def changes(self, begin: int, end: int) -> frozenset[int]:
        """Return the steps in (begin, end) in which the regime may differ from that of the previous step."""
        if self._steady is not None:
            return frozenset()
        key = (begin, end)
        if key not in self._changes or self._changing:
            self._changes = self._changes if len(self._changes) < MOST_KEPT else {}
            self._changes[key] = frozenset(_regime_changes(self.network, begin, end, self.dt))
        return self._changes[key]


def _may_change(network: Wiring) -> bool:
    """Return whether the regime of a network may change from step to step."""
    return any(population.active for population in network.populations.values()) or any(
        edge.active
        or edge.lesioned
        or edge.delay_ms is not None
        or (edge.delay and not network.is_flow)
        or isinstance(edge.transform, Phased)
        for edge in network.projections
    )


def regime_of(network: Wiring, step: int, dt: float, spoken: frozenset[str] = frozenset()) -> Regime:
    """Return the regime of a step of `dt` ms; `spoken` are the populations with a value before the first step."""
    unit = dt if network.is_flow else 1.0
    populations = network.populations.values()
    resting = {p.name for p in populations if p.active and not is_within(p.active, step, unit)}
    opening = {p.name for p in populations if p.starts_from and p.active and first_step(p.active[0], unit) == step}
    shut, phases, waiting, ages = set(), [], [], []
    for edge in network.projections:
        lesioned = any(is_within(window, step, unit) for window in edge.lesioned)
        if (
            lesioned
            or (edge.active and not is_within(edge.active, step, unit))
            or _is_absent(network, edge, step, spoken)
        ):
            shut.add(edge.name)
        elif isinstance(edge.transform, Phased):
            phases.append((edge.name, _phase(network, edge, step, unit)))
        if isinstance(edge.delay_ms, TimeConstant):
            age = edge.delay_ms.smallest()
            if (left := age / dt - step) > ROUNDING:
                waiting.append((edge.name, left if left <= 1.0 + ROUNDING else math.inf))
            if any(True for _ in edge.delay_ms.parameters()):
                ages.append((edge.name, age))
    return Regime(frozenset(resting), frozenset(opening), frozenset(shut), tuple(phases), tuple(waiting), tuple(ages))


def _is_absent(network: Wiring, edge: Projection, step: int, spoken: frozenset[str]) -> bool:
    """Return whether the source of a delayed edge has no value yet."""
    if network.is_flow or not edge.delay or edge.before != "absent":
        return False
    return step < edge.delay - (edge.source in spoken)


def _phase(network: Wiring, edge: Projection, step: int, unit: float) -> int:
    """Return the number of steps since the edge's window opened, up to the last phase of its transform."""
    span = network.step_ms if network.is_flow else 1.0
    count = math.floor(((step + 0.5) * unit - (edge.active[0] if edge.active else 0.0)) / span)
    known = cast(Phased, edge.transform).phases
    return count if known is None else min(count, known - 1)


def _regime_changes(network: Wiring, begin: int, end: int, dt: float) -> list[int]:
    """Return the steps in (begin, end) in which the regime may differ from that of the previous step."""
    return sorted({int(step) for step in _candidates(network, end, dt) if begin < step < end})


def _candidates(network: Wiring, end: int, dt: float) -> Iterator[float]:
    unit = dt if network.is_flow else 1.0
    for population in network.populations.values():
        for time in population.active or ():
            yield first_step(time, unit)
            yield first_step(time, unit) + 1
    for edge in network.projections:
        for window in (edge.active, *edge.lesioned):
            yield from (first_step(time, unit) for time in window or ())
        if edge.delay and not network.is_flow:
            yield from (edge.delay - 1, edge.delay)
        if isinstance(edge.transform, Phased):
            yield from _phase_changes(network, edge, end, unit)
        if isinstance(edge.delay_ms, TimeConstant):
            passed = math.ceil(edge.delay_ms.smallest() / dt - ROUNDING)
            yield from (passed - 1, passed)


def _phase_changes(network: Wiring, edge: Projection, end: int, unit: float) -> Iterator[float]:
    span = network.step_ms if network.is_flow else 1.0
    origin = edge.active[0] if edge.active else 0.0
    known = cast(Phased, edge.transform).phases
    count = math.ceil((end * unit - origin) / span) if known is None else known
    yield from (first_step(origin + n * span, unit) for n in range(1, count + 1))


def window_ends(network: Wiring) -> tuple[float, ...]:
    """Return the times in ms at which an activity window or a lesion of a flow begins or ends."""
    windows = [p.active for p in network.populations.values()]
    for edge in network.projections:
        windows += [edge.active, *edge.lesioned]
    return tuple(sorted({end for window in windows for end in window or () if math.isfinite(end) and end > 0}))


def steady_regime(network: Wiring) -> Regime:
    """Return the regime of an autonomous network; it is constant once all sources have a value.

    Raises SolverError if the network changes with time or has conduction delays.
    """
    changing = [f"population {p.name!r}" for p in network.populations.values() if p.active]
    for edge in network.projections:
        finite = any(math.isfinite(end) for window in edge.lesioned for end in window)
        phased = isinstance(edge.transform, Phased) and edge.transform.phases != 1
        if edge.active or finite or phased or edge.delay_ms is not None:
            changing.append(f"edge {edge.name}")
    if changing:
        raise SolverError(
            given=f"{network.name!r}, which has conduction delays, windows or phases: {', '.join(changing[:4])}",
            expected="a network whose next state depends only on its current state",
            remedy="analyse a network without them, as returned by net.without(...)",
        )
    return regime_of(network, LATE, network.step_ms)
