"""Stability of a network under a constant stimulus, treating the state of the network as a single vector.

flow  dx/dt = f(x),  J = df/dx per ms       a fixed point is stable if every Re(lambda) < 0
map   x <- F(x),     J = dF/dx per step     a fixed point is stable if every |lambda| < 1

dynamics = Dynamics(net, image)              one sample; use double precision: net.double()
point = fixed_point(dynamics)                Anderson acceleration or Newton-Krylov; the residual is checked
values = eigenvalues(dynamics, point.state)
largest_stable_dt(values, pcsim.RK4)         with a larger dt, RK4 leaves this fixed point
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcsim.core.checks import Axes, Count, Positive, Whole, checked
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
"""largest state size for which all eigenvalues are computed"""
CHUNK = 256


@checked(SolverError)
class Dynamics:
    """The dynamics of a network under its stimulus at `at` ms: `dynamics(x)` is dx/dt per ms, or a map's next x.

    The stimulus is held constant. x has shape (n, size): n states, each of which concatenates the variables of all
    populations with memory. `start` is the initial state of a simulation. `flat` and `named` convert states to vectors
    and back.

    Raises SolverError for more than one sample, for conduction delays (which add past values to the state), and for
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
                expected="a single sample, because each has its own fixed point and eigenvalues",
                remedy="loop over the samples and pass, for example, images[:1]",
            )
        self.network, self._shown, self._solver = wiring, shown, solver
        self._plans: dict[Solver, Plan] = {}
        self._shapes = {name: value.shape[1:] for name, value in carry.state.items()}
        self.start = self.flat(carry.state)

    @property
    def size(self) -> int:
        """Number of values in a state vector."""
        return self.start.shape[1]

    def flat(self, state: State) -> Tensor:
        """Concatenate the variables of a state to (n, size)."""
        return torch.cat([state[name].flatten(1) for name in self._shapes], 1)

    def named(self, x: Tensor) -> State:
        """Split x (n, size) into its variables, such as (n, channel, height, width)."""
        parts = x.split([math.prod(shape) for shape in self._shapes.values()], 1)
        named = zip(self._shapes.items(), parts, strict=True)
        return {name: part.reshape(len(x), *shape) for (name, shape), part in named}

    def __call__(self, x: Tensor) -> Tensor:
        """Return dx/dt per ms of a flow, or the next x of a map: (n, size) -> (n, size)."""
        if not self.network.is_flow:
            return self.step(x, self._solver)
        plan, inputs = self._plan(self._rates), self._inputs(len(x))
        return self.flat(plan.evaluate(plan.rates(), plan.precompute(inputs), self.named(x)))

    def step(self, x: Tensor, solver: Solver) -> Tensor:
        """Return the state after one step of `solver`: (n, size) -> (n, size)."""
        plan, inputs = self._plan(solver), self._inputs(len(x))
        return self.flat(plan.step(plan.precompute(inputs), self.named(x)))

    @property
    def _rates(self) -> Solver:
        """A multi-stage solver; its plans precompute time constants instead of their ratios to a step."""
        return Heun(1.0)

    def _plan(self, solver: Solver) -> Plan:
        if solver not in self._plans:
            self._plans[solver] = Plan(self.network, self._regime, solver)
        return self._plans[solver]

    def pushed(self, x: Tensor, direction: Tensor, solver: Solver | None = None) -> tuple[Tensor, Tensor]:
        """Return (f(x), J(x) direction), both (n, size). If a solver is given, f is one step of this solver."""
        function: Callable[[Tensor], Tensor] = self if solver is None else lambda y: self.step(y, solver)
        with warnings.catch_warnings():
            # The first forward-mode product in torch uses a function that torch itself has deprecated.
            warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", DeprecationWarning)
            value, product, *_ = torch.func.jvp(function, (x,), (direction,))
        return value, product

    def jacobian(self, x: Tensor) -> Tensor:
        """Return the Jacobian J (size, size) at x (1, size)."""
        every = torch.eye(self.size, dtype=x.dtype, device=x.device)
        with torch.no_grad():
            columns = [self.pushed(x.repeat(len(part), 1), part)[1] for part in every.split(CHUNK)]
        return torch.cat(columns).T

    def _inputs(self, count: int) -> State:
        return {name: value.expand(count, *value.shape[1:]) for name, value in self._shown.items()}


@checked(SolverError)
def eigenvalues(
    dynamics: Dynamics, x: Tensor | State, count: Count | None = None, which: Literal["leading", "largest"] = "leading"
) -> NDArray[np.complex128]:
    """Return the eigenvalues of J at x, (1, size) or a one-sample state such as run.final.state, in 1/ms for a flow.

    leading  sort by real part for a flow and by modulus for a map; the first eigenvalues determine stability
    largest  sort by modulus; the largest eigenvalues limit the dt of an explicit solver

    Up to a size of 1,024, all eigenvalues are computed. For larger states, or if `count` is given, `count` eigenvalues
    (default 6) are computed by Arnoldi iteration (SciPy's ARPACK), which needs only Jacobian-vector products.
    """
    x = _one_state(dynamics, x)
    by_real_part = dynamics.network.is_flow and which == "leading"
    if count is None and dynamics.size <= DENSE:
        values = np.linalg.eigvals(dynamics.jacobian(x).double().cpu().numpy())
    else:
        values = _arnoldi(dynamics, x, count or 6, "LR" if by_real_part else "LM")
    leading = -values.real if by_real_part else -np.abs(values)
    return values[np.argsort(leading, kind="stable")].astype(np.complex128)


@checked(SolverError)
def is_stable(dynamics: Dynamics, x: Tensor | State) -> bool:
    """Return True if the fixed point x attracts nearby states; x is (1, size) or the state of one sample."""
    leading = eigenvalues(dynamics, x)[0]
    return bool(leading.real < 0 if dynamics.network.is_flow else abs(leading) < 1)


@checked(SolverError)
def largest_stable_dt(
    values: Annotated[NDArray[np.complex128], Axes("eigenvalue", is_float=False)], solver: type[Solver]
) -> float:
    """Return the largest dt in ms with |R(dt lambda)| <= 1 for all eigenvalues (R is the stability function).

    values  all eigenvalues, or the largest ones; the leading eigenvalues alone do not determine the limit
    solver  the class Euler, Heun or RK4

    The result is 0 if an eigenvalue has a positive real part, because the fixed point itself is then unstable. Raises
    SolverError for solvers without such a limit.
    """
    grows = _stability_function(solver)
    if (values.real > 0).any():
        return 0.0
    return min((_first_crossing(grows, complex(value)) for value in values if value != 0), default=math.inf)


@dataclass(frozen=True)
class FixedPoint:
    """A fixed point. `residual` is the largest |f(x)| times 1 ms for a flow, or |F(x) - x| for a map."""

    state: Tensor
    residual: float
    evaluations: int


@checked(SolverError)
def fixed_point(
    dynamics: Dynamics,
    start: Tensor | State | None = None,
    *,
    method: Literal["anderson", "newton_krylov"] = "anderson",
    tolerance: Positive = 1e-8,
    iterations: Count = 500,
) -> FixedPoint:
    """Solve f(x) = 0, or F(x) = x, starting from `start` (1, size), by default the initial state of a simulation.

    anderson       Anderson acceleration: needs few evaluations if plain iteration almost converges
    newton_krylov  Newton's method based on products J v; also finds unstable fixed points

    Both methods are implemented in SciPy. Raises SolverError if the residual stays above the tolerance, for example
    because there is no fixed point.
    """
    from scipy import optimize

    like = dynamics.start if start is None else _one_state(dynamics, start)
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
            warnings.simplefilter("ignore")  # for nearly singular steps; the residual is checked below
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
            given=f"{dynamics.network.name!r}, whose residual is above {tolerance:g} after {count} evaluations",
            expected="a fixed point that can be reached from this initial state",
            remedy=f"pass start=dynamics.flat(run.final.state) from a simulation, or method={other!r}; the network may "
            "have only a limit cycle",
        )
    return FixedPoint(torch.from_numpy(found).to(like)[None], left, count)


@checked(SolverError)
def lyapunov_exponent(
    dynamics: Dynamics,
    solver: Solver,
    *,
    steps: Count,
    settle: Whole = 0,
    start: Tensor | State | None = None,
    seed: int = 0,
) -> float:
    """Return the largest Lyapunov exponent, the rate at which nearby states separate, per ms (per step with Iterate()).

    The exponent is 1 / (n dt) sum log |J_step v| / |v| over `steps` steps, after the first `settle` steps. Here v
    follows the linearised dynamics and is normalised after every step (Benettin et al. 1980). A negative exponent
    indicates a stable fixed point, zero a limit cycle, and a positive exponent chaos.
    """
    x = dynamics.start if start is None else _one_state(dynamics, start)
    v = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed), dtype=x.dtype).to(x)
    v, total = v / v.norm(), 0.0
    with torch.no_grad():
        for step in range(settle + steps):
            x, v = dynamics.pushed(x, v, solver)
            length = v.norm()
            v = v / length
            total += float(length.log()) if step >= settle else 0.0
    return total / (steps * (solver.dt if isinstance(solver, FlowSolver) else 1.0))


@checked(SolverError)
def largest_eigenvalue(
    operator: Callable[[Tensor], Tensor], shape: Shape, iterations: Count = 500, seed: int = 0
) -> float:
    """Return lambda_max of a symmetric, positive linear `operator` on activities (1, *shape), by power iteration.

    The relative error is below (lambda_2 / lambda_max)^(2 iterations).
    """
    value = torch.randn(1, *shape, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        for _ in range(iterations):
            value = operator(value / value.norm())
    return float(value.norm())


def _one_state(dynamics: Dynamics, x: Tensor | State) -> Tensor:
    """Return x as a vector. Raises SolverError unless it is one state of the dynamics, (1, size), and finite."""
    wanted = dynamics.start
    if not isinstance(x, Tensor):
        missing = [name for name in dynamics.named(wanted) if name not in x]
        if missing:
            raise SolverError(
                given=f"a state of {', '.join(x) or 'nothing'}, without {', '.join(missing)}",
                expected=f"a state of {dynamics.network.name!r}",
                remedy="pass run.final.state from a run of this network with one sample",
            )
        x = dynamics.flat(x)
    if x.shape != wanted.shape or x.dtype != wanted.dtype or not bool(torch.isfinite(x).all()):
        raise SolverError(
            given=f"a state of shape {tuple(x.shape)} and type {x.dtype}",
            expected=f"one state (1, {dynamics.size}) of type {wanted.dtype}, with finite values",
            remedy="pass dynamics.start, or dynamics.flat(run.final.state) from a run with one sample",
        )
    return x


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
    """Return |R(z)| of an explicit Runge-Kutta method with tableau (A, b): R(z) = 1 + sum_k z^k b^T A^(k-1) 1."""
    if solver is Euler:
        return lambda z: np.abs(1 + z)
    if not issubclass(solver, RungeKutta):
        raise SolverError(
            given=f"the stability limit of {solver.__name__}",
            expected="Euler, Heun or RK4",
            remedy="pass pcsim.RK4; adaptive and exponential solvers have no stability limit of this kind",
        )
    rows, weights = solver(1.0).tableau
    a = np.zeros((len(weights), len(weights)))
    for number, row in enumerate(rows, 1):
        a[number, : len(row)] = row
    powers = [np.linalg.matrix_power(a, k).sum(1) @ np.array(weights) for k in range(len(weights))]
    return lambda z: np.abs(np.polyval([*powers[::-1], 1.0], z))


def _first_crossing(grows: Callable[[NDArray], NDArray], value: complex) -> float:
    """Return the first dt at which |R(dt lambda)| exceeds 1."""
    # On the imaginary axis, |R| exceeds 1 beyond 0 for Euler and beyond 2.83 for RK4, at first by less than the
    # rounding error.
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
    """Return the initial step length of Anderson acceleration along f: for a flow, half the smallest time constant."""
    if not dynamics.network.is_flow:
        return 1.0
    return 0.5 * min(rule.tau.smallest() for rule in dynamics.network.flows.values())


__all__ = [
    "Dynamics",
    "FixedPoint",
    "eigenvalues",
    "fixed_point",
    "is_stable",
    "largest_eigenvalue",
    "largest_stable_dt",
    "lyapunov_exponent",
]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
