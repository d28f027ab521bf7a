"""Jacobians, eigenvalues, stability limits, fixed points and exponents against NumPy, closed forms and solvers."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import pcsim
from pcsim import RK4, Clock, Euler, Heun, Iterate, Network, Population, Projection, Record, Snapshot, SolverError
from pcsim.analysis import convergence as c
from pcsim.dynamics import stability as s
from pcsim.rules import Flow, Map, leaky_rate
from pcsim.rules.time_constants import time_constant

NOTHING = torch.zeros(1, 1, dtype=torch.float64)


def recurrent(weights: np.ndarray, tau: np.ndarray, activation: str = "identity") -> Network:
    """tau dr/dt = -r + f(W r)."""
    size = len(weights)
    across, up = nn.Linear(size, size, bias=False), nn.Linear(1, size, bias=False)
    with torch.no_grad():
        across.weight.copy_(torch.from_numpy(weights)), up.weight.zero_()
    rule = leaky_rate(size, torch.from_numpy(tau), activation, bias=False)
    edges = [Projection("input", "r", up), Projection("r", "r", across, "lateral")]
    net = Network({"input": (1,)}, [Population("r", rule)], edges, readout="r").double()
    with torch.no_grad():
        across.weight.copy_(torch.from_numpy(weights))
    return net


def random_net(seed: int, size: int = 6, gain: float = 0.9) -> tuple[Network, np.ndarray]:
    """Return a stable linear network and its Jacobian."""
    generator = np.random.default_rng(seed)
    while True:
        weights, tau = gain * generator.normal(size=(size, size)) / math.sqrt(size), generator.uniform(5, 50, size)
        jacobian = (weights - np.eye(size)) / tau[:, None]
        if np.linalg.eigvals(jacobian).real.max() < -1e-3:
            return recurrent(weights, tau), jacobian


def test_jacobian_matches_equations() -> None:
    generator = np.random.default_rng(0)
    weights, tau = generator.normal(size=(7, 7)), generator.uniform(5, 50, 7)
    dynamics = s.Dynamics(recurrent(weights, tau, "tanh"), NOTHING)
    x = torch.from_numpy(generator.normal(size=(1, 7)))
    slope = 1 - np.tanh(weights @ x[0].numpy()) ** 2
    expected = (slope[:, None] * weights - np.eye(7)) / tau[:, None]
    assert np.abs(dynamics.jacobian(x).numpy() - expected).max() < 1e-13
    direction = torch.from_numpy(generator.normal(size=(1, 7)))
    assert np.allclose(dynamics.pushed(x, direction)[1].detach(), direction.numpy() @ expected.T, atol=1e-13)
    found, true = s.eigenvalues(dynamics, x), np.linalg.eigvals(expected)
    assert np.allclose(np.sort_complex(found), np.sort_complex(true)) and found[0].real == pytest.approx(
        true.real.max()
    )


@pytest.mark.parametrize("solver", [Euler, RK4])
def test_largest_stable_dt_from_few_eigenvalues_equals_all(solver: type[Euler]) -> None:
    net, jacobian = random_net(3, size=40, gain=0.7)
    dynamics = s.Dynamics(net, NOTHING)
    few = s.eigenvalues(dynamics, dynamics.start, 4, "largest")
    sizes = np.sort(np.abs(np.linalg.eigvals(jacobian)))[::-1]
    assert np.allclose(np.abs(few), sizes[:4])
    bound = s.largest_stable_dt(few, solver)
    assert bound == pytest.approx(s.largest_stable_dt(s.eigenvalues(dynamics, dynamics.start), solver), rel=1e-9)
    leading = s.largest_stable_dt(s.eigenvalues(dynamics, dynamics.start, 4), solver)
    assert leading > 2 * bound, "the rightmost eigenvalues are slow and must not limit dt"


def conditioned(net: Network) -> Network:
    """Set double-precision orthogonal weights; nearly singular directions would settle too slowly."""
    for weights in net.parameters():
        if weights.dim() == 2:
            nn.init.orthogonal_(weights, 1.2)
    return net.double()


MODELS: dict[str, Callable[[], tuple[Network, Tensor]]] = {
    "leaky_rcnn": lambda: (pcsim.models.leaky_rcnn((2, 3), tau=(10.0, 20.0), image=(1, 8, 8)), torch.rand(1, 1, 8, 8)),
    "predictive_coding": lambda: (pcsim.models.predictive_coding(((1, 4, 4), (6,), (3,))), torch.rand(1, 1, 4, 4)),
}


@pytest.mark.parametrize("name", ["leaky_rcnn", "predictive_coding"])
def test_fixed_point_matches_settled_simulation(name: str) -> None:
    torch.manual_seed(1)
    net, image = MODELS[name]()
    net, image = conditioned(net), image.double()
    dynamics = s.Dynamics(net, image)
    settled = pcsim.simulate(net, image, solver=RK4(dt=2.0), until=8_000.0).final.state
    for method in ("anderson", "newton_krylov"):
        point = s.fixed_point(dynamics, method=method, tolerance=1e-11)
        assert point.residual <= 1e-11 and float(dynamics(point.state).detach().abs().max()) <= 1e-11
        assert torch.allclose(point.state, dynamics.flat(settled), atol=1e-7)
    assert s.is_stable(dynamics, point.state)
    few, every = s.eigenvalues(dynamics, point.state, 3), s.eigenvalues(dynamics, point.state)
    assert np.allclose(few[:3].real, every[:3].real, rtol=1e-6), "Arnoldi and LAPACK must agree on leading eigenvalues"


@pytest.mark.parametrize("solver", [Euler, RK4])
def test_largest_stable_dt_within_one_percent_in_200_nets(solver: type[Euler]) -> None:
    """Take 2^17 steps just below and just above the limit, by squaring the solver's one-step matrix 17 times."""
    for seed in range(200):
        net, jacobian = random_net(seed)
        border = s.largest_stable_dt(np.linalg.eigvals(jacobian), solver)
        dynamics = s.Dynamics(net, NOTHING)
        for share, grows in ((0.99, False), (1.01, True)):
            step = dynamics.step(torch.eye(6, dtype=torch.float64), solver(share * border)).detach().numpy()
            for _ in range(17):
                step = step @ step
                if not np.isfinite(step).all() or np.abs(step).max() > 1e100:
                    break
            assert (not np.abs(step).max() < 1.0) == grows, (seed, share, border)


@pytest.mark.filterwarnings("ignore:dt = .* is larger than the tau")
@pytest.mark.parametrize("solver", [Euler, RK4])
def test_simulation_grows_only_above_largest_stable_dt(solver: type[Euler]) -> None:
    checked = 0
    for seed in range(4):
        net, jacobian = random_net(seed, gain=-0.9)
        border = s.largest_stable_dt(np.linalg.eigvals(jacobian), solver)
        if 1.03 * border >= solver(1.0).stability_limit * net.flows["r"].tau.smallest():
            continue  # simulate refuses this step because of the leak alone
        for share, grows in ((0.97, False), (1.03, True)):
            begin = Snapshot(Clock(share * border), {"r": torch.ones(1, 6, dtype=torch.float64)})
            run = pcsim.simulate(net, NOTHING, solver=solver(share * border), until=600 * share * border, start=begin)
            assert (float(run["r"][-1].norm()) > float(run["r"][299].norm())) == grows
        checked += 1
    assert checked >= 2, "the limit of some networks must lie below that of the leak"


def test_largest_stable_dt_on_axes_matches_known_limits() -> None:
    leak, ring = np.array([-0.1 + 0j]), np.array([0.1j, -0.1j])
    assert s.largest_stable_dt(leak, Euler) == pytest.approx(20.0)
    assert s.largest_stable_dt(leak, RK4) == pytest.approx(27.8529, abs=1e-3)
    assert s.largest_stable_dt(ring, RK4) == pytest.approx(10 * 2 * math.sqrt(2), rel=1e-5)
    assert s.largest_stable_dt(ring, Euler) == pytest.approx(0.0, abs=0.06)
    assert s.largest_stable_dt(np.array([0.01 + 1j]), RK4) == 0.0, "an unstable fixed point has no stable dt"
    with pytest.raises(SolverError, match="Euler, Heun or RK4"):
        s.largest_stable_dt(leak, pcsim.ExponentialEuler)


def test_fit_rate_of_predictive_coding_matches_eigenvalues() -> None:
    """In two linear layers, distance decays at an eigenvector's own rate along it, elsewhere finally at the slowest."""
    torch.manual_seed(0)
    net = conditioned(pcsim.models.predictive_coding(((1, 2, 2), (4,), (3,)), tau=(10.0, 20.0, 30.0)))
    image = torch.rand(1, 1, 2, 2).double()
    dynamics = s.Dynamics(net, image)
    point = s.fixed_point(dynamics, method="newton_krylov", tolerance=1e-12)
    values, vectors = np.linalg.eig(dynamics.jacobian(point.state).detach().numpy())
    assert np.abs(values.imag).max() < 1e-12 and len(values) == 7 and len(set(np.round(values.real, 6))) > 2

    def distances(begin: torch.Tensor, dt: float) -> tuple[np.ndarray, np.ndarray]:
        start = Snapshot(Clock(dt), dynamics.named(begin))
        record = Record(states=list(start.state))
        run = pcsim.simulate(net, image, solver=RK4(dt=dt), until=400 * dt, start=start, record=record)
        states = [dynamics.flat({name: run[name][step] for name in start.state}) for step in range(400)]
        return run.times, np.array([float((state - point.state).norm()) for state in states])

    for value, vector in zip(values.real, vectors.real.T, strict=True):
        fit = c.fit_rate(*distances(point.state + torch.from_numpy(vector)[None], 0.01 / -value))
        assert fit.rate == pytest.approx(-value, rel=0.01)
    slowest = float(-values.real.max())
    times, away = distances(dynamics.start, 0.05 / slowest)
    assert c.fit_rate(times, away, start=8 / slowest).rate == pytest.approx(slowest, rel=0.01)


class Logistic(Map):
    """x <- 4 x (1 - x), with the Lyapunov exponent ln 2 (Ulam & von Neumann 1947)."""

    def forward(self, own: Tensor, *, drive: Tensor) -> Tensor:
        return 4.0 * own * (1.0 - own)


class Lorenz(Flow):
    """Lorenz 1963 at sigma = 10, rho = 28, beta = 8/3, with the largest exponent 0.9056 (Sprott 2003)."""

    def __init__(self) -> None:
        super().__init__()
        self.tau = time_constant(1.0)

    def forward(self, own: Tensor, *, drive: Tensor) -> Tensor:
        x, y, z = own.unbind(1)
        return torch.stack([10.0 * (y - x), x * (28.0 - z) - y, x * y - 8.0 / 3.0 * z], 1)


def alone(rule: Map | Flow, size: int) -> s.Dynamics:
    net = Network({"input": (1,)}, [Population("x", rule, (size,))], [Projection("input", "x", nn.Linear(1, size))])
    return s.Dynamics(net.double(), NOTHING)


def test_lyapunov_exponent_of_linear_net_and_logistic_map() -> None:
    weights = np.random.default_rng(0).normal(size=(4, 4)) / 4
    net = recurrent(weights + weights.T, np.full(4, 10.0))
    leading = (np.linalg.eigvalsh(weights + weights.T).max() - 1) / 10
    found = s.lyapunov_exponent(s.Dynamics(net, NOTHING), Heun(0.5), steps=300, settle=700)
    assert found == pytest.approx(leading, rel=0.01)
    begin = torch.full((1, 1), 0.1234, dtype=torch.float64)
    chaos = s.lyapunov_exponent(alone(Logistic(), 1), Iterate(), steps=2_000, start=begin)
    assert chaos == pytest.approx(math.log(2.0), abs=0.02)


@pytest.mark.slow
@pytest.mark.timeout(1_800)
def test_lyapunov_exponent_of_lorenz_system() -> None:
    begin = torch.ones(1, 3, dtype=torch.float64)
    found = s.lyapunov_exponent(alone(Lorenz(), 3), RK4(0.01), steps=60_000, settle=2_000, start=begin)
    assert found == pytest.approx(0.9056, abs=0.02)


def test_stability_rejects_invalid_arguments() -> None:
    net, _ = random_net(0)
    with pytest.raises(SolverError, match="a single sample, because each has its own"):
        s.Dynamics(net, torch.zeros(2, 1, dtype=torch.float64))
    with pytest.raises(SolverError, match="only on its current state"):
        s.Dynamics(net.without("lateral", during=(0.0, 5.0)), NOTHING)
    growing = s.Dynamics(recurrent(np.array([[0.0, 2.0], [-2.0, 0.0]]), np.full(2, 10.0), "tanh"), NOTHING)
    assert not s.is_stable(s.Dynamics(recurrent(2 * np.eye(2), np.full(2, 10.0)), NOTHING), torch.zeros(1, 2).double())
    with pytest.raises(SolverError, match="one of 'anderson', 'newton_krylov'"):
        s.fixed_point(growing, method="newton")
    never = alone(Logistic(), 1)
    with pytest.raises(SolverError, match="residual"):
        s.fixed_point(alone(Rising(), 1), iterations=50)
    assert float(s.fixed_point(never, torch.full((1, 1), 0.6).double(), method="newton_krylov").state) == pytest.approx(
        0.75
    )


class Rising(Map):
    """x <- x + 1, which has no fixed point."""

    def forward(self, own: Tensor, *, drive: Tensor) -> Tensor:
        return own + 1.0


def test_states_of_a_run_are_accepted_as_they_are(float64: None) -> None:
    torch.manual_seed(0)
    net, image = pcsim.models.predictive_coding(((7,), (5,), (3,)), tau=10.0), torch.rand(1, 7)
    state = pcsim.simulate(net, image, solver=pcsim.Euler(1.0), until=50.0).final.state
    dynamics = s.Dynamics(net, image)
    assert np.array_equal(s.eigenvalues(dynamics, state), s.eigenvalues(dynamics, dynamics.flat(state)))
    assert s.is_stable(dynamics, state)
    assert torch.equal(s.fixed_point(dynamics, state).state, s.fixed_point(dynamics, dynamics.flat(state)).state)
    with pytest.raises(pcsim.SolverError, match="without r1, r2"):
        s.eigenvalues(dynamics, {"v1": torch.rand(1, 3)})
    with pytest.raises(pcsim.SolverError, match="one state"):
        s.eigenvalues(dynamics, {name: value.repeat(2, 1) for name, value in state.items()})
