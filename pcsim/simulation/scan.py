"""The only loop over time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from pcsim.core.clock import Clock
from pcsim.core.exceptions import WiringError
from pcsim.core.state import State
from pcsim.simulation.monitor import Monitor
from pcsim.simulation.plan import Plan
from pcsim.simulation.schedule import Schedule

Moment = tuple[Clock, State]
"""the time reached, and the values wanted then"""


@dataclass
class Carry:
    """What a run carries along: how far it is, and the state there. `scan` moves it on in place."""

    step: int
    state: State


class Taps(Protocol):
    """After which steps values are wanted."""

    def due(self, step: int) -> bool:
        """Tell whether they are wanted after a step (the first is step 1)."""


class Programs(Protocol):
    """Steps that were traced or compiled (`pcsim.simulation.replay`)."""

    def leap(self, plan: Plan, inputs: State, carry: Carry, end: int, taps: Taps) -> list[tuple[int, State]] | None:
        """Move on by some steps at once, and return the values wanted on the way; None where that cannot be done."""


def scan(
    schedule: Schedule, carry: Carry, taps: Taps, monitor: Monitor | None = None, programs: Programs | None = None
) -> Iterator[Moment]:
    """Carry the state through the schedule, giving the values wanted after each step at which they are.

    Differentiable where gradients are enabled. It ends early where the monitor says that the run is over.
    """
    dt, inputs = schedule.dt, State()
    held: State | None = None
    for segment in schedule.segments():
        plan, step = segment.plan, segment.plan.stepper()
        # A regime that changes leaves alone what is made of an image that does not.
        known, held, inputs = held if segment.inputs is inputs else None, None, segment.inputs
        while carry.step < segment.end:
            before = carry.state
            if programs is not None and (rows := programs.leap(plan, inputs, carry, segment.end, taps)) is not None:
                for number, values in rows:
                    yield Clock(dt, number), values
            else:
                wanted = taps.due(carry.step + 1)
                with plan.in_own_types():
                    held = plan.precompute(inputs, known) if held is None else held
                    if wanted and not plan.network.is_flow:
                        state, values = plan.noted(held, before)
                    else:
                        state = step(held, before)
                        values = plan.observe(held, state) if wanted else {}
                if not plan.is_tried:
                    _require_same(plan, before, state)
                carry.state, carry.step = state, carry.step + 1
                if wanted:
                    yield Clock(dt, carry.step), values
            if monitor is not None and monitor.update(carry.step, before, carry.state):
                return
    if monitor is not None:
        monitor.look()


def _require_same(plan: Plan, before: State, after: State) -> None:
    """Raise WiringError unless the state has kept its keys, shapes and types over the first step of a plan."""
    plan.is_tried = True
    for key, value in before.items():
        if value.shape != after[key].shape or value.dtype != after[key].dtype:
            raise WiringError(
                given=f"{key!r} of {plan.network.name!r}, {tuple(value.shape)} of {value.dtype} before a step and "
                f"{tuple(after[key].shape)} of {after[key].dtype} after it",
                expected="a state that keeps its shapes and types, the batch included",
                remedy="let the rule return the shape and type of what it is given; settings of each sample (batched) "
                "need as many samples as settings",
            )


class Always:
    """Taps after every step."""

    def due(self, step: int) -> bool:
        """True."""
        return True


class AtEnd:
    """Taps after one step: the last."""

    def __init__(self, end: int) -> None:
        self.end = end

    def due(self, step: int) -> bool:
        """Tell whether it is the last."""
        return step == self.end
