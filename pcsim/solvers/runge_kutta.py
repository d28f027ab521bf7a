"""Explicit Runge-Kutta methods with a fixed step.

k_i = G(r + dt sum_j a_ij k_j),   r(t + dt) = r + dt sum_i b_i k_i
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

from pcsim.core.checks import checked
from pcsim.core.exceptions import SolverError
from pcsim.core.state import State, axpy
from pcsim.network.wiring import Wiring
from pcsim.solvers.base import FlowSolver, Plan

Tableau = tuple[tuple[tuple[float, ...], ...], tuple[float, ...]]


@dataclass(frozen=True)
class RungeKutta(FlowSolver):
    """Base class for explicit methods with a fixed step, which advance all populations simultaneously."""

    def check(self, network: Wiring) -> None:
        """Also raise SolverError if a conduction delay is shorter than a step."""
        super().check(network)
        delays = [delay.smallest() for those in network.conduction_delays.values() for delay in those]
        if delays and min(delays) < self.dt * (1.0 - 1e-9):
            raise SolverError(
                given=f"dt = {self.dt:g} ms and a conduction delay of {min(delays):g} ms in {network.name!r}",
                expected="a step no longer than the shortest delay",
                remedy=f"pass dt={min(delays):g} or less, or use Euler",
            )

    @property
    @abstractmethod
    def tableau(self) -> Tableau:
        """The Butcher tableau (a, b): the rows for all stages after the first, and the weights."""

    @property
    def fractions(self) -> tuple[float, ...]:
        """The fractions of a step at which the stages evaluate rates."""
        return (0.0, *(sum(row) for row in self.tableau[0]))

    def step(self, plan: Plan, precomputed: State, state: State) -> State:
        """Return the state one step later."""
        rows, weights = self.tableau
        state = plan.begin_step(state)
        rates = [plan.evaluate(plan.rates(), precomputed, state)]
        for row in rows:
            terms = [(self.dt * a, k) for a, k in zip(row, rates, strict=False) if a]
            rates.append(plan.evaluate(plan.rates(sum(row)), precomputed, axpy(state, terms, plan.flow_keys)))
        terms = [(self.dt * b, k) for b, k in zip(weights, rates, strict=True)]
        return plan.complete(precomputed, state, axpy(state, terms, plan.flow_keys))


@checked(SolverError)
@dataclass(frozen=True)
class Heun(RungeKutta):
    """The trapezoidal predictor-corrector method (Heun 1900). Order 2."""

    @property
    def stability_limit(self) -> float:
        """The largest stable dt / tau, 2."""
        return 2.0

    @property
    def tableau(self) -> Tableau:
        """The Butcher tableau of Heun's method."""
        return ((1.0,),), (0.5, 0.5)


@checked(SolverError)
@dataclass(frozen=True)
class RK4(RungeKutta):
    """The classical Runge-Kutta method (Kutta 1901). Order 4."""

    @property
    def stability_limit(self) -> float:
        """The largest stable dt / tau, 2.785, at which the stability region ends on the negative real axis."""
        return 2.785

    @property
    def tableau(self) -> Tableau:
        """The Butcher tableau of the classical method."""
        return ((0.5,), (0.0, 0.5), (0.0, 0.0, 1.0)), (1 / 6, 1 / 3, 1 / 3, 1 / 6)
