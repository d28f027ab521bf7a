"""How gradients go back through time.

    full          every step is kept
    checkpointed  spans of steps are run again when their gradient is wanted: exact, memory of the square root of steps
    truncated     the past is a constant at the beginning of every span: not exact
    implicit      at a fixed point z = F(z, w):  dL/dw = u dF/dw,  u = dL/dz + u dF/dz          exact there

(`adjoint`, which integrates backwards, is torchdiffeq's: `TorchDiffEq(adjoint=True)`.) Sources: Chen et al. 2016
(arXiv 1604.06174) for the square root; Bai, Kolter & Koltun 2019 for the fixed point.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pcsim.core import storage
from pcsim.core.clock import Clock
from pcsim.core.exceptions import TrainingError
from pcsim.network.graph import Network
from pcsim.simulation.simulator import Course, Stimulus, settled
from pcsim.solvers.base import Solver
from pcsim.core.state import State
from pcsim.simulation.scan import Stepper

Moment = tuple[Clock, State]


def windows(
    network: Network,
    stimulus: Stimulus,
    solver: Solver,
    steps: int,
    names: Sequence[str],
    gradient: str,
    span: int | None = None,
) -> Iterator[Iterable[Moment]]:
    """The moments of all steps by the name of the way back, together or, truncated, span by span."""
    if gradient == "implicit":
        yield [at_fixed_point(network, stimulus, solver, steps, names)]
    elif gradient == "truncated":
        yield from truncated(network, stimulus, solver, steps, names, span or steps)
    else:
        kept = (span or square_root(steps)) if gradient == "checkpointed" else 0
        yield trajectory(network, stimulus, solver, steps, names, kept)


def trajectory(
    network: Network, stimulus: Stimulus, solver: Solver, steps: int, names: Sequence[str], span: int = 0
) -> Iterator[Moment]:
    """(clock, values of `names`) after each of `steps` steps.

    span  0 keeps all that a gradient needs; else that many steps at a time are kept only while their own gradient is
          computed, for which they are run again
    """
    course = Course(network, stimulus, solver, steps)
    clock, state = course.clock, course.state
    if span:
        with torch.no_grad():
            ahead = Stepper(network, solver, partial(network.observe, names=names), kept=tuple(names))
    while clock.step < course.end:
        if clock.step in course.changes:
            inputs = course.inputs(clock)
            if span:
                ahead.show(inputs)
        count = min(course.left(clock), span or 1)
        if span:
            state, moments = _run_twice(ahead, clock, count, names, state, inputs)
        else:
            state, moments = _run(network, solver, clock, count, names, state, inputs)
        yield from moments
        clock = clock.tick(count)


def truncated(
    network: Network, stimulus: Stimulus, solver: Solver, steps: int, names: Sequence[str], span: int
) -> Iterator[list[Moment]]:
    """The same in windows of `span` steps. The state at the beginning of each is a constant, and its graph its own: a
    loss may be backpropagated window by window.
    """
    course = Course(network, stimulus, solver, steps)
    clock, state = course.clock, course.state
    while clock.step < course.end:
        moments: list[Moment] = []
        end = min(clock.step + span, course.end)
        inputs = course.inputs(clock)
        while clock.step < end:
            if clock.step in course.changes:
                inputs = course.inputs(clock)
            count = min(course.left(clock), end - clock.step)
            state, made = _run(network, solver, clock, count, names, state, inputs)
            moments += made
            clock = clock.tick(count)
        yield moments
        state = {name: value.detach() for name, value in state.items()}


def _run(
    network: Network, solver: Solver, clock: Clock, count: int, names: Sequence[str], state: State, inputs: State
) -> tuple[State, list[Moment]]:
    moments = []
    for _ in range(count):
        state, clock = solver.advance(network, clock, state, inputs), clock.tick()
        moments.append((clock, network.observe(clock, state, inputs, names)))
    return state, moments


def _run_twice(
    ahead: Stepper, clock: Clock, count: int, names: Sequence[str], state: State, inputs: State
) -> tuple[State, list[Moment]]:
    """The same with nothing kept but the state at the beginning, from which the steps are run again going back."""
    network, solver = ahead.network, ahead.solver
    given = {f"state {name}": value for name, value in state.items()}
    given |= {f"shown {name}": value for name, value in inputs.items()}
    keys: list[tuple[int, str]] = []

    def named(rows: Sequence[State]) -> dict[tuple[int, str], Tensor]:
        return {(moment, name): value for moment, row in enumerate(rows) for name, value in row.items()}

    def first() -> tuple[Tensor, ...]:
        now, end, rows = clock, state, list[State]()
        while now.step < clock.step + count:
            now, end = ahead.stretch(now, end, clock.step + count - now.step, now.step, rows.append)
        made = named([end, *rows])
        keys[:] = made
        # Copies: a state may be what it was, or what is noted, and autograd tells its results by their memory.
        return tuple(value.clone() for value in made.values())

    def again(*tensors: Tensor) -> tuple[Tensor, ...]:
        values = dict(zip(given, tensors, strict=True))
        before, shown = storage.under("state ", values), storage.under("shown ", values)
        with _statistics_held(network):
            end, moments = _run(network, solver, clock, count, names, before, shown)
        made = named([end, *(row for _, row in moments)])
        return tuple(made[key] for key in keys)

    weights = [parameter for parameter in network.parameters() if parameter.requires_grad]
    made = _Span.apply(first, again, weights, len(given), *given.values(), *weights)
    rows: list[State] = [{} for _ in range(count + 1)]
    for (moment, name), value in zip(keys, made, strict=True):
        rows[moment][name] = value
    return rows[0], [(clock.tick(n), row) for n, row in enumerate(rows[1:], 1)]


def _random_state() -> tuple[Tensor, list[Tensor]]:
    return torch.get_rng_state(), torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []


class _Span(torch.autograd.Function):
    """first(), and for its gradient again(*given): the same numbers, computed once more with a graph."""

    @staticmethod
    def forward(ctx: Any, first: Callable, again: Callable, weights: list[Tensor], count: int, *tensors: Tensor) -> Any:
        """Also note where the random numbers stood."""
        ctx.again, ctx.weights, ctx.random = again, weights, _random_state()
        ctx.save_for_backward(*tensors[:count])
        ctx.set_materialize_grads(False)
        return first()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        """Of what was given and of the weights."""
        needed = ctx.needs_input_grad[4 : 4 + len(ctx.saved_tensors)]
        given = [value.detach().requires_grad_(need) for value, need in zip(ctx.saved_tensors, needed, strict=True)]
        with torch.enable_grad(), torch.random.fork_rng():
            torch.set_rng_state(ctx.random[0])
            torch.cuda.set_rng_state_all(ctx.random[1])
            made = ctx.again(*given)
        pairs = [(m, g) for m, g in zip(made, gradients, strict=True) if g is not None and m.requires_grad]
        wanted = [*(value for value in given if value.requires_grad), *ctx.weights]
        ends, pulls = [m for m, _ in pairs], [g for _, g in pairs]
        found = iter(torch.autograd.grad(ends, wanted, pulls, allow_unused=True))
        return None, None, None, None, *(next(found) if need else None for need in needed), *found


@contextmanager
def _statistics_held(network: Network) -> Iterator[None]:
    norms = [module for module in network.modules() if getattr(module, "running_mean", None) is not None]
    before = [(vars(norm)["momentum"], norm._buffers.get("num_batches_tracked")) for norm in norms]
    for norm in norms:
        vars(norm)["momentum"] = 0.0
        if "num_batches_tracked" in norm._buffers:
            norm._buffers["num_batches_tracked"] = None
    try:
        yield
    finally:
        for norm, (momentum, counted) in zip(norms, before, strict=True):
            vars(norm)["momentum"] = momentum
            if counted is not None:
                norm._buffers["num_batches_tracked"] = counted


def square_root(steps: int) -> int:
    """The span that needs least memory: as many spans as steps in each."""
    return max(1, math.isqrt(steps))


def at_fixed_point(
    network: Network,
    stimulus: Stimulus,
    solver: Solver,
    steps: int,
    names: Sequence[str],
    tolerance: float = 1e-4,
    iterations: int = 1_000,
) -> Moment:
    """(clock, values of `names`) where the network has settled, with the gradient of the fixed point.

    It is run for `steps` steps without keeping any of them; memory does not grow with time.
    Raises TrainingError where one more step still moves the state by more than `tolerance` of its size, and, in the
    backward pass, where `iterations` do not solve for u (then the fixed point is hardly stable).
    """
    clock, state, inputs = settled(network, stimulus, solver, steps)
    shown = {name: inputs[name] for name in network.inputs}
    inputs = network.held(shown) if solver.holds_inputs else shown
    start = {name: value.detach().requires_grad_() for name, value in state.items()}
    after = solver.advance(network, clock, start, inputs)
    before, here = _flat(start), _flat(after)
    moved = float((here - before).detach().norm() / before.detach().norm().clamp_min(torch.finfo(before.dtype).tiny))
    if not moved <= tolerance:
        raise TrainingError(
            given=f"a state of {network.name!r} that another step moves by {moved:.2g} of its size, at step {steps}",
            expected=f"a network that has settled, to {tolerance:g}",
            remedy="run longer, take smaller weights, or use gradient='checkpointed', which needs no fixed point",
        )
    pulled = partial(torch.autograd.grad, here, tuple(start.values()), retain_graph=True, allow_unused=True)
    result = _flat(solver.advance(network, clock, {name: value.detach() for name, value in state.items()}, inputs))
    result.register_hook(partial(_solved, pulled, start, tolerance, iterations))
    values: State = {}
    for name, part in zip(start, result.split([value.numel() for value in start.values()]), strict=True):
        values[name] = part.view_as(start[name])
    return clock, network.observe(clock, values, inputs, names)


def _flat(state: State) -> Tensor:
    return torch.cat([value.reshape(-1) for value in state.values()])


def _solved(pulled: partial, start: State, tolerance: float, iterations: int, gradient: Tensor) -> Tensor:
    """u = gradient + u dF/dz, by iteration: it converges where the dynamics do, and as fast."""
    u, enough = gradient, max(1e-3 * tolerance, 10.0 * torch.finfo(gradient.dtype).eps)
    for _ in range(iterations):
        parts = pulled(grad_outputs=u)
        moved = [
            part if part is not None else torch.zeros_like(value)
            for part, value in zip(parts, start.values(), strict=True)
        ]
        before, u = u, gradient + torch.cat([part.reshape(-1) for part in moved])
        if float((u - before).norm()) <= enough * float(u.norm()):
            return u
    raise TrainingError(
        given=f"a gradient at the fixed point that {iterations} iterations do not find",
        expected="a fixed point that is clearly stable",
        remedy="take smaller weights, or gradient='checkpointed', which needs no fixed point",
    )
