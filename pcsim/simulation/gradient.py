"""Gradients through time: the interface, and plain backpropagation. Other methods are in `pcsim.training`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from pcsim.simulation.monitor import Monitor
from pcsim.simulation.scan import Always, Carry, Moment, Taps, scan
from pcsim.simulation.schedule import Schedule
from pcsim.solvers.base import Solver


@dataclass(frozen=True)
class Gradient(ABC):
    """A method for gradients through time."""

    kind: str = field(default="", init=False)

    def solver(self, solver: Solver) -> Solver:
        """Return the solver to run with."""
        return solver

    def taps(self, schedule: Schedule) -> Taps:
        """Return the steps after which a loss can use values: all of them."""
        return Always()

    @abstractmethod
    def windows(
        self, schedule: Schedule, carry: Carry, taps: Taps, monitor: Monitor | None = None
    ) -> Iterator[Iterable[Moment]]:
        """Yield the moments of a run in windows, each of which may be backpropagated through on its own."""


@dataclass(frozen=True)
class Full(Gradient):
    """Every step is kept: exact, memory grows with the number of steps."""

    kind: str = field(default="full", init=False)

    def windows(
        self, schedule: Schedule, carry: Carry, taps: Taps, monitor: Monitor | None = None
    ) -> Iterator[Iterable[Moment]]:
        """Yield all time points in one window."""
        yield scan(schedule, carry, taps, monitor)
