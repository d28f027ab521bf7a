"""The past of a flow, for conduction delays: what a population said before is state, under "name@n".

"v1@0" is the value of v1 at the beginning of the present step, "v1@n" that of n steps earlier. Between steps the past
is interpolated linearly: a delay need not be a multiple of dt and has a gradient; a solver's order is then at most 2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from pcsim.core.clock import Clock
from pcsim.core.state import State

ROUNDING = 1e-9


def remembered(state: State, present: State, steps: Mapping[str, int]) -> State:
    """`state` with the `present` values pushed onto the past of each name in `steps`, which keeps so many."""
    past: State = {}
    for name, count in steps.items():
        past[f"{name}@0"] = now = present[name]
        for n in range(1, count + 1):
            before = state.get(f"{name}@{n - 1}")
            past[f"{name}@{n}"] = torch.zeros_like(now) if before is None else before
    return state | past


def steps_for(delay: float, dt: float) -> int:
    """How many past steps a delay of that many ms reads at most."""
    return math.ceil(delay / dt - ROUNDING) + 1


def recalled(state: State, name: str, delay: float | Tensor, clock: Clock, held: bool) -> Tensor | None:
    """The value of `name` `delay` ms before the clock's time, or None before the beginning.

    held  the values were constant within each step, as inputs are: no interpolation
    """
    ago = float(delay.detach()) if isinstance(delay, Tensor) else delay
    if clock.time - ago < -ROUNDING * clock.dt:
        return None
    if held:
        # The end of a step still belongs to it.
        return state[f"{name}@{math.ceil(ago / clock.dt - min(clock.fraction, 1.0 - 1e-6) - ROUNDING)}"]
    back = ago / clock.dt - clock.fraction
    near = math.floor(back + ROUNDING)
    value = state[f"{name}@{near}"]
    if not isinstance(delay, Tensor) and back - near < ROUNDING:
        return value
    return torch.lerp(value, state[f"{name}@{near + 1}"], delay / clock.dt - clock.fraction - near)
