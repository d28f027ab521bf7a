"""The interface of solvers, which take a plan and a state to the state one step later.

    state <- step(plan, precomputed, state)

A plan (`pcsim.simulation.plan`) lists the computations of a step; `precomputed` are the values that stay the same from
step to step. The inputs are constant over a step, [time, time + dt): a stimulus changes only between steps.
"""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from torch import Tensor

from pcsim.core.exceptions import PcsimWarning, SolverError
from pcsim.core.state import State
from pcsim.network.wiring import Wiring
from pcsim.rules.base import Rule


class Plan(Protocol):
    """The part of a plan that a solver uses: the rates of change, and the completion of a state."""

    network: Wiring
    flow_keys: tuple[str, ...]
    """the keys in the state of the variables that change"""

    def rates(self, fraction: float = 0.0) -> Any:
        """Return the list of nodes to evaluate for the rates at a fraction of the step."""

    def begin_step(self, state: State) -> State:
        """Return a state from which stages inside the step can start."""

    def evaluate(self, nodes: Any, precomputed: State, state: State) -> State:
        """Return the values of the nodes of a list, by key."""

    def precompute(self, inputs: State) -> State:
        """Return the values that depend on the inputs and parameters alone."""

    def complete(self, precomputed: State, state: State, after: State) -> State:
        """Return the state after a step, with its past advanced, from the new values `after` of `flow_keys`."""


class Solver(ABC):
    """Base class of solvers, which advance a network by one step.

    is_one_stage  advances population after population in the derived order, each by `update` of its rule's response
    is_traceable  a step consists of the same tensor operations, whatever the values
    """

    is_one_stage: ClassVar[bool] = False
    is_traceable: ClassVar[bool] = True

    @abstractmethod
    def step_ms(self, network: Wiring) -> float:
        """Return the duration of one step in ms."""

    @abstractmethod
    def check(self, network: Wiring) -> None:
        """Raise SolverError if this solver cannot advance `network`, and warn if its step is too long for accuracy."""

    @property
    def fractions(self) -> tuple[float, ...]:
        """The fractions of a step at which a solver of several stages evaluates rates."""
        return () if self.is_one_stage else (0.0,)

    def update(self, rule: Rule) -> Callable[[Tensor, Tensor, Any], Tensor] | None:
        """Return (own, response, ratio) -> next value of a one-stage solver; None takes the response itself."""
        return None

    def ratio(self, tau: float | Tensor) -> float | Tensor:
        """Return the ratio that `update` needs for a time constant."""
        raise NotImplementedError

    def step(self, plan: Plan, precomputed: State, state: State) -> State:
        """Return the state one step later, for a solver with several stages."""
        raise NotImplementedError


@dataclass(frozen=True)
class FlowSolver(Solver):
    """A numerical method for flows, in steps of `dt` ms.

    `stability_limit` is the largest stable dt / tau on a leak, dr/dt = -r / tau.
    """

    dt: float

    def __post_init__(self) -> None:
        if isinstance(self.dt, bool) or not (
            isinstance(self.dt, int | float) and math.isfinite(self.dt) and self.dt > 0
        ):
            raise SolverError(
                given=f"{type(self).__name__}(dt={self.dt!r})",
                expected="a positive, finite step in ms",
                remedy="write dt=1.0 for tau=10.0: a tenth of the smallest tau is a good start",
            )

    @property
    def stability_limit(self) -> float:
        """The largest stable dt / tau on a pure leak."""
        return math.inf

    def step_ms(self, network: Wiring) -> float:
        """Return dt."""
        return self.dt

    def check(self, network: Wiring) -> None:
        """Raise SolverError for a discrete network and for a dt at or above the stability limit; warn above tau."""
        if not network.is_flow:
            raise SolverError(
                given=f"{type(self).__name__} for {network.name!r}, whose populations give their next value (maps)",
                expected="a flow, whose populations give their rate of change",
                remedy="write solver=pcsim.Iterate(), or make the network a flow with net.as_ode(tau=...)",
            )
        taus = {name: rule.tau.smallest() for name, rule in network.flows.items()}
        name = min(taus, key=taus.__getitem__)
        ratio = self.dt / taus[name]
        if ratio >= self.stability_limit * (1.0 - 1e-12):
            raise SolverError(
                given=f"dt = {self.dt:g} ms, {ratio:.4g} times the tau of {name!r} ({taus[name]:g} ms)",
                expected=f"less than {self.stability_limit:g} tau, the stability limit of {type(self).__name__}",
                remedy=f"write dt={taus[name] / 10:g}, well below {self.stability_limit * taus[name]:g} ms, or use "
                "ExponentialEuler",
            )
        if ratio > 1.0 and math.isfinite(self.stability_limit):
            warnings.warn(
                f"dt = {self.dt:g} ms is above the tau of {name!r} ({taus[name]:g} ms): the leak overshoots. "
                f"Write dt={taus[name]:g} or less, or use ExponentialEuler.",
                PcsimWarning,
                stacklevel=5,
            )


def require_solver(solver: object) -> Solver:
    """Return `solver`. Raises SolverError for an object that is not a solver."""
    if not isinstance(solver, Solver):
        raise SolverError(
            given=f"solver={solver!r}",
            expected="a solver object with its step, such as pcsim.RK4(dt=1.0)",
            remedy="write solver=pcsim.Iterate() for a discrete network, solver=pcsim.RK4(dt=1.0) for a flow, or use "
            "Euler, Heun, ExponentialEuler, Dopri5 or TorchDiffEq",
        )
    return solver


def refuse_delays(solver: Solver, network: Wiring) -> None:
    """Raise SolverError for conduction delays under an adaptive solver."""
    if network.conduction_delays:
        raise SolverError(
            given=f"{type(solver).__name__} for {network.name!r}, which has conduction delays",
            expected="a solver with a fixed step: adaptive ones do not solve delay equations",
            remedy="write solver=pcsim.RK4(dt=1.0), or use Heun, Euler or ExponentialEuler",
        )


def integration_failed(method: str, network: Wiring, reason: str) -> SolverError:
    """Return the exception of an adaptive solver that does not reach the end of a step."""
    return SolverError(
        given=f"{method} on {network.name!r}: {reason}",
        expected="a solution that stays finite and is not too stiff for the tolerances",
        remedy="loosen rtol and atol, look for runaway feedback with a fixed step, or raise max_evaluations",
    )
