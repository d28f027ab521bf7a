"""The interface of solvers, which compute the next state from a plan and the current state.

    state <- step(plan, precomputed, state)

A plan (`pcsim.simulation.plan`) lists the computations of a step; `precomputed` contains the values that do not change
between steps. The inputs are constant during a step, [time, time + dt); stimuli change only between steps.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Protocol

from pydantic import Field
from torch import Tensor

from pcsim.core.checks import Positive
from pcsim.core.exceptions import SolverError, warn
from pcsim.core.state import State
from pcsim.network.wiring import Wiring
from pcsim.rules.base import Rule

Step = Annotated[Positive, Field(examples=["1.0 for tau=10.0; a tenth of the smallest tau is a good first choice"])]


class Plan(Protocol):
    """The part of a plan that a solver uses: the rates of change and the completion of a step."""

    network: Wiring
    flow_keys: tuple[str, ...]
    """The state keys of the variables that the solver integrates."""

    def rates(self, fraction: float = 0.0) -> Any:
        """Return the nodes that compute the rates at a fraction of the step."""

    def begin_step(self, state: State) -> State:
        """Return the state from which the stages of a step start."""

    def evaluate(self, nodes: Any, precomputed: State, state: State) -> State:
        """Evaluate `nodes` and return their values by key."""

    def precompute(self, inputs: State) -> State:
        """Return the values that depend only on the inputs and parameters."""

    def complete(self, precomputed: State, state: State, after: State) -> State:
        """Build the state after a step from the new values `after` of `flow_keys`, and shift the stored past values."""


class Solver(ABC):
    """Base class for solvers, which advance a network by one step.

    is_one_stage  True if the solver uses `update` to advance populations sequentially, in evaluation order
    is_traceable  True if every step consists of the same tensor operations, regardless of the values
    """

    EXAMPLE: ClassVar[str] = (
        "pcsim.Iterate() for a discrete network, or pcsim.RK4(dt=1.0), Euler, Heun, Dopri5, ... for a flow"
    )
    is_one_stage: ClassVar[bool] = False
    is_traceable: ClassVar[bool] = True

    @abstractmethod
    def step_ms(self, network: Wiring) -> float:
        """Return the duration of one step in ms."""

    @abstractmethod
    def check(self, network: Wiring) -> None:
        """Raise SolverError if this solver cannot advance `network`; warn if its step is too long for accuracy."""

    @property
    def fractions(self) -> tuple[float, ...]:
        """The fractions of a step at which a multi-stage solver evaluates rates."""
        return () if self.is_one_stage else (0.0,)

    def update(self, rule: Rule) -> Callable[[Tensor, Tensor, Any], Tensor] | None:
        """Return a function (own, response, ratio) -> next value, or None if the response is itself the next value."""
        return None

    def ratio(self, tau: float | Tensor) -> float | Tensor:
        """Return the `ratio` argument of `update` for a time constant."""
        raise NotImplementedError

    def step(self, plan: Plan, precomputed: State, state: State) -> State:
        """Return the state one step later (multi-stage solvers only)."""
        raise NotImplementedError


@dataclass(frozen=True)
class FlowSolver(Solver):
    """A numerical method for flows, with steps of `dt` ms.

    `stability_limit` is the largest stable dt / tau for a leak, dr/dt = -r / tau.
    """

    dt: Step

    def __post_init__(self) -> None:
        if isinstance(self.dt, bool) or not (
            isinstance(self.dt, int | float) and math.isfinite(self.dt) and self.dt > 0
        ):
            raise SolverError(
                given=f"{type(self).__name__}(dt={self.dt!r})",
                expected="a positive, finite step in ms",
                remedy="pass dt=1.0 for tau=10.0; a tenth of the smallest tau is a good first choice",
            )

    @property
    def stability_limit(self) -> float:
        """The largest stable dt / tau for a pure leak."""
        return math.inf

    def step_ms(self, network: Wiring) -> float:
        """Return dt."""
        return self.dt

    def check(self, network: Wiring) -> None:
        """Raise SolverError for a discrete network or a dt at or above the stability limit; warn if dt exceeds tau."""
        if not network.is_flow:
            raise SolverError(
                given=f"{type(self).__name__} for {network.name!r}, whose populations return their next value (maps)",
                expected="a flow, whose populations return their rate of change",
                remedy="pass solver=pcsim.Iterate(), or turn the network into a flow with net.as_ode(tau=...)",
            )
        taus = {name: rule.tau.smallest() for name, rule in network.flows.items()}
        name = min(taus, key=taus.__getitem__)
        ratio = self.dt / taus[name]
        if ratio >= self.stability_limit * (1.0 - 1e-12):
            raise SolverError(
                given=f"dt = {self.dt:g} ms, {ratio:.4g} times the tau of {name!r} ({taus[name]:g} ms)",
                expected=f"less than {self.stability_limit:g} tau, the stability limit of {type(self).__name__}",
                remedy=f"pass dt={taus[name] / 10:g}, well below {self.stability_limit * taus[name]:g} ms, or use "
                "ExponentialEuler",
            )
        if ratio > 1.0 and math.isfinite(self.stability_limit):
            warn(
                f"dt = {self.dt:g} ms is larger than the tau of {name!r} ({taus[name]:g} ms), so the leak overshoots. "
                f"Use dt={taus[name]:g} or less, or use ExponentialEuler."
            )


def refuse_delays(solver: Solver, network: Wiring) -> None:
    """Raise SolverError if the network has conduction delays, which this solver does not support."""
    if network.conduction_delays:
        raise SolverError(
            given=f"{type(solver).__name__} for {network.name!r}, which has conduction delays",
            expected="Euler, ExponentialEuler, Heun or RK4, which use the delayed values at every stage of a step",
            remedy="pass solver=pcsim.RK4(dt=1.0)",
        )


def integration_failed(method: str, network: Wiring, reason: str) -> SolverError:
    """Return the exception for an adaptive solver that does not reach the end of a step."""
    return SolverError(
        given=f"{method} on {network.name!r}: {reason}",
        expected="a solution that remains finite and is not too stiff for these tolerances",
        remedy="increase rtol, atol or max_evaluations, or use a fixed-step solver to look for runaway feedback",
    )
