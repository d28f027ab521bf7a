"""A clock that counts steps and derives the time in ms from the count, so that rounding errors do not accumulate."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from pcsim.core.checks import checked
from pcsim.core.exceptions import SolverError

Window = tuple[float, float]
"""A time window [from, to), in ms for a flow and in steps for a discrete network."""


@dataclass(frozen=True)
class Clock:
    """time = step * dt, in ms."""

    dt: float
    step: int = 0

    @property
    def time(self) -> float:
        """The current time in ms, without accumulated rounding errors."""
        return self.step * self.dt

    @checked(SolverError)
    def tick(self, steps: int = 1) -> Clock:
        """Return the clock advanced by `steps`."""
        return Clock(self.dt, self.step + steps)


def first_step(time: float, dt: float) -> float:
    """Return the first step whose midpoint is at or after `time`, or `time` itself if it is infinite."""
    if math.isinf(time):
        return time
    step = math.ceil(time / dt - 0.5)
    # Rounding can shift the quotient, so compare the midpoints directly.
    while (step - 0.5) * dt >= time:
        step -= 1
    while (step + 0.5) * dt < time:
        step += 1
    return step


def is_within(window: Window, step: int, dt: float) -> bool:
    """Return whether the midpoint of a step is in the window [from, to); midpoints are robust to rounding errors."""
    return window[0] <= (step + 0.5) * dt < window[1]


def dividing_step(dt: float, spans: Iterable[float]) -> float:
    """Return the largest step no longer than `dt` that divides all `spans` (in ms, rounded to a nanosecond)."""
    common = math.gcd(*(round(span * 1e6) for span in spans)) or round(dt * 1e6)
    return common / math.ceil(common / (dt * 1e6) * (1 - 1e-12)) / 1e6


def whole_steps(span: float, dt: float) -> int | None:
    """Return the number of steps of `dt` in `span` (both in ms), or None if it is not an integer to within 1e-9."""
    steps = round(span / dt)
    return steps if abs(steps * dt - span) <= 1e-9 * max(abs(span), dt) else None
