"""The past values that delayed edges need, which are part of the state.

"v1@n" is the value of v1 n steps before the current state, and "image@n" the image presented n steps ago. In a flow,
past values are interpolated linearly between steps. Conduction delays are therefore differentiable and need not be
multiples of dt, but the interpolation limits the order of the solver to 2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from pcsim.core.state import Shape, State, variable_key
from pcsim.network.parts import Projection
from pcsim.network.wiring import Wiring
from pcsim.rules.time_constants import TimeConstant

ROUNDING = 1e-9
FRESH, PAST, PRECOMPUTED = 0, 1, 2
"""the tables of values that a plan uses: values of the current step, the state, and precomputed values"""


def past_lengths(network: Wiring, step_ms: float) -> Mapping[str, int]:
    """Return the number of past values that the state stores for each source."""
    if network.is_flow:
        delays = network.conduction_delays.items()
        longest = {name: max(delay.largest() for delay in those) for name, those in delays}
        return {name: math.ceil(delay / step_ms - ROUNDING) + 1 for name, delay in longest.items()}
    # The state already contains the latest value of a population.
    lengths = {n: delay - (n not in network.inputs) for n, delay in network.step_delays.items()}
    return {name: length for name, length in lengths.items() if length}


def recall(
    network: Wiring, edge: Projection, dt: float, fraction: float, left: float, deliver: Callable[[Any], Tensor]
) -> tuple[int, str | None, Callable[[Any], Tensor] | None] | None:
    """Return a function that evaluates a delayed edge at a fraction of a step, or None if the edge delivers nothing.

    left  number of steps until the delay, counted from the start of the run, has elapsed
    """
    delay = edge.delay_ms() if isinstance(edge.delay_ms, TimeConstant) else 0.0
    ago = float(delay.detach()) if isinstance(delay, Tensor) else delay
    if left > fraction + ROUNDING:
        if edge.before == "absent":
            return None
        return PAST, f"{edge.source}@1", partial(_of_nothing, deliver)
    if edge.source in network.inputs:
        # Inputs are constant over each step, including its end, so they are not interpolated.
        steps = math.ceil(ago / dt - min(fraction, 1.0 - 1e-6) - ROUNDING)
        return (PRECOMPUTED, edge.source, deliver) if steps == 0 else (PAST, f"{edge.source}@{steps}", deliver)
    back = ago / dt - fraction
    near = math.floor(back + ROUNDING)
    # A stage inside a step computes a separate value; the delay refers to the value at the start of the step.
    newest = edge.source if near or not fraction else f"{edge.source}@0"
    key = f"{edge.source}@{near}" if near else newest
    if not isinstance(delay, Tensor) and back - near < ROUNDING:
        return PAST, key, deliver
    share = partial(_share, cast(TimeConstant, edge.delay_ms), dt, fraction + near)
    return PAST, None, partial(_between, key, f"{edge.source}@{near + 1}", share, deliver)


def _share(delay: TimeConstant, dt: float, offset: float) -> float | Tensor:
    """Return the interpolation weight of the delay, recomputed at every step because learned delays have gradients."""
    return cast(Tensor, delay()) / dt - offset


def _between(
    near: str, far: str, share: Callable[[], float | Tensor], deliver: Callable[[Tensor], Tensor], state: State
) -> Tensor:
    return deliver(torch.lerp(state[near], state[far], share()))


def _of_nothing(deliver: Callable[[Tensor], Tensor], like: Tensor) -> Tensor:
    return deliver(torch.zeros_like(like))


def remembered_wires(network: Wiring) -> tuple[str, ...]:
    """Return the wires of a discrete network whose values are needed after the current step.

    These wires are sources of delayed edges, have an activity window, or provide another population's initial value.
    """
    started = {population.starts_from for population in network.populations.values()}
    delayed = network.step_delays
    return tuple(
        name
        for name, population in network.populations.items()
        if name in network.wires and (name in delayed or name in started or population.active)
    )


def state_shapes(network: Wiring, step_ms: float) -> Mapping[str, Shape]:
    """Return the shape of every tensor in the state, without the batch dimension."""
    names = [*network.memories, *(() if network.is_flow else remembered_wires(network))]
    variables = network.shapes.variables
    shapes = {variable_key(name, v): shape for name in names for v, shape in variables[name].items()}
    for name, count in past_lengths(network, step_ms).items():
        shapes |= {f"{name}@{n}": network.shapes.nodes[name] for n in range(1, count + 1)}
    return shapes
