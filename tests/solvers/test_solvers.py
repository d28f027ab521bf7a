"""Solvers against closed forms, the matrix exponential, SciPy and equivalent maps."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from support import tolerances
from support.examples import dense, leaky_net, linear_pc, two_layers
from torch import Tensor

import pcsim
from pcsim import (
    RK4,
    Dopri5,
    Euler,
    ExponentialEuler,
    Heun,
    Iterate,
    Network,
    PcsimWarning,
    Population,
    Projection,
    Record,
    SolverError,
    TorchDiffEq,
    simulate,
)
from pcsim.rules import LearnableTau, leaky_rate
from pcsim.simulation.plan import Plan
from pcsim.simulation.regime import Regime
from pcsim.solvers import ADAPTIVE, FIXED, dopri5
from pcsim.training import Adjoint, Full

pytestmark = pytest.mark.usefixtures("float64")
SOLVERS = {"Euler": Euler, "Heun": Heun, "RK4": RK4, "ExponentialEuler": ExponentialEuler}


def end_state(net: Network, shown: Tensor, solver: pcsim.solvers.Solver, until: float) -> Tensor:
    name = net.memories[-1]
    return simulate(net, shown, solver=solver, until=until, record=Record(states=[name]))[name][-1]


def scipy_end(net: Network, shown: Tensor, until: float) -> Tensor:
    """Solve the same equations, written in NumPy, by SciPy's DOP853 at 1e-10."""
    weights = {edge.name: edge.transform.weight.detach().numpy() for edge in net.projections}
    drive = shown.numpy() @ weights["u->r"].T

    def rate(_: float, r: np.ndarray) -> np.ndarray:
        rates = r.reshape(drive.shape)
        return ((np.tanh(rates @ weights["r->r"].T + drive) - rates) / 10.0).ravel()

    found = solve_ivp(rate, (0, until), np.zeros(drive.size), method="DOP853", rtol=1e-10, atol=1e-12)
    return torch.from_numpy(found.y[:, -1].reshape(drive.shape))


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("seed", range(3))
def test_solver_order_on_nonlinear_network(name: str, seed: int) -> None:
    torch.manual_seed(seed)
    net, shown = leaky_net(), torch.randn(3, 16)
    exact = scipy_end(net, shown, 20.0) if name != "RK4" else end_state(net, shown, RK4(dt=10 / 512), 20.0)
    ratios = [16, 32, 64, 128] if name != "RK4" else [8, 16, 32, 64]
    gaps = [float((end_state(net, shown, SOLVERS[name](dt=10 / n), 20.0) - exact).abs().max()) for n in ratios]
    nominal, allowed = tolerances.ORDERS[name]
    slopes = -np.diff(np.log2(gaps))
    assert np.all(np.abs(slopes - nominal) <= allowed), slopes


@pytest.mark.parametrize(
    ("name", "bound"), [("Euler", 1e-2), ("Heun", 2e-4), ("RK4", 1e-8), ("ExponentialEuler", 1e-2)]
)
def test_solver_agrees_with_scipy_within_bound(name: str, bound: float) -> None:
    net, shown = leaky_net(), torch.randn(3, 16)
    gap = end_state(net, shown, SOLVERS[name](dt=10 / 64), 20.0) - scipy_end(net, shown, 20.0)
    assert float(gap.abs().max()) < bound


@pytest.mark.parametrize("name", ["Euler", "Heun", "RK4"])
def test_solver_order_against_matrix_exponential(name: str) -> None:
    net, shown = leaky_net(activation="identity"), torch.randn(2, 16)
    weights = {edge.name: edge.transform.weight.detach() for edge in net.projections}
    matrix = (weights["r->r"] - torch.eye(16)) / 10.0
    drive = shown @ weights["u->r"].T / 10.0
    exact = torch.linalg.solve(matrix, (torch.matrix_exp(20.0 * matrix) - torch.eye(16)) @ drive.T).T
    gaps = [float((end_state(net, shown, SOLVERS[name](dt=10 / n), 20.0) - exact).abs().max()) for n in (32, 64)]
    nominal, allowed = tolerances.ORDERS[name]
    assert abs(math.log2(gaps[0] / gaps[1]) - nominal) <= allowed


@pytest.mark.parametrize("dt", [0.1, 1.0, 10.0, 100.0])
def test_exponential_euler_exact_for_constant_drive(dt: float) -> None:
    net = Network(
        {"u": (5,)},
        [Population("r", leaky_rate(5, torch.tensor([2.0, 5.0, 10.0, 20.0, 40.0]), "identity", bias=False))],
        [Projection("u", "r")],
    )
    shown = torch.randn(4, 5)
    record = Record(states=["r"])
    run = simulate(net, shown, solver=ExponentialEuler(dt=dt), until=10 * dt, record=record)
    tau = torch.tensor([2.0, 5.0, 10.0, 20.0, 40.0])
    exact = shown * -torch.expm1(-torch.from_numpy(run.times)[:, None, None] / tau)
    assert torch.allclose(run["r"], exact, rtol=tolerances.EXACT_ON_HELD_DRIVE, atol=tolerances.EXACT_ON_HELD_DRIVE)


@pytest.mark.parametrize("model", ["blt_b", "blt_bk", "blt_bl", "blt_bt", "blt"])
@pytest.mark.parametrize("unroll", ["engineering", "biological"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_euler_at_tau_equals_map(model: str, unroll: str, dtype: torch.dtype) -> None:
    net = pcsim.models.build(model, channels=(4, 4), unroll=unroll).to(dtype)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, 0.0, 0.1)
    images, record = torch.rand(2, 1, 32, 32).to(dtype), Record(states=["l1", "l2", "readout"])
    steps = simulate(net, images, solver=Iterate(), steps=5, record=record)
    flow = simulate(net.as_ode(tau=7.0), images, solver=Euler(dt=7.0), until=35.0, record=record)
    for name in ("l1", "l2", "readout"):
        ulp = torch.finfo(dtype).eps * steps[name].abs().clamp_min(torch.finfo(dtype).tiny)
        assert ((flow[name] - steps[name]).abs() <= tolerances.ULPS_MAP_EQUALS_EULER * ulp).all()


def test_unrollings_equal_under_rk4_and_converge_under_euler() -> None:
    images, readouts, sweeps = torch.rand(2, 1, 32, 32), [], []
    for unroll in ("engineering", "biological"):
        torch.manual_seed(1)
        flow = pcsim.models.blt(channels=(4, 4), unroll=unroll).as_ode(tau=10.0)
        readouts.append(simulate(flow, images, solver=RK4(dt=5.0), until=40.0)["readout"])
        sweeps.append([simulate(flow, images, solver=Euler(dt=d), until=40.0)["readout"][-1] for d in (0.5, 0.25)])
    assert torch.equal(*readouts)
    gaps = [float((a - b).abs().max()) for a, b in zip(*sweeps, strict=True)]
    assert gaps[0] > 0 and gaps[1] / gaps[0] == pytest.approx(0.5, abs=0.05)


def test_leaky_rcnn_equals_rcnn_as_ode() -> None:
    shown, flow = torch.randn(3, 16), leaky_net()
    weights = {edge.name: edge.transform for edge in flow.projections}
    discrete = Network(
        {"u": (16,)},
        [Population("r", pcsim.rules.Rate(16, "tanh", bias=False))],
        [Projection("u", "r", weights["u->r"]), Projection("r", "r", weights["r->r"], kind="lateral", delay=1)],
    )
    for solver in (Euler(dt=1.0), RK4(dt=2.0)):
        assert torch.equal(
            end_state(flow, shown, solver, 40.0), end_state(discrete.as_ode(tau=10.0), shown, solver, 40.0)
        )


@pytest.mark.parametrize(("solver", "border"), [(Euler, 2.0), (Heun, 2.0), (RK4, 2.785)])
def test_stability_limit_is_where_leak_grows(solver: type, border: float) -> None:
    net = Network({"u": (1,)}, [Population("r", leaky_rate(1, 10.0, "identity", bias=False))], [Projection("u", "r")])
    state = {"r": torch.ones(1, 1)}
    for ratio, grows in ((0.995, False), (1.005, True)):
        here, plan = dict(state), Plan(net.wiring(), Regime(), solver(dt=10 * border * ratio))
        held = plan.precompute({"u": torch.zeros(1, 1)})
        for _ in range(4000):
            here = plan.step(held, here)
        assert bool(here["r"].abs() > 1.0) is grows


@pytest.mark.parametrize(("solver", "border"), [(Euler, 20.0), (Heun, 20.0), (RK4, 27.85)])
def test_stability_limit_refused_and_overshoot_warned(solver: type, border: float) -> None:
    net, shown = leaky_net(), torch.randn(1, 16)
    for dt in (border, 2 * border):
        with pytest.raises(SolverError, match="the stability limit"):
            simulate(net, shown, solver=solver(dt=dt), until=4 * dt)
    with pytest.warns(PcsimWarning, match="overshoots"):
        simulate(net, shown, solver=solver(dt=15.0), until=30.0)
    simulate(net, shown, solver=solver(dt=10.0), until=20.0)


@pytest.mark.parametrize("method", FIXED)
def test_torchdiffeq_stability_limit_is_where_leak_grows(method: str) -> None:
    net = Network({"u": (1,)}, [Population("r", leaky_rate(1, 10.0, "identity", bias=False))], [Projection("u", "r")])
    for ratio, grows in ((0.995, False), (1.005, True)):
        solver = pcsim.TorchDiffEq(10 * FIXED[method] * ratio, method)
        here, plan = {"r": torch.ones(1, 1)}, Plan(net.wiring(), Regime(), solver)
        held = plan.precompute({"u": torch.zeros(1, 1)})
        for _ in range(1500):
            here = plan.step(held, here)
        assert bool(here["r"].abs() > 1.0) is grows


@pytest.mark.parametrize("method", ["explicit_adams", "implicit_adams", "fixed_adams"])
def test_torchdiffeq_refuses_multistep_methods(method: str) -> None:
    """A single step of an Adams method is the Runge-Kutta step that fills its history."""
    from torchdiffeq import odeint

    start, times = torch.ones(1), torch.tensor([0.0, 0.5])
    one, other = (odeint(lambda t, r: -r, start, times, method=name)[-1] for name in (method, "rk4"))
    assert torch.equal(one, other)
    with pytest.raises(SolverError, match="(?s)every step starts afresh.*method='rk4'"):
        pcsim.TorchDiffEq(1.0, method)


@pytest.mark.parametrize("solver", [pcsim.TorchDiffEq(1.0, "rk4"), pcsim.Dopri5(1.0, 1e-5, 1e-7)])
def test_refusal_of_delays_names_solvers_that_support_them(solver: pcsim.solvers.FlowSolver) -> None:
    net = leaky_net(4)
    edges = [replace(edge, delay_ms=3.0) if edge.source not in net.inputs else edge for edge in net.projections]
    delayed = Network(net.inputs, tuple(net.populations.values()), edges)
    with pytest.raises(SolverError, match="conduction delays") as refusal:
        simulate(delayed, torch.rand(1, 4), solver=solver, until=5.0)
    assert "adaptive" not in str(refusal.value) and "RK4" in refusal.value.expected
    for name in ("Euler", "ExponentialEuler", "Heun", "RK4"):
        assert name in refusal.value.expected
        simulate(delayed, torch.rand(1, 4), solver=getattr(pcsim, name)(1.0), until=5.0)


@pytest.mark.parametrize("method", [*ADAPTIVE, *FIXED])
def test_torchdiffeq_methods_agree_with_scipy(method: str) -> None:
    net, shown = leaky_net(), torch.randn(2, 16)
    if method in ADAPTIVE:
        solver, bound = TorchDiffEq(dt=2.0, method=method, rtol=1e-7, atol=1e-8), tolerances.ADAPTIVE[method]
    else:
        solver, bound = TorchDiffEq(dt=0.5, method=method), 2e-2
    assert float((end_state(net, shown, solver, 20.0) - scipy_end(net, shown, 20.0)).abs().max()) < bound


def test_dopri5_matches_scipy_coefficients_and_tolerance() -> None:
    from scipy.integrate import RK45

    for row, theirs in zip(dopri5.STAGES, [*RK45.A[1:], RK45.B], strict=True):
        assert np.allclose([*row, *(0.0,) * (len(theirs) - len(row))], theirs, rtol=0, atol=1e-15)
    assert np.allclose(np.abs(dopri5.ERROR), np.abs(RK45.E), rtol=0, atol=1e-15)
    net, shown = leaky_net(), torch.randn(3, 16)
    shown[0] *= 5.0
    for rtol in (1e-3, 1e-6, 1e-9):
        for dt in (2.0, 20.0):  # ten step ends to hit, or one
            solver = Dopri5(dt=dt, rtol=rtol, atol=rtol)
            off = (end_state(net, shown, solver, 20.0) - scipy_end(net, shown, 20.0)).abs().amax(1)
            assert float(off.max()) < 10 * rtol  # measured: up to 0.5 rtol
    alone = end_state(net, shown[1:2], Dopri5(dt=20.0, rtol=1e-6, atol=1e-6), 20.0)
    together = end_state(net, shown, Dopri5(dt=20.0, rtol=1e-6, atol=1e-6), 20.0)[1:2]
    assert float((alone - together).abs().max()) < 1e-14, "each sample must have its own steps"


def test_dopri5_evaluation_limit_and_gradients() -> None:
    net, shown = leaky_net(), torch.randn(2, 16)
    with pytest.raises(SolverError, match="were not enough"):
        simulate(net, shown, solver=Dopri5(dt=20.0, rtol=1e-10, atol=1e-10, max_evaluations=20), until=20.0)
    with pytest.raises(SolverError, match="both tolerances"):
        Dopri5(dt=1.0)
    found = []
    for solver in (Dopri5(dt=10.0, rtol=1e-9, atol=1e-9), RK4(dt=0.1)):
        net.zero_grad()
        *_, (_, state) = pcsim.rollout(net, shown, solver, round(10.0 / solver.dt))
        state["r"].square().sum().backward()
        found.append(torch.cat([p.grad.flatten() for p in net.parameters()]))
    assert torch.allclose(*found, rtol=1e-6, atol=1e-8)


def test_torchdiffeq_euler_equals_own_euler() -> None:
    net, shown = leaky_net(), torch.randn(2, 16)
    ours, theirs = Euler(dt=1.0), TorchDiffEq(dt=1.0, method="euler")
    assert torch.allclose(end_state(net, shown, ours, 20.0), end_state(net, shown, theirs, 20.0), rtol=0, atol=1e-14)


def test_adjoint_gradient_equals_backpropagation() -> None:
    net, shown = leaky_net(), torch.randn(2, 16)
    gradients = []
    for way in (Full(), Adjoint()):
        solver = TorchDiffEq(dt=5.0, method="dopri5", rtol=1e-8, atol=1e-9)
        net.zero_grad()
        run = simulate(net, shown, solver=solver, steps=10, record=Record(states=["r"]), gradient=way)
        run["r"][-1].square().sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in net.parameters()]))
    assert torch.allclose(*gradients, rtol=1e-5, atol=1e-7)


def test_predictive_coding_settles_to_least_squares() -> None:
    weights = dense(12, 5)
    shown = torch.randn(6, 12)
    residual = shown - shown @ torch.linalg.pinv(weights.weight.detach()).T @ weights.weight.detach().T
    floor = residual.square().mean(1)
    eigenvalue = float(torch.linalg.eigvalsh((weights.weight.T @ weights.weight).detach())[0])
    for solver in (
        Euler(dt=2.0),
        RK4(dt=2.0),
        TorchDiffEq(dt=2.0, method="dopri5", rtol=1e-9, atol=1e-11),
    ):
        until = 2.0 * math.ceil(10.0 / eigenvalue * 15)
        run = simulate(linear_pc(weights), shown, solver=solver, until=until, record=Record(errors="all"))
        curve = run.errors["e"]
        assert curve.shape == (len(run.times), 6)
        assert (curve.diff(dim=0) <= 1e-12).all()
        assert torch.allclose(curve[-1], floor, rtol=0, atol=tolerances.SETTLED_PC)


def test_learnable_tau_gets_gradient_and_stays_in_range() -> None:
    tau = LearnableTau(4, minimum=2.0, span=8.0, start=3.0)
    net = Network({"u": (4,)}, [Population("r", leaky_rate(4, tau, "identity"))], [Projection("u", "r")])
    assert torch.allclose(tau(), torch.full((4,), 3.0))
    *_, (_, state) = pcsim.rollout(net, torch.ones(1, 4), Euler(dt=1.0), 5)
    state["r"].sum().backward()
    assert (tau.xi.grad < 0).all(), "a slower unit must rise less"
    with torch.no_grad():
        tau.xi.fill_(50.0)
    assert float(tau().detach().max()) <= 10.0
    assert net.describe().count("tau 10..10 ms") == 1


def test_readout_of_flow_uses_current_state() -> None:
    net = two_layers().as_ode(tau=5.0)
    run = simulate(net, torch.randn(2, 4), solver=Euler(dt=1.0), until=7.0, record=Record(states=["b", "y"]))
    transform = next(edge.transform for edge in net.projections if edge.name == "b->y")
    with torch.no_grad():
        assert torch.equal(run["y"][-1], transform(run["b"][-1]))
