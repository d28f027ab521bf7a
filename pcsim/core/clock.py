"""The clock: an integer step, from which the time in ms is computed and never accumulated."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

Window = tuple[float, float]
"""a time window [from, to), in ms for a flow and in steps for a discrete network"""


@dataclass(frozen=True)
class Clock:
    """time = step * dt, in ms."""

    dt: float
    step: int = 0

    @property
    def time(self) -> float:
        """Present time in ms, exact however long the run."""
        return self.step * self.dt

    def tick(self, steps: int = 1) -> Clock:
        """Return the clock advanced by `steps`."""
        return Clock(self.dt, self.step + steps)


def first_step(time: float, dt: float) -> float:
    """Return the first step whose middle is not before `time`; an infinite time is returned unchanged."""
    if math.isinf(time):
        return time
    step = math.ceil(time / dt - 0.5)
    # The quotient may be off by a rounding error; the comparison decides.
    while (step - 0.5) * dt >= time:
        step -= 1
    while (step + 0.5) * dt < time:
        step += 1
    return step


def is_within(window: Window, step: int, dt: float) -> bool:
    """Return whether a step lies in the window [from, to), whatever the rounding of its ends."""
    return window[0] <= (step + 0.5) * dt < window[1]


def dividing_step(dt: float, spans: Iterable[float]) -> float:
    """Return the largest step of at most `dt` that divides all `spans` (ms), on a grid of a nanosecond."""
    common = math.gcd(*(round(span * 1e6) for span in spans)) or round(dt * 1e6)
    return common / math.ceil(common / (dt * 1e6) * (1 - 1e-12)) / 1e6


def whole_steps(span: float, dt: float) -> int | None:
    """Return the number of steps of `dt` in `span` (both ms), or None if it is not whole (to 1e-9)."""
    steps = round(span / dt)
    return steps if abs(steps * dt - span) <= 1e-9 * max(abs(span), dt) else None
