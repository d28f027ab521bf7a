"""Stability of a network on a held stimulus, as one function of one state vector.

flow  dx/dt = f(x),  J = df/dx per ms       a fixed point is stable if every Re(lambda) < 0
map   x <- F(x),     J = dF/dx per step     a fixed point is stable if every |lambda| < 1

dynamics = Dynamics(net, image)              one sample; use double precision: net.double()
point = fixed_point(dynamics)                by Anderson acceleration or Newton-Krylov, checked by its residual
values = eigenvalues(dynamics, point.state)
largest_stable_dt(values, pcsim.RK4)         beyond it RK4 leaves this fixed point
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcsim.core.exceptions import SolverError
from pcsim.core.state import Shape, State
from pcsim.network import Network
from pcsim.simulation.plan import Plan
from pcsim.simulation.record import Record
from pcsim.simulation.regime import steady_regime
from pcsim.simulation.simulator import Simulator
from pcsim.solvers import Euler, FlowSolver, Heun, Iterate, RungeKutta, Solver
from pcsim.stimuli.timeline import Stimulus

DENSE = 1_024
"""size up to which all eigenvalues are computed"""
CHUNK = 256


class Dynamics:
    """A network on the stimulus at `at` ms, held: `dynamics(x)` is dx/dt per ms, or the next x of a map.

    x is (n, size): n states, each the concatenated variables of all populations with memory. `start` is the initial
    state of a simulation; `flat` and `named` convert states to vectors and back.

    Raises SolverError for more than one sample, for conduction delays (the past is part of their state), and for
    networks that change from step to step.
    """

    def __init__(self, network: Network, stimulus: Stimulus, at: float = 0.0) -> None:
        wiring = network.wiring()
        solver: Solver = Euler(min(r.tau.smallest() for r in wiring.flows.values())) if wiring.is_flow else Iterate()
        self._regime = steady_regime(wiring)
        with torch.no_grad():
            schedule, carry = Simulator.once(network, solver, Record()).begin(stimulus, 1, ())
            shown = {name: timeline.at(at).to(schedule.first[name]) for name, timeline in schedule.timelines.items()}
        if any(len(value) != 1 for value in shown.values()):
            raise SolverError(
                given=f"{len(next(iter(shown.values())))} samples",
                expected="one: each has its own fixed point and eigenvalues",
                remedy="pass images[:1], and loop over the samples",
            )
        self.network, self._shown, self._solver = wiring, shown, solver
        self._plans: dict[Solver, Plan] = {}
        self._shapes = {name: value.shape[1:] for name, value in carry.state.items()}
        self.start = self.flat(carry.state)

    @property
    def size(self) -> int:
        """Number of values in a state."""
        return self.start.shape[1]

    def flat(self, state: State) -> Tensor:
        """Concatenate the variables of a state: (n, size)."""
        return torch.cat([state[name].flatten(1) for name in self._shapes], 1)

    def named(self, x: Tensor) -> State:
        """Split x (n, size) by population, each (n, channel, height, width)."""
        parts = x.split([math.prod(shape) for shape in self._shapes.values()], 1)
        named = zip(self._shapes.items(), parts, strict=True)
        return {name: part.reshape(len(x), *shape) for (name, shape), part in named}

    def __call__(self, x: Tensor) -> Tensor:
        """Return dx/dt per ms, or the next x: (n, size) -> (n, size)."""
        if not self.network.is_flow:
            return self.step(x, self._solver)
        plan, inputs = self._plan(self._rates), self._inputs(len(x))
        return self.flat(plan.evaluate(plan.rates(), plan.precompute(inputs), self.named(x)))

    def step(self, x: Tensor, solver: Solver) -> Tensor:
        """Return the state one step of `solver` later: (n, size) -> (n, size)."""
        plan, inputs = self._plan(solver), self._inputs(len(x))
        return self.flat(plan.step(plan.precompute(inputs), self.named(x)))

    @property
    def _rates(self) -> Solver:
        """A solver of several stages: its plans precompute time constants, not ratios to a step."""
        return Heun(1.0)

    def _plan(self, solver: Solver) -> Plan:
        if solver not in self._plans:
            self._plans[solver] = Plan(self.network, self._regime, solver)
        return self._plans[solver]

    def pushed(self, x: Tensor, direction: Tensor, solver: Solver | None = None) -> tuple[Tensor, Tensor]:
        """Return (f(x), J(x) direction), both (n, size), a Jacobian-vector product; with a solver, of its step."""
        function: Callable[[Tensor], Tensor] = self if solver is None else lambda y: self.step(y, solver)
        with warnings.catch_warnings():
            # torch's first forward-mode product compiles its rules by a function that torch itself has deprecated.
            warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", DeprecationWarning)
            value, product, *_ = torch.func.jvp(function, (x,), (direction,))
        return value, product

    def jacobian(self, x: Tensor) -> Tensor:
        """Return the Jacobian J at x (1, size): (size, size)."""
        every = torch.eye(self.size, dtype=x.dtype, device=x.device)
        with torch.no_grad():
            columns = [self.pushed(x.repeat(len(part), 1), part)[1] for part in every.split(CHUNK)]
        return torch.cat(columns).T

    def _inputs(self, count: int) -> State:
        return {name: value.expand(count, *value.shape[1:]) for name, value in self._shown.items()}


def eigenvalues(
    dynamics: Dynamics, x: Tensor, count: int | None = None, which: Literal["leading", "largest"] = "leading"
) -> NDArray[np.complex128]:
    """Return eigenvalues of J at x (1, size), per ms for a flow.

    leading  those that decide stability first: by real part for a flow, by modulus for a map
    largest  by modulus: those that limit the dt of an explicit solver
    All of them up to a size of 1,024; beyond, or if given, `count` (6) by Arnoldi iteration (SciPy's ARPACK), which
    needs Jacobian-vector products only.
    """
    by_real_part = dynamics.network.is_flow and which == "leading"
    if count is None and dynamics.size <= DENSE:
        values = np.linalg.eigvals(dynamics.jacobian(x).double().cpu().numpy())
    else:
        values = _arnoldi(dynamics, x, count or 6, "LR" if by_real_part else "LM")
    leading = -values.real if by_real_part else -np.abs(values)
    return values[np.argsort(leading, kind="stable")].astype(np.complex128)


def is_stable(dynamics: Dynamics, x: Tensor) -> bool:
    """Return whether a fixed point x (1, size) attracts nearby states."""
    leading = eigenvalues(dynamics, x)[0]
    return bool(leading.real < 0 if dynamics.network.is_flow else abs(leading) < 1)


def largest_stable_dt(values: NDArray[np.complex128], solver: type[Solver]) -> float:
    """Return the largest dt in ms with |R(dt lambda)| <= 1 for all eigenvalues, R the solver's stability function.

    values  all eigenvalues, or the largest: the leading ones alone do not limit dt
    solver  Euler, Heun or RK4 (the class). 0 if some eigenvalue has a positive real part: the fixed point itself is
            unstable. Raises SolverError for solvers without such a function.
    """
    grows = _stability_function(solver)
    if (values.real > 0).any():
        return 0.0
    return min((_first_crossing(grows, complex(value)) for value in values if value != 0), default=math.inf)


@dataclass(frozen=True)
class FixedPoint:
    """A fixed point. residual: the largest |f(x)| in units of the activity (times 1 ms), or |F(x) - x|."""

    state: Tensor
    residual: float
    evaluations: int


def fixed_point(
    dynamics: Dynamics,
    start: Tensor | None = None,
    *,
    method: Literal["anderson", "newton_krylov"] = "anderson",
    tolerance: float = 1e-8,
    iterations: int = 500,
) -> FixedPoint:
    """Solve f(x) = 0, or F(x) = x, from `start` (1, size), by default the initial state of a simulation.

    anderson       Anderson acceleration: a few products, good where plain iteration nearly converges
    newton_krylov  Newton's method with products J v only; finds unstable points too
    Both are SciPy's. Raises SolverError if the residual does not come below the tolerance: there may be no fixed point.
    """
    from scipy import optimize

    if method not in ("anderson", "newton_krylov"):
        raise SolverError(
            given=f"method={method!r}", expected="anderson or newton_krylov", remedy="write method='anderson'"
        )
    like = dynamics.start if start is None else start
    count = 0

    def residual(x: NDArray) -> NDArray:
        nonlocal count
        count += 1
        with torch.no_grad():
            now = torch.from_numpy(x).to(like)[None]
            moved = dynamics(now) if dynamics.network.is_flow else dynamics(now) - now
        return moved[0].double().cpu().numpy()

    found = like[0].detach().double().cpu().numpy()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about nearly singular steps: the residual decides
            if method == "anderson":
                mixing = _mixing(dynamics)
                found = optimize.anderson(residual, found, f_tol=tolerance, M=8, alpha=mixing, maxiter=iterations)
            else:
                found = optimize.newton_krylov(residual, found, f_tol=tolerance, maxiter=iterations)
    except (optimize.NoConvergence, ValueError, FloatingPointError):
        left = math.inf
    else:
        left = float(np.abs(residual(found)).max())
    if not left <= tolerance:
        other = "newton_krylov" if method == "anderson" else "anderson"
        raise SolverError(
            given=f"{dynamics.network.name!r}, whose residual is not below {tolerance:g} after {count} evaluations",
            expected="a fixed point that can be found from this start",
            remedy=f"write start=dynamics.flat(run.final.state) after a simulation, or method={other!r}; there may be "
            "only a cycle",
        )
    return FixedPoint(torch.from_numpy(found).to(like)[None], left, count)


def lyapunov_exponent(
    dynamics: Dynamics, solver: Solver, *, steps: int, settle: int = 0, start: Tensor | None = None, seed: int = 0
) -> float:
    """Return the largest Lyapunov exponent, per ms (of a map with Iterate(): per step): how fast neighbours separate.

    1 / (n dt) sum log |J_step v| / |v|, v carried along and kept at length one (Benettin et al. 1980), over `steps`
    steps after `settle` of them. Negative: a stable fixed point; zero: a limit cycle; positive: chaos.
    """
    x = dynamics.start if start is None else start
    v = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed), dtype=x.dtype).to(x)
    v, total = v / v.norm(), 0.0
    with torch.no_grad():
        for step in range(settle + steps):
            x, v = dynamics.pushed(x, v, solver)
            length = v.norm()
            v = v / length
            total += float(length.log()) if step >= settle else 0.0
    return total / (steps * (solver.dt if isinstance(solver, FlowSolver) else 1.0))


def largest_eigenvalue(
    operator: Callable[[Tensor], Tensor], shape: Shape, iterations: int = 500, seed: int = 0
) -> float:
    """Return lambda_max of a symmetric, positive linear `operator` on activities (1, *shape), by power iteration.

    The relative error is below (lambda_2 / lambda_max)^(2 iterations).
    """
    value = torch.randn(1, *shape, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        for _ in range(iterations):
            value = operator(value / value.norm())
    return float(value.norm())


def _arnoldi(dynamics: Dynamics, x: Tensor, count: int, which: str) -> NDArray:
    from scipy.sparse.linalg import LinearOperator, eigs

    def product(v: NDArray) -> NDArray:
        direction = torch.from_numpy(np.ascontiguousarray(v.ravel())).to(x)[None]
        with torch.no_grad():
            return dynamics.pushed(x, direction)[1][0].double().cpu().numpy()

    operator = LinearOperator((dynamics.size, dynamics.size), matvec=product, dtype=np.float64)
    first = np.random.default_rng(0).standard_normal(dynamics.size)
    return np.asarray(eigs(operator, k=min(count, dynamics.size - 2), which=which, v0=first, return_eigenvectors=False))


def _stability_function(solver: type[Solver]) -> Callable[[NDArray], NDArray]:
    """Return |R(z)|, R(z) = 1 + sum_k z^k b^T A^(k-1) 1 for an explicit Runge-Kutta method of tableau (A, b)."""
    if solver is Euler:
        return lambda z: np.abs(1 + z)
    if not issubclass(solver, RungeKutta):
        raise SolverError(
            given=f"the stability limit of {solver.__name__}",
            expected="Euler, Heun or RK4",
            remedy="pass pcsim.RK4: adaptive and exponential solvers have no stability limit of this kind",
        )
    rows, weights = solver(1.0).tableau
    a = np.zeros((len(weights), len(weights)))
    for number, row in enumerate(rows, 1):
        a[number, : len(row)] = row
    powers = [np.linalg.matrix_power(a, k).sum(1) @ np.array(weights) for k in range(len(weights))]
    return lambda z: np.abs(np.polyval([*powers[::-1], 1.0], z))


def _first_crossing(grows: Callable[[NDArray], NDArray], value: complex) -> float:
    """Return the first dt at which |R(dt lambda)| exceeds 1."""
    # On the imaginary axis |R| exceeds 1 by less than rounding at first: for Euler at once, for RK4 from 2.83 on.
    bound = 1.0 + 1e-12
    grid = np.linspace(0.0, 6.0, 1_201) / abs(value)
    beyond = np.flatnonzero(grows(grid * value) > bound)
    if not len(beyond):
        return math.inf
    low, high = grid[beyond[0] - 1], grid[beyond[0]]
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if grows(middle * value) > bound else (middle, high)
    return float(low)


def _mixing(dynamics: Dynamics) -> float:
    """Return how far Anderson's first steps go along f: for a flow by its fastest time constant, as Euler would."""
    if not dynamics.network.is_flow:
        return 1.0
    return 0.5 * min(rule.tau.smallest() for rule in dynamics.network.flows.values())
