"""The loop over time."""

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
"""the current time, and the requested values at this time"""


@dataclass
class Carry:
    """The step that a run has reached, and its state at that step. `scan` updates both in place."""

    step: int
    state: State


class Taps(Protocol):
    """The steps after which values are requested."""

    def due(self, step: int) -> bool:
        """Return whether values are requested after a step, counted from 1."""


class Programs(Protocol):
    """An executor of traced or compiled steps (`pcsim.simulation.replay`)."""

    def leap(self, plan: Plan, inputs: State, carry: Carry, end: int, taps: Taps) -> list[tuple[int, State]] | None:
        """Advance by several steps and return the requested values, or None if this is impossible."""


def scan(
    schedule: Schedule, carry: Carry, taps: Taps, monitor: Monitor | None = None, programs: Programs | None = None
) -> Iterator[Moment]:
    """Advance the state through the schedule, and yield the requested values after each step in `taps`.

    The loop is differentiable if gradients are enabled. It ends early if the monitor reports that the run is over.
    """
    dt, inputs = schedule.dt, State()
    precomputed: State | None = None
    for segment in schedule.segments():
        plan, step = segment.plan, segment.plan.stepper()
        # If only the regime changes, values precomputed from the inputs are reused.
        known, precomputed, inputs = precomputed if segment.inputs is inputs else None, None, segment.inputs
        while carry.step < segment.end:
            before = carry.state
            if programs is not None and (rows := programs.leap(plan, inputs, carry, segment.end, taps)) is not None:
                for number, values in rows:
                    yield Clock(dt, number), values
            else:
                wanted = taps.due(carry.step + 1)
                with plan.in_own_types():
                    precomputed = plan.precompute(inputs, known) if precomputed is None else precomputed
                    if wanted and not plan.network.is_flow:
                        state, values = plan.step_and_observe(precomputed, before)
                    else:
                        state = step(precomputed, before)
                        values = plan.observe(precomputed, state) if wanted else {}
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
    """Raise WiringError if the first step of a plan has changed the shape or type of a tensor in the state."""
    plan.is_tried = True
    for key, value in before.items():
        if value.shape != after[key].shape or value.dtype != after[key].dtype:
            raise WiringError(
                given=f"{key!r} of {plan.network.name!r}, with shape {tuple(value.shape)} and type {value.dtype} "
                f"before a step, but {tuple(after[key].shape)} and {after[key].dtype} after it",
                expected="a state that keeps its shape, including the batch size, and its type",
                remedy="make the rule return a tensor with the shape and type of its arguments; for a batched "
                "network, pass many.tile(images)",
            )


class Always:
    """Taps that request values after every step."""

    def due(self, step: int) -> bool:
        """Return True."""
        return True


class AtEnd:
    """Taps that request values only after the last step."""

    def __init__(self, end: int) -> None:
        self.end = end

    def due(self, step: int) -> bool:
        """Return whether `step` is the last step."""
        return step == self.end
