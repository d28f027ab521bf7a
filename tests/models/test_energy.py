"""Energies and errors of random instances decrease as theory predicts, up to the stability limit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.tolerances import LEAST_SQUARES, RISE

import pcsim
from pcsim import RK4, Euler, Iterate, Record, models, simulate, stimuli
from pcsim.simulation.plan import Plan
from pcsim.simulation.regime import steady_regime

pytestmark = pytest.mark.usefixtures("float64")
NETS, CUES = 100, 10  # a thousand instances


def largest_rise(energy: torch.Tensor) -> float:
    """Return the largest rise over time and samples, relative to the magnitude of the energy."""
    return float((energy.diff(dim=0) / energy.abs().amax()).max())


def symmetric(units: int) -> torch.Tensor:
    weights = torch.randn(units, units)
    return (weights + weights.T).fill_diagonal_(0.0) / units**0.5


def test_hopfield_asynchronous_energy_falls_to_fixed_point() -> None:
    for seed in range(NETS):
        torch.manual_seed(seed)
        units = int(torch.randint(4, 16, ()))
        weights, theta = symmetric(units), float(torch.randn(()))
        net = models.hopfield(models.random_patterns(1, units), weights=weights, threshold=theta)
        cue = 2.0 * torch.randint(0, 2, (CUES, units)).double() - 1.0
        turn = stimuli.turns(units, CUES, rounds=12, seed=seed)
        record = Record(states=["energy", "s"])
        run = simulate(net, {"cue": cue, "turn": turn}, solver=Iterate(), steps=12 * units, record=record)
        assert largest_rise(run["energy"]) <= RISE
        end = run["s"][-1]
        field = end @ weights - theta
        assert (torch.where(field != 0, field.sign(), end) == end).all(), "no unit may change its sign at a fixed point"


def test_hopfield_synchronous_can_cycle_with_period_two() -> None:
    weights = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    net = models.hopfield(models.random_patterns(1, 2), weights=weights, mode="synchronous")
    run = simulate(net, torch.tensor([[1.0, -1.0]]), solver=Iterate(), steps=4, record=Record(states=["s"]))
    assert run["s"][:, 0].tolist() == [[-1, 1], [1, -1], [-1, 1], [1, -1]]


def test_hopfield_continuous_energy_never_rises() -> None:
    for seed in range(NETS):
        torch.manual_seed(seed)
        units = int(torch.randint(3, 12, ()))
        gain = float(torch.rand(()) * 4 + 0.5)
        net = models.hopfield_continuous(
            models.random_patterns(1, units), weights=symmetric(units), tau=10.0, gain=gain, drive=True
        )
        given = {"cue": torch.randn(CUES, units), "current": torch.randn(CUES, units)}
        run = simulate(net, given, solver=RK4(dt=1.0), until=50.0, record=Record(states=["energy"]))
        assert largest_rise(run["energy"]) <= RISE


def test_hopfield_modern_energy_falls_and_retrieves_in_one_step() -> None:
    for seed in range(NETS):
        torch.manual_seed(seed)
        patterns = torch.randn(6, 24)
        separated = torch.linalg.qr(patterns.T)[0].T * 24**0.5
        cue = patterns[:1] + 0.3 * torch.randn(CUES, 24)
        run = simulate(
            models.hopfield_modern(patterns, beta=2.0),
            cue,
            solver=Iterate(),
            steps=5,
            record=Record(states=["energy", "xi"]),
        )
        assert largest_rise(run["energy"]) <= RISE and (run["energy"] >= -1e-9).all()
        net = models.hopfield_modern(separated, beta=2.0)
        run = simulate(net, separated[:1] + cue - patterns[:1], solver=Iterate(), record=Record(states=["xi"]))
        assert torch.allclose(run["xi"][0], separated[:1].expand(CUES, -1), atol=1e-4)


def random_coding(seed: int, activation: str) -> tuple[pcsim.Network, dict[str, torch.Tensor]]:
    torch.manual_seed(seed)
    depth = int(torch.randint(2, 5, ()))
    sizes = [(int(n),) for n in torch.randint(2, 8, (depth,))]
    if seed % 3 == 0:
        sizes[:2] = [(2, 4, 4), (3, 2, 2)]
    precision = (torch.rand(depth - 1) * 1.5 + 0.2).tolist()
    clamped = ["r0"] if seed % 2 else ["r0", f"r{depth - 1}"]
    if depth == 2:
        clamped = ["r0"]
    if activation == "relu":  # a free top layer would stay at zero
        sizes, clamped = [*sizes, (5,)], ["r0", f"r{depth}"]
        precision.append(1.0)
    net = models.predictive_coding(sizes, clamped=clamped, tau=10.0, activation=activation, precision=precision)
    return net, {name: torch.randn(CUES, *shape) for name, shape in net.inputs.items()}


def curvature(net: pcsim.Network, given: dict[str, torch.Tensor]) -> float:
    """Return the largest eigenvalue of the Hessian of E in the free layers, from the Jacobian of the flow."""
    names = net.memories
    sizes = [torch.Size(net.shape(name)).numel() for name in names]
    shown = {name: value[:1] for name, value in given.items()}
    plan = Plan(net.wiring(), steady_regime(net.wiring()), RK4(dt=1.0))

    def rates(flat: torch.Tensor) -> torch.Tensor:
        state = {n: part.reshape(1, *net.shape(n)) for n, part in zip(names, flat.split(sizes), strict=True)}
        derivative = plan.evaluate(plan.rates(), plan.precompute(shown), state)
        return torch.cat([10.0 * derivative[name].flatten() for name in names])

    jacobian = torch.autograd.functional.jacobian(rates, torch.zeros(sum(sizes)))
    assert torch.allclose(jacobian, jacobian.T, atol=1e-10), "the Jacobian of a gradient flow must be symmetric"
    return float(torch.linalg.eigvalsh(-jacobian)[-1])


@pytest.mark.filterwarnings("ignore:.*overshoots")  # in networks with weak weights the limit is above tau
def test_predictive_coding_linear_energy_at_stability_limit() -> None:
    diverged = 0
    for seed in range(NETS):
        net, given = random_coding(seed, "identity")
        border = 2.0 / curvature(net, given)  # in units of tau
        for share in (0.98, 1.05):
            if share * border >= 2.0:  # Euler refuses dt above 2 tau anyway
                continue
            solver = Euler(dt=10.0 * share * border)
            run = simulate(net, given, solver=solver, until=150 * solver.dt, record=Record(states=["energy"]))
            if share < 1.0:
                assert largest_rise(run["energy"]) <= RISE
            else:
                assert run["energy"][-1].max() > run["energy"][75].max(), "the energy must grow"
                diverged += 1
    assert diverged > NETS / 2, "most networks must have a limit below 2 tau, where Euler refuses dt"


@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "softplus"])
def test_predictive_coding_nonlinear_energy_falls_at_small_dt(activation: str) -> None:
    for seed in range(NETS // 4):
        net, given = random_coding(seed, activation)
        run = simulate(net, given, solver=Euler(dt=0.2), until=40.0, record=Record(states=["energy"]))
        assert largest_rise(run["energy"]) <= RISE


def test_predictive_coding_relu_energy_rises_shrink_with_dt() -> None:
    """Where f' jumps, a unit can oscillate around zero, which raises the energy by an amount of the order of dt."""
    rises = []
    for dt in (0.8, 0.2, 0.05):
        worst = 0.0
        for seed in range(8):
            net, given = random_coding(seed, "relu")
            run = simulate(net, given, solver=Euler(dt=dt), until=40.0, record=Record(states=["energy"]))
            worst = max(worst, largest_rise(run["energy"]))
        rises.append(worst)
    assert rises[0] > rises[1] > rises[2] and rises[2] < 1e-3


def test_predictive_coding_relu_top_stays_at_zero_unless_it_starts_elsewhere() -> None:
    with pytest.warns(pcsim.PcsimWarning, match="relu has slope 0 at 0, so units of 'r2'"):
        net = models.predictive_coding(((12,), (5,), (3,)), activation="relu")
    moved = []
    for start in (0.0, 0.5):
        initial = {"r1": torch.full((4, 5), start), "r2": torch.full((4, 3), start)}
        run = simulate(
            net, torch.rand(4, 12), solver=Euler(dt=0.5), until=20.0, initial=initial, record=Record(states=["r2"])
        )
        moved.append(float((run["r2"] - start).abs().max()))
    assert moved[0] == 0.0 and moved[1] > 0.01


def test_predictive_coding_linear_fixed_point_is_least_squares() -> None:
    """E = sum pi/2 |r_l - W_l r_{l+1} - b_l|^2 is a least-squares problem in (r1, r2), solved by LAPACK."""
    net = models.predictive_coding(((12,), (5,), (3,)), tau=10.0, precision=(1.0, 2.0))
    for parameter in net.parameters():
        if parameter.dim() == 2:
            torch.nn.init.orthogonal_(parameter)
    x = torch.randn(4, 12)
    run = simulate(net, x, solver=RK4(dt=5.0), until=2_000.0, record=Record(states=["r1", "r2", "energy"], every=400))
    up = {e.name: e.transform.weight.detach().numpy() for e in net.projections if e.name in ("e0->r1", "e1->r2")}
    w0, w1 = up["e0->r1"].T, up["e1->r2"].T
    b0, b1 = (net.populations[f"p{k}"].rule.bias.detach().numpy() for k in (0, 1))
    system = np.block([[w0, np.zeros((12, 3))], [np.sqrt(2.0) * np.eye(5), -np.sqrt(2.0) * w1]])
    for sample in range(4):
        given = np.concatenate([x[sample].numpy() - b0, np.sqrt(2.0) * b1])
        solution, residual, *_ = np.linalg.lstsq(system, given, rcond=None)
        settled = torch.cat([run["r1"][-1, sample], run["r2"][-1, sample]]).numpy()
        assert np.abs(settled - solution).max() <= LEAST_SQUARES
        assert abs(float(run["energy"][-1, sample, 0]) - residual[0] / 2) <= LEAST_SQUARES


def test_predictive_coding_clamped_top_settles_at_predictions() -> None:
    net = models.predictive_coding(((2, 8, 8), (3, 4, 4), (5,)), clamped=("r2",), activation="tanh")
    top = torch.randn(3, 5)
    slow = simulate(net, top, solver=RK4(dt=5.0), until=2_000.0, record=Record(states=["r0", "energy"], every=400))
    quick = models.predictive_coding(
        ((2, 8, 8), (3, 4, 4), (5,)), clamped=("r2",), activation="tanh", start="predictions"
    )
    quick.load_state_dict(net.state_dict(), strict=False)
    for ours, theirs in zip(quick.parameters(), net.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    run = simulate(quick, top, solver=Euler(dt=1.0), until=1.0, record=Record(states=["r0", "energy"]))
    assert slow["energy"][-1].max() < 1e-12 and run["energy"].max() < 1e-25
    assert torch.allclose(slow["r0"][-1], run["r0"][-1], atol=1e-6)


def operator_norm(weight: torch.Tensor, size: int) -> float:
    """Return lambda_max(W W^T) of a convolution, from its dense matrix."""
    basis = torch.eye(weight.shape[1] * size * size).reshape(-1, weight.shape[1], size, size)
    columns = torch.nn.functional.conv2d(basis, weight, padding=1).flatten(1).T
    return float(torch.linalg.eigvalsh(columns.T @ columns)[-1])


@pytest.mark.parametrize("activation", ["identity", "relu"])
def test_pcn_global_tied_layer_error_at_stability_limit(activation: str) -> None:
    """In the linear case e(t+1) = (1 - b W^T W) e(t), which decreases for b < 2 / lambda_max(W W^T)."""
    for seed in range(20):
        torch.manual_seed(seed)
        image = torch.randn(50, 2, 5, 5)
        rate = 1.0
        net = models.pcn_global((6,), (), 60, tied=True, activation=activation, rates=(0.5, rate), image=(2, 5, 5))
        (edge,) = [edge.transform for edge in net.projections if edge.name == "e0->r1"]
        border = 2.0 / operator_norm(edge.weight.detach(), 5)
        norms = {}
        for share in (0.05, 0.5, 0.98, 1.05):
            with torch.no_grad():
                net.populations["r1"].rule.rate.weight.fill_(share * border)
            run = simulate(net, image, solver=Iterate(), steps=60, record=Record(reduce={"e0": "norm"}))
            norms[share] = run["e0.norm"]
        for share in (0.05, 0.5, 0.98):
            assert largest_rise(norms[share]) <= RISE, (seed, share)
        if activation == "identity":
            assert (norms[1.05][-1] > norms[1.05][30]).all()
