"""The clock: an integer step, from which the time in ms is computed and never accumulated."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Clock:
    """time = (step + fraction) * dt, in ms; `fraction` is where within its step a solver looks."""

    dt: float
    step: int = 0
    fraction: float = 0.0

    @property
    def time(self) -> float:
        """Present time in ms, exact however long the run."""
        return (self.step + self.fraction) * self.dt

    def tick(self, steps: int = 1) -> Clock:
        """The clock so many steps later."""
        return Clock(self.dt, self.step + steps)

    def at(self, fraction: float) -> Clock:
        """The clock at a stage of this step: 0 at its beginning, 1 at its end."""
        return replace(self, fraction=fraction)

    def within(self, window: tuple[float, float]) -> bool:
        """Whether the step that begins now lies in the window [from, to) in ms, whatever the rounding of its ends."""
        return window[0] <= (self.step + 0.5) * self.dt < window[1]

    def begins(self, time: float) -> bool:
        """Whether the step that begins now begins at `time` ms."""
        return abs(self.step * self.dt - time) < 0.5 * self.dt

    def count(self, origin: float, span: float) -> int:
        """How many whole spans (ms) have gone by between `origin` and the middle of this step."""
        return math.floor(((self.step + 0.5) * self.dt - origin) / span)


def dividing_step(dt: float, spans: Iterable[float]) -> float:
    """The largest step of at most `dt` that divides all `spans` (ms), on a grid of a nanosecond."""
    common = math.gcd(*(round(span * 1e6) for span in spans)) or round(dt * 1e6)
    return common / math.ceil(common / (dt * 1e6) * (1 - 1e-12)) / 1e6


def whole_steps(span: float, dt: float) -> int | None:
    """How many steps of `dt` make `span` (both ms), or None where no whole number does (to 1e-9)."""
    steps = round(span / dt)
    return steps if abs(steps * dt - span) <= 1e-9 * max(abs(span), dt) else None
