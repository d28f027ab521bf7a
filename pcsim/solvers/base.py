"""What a solver is: it takes a plan and a state to the state one step later.

    state <- step(plan, held, state)

A plan (`pcsim.simulation.plan`) is what the network computes in that step; `held` is what stays the same from step to
step. The inputs are held over one step, [time, time + dt): a stimulus changes only between steps.
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
    """What a solver needs of a plan: the rates of change, and how a state is completed."""

    network: Wiring
    flowing: tuple[str, ...]
    """the variables that change, by their keys in the state"""

    def rates(self, fraction: float = 0.0) -> Any:
        """Return the list of what is evaluated for the rates at a fraction of the step."""

    def begun(self, state: State) -> State:
        """Return a state that stages inside of the step can start from."""

    def evaluate(self, nodes: Any, held: State, state: State) -> State:
        """Return the values of a list, by key."""

    def precompute(self, inputs: State) -> State:
        """Return what stays the same while the inputs do."""

    def carried(self, held: State, state: State, after: State) -> State:
        """Return the state after a step, its past moved on, from the values `after` of the variables that changed."""


class Solver(ABC):
    """One step of a network.

    is_one_stage  it advances population after population in the derived order, each by `update` of what its rule says
    is_traceable  a step is the same tensor operations whatever the numbers
    """

    is_one_stage: ClassVar[bool] = False
    is_traceable: ClassVar[bool] = True

    @abstractmethod
    def step_ms(self, network: Wiring) -> float:
        """Return how many ms one step takes."""

    @abstractmethod
    def check(self, network: Wiring) -> None:
        """Raise SolverError where this solver cannot advance `network`, warn where it hardly can."""

    @property
    def fractions(self) -> tuple[float, ...]:
        """The fractions of a step at which a solver of several stages asks for rates."""
        return () if self.is_one_stage else (0.0,)

    def update(self, rule: Rule) -> Callable[[Tensor, Tensor, Any], Tensor] | None:
        """Return (own, response, ratio) -> next value of a one-stage solver; None takes the response itself."""
        return None

    def ratio(self, tau: float | Tensor) -> float | Tensor:
        """Return what `update` needs of a time constant."""
        raise NotImplementedError

    def step(self, plan: Plan, held: State, state: State) -> State:
        """Return the state one step later, for a solver that has several stages."""
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
                remedy="a tenth of the smallest tau is a good start",
            )

    @property
    def stability_limit(self) -> float:
        """Largest stable dt / tau on a pure leak."""
        return math.inf

    def step_ms(self, network: Wiring) -> float:
        """Return dt."""
        return self.dt

    def check(self, network: Wiring) -> None:
        """Raise SolverError for a discrete network and for a dt at which a leak explodes."""
        if not network.is_flow:
            raise SolverError(
                given=f"{type(self).__name__} for {network.name!r}, whose populations say what comes next (maps)",
                expected="a flow, whose populations say how fast they change",
                remedy="use solver=pcsim.Iterate(), or net.as_ode(tau=...) to make it a flow",
            )
        taus = {name: rule.tau.smallest() for name, rule in network.flows.items()}
        name = min(taus, key=taus.__getitem__)
        ratio = self.dt / taus[name]
        if ratio >= self.stability_limit * (1.0 - 1e-12):
            raise SolverError(
                given=f"dt = {self.dt:g} ms, {ratio:.4g} times the tau of {name!r} ({taus[name]:g} ms)",
                expected=f"less than {self.stability_limit:g} tau: beyond it a leak explodes in {type(self).__name__}",
                remedy=f"take dt well below {self.stability_limit * taus[name]:g} ms, or ExponentialEuler",
            )
        if ratio > 1.0 and math.isfinite(self.stability_limit):
            warnings.warn(
                f"dt = {self.dt:g} ms is above the tau of {name!r} ({taus[name]:g} ms): the leak overshoots. "
                f"Take dt <= {taus[name]:g} ms, or ExponentialEuler.",
                PcsimWarning,
                stacklevel=5,
            )


def require_solver(solver: object) -> Solver:
    """Return the solver. Raises SolverError for anything else."""
    if not isinstance(solver, Solver):
        raise SolverError(
            given=f"solver={solver!r}",
            expected="a solver with its step, such as pcsim.RK4(dt=1.0)",
            remedy="use Iterate() for a discrete network; for a flow Euler, Heun, RK4, ExponentialEuler, Dopri5 or "
            "TorchDiffEq",
        )
    return solver


def refuse_delays(solver: Solver, network: Wiring) -> None:
    """Raise SolverError for conduction delays under an adaptive solver."""
    if network.conduction_delays:
        raise SolverError(
            given=f"{type(solver).__name__} for {network.name!r}, which has conduction delays",
            expected="a solver that keeps the past: adaptive ones solve no delay equations",
            remedy="use RK4, Heun, Euler or ExponentialEuler",
        )


def gave_up(method: str, network: Wiring, reason: str) -> SolverError:
    """Return the error of an adaptive solver that does not get through."""
    return SolverError(
        given=f"{method} on {network.name!r}: {reason}",
        expected="a solution that stays finite and is not too stiff for the tolerances",
        remedy="loosen rtol and atol, look for runaway feedback with a fixed step, or raise max_evaluations",
    )
