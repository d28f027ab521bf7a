"""Gradients through time, to be passed to `simulate(..., gradient=...)`, `Simulator` or `Training`.

    Full          stores every step
    Checkpointed  recomputes spans of steps in the backward pass; exact, memory proportional to sqrt(number of steps)
    Truncated     treats the state at the start of each span as a constant; not exact
    Implicit      at a fixed point z = F(z, w):  dL/dw = u dF/dw,  u = dL/dz + u dF/dz          exact there
    Adjoint       integrates the gradient backwards with torchdiffeq without storing steps; not exact

Sources: Chen et al. 2016 (arXiv 1604.06174) for checkpointing; Bai, Kolter & Koltun 2019 for the fixed point; Chen et
al. 2018 for the adjoint.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pcsim.core.checks import Count, Positive, checked
from pcsim.core.clock import Clock
from pcsim.core.exceptions import SolverError, TrainingError
from pcsim.core.state import State
from pcsim.simulation.gradient import Full, Gradient
from pcsim.simulation.monitor import Monitor
from pcsim.simulation.scan import AtEnd, Carry, Moment, Taps, scan
from pcsim.simulation.schedule import Schedule
from pcsim.solvers import Solver
from pcsim.solvers.torchdiffeq import TorchDiffEq

Windows = Iterator[Iterable[Moment]]


@checked(TrainingError)
@dataclass(frozen=True)
class Checkpointed(Gradient):
    """Exact gradient that stores one state per span and recomputes the steps; takes about 1.5 times as long as Full().

    span  steps per span; by default the square root of the number of steps, which needs the least memory
    """

    span: Count | None = None
    kind: str = field(default="checkpointed", init=False)

    def windows(self, schedule: Schedule, carry: Carry, taps: Taps, monitor: Monitor | None = None) -> Windows:
        """Yield all time points in one window."""
        yield self._moments(schedule, carry, taps, monitor)

    def _moments(self, schedule: Schedule, carry: Carry, taps: Taps, monitor: Monitor | None) -> Iterator[Moment]:
        for part in schedule.spans(self.span or square_root(schedule.end - schedule.begin)):
            before = carry.state
            yield from _run_again(part, carry, taps)
            if monitor is not None and monitor.update(carry.step, before, carry.state):
                return
        if monitor is not None:
            monitor.look()


def _run_again(part: Schedule, carry: Carry, taps: Taps) -> list[Moment]:
    """Run a span, storing only the state at its start, and return its time points."""
    names, kept = tuple(carry.state), list[tuple[Clock, tuple[str, ...]]]()

    def run(*tensors: Tensor) -> tuple[Tensor, ...]:
        inner = Carry(part.begin, dict(zip(names, tensors, strict=True)))
        moments = list(scan(part, inner, taps))
        kept[:] = [(clock, tuple(values)) for clock, values in moments]
        return (*(inner.state[name] for name in names), *(v for _, values in moments for v in values.values()))

    contexts = partial(_first_and_again, part.network.module)
    made = iter(checkpoint(run, *carry.state.values(), use_reentrant=False, context_fn=contexts))
    carry.step, carry.state = part.end, {name: next(made) for name in names}
    return [(clock, {name: next(made) for name in values}) for clock, values in kept]


def _first_and_again(network: nn.Module) -> tuple[AbstractContextManager, AbstractContextManager]:
    return nullcontext(), _statistics_held(network)


@contextmanager
def _statistics_held(network: nn.Module) -> Iterator[None]:
    """Prevent normalisation layers from updating their running statistics when steps are recomputed."""
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


@checked(TrainingError)
@dataclass(frozen=True)
class Truncated(Gradient):
    """Truncated backpropagation in spans of `span` steps: not exact, but stores only one span at a time."""

    span: Count
    kind: str = field(default="truncated", init=False)

    def windows(self, schedule: Schedule, carry: Carry, taps: Taps, monitor: Monitor | None = None) -> Windows:
        """Yield the time points span by span. Each span has its own graph and a separate backward pass."""
        for part in schedule.spans(self.span):
            yield list(scan(part, carry, taps, monitor))
            carry.state = {name: value.detach() for name, value in carry.state.items()}


@checked(TrainingError)
@dataclass(frozen=True)
class Implicit(Gradient):
    """Gradient at a fixed point: the network runs without storing steps, and must have settled by the last step.

    tolerance   maximum relative change of the state in one further step
    iterations  maximum number of iterations of u = dL/dz + u dF/dz, which converges at the same rate as the dynamics
    Values are available only at the last step. Raises TrainingError if the network has not settled, and in the backward
    pass if the fixed point is barely stable.
    """

    tolerance: Positive = 1e-4
    iterations: Count = 1_000
    kind: str = field(default="implicit", init=False)

    def taps(self, schedule: Schedule) -> Taps:
        """Return taps that record only the last step."""
        return AtEnd(schedule.end)

    def windows(self, schedule: Schedule, carry: Carry, taps: Taps, monitor: Monitor | None = None) -> Windows:
        """Yield the last time point."""
        if any(taps.due(step) for step in range(schedule.begin + 1, schedule.end)) or not schedule.network.is_flow:
            raise TrainingError(
                given=f"{schedule.network.name!r} with values recorded before the last step, or a discrete network",
                expected="a flow, with values only at the last step, where it has reached a fixed point",
                remedy="pass Record(at=[until]) or over_time='last', or use gradient=Checkpointed()",
            )
        yield [self._moment(schedule, carry, monitor)]

    def _moment(self, schedule: Schedule, carry: Carry, monitor: Monitor | None) -> Moment:
        with torch.no_grad():
            for _ in scan(schedule, carry, AtEnd(-1), monitor):
                pass
        *_, segment = schedule.between(schedule.end - 1, schedule.end).segments()
        plan, precomputed = segment.plan, segment.plan.precompute(segment.inputs)
        start = {name: value.detach().requires_grad_() for name, value in carry.state.items()}
        before, here = _flat(start), _flat(plan.step(precomputed, start))
        size = before.detach().norm().clamp_min(torch.finfo(before.dtype).tiny)
        moved = float((here - before).detach().norm() / size)
        if not moved <= self.tolerance:
            raise TrainingError(
                given=f"{schedule.network.name!r} at step {schedule.end}, where one more step changes the state by "
                f"{moved:.2g} of its norm",
                expected=f"a network that has settled to within {self.tolerance:g}",
                remedy="run longer, scale the weights down, or use gradient=Checkpointed(), which needs no fixed point",
            )
        pulled = partial(torch.autograd.grad, here, tuple(start.values()), retain_graph=True, allow_unused=True)
        result = _flat(plan.step(precomputed, {name: value.detach() for name, value in carry.state.items()}))
        if result.requires_grad:
            result.register_hook(partial(self._solved, pulled, start))
        values: State = {}
        for name, part in zip(start, result.split([value.numel() for value in start.values()]), strict=True):
            values[name] = part.view_as(start[name])
        carry.state = values
        return Clock(schedule.dt, carry.step), plan.observe(precomputed, values)

    def _solved(self, pulled: partial, start: State, gradient: Tensor) -> Tensor:
        """Solve u = gradient + u dF/dz by iteration."""
        u, enough = gradient, max(1e-3 * self.tolerance, 10.0 * torch.finfo(gradient.dtype).eps)
        for _ in range(self.iterations):
            parts = pulled(grad_outputs=u)
            moved = [
                part if part is not None else torch.zeros_like(value)
                for part, value in zip(parts, start.values(), strict=True)
            ]
            before, u = u, gradient + torch.cat([part.reshape(-1) for part in moved])
            if float((u - before).norm()) <= enough * float(u.norm()):
                return u
        raise TrainingError(
            given=f"a gradient at the fixed point that did not converge in {self.iterations} iterations",
            expected="a fixed point that is far from the stability limit",
            remedy="scale the weights down, or use gradient=Checkpointed(), which needs no fixed point",
        )


@checked(TrainingError)
@dataclass(frozen=True)
class Adjoint(Gradient):
    """Gradient integrated backwards by torchdiffeq and restarted every dt; dt must not exceed the smallest tau.

    tolerance  maximum relative deviation from backpropagation. `training.train` compares the two on the first batch,
               and raises TrainingError for a larger deviation; `simulate` does not compare them
    Requires solver=TorchDiffEq(...). For smooth networks in float64 the deviation is about the solver's tolerance; in
    float32, or if ReLUs or max-pooling layers switch during a run, it is 1e-4 to 1e-2 even at tight tolerances.
    """

    tolerance: Positive = 1e-5
    kind: str = field(default="adjoint", init=False)

    def solver(self, solver: Solver) -> Solver:
        """Return the solver with the adjoint method enabled. Raises SolverError unless it is a `TorchDiffEq`."""
        if not isinstance(solver, TorchDiffEq):
            raise SolverError(
                given=f"gradient=Adjoint() with {solver}",
                expected="solver=TorchDiffEq(...), which implements the adjoint",
                remedy="pass solver=pcsim.TorchDiffEq(...), or use gradient=Checkpointed(), which is exact for every "
                "network",
            )
        return solver.with_adjoint()

    def windows(self, schedule: Schedule, carry: Carry, taps: Taps, monitor: Monitor | None = None) -> Windows:
        """Yield all time points in one window."""
        yield scan(schedule, carry, taps, monitor)


def square_root(steps: int) -> int:
    """Return the span that needs the least memory: the square root of the number of steps, rounded down."""
    return max(1, math.isqrt(steps))


def _flat(state: State) -> Tensor:
    return torch.cat([value.reshape(-1) for value in state.values()])


__all__ = ["Adjoint", "Checkpointed", "Full", "Gradient", "Implicit", "Truncated", "square_root"]
