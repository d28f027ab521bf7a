"""Gradients through time: the base class and full backpropagation. `pcsim.training` contains other methods."""

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
    """Base class for methods that compute gradients through time."""

    kind: str = field(default="", init=False)

    def solver(self, solver: Solver) -> Solver:
        """Return the solver to use with this method."""
        return solver

    def taps(self, schedule: Schedule) -> Taps:
        """Return the steps whose values a loss can use; by default, all steps."""
        return Always()

    @abstractmethod
    def windows(
        self, schedule: Schedule, carry: Carry, taps: Taps, monitor: Monitor | None = None
    ) -> Iterator[Iterable[Moment]]:
        """Yield the time points of a run in windows that can be backpropagated through separately."""


@dataclass(frozen=True)
class Full(Gradient):
    """Backpropagation through all steps, which is exact but needs memory proportional to the number of steps."""

    kind: str = field(default="full", init=False)

    def windows(
        self, schedule: Schedule, carry: Carry, taps: Taps, monitor: Monitor | None = None
    ) -> Iterator[Iterable[Moment]]:
        """Yield all time points in a single window."""
        yield scan(schedule, carry, taps, monitor)
