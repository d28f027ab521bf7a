"""How time advances: every solver turns a network into advance(network, clock, state, inputs) -> state.

The inputs are held over one step, [clock.time, clock.time + dt): a stimulus changes only between steps.
"""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pcsim.core.clock import Clock
from pcsim.core.exceptions import PcsimWarning, SolverError
from pcsim.network.graph import Network, next_value
from pcsim.rules.base import Flow, Own, Relaxed, combine
from pcsim.core.state import State, axpy


@dataclass(frozen=True)
class Solver(ABC):
    """One step of `dt` ms. `border` is the largest stable dt / tau on a leak, dr/dt = -r / tau."""

    dt: float

    def __post_init__(self) -> None:
        if not (isinstance(self.dt, int | float) and math.isfinite(self.dt) and self.dt > 0):
            raise SolverError(
                given=f"{type(self).__name__}(dt={self.dt!r})",
                expected="a positive, finite step in ms",
                remedy="a tenth of the smallest tau is a good start",
            )

    @property
    def border(self) -> float:
        """Largest stable dt / tau on a pure leak."""
        return math.inf

    @property
    def replays(self) -> bool:
        """Whether a step is the same tensor operations whatever the numbers."""
        return True

    @property
    def holds_inputs(self) -> bool:
        """Whether what the inputs deliver may be computed once and used at every step."""
        return True

    def check(self, network: Network) -> None:
        """Raise SolverError where this solver cannot advance `network`, warn where it hardly can."""
        if not network.is_flow:
            raise SolverError(
                given=f"{type(self).__name__} for {network.name!r}, whose populations say what comes next (maps)",
                expected="a flow, whose populations say how fast they change",
                remedy="use solver=pcsim.Iterate(), or net.relaxed(tau=...) to make it a flow",
            )
        self._check_stability(network)

    def _check_stability(self, network: Network) -> None:
        taus = {name: rule.tau.smallest() for name, rule in network.flows.items()}
        name = min(taus, key=taus.__getitem__)
        ratio = self.dt / taus[name]
        if ratio >= self.border * (1.0 - 1e-12):
            raise SolverError(
                given=f"dt = {self.dt:g} ms, {ratio:.4g} times the tau of {name!r} ({taus[name]:g} ms)",
                expected=f"less than {self.border:g} tau: beyond it {type(self).__name__} makes a leak explode",
                remedy=f"take dt well below {self.border * taus[name]:g} ms, or ExponentialEuler",
            )
        if ratio > 1.0 and math.isfinite(self.border):
            warnings.warn(
                f"dt = {self.dt:g} ms is above the tau of {name!r} ({taus[name]:g} ms): the leak overshoots. "
                f"Take dt <= {taus[name]:g} ms, or ExponentialEuler.",
                PcsimWarning,
                stacklevel=4,
            )

    def advance(self, network: Network, clock: Clock, state: State, inputs: State) -> State:
        """The state one step later."""
        return self._step(network, clock, network.opened(clock, state, inputs), inputs)

    @abstractmethod
    def _step(self, network: Network, clock: Clock, state: State, inputs: State) -> State:
        """The state one step later, activity windows that open now being opened already."""


@dataclass(frozen=True)
class Iterate(Solver):
    """h(t + dt) = F(h(t), u(t)): a discrete network, run as published. `dt` only says how many ms a step stands for."""

    dt: float = 1.0

    def check(self, network: Network) -> None:
        """Raise SolverError for a flow."""
        if network.is_flow:
            raise SolverError(
                given=f"Iterate for {network.name!r}, whose populations say how fast they change (flows)",
                expected="a discrete network, whose populations say what comes next",
                remedy="use Euler, Heun, RK4, ExponentialEuler or TorchDiffEq with a dt in ms",
            )

    def _step(self, network: Network, clock: Clock, state: State, inputs: State) -> State:
        """One sweep; the state holds the value of every population."""
        return network.sweep(clock, state, inputs, next_value)


@dataclass(frozen=True)
class OneStage(Solver):
    """Solvers that look at the rate once, population after population in the network's derived order.

    An edge of delay 0 between two memories reads the value just advanced (the semi-implicit form), one of
    delay 1 the value before. In a network built of flows every edge between memories is of the second kind.
    """

    @abstractmethod
    def _advance(self, rule: Flow, own: Own, ports: dict[str, Tensor]) -> Own:
        """The population's variables one step later."""

    def _step(self, network: Network, clock: Clock, state: State, inputs: State) -> State:
        """One sweep over the populations."""
        values = network.sweep(clock, state, inputs, self._advance)
        return {name: values.get(name, state[name]) for name in state}


@dataclass(frozen=True)
class Euler(OneStage):
    """r(t + dt) = r + dt G(r, u); for a leak r + dt/tau (F - r), which is F exactly at dt = tau. Order 1."""

    @property
    def border(self) -> float:
        """2: |1 - dt/tau| < 1."""
        return 2.0

    def _advance(self, rule: Flow, own: Own, ports: dict[str, Tensor]) -> Own:
        if isinstance(rule, Relaxed):
            return _toward(rule, own, ports, lambda ratio: ratio, self.dt)
        return combine(lambda value, push: _add(value, push, self.dt / rule.tau.for_(value)), own, rule(own, **ports))


@dataclass(frozen=True)
class ExponentialEuler(OneStage):
    """r(t + dt) = F + (r - F) exp(-dt / tau): exact where F is constant over the step, stable at any dt. Order 1."""

    def check(self, network: Network) -> None:
        """Also raise SolverError where a population is no leak toward a target."""
        super().check(network)
        if others := [name for name, rule in network.flows.items() if not isinstance(rule, Relaxed)]:
            raise SolverError(
                given=f"ExponentialEuler for {', '.join(others)} of {network.name!r}",
                expected="populations that leak toward a target, tau dr/dt = F - r",
                remedy="use Euler, Heun, RK4 or TorchDiffEq",
            )

    def _advance(self, rule: Flow, own: Own, ports: dict[str, Tensor]) -> Own:
        return _toward(rule, own, ports, _decayed, self.dt)


def _add(value: Tensor, push: Tensor, ratio: float | Tensor) -> Tensor:
    """value + ratio push."""
    if isinstance(ratio, Tensor):
        return torch.addcmul(value, ratio, push)
    return torch.add(value, push, alpha=ratio)


def _decayed(ratio: float | Tensor) -> float | Tensor:
    return -torch.expm1(-ratio) if isinstance(ratio, Tensor) else -math.expm1(-ratio)


def _toward(
    rule: Flow, own: Own, ports: dict[str, Tensor], share: Callable[[float | Tensor], float | Tensor], dt: float
) -> Own:
    """own + share(dt / tau) (target - own), and the target to the last bit at a share of 1."""
    if not isinstance(rule, Relaxed):
        raise TypeError(f"{type(rule).__name__} has no target")
    return combine(
        lambda value, target: torch.lerp(value, target, share(dt / rule.tau.for_(value))),
        own,
        rule.target(own, **ports),
    )


@dataclass(frozen=True)
class RungeKutta(Solver):
    """k_i = G(r + dt sum_j a_ij k_j),  r(t + dt) = r + dt sum_i b_i k_i: explicit, fixed step."""

    def check(self, network: Network) -> None:
        """Also raise SolverError where a conduction delay is shorter than a step."""
        super().check(network)
        delays = [delay.smallest() for those in network.conduction_delays.values() for delay in those]
        if delays and min(delays) < self.dt * (1.0 - 1e-9):
            raise SolverError(
                given=f"dt = {self.dt:g} ms and a conduction delay of {min(delays):g} ms in {network.name!r}",
                expected="a step no longer than the shortest delay",
                remedy=f"take dt <= {min(delays):g} ms, or Euler",
            )

    @property
    @abstractmethod
    def tableau(self) -> tuple[tuple[tuple[float, ...], ...], tuple[float, ...]]:
        """(a, b): the rows of the stages after the first, and the weights."""

    def _step(self, network: Network, clock: Clock, state: State, inputs: State) -> State:
        """One step, all populations together."""
        rows, weights = self.tableau
        rates = [network.derivative(clock, state, inputs)]
        for row in rows:
            stage = axpy(state, ((self.dt * a, k) for a, k in zip(row, rates, strict=False) if a))
            rates.append(network.derivative(clock.at(sum(row)), stage, inputs))
        return axpy(state, ((self.dt * b, k) for b, k in zip(weights, rates, strict=True)))


@dataclass(frozen=True)
class Heun(RungeKutta):
    """Trapezoidal predictor-corrector (Heun 1900). Order 2."""

    @property
    def border(self) -> float:
        """2."""
        return 2.0

    @property
    def tableau(self) -> tuple[tuple[tuple[float, ...], ...], tuple[float, ...]]:
        """Two stages."""
        return ((1.0,),), (0.5, 0.5)


@dataclass(frozen=True)
class RK4(RungeKutta):
    """The classical Runge-Kutta method (Kutta 1901). Order 4."""

    @property
    def border(self) -> float:
        """2.785: the negative real end of its stability region."""
        return 2.785

    @property
    def tableau(self) -> tuple[tuple[tuple[float, ...], ...], tuple[float, ...]]:
        """Four stages."""
        return ((0.5,), (0.0, 0.5), (0.0, 0.0, 1.0)), (1 / 6, 1 / 3, 1 / 3, 1 / 6)


ADAPTIVE = ("dopri8", "dopri5", "bosh3", "fehlberg2", "adaptive_heun")
# Largest stable dt / tau on a leak; None where the method is implicit or its border is not a fixed number.
FIXED = {
    "euler": 2.0,
    "midpoint": 2.0,
    "heun2": 2.0,
    "heun3": 2.512,
    "rk4": 2.785,
    "explicit_adams": None,
    "implicit_adams": None,
    "fixed_adams": None,
}
"""torchdiffeq's method names; `scipy_solver` (with options={"solver": ...}) is adaptive too."""


@dataclass(frozen=True)
class TorchDiffEq(Solver):
    """Any method of torchdiffeq, called once for every `dt` ms.

    For a fixed-step method `dt` is the step. For an adaptive one it is the interval after which the state can be
    recorded and the stimulus can change, so that no step ever straddles a change; `rtol` and `atol` are then
    required, and all samples of a batch share one step size. `adjoint=True` integrates the gradient backwards
    instead of storing the steps; it restarts every `dt`, which must then be at most the smallest tau, because
    backwards a leak is an explosion.
    """

    method: str = "dopri5"
    rtol: float | None = None
    atol: float | None = None
    adjoint: bool = False
    options: Mapping[str, object] = field(default_factory=dict)
    max_evaluations: int = 100_000

    def __post_init__(self) -> None:
        super().__post_init__()
        known = (*ADAPTIVE, *FIXED, "scipy_solver")
        if self.method not in known:
            raise SolverError(
                given=f"TorchDiffEq(method={self.method!r})",
                expected=f"one of {', '.join(known)}",
                remedy="choose one of torchdiffeq's methods",
            )
        if self.method not in FIXED and (self.rtol is None or self.atol is None):
            raise SolverError(
                given=f"TorchDiffEq(method={self.method!r}, rtol={self.rtol}, atol={self.atol})",
                expected="both tolerances for an adaptive method",
                remedy="for instance rtol=1e-5, atol=1e-7",
            )

    @property
    def replays(self) -> bool:
        """Not so: the library looks at times and errors."""
        return False

    @property
    def holds_inputs(self) -> bool:
        """Not under the adjoint, which only sees parameters that the right-hand side uses itself."""
        return not self.adjoint

    @property
    def border(self) -> float:
        """That of the fixed-step method; adaptive methods have none."""
        return FIXED.get(self.method) or math.inf

    def check(self, network: Network) -> None:
        """Also refuse the adjoint over more than one tau."""
        super().check(network)
        refuse_delays(self, network)
        smallest = min(rule.tau.smallest() for rule in network.flows.values())
        if self.adjoint and self.dt > smallest:
            raise SolverError(
                given=f"adjoint=True with dt = {self.dt:g} ms and a smallest tau of {smallest:g} ms",
                expected="dt <= tau: the adjoint restarts every dt, and over several tau its gradient is wrong",
                remedy=f"take dt <= {smallest:g} ms, or leave adjoint off",
            )

    def _step(self, network: Network, clock: Clock, state: State, inputs: State) -> State:
        """Integrate from clock.time to clock.time + dt."""
        from torchdiffeq import odeint, odeint_adjoint

        field_ = _VectorField(self, network, clock, tuple(state), inputs)
        start = tuple(state.values())
        times = torch.tensor([0.0, self.dt], dtype=torch.float64, device=start[0].device).to(start[0].dtype)
        tolerances = {} if self.method in FIXED else {"rtol": self.rtol, "atol": self.atol}
        # An adaptive method must land on the end: left alone it steps beyond and interpolates back.
        step = (
            {"step_size": self.dt} if self.method in FIXED else {"step_t": times[1:]} if self.method in ADAPTIVE else {}
        )
        extra: dict = {"adjoint_params": tuple(network.parameters())} if self.adjoint else {}
        integrate = odeint_adjoint if self.adjoint else odeint
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*Unexpected arguments.*")
            try:
                ends = integrate(
                    field_, start, times, method=self.method, options=step | dict(self.options), **tolerances, **extra
                )
            except UserWarning as reason:
                raise SolverError(
                    given=f"options {dict(self.options)} for {self.method}",
                    expected="options that this method of torchdiffeq knows",
                    remedy=str(reason),
                ) from reason
            except AssertionError as reason:
                raise gave_up(self, network, clock, str(reason)) from reason
        return {name: value[-1] for name, value in zip(state, ends, strict=True)}


class _VectorField(torch.nn.Module):
    """The right-hand side in torchdiffeq's form, which counts its evaluations."""

    def __init__(
        self, solver: TorchDiffEq, network: Network, clock: Clock, names: tuple[str, ...], inputs: State
    ) -> None:
        super().__init__()
        self.solver, self.network, self.clock, self.names, self.inputs = solver, network, clock, names, inputs
        self.evaluations = 0

    def forward(self, time: Tensor, values: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        self.evaluations += 1
        if self.evaluations > self.solver.max_evaluations:
            raise gave_up(self.solver, self.network, self.clock, f"{self.evaluations - 1} evaluations were not enough")
        rates = self.network.derivative(self.clock, dict(zip(self.names, values, strict=True)), self.inputs)
        return tuple(rates[name] for name in self.names)


def refuse_delays(solver: Solver, network: Network) -> None:
    """Raise SolverError for conduction delays under an adaptive solver."""
    if network.conduction_delays:
        raise SolverError(
            given=f"{type(solver).__name__} for {network.name!r}, which has conduction delays",
            expected="a solver that keeps the past: adaptive ones solve no delay equations",
            remedy="use RK4, Heun, Euler or ExponentialEuler",
        )


def gave_up(solver: Solver, network: Network, clock: Clock, reason: str) -> SolverError:
    """The error of an adaptive solver that does not get through."""
    method = solver.method if isinstance(solver, TorchDiffEq) else type(solver).__name__
    return SolverError(
        given=f"{method} on {network.name!r} from {clock.time:g} ms: {reason}",
        expected="a solution that stays finite and is not too stiff for the tolerances",
        remedy="loosen rtol and atol, look for runaway feedback with a fixed step, or raise max_evaluations",
    )
