"""The local learning rule: it is the gradient of the energy, is local, and approaches backpropagation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from support.tolerances import EQUATIONS

import pcsim
from pcsim import Euler, Network, models
from pcsim.simulation.plan import Plan
from pcsim.simulation.regime import steady_regime
from pcsim.training import Training, local

LAYERS = ((2, 8, 8), (3, 4, 4), (6,), (4,))


def coding(**options: object) -> Network:
    return models.predictive_coding(LAYERS, activation="tanh", precision=(1.0, 0.5, 2.0), **options)


def gradients(net: Network) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}


def test_local_gradient_equals_energy_gradient(float64: None) -> None:
    net = coding(clamped=("r0", "r3"))
    shown = {"r0": torch.randn(5, *LAYERS[0]), "r3": torch.randn(5, *LAYERS[3])}
    values = local.relax(net, shown, Euler(dt=2.0), 200.0)
    energy = local.local_gradient(net, values)
    by_rule = gradients(net)
    net.zero_grad()
    plan = Plan(net.wiring(), steady_regime(net.wiring()), Euler(dt=2.0), ["energy"])
    total = plan.observe(plan.precompute(shown), {name: values[name] for name in net.memories})["energy"]
    assert torch.allclose(energy, total[:, 0].detach(), rtol=0, atol=EQUATIONS)
    total.mean().backward()
    through_everything = gradients(net)
    assert set(by_rule) == set(through_everything) == {name for name, _ in net.named_parameters()}
    for name, value in by_rule.items():
        assert torch.allclose(value, through_everything[name], rtol=0, atol=EQUATIONS), name


def test_local_gradient_is_error_times_activity(float64: None) -> None:
    """dW = e f(r)^T in NumPy; the stored weight belongs to the upward edge and is the transpose of W."""
    net = models.predictive_coding(((7,), (5,), (3,)), clamped=("r0",), activation="tanh")
    shown = {"r0": torch.randn(6, 7)}
    values = local.relax(net, shown, Euler(dt=2.0), 100.0)
    local.local_gradient(net, values)
    values = {name: value.numpy() for name, value in values.items()}
    weights = {e.name: e.transform.weight for e in net.projections if e.name in ("e0->r1", "e1->r2")}
    for k in (0, 1):
        e, f = values[f"e{k}"], np.tanh(values[f"r{k + 1}"])
        up = weights[f"e{k}->r{k + 1}"].grad
        assert np.abs(up.numpy() + np.einsum("bi,bj->ij", f, e) / 6).max() <= EQUATIONS
        assert np.abs(net.populations[f"p{k}"].rule.bias.grad.numpy() + e.mean(0)).max() <= EQUATIONS


def test_local_gradient_approaches_backpropagation(float64: None) -> None:
    """Whittington & Bogacz 2017: 1 - cosine falls with the square of the precision of the output."""
    cosines = []
    for precision in (1e-1, 1e-2, 1e-3):
        torch.manual_seed(0)
        net = models.predictive_coding(
            ((4,), (8,), (9,), (6,)),
            clamped=("r3",),
            activation="tanh",
            precision=(precision, 1.0, 1.0),
            start="predictions",
        )
        image, label = torch.randn(10, 6), torch.randn(10, 4)
        learning = net.clamped("r0")
        end = local.relax(learning, {"r3": image, "r0": label}, Euler(dt=5.0), 2_000.0)
        local.local_gradient(learning, end)
        by_rule = torch.cat([value.flatten() for value in gradients(learning).values()])
        learning.zero_grad()
        (0.5 * (label - pcsim.initial_state(net, {"r3": image})["r0"]).square().sum(1).mean()).backward()
        backward = torch.cat([value.flatten() for value in gradients(learning).values()])
        cosines.append(1.0 - float(torch.nn.functional.cosine_similarity(by_rule, backward, dim=0)))
    assert cosines[0] > cosines[1] > cosines[2] and cosines[2] < 1e-5
    assert 30.0 < cosines[0] / cosines[1] < 300.0 and 30.0 < cosines[1] / cosines[2] < 300.0


def test_local_gradient_reaches_weights_of_constant_inputs() -> None:
    """The drive from a constant input is computed once, but its weights must still learn."""
    net = coding(clamped=("r3",), start="predictions").clamped("r0")
    shown = {"r0": torch.randn(5, *LAYERS[0]), "r3": torch.randn(5, *LAYERS[3])}
    local.local_gradient(net, local.relax(net, shown, Euler(dt=2.0), 10.0))
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in net.parameters())


def test_local_learn_lowers_energy_and_classifies() -> None:
    torch.manual_seed(0)
    centres = torch.randn(3, 12)
    labels = torch.arange(300) % 3
    images, targets = centres[labels] + 0.3 * torch.randn(300, 12), torch.eye(3)[labels]
    net = models.predictive_coding(((3,), (16,), (12,)), clamped=("r2",), activation="tanh", start="predictions")
    shown = {"r2": images, "r0": targets}
    settings = Training(updates=200, batch=30, learning_rate=5e-3)
    history = local.learn(net.clamped("r0"), shown, settings, solver=Euler(dt=2.0), until=40.0)
    assert history[-1] < 0.3 * history[0]
    with torch.no_grad():
        answers = pcsim.initial_state(net, {"r2": images})["r0"].argmax(1)
    assert (answers == labels).float().mean() > 0.95


def test_local_learn_restores_checkpoint(tmp_path: Path) -> None:
    torch.manual_seed(0)
    first, second = coding(clamped=("r0",)), coding(clamped=("r0",))
    shown, kept = {"r0": torch.randn(20, *LAYERS[0])}, tmp_path / "learned.safetensors"
    options = {"solver": Euler(dt=1.0), "until": 5.0, "checkpoint": kept}
    history = local.learn(first, shown, Training(updates=20, batch=5), **options)
    assert local.learn(second, shown, Training(updates=20, batch=5), **options) == history
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_local_learning_refuses_invalid_input() -> None:
    blt = models.blt(channels=(2, 2))
    with pytest.raises(pcsim.WiringError, match="no prediction errors"):
        local.local_gradient(blt, {})
    net = coding(clamped=("r0",))
    with pytest.raises(pcsim.TrainingError, match="same number of samples for each input: r0"):
        local.learn(net, {"r1": torch.zeros(3, 2)}, Training(), solver=Euler(dt=1.0), until=10.0)
    with pytest.raises(pcsim.SolverError, match="which divides `until`"):
        local.relax(net, {"r0": torch.zeros(3, *LAYERS[0])}, Euler(dt=3.0), 10.0)


def linear_learning(scale: float) -> tuple[pcsim.Network, dict[str, torch.Tensor], float]:
    """Return a linear network with one clamped layer, data, and the largest |eigenvalue| of its Jacobian in NumPy."""
    torch.manual_seed(0)
    net = models.predictive_coding(((7,), (5,), (3,)), clamped=("r0",), tau=10.0, bias=False)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(scale)
    transforms = {edge.name: edge.transform for edge in net.projections}
    low, high = (
        transforms[name].weight.detach().numpy() for name in ("e0->r1", "e1->r2")
    )  # the transposes of W_0 (7, 5) and W_1 (5, 3)
    jacobian = np.block([[-low @ low.T - np.eye(5), high.T], [high, -high @ high.T]]) / 10.0
    return net, {"r0": torch.randn(4, 7)}, float(np.abs(np.linalg.eigvals(jacobian)).max())


@pytest.mark.parametrize(("kind", "limit"), [(Euler, 2.0), (pcsim.Heun, 2.0), (pcsim.RK4, 2.785)])
def test_relaxation_refused_beyond_stability_limit(float64: None, kind: type[pcsim.Euler], limit: float) -> None:
    net, shown, fastest = linear_learning(scale=3.0)
    longest = limit / fastest
    assert longest < 10.0, "the weights must limit dt more than the leak"
    relaxed = local.relax(net, shown, kind(dt=0.95 * longest), 190.0 * longest)
    assert bool(torch.isfinite(relaxed["r1"]).all())
    with pytest.raises(pcsim.TrainingError, match=kind.__name__) as caught:
        local.relax(net, shown, kind(dt=1.02 * longest), 204.0 * longest)
    stated = float(caught.value.expected.split()[2])
    assert stated == pytest.approx(longest, rel=0.02) and "dt=" in caught.value.remedy


def test_local_learn_refuses_relaxation_that_became_unstable() -> None:
    """Beyond the stability limit, the energy is stuck far above its minimum and looks like a learning curve."""
    torch.manual_seed(0)
    data = {"r0": torch.randn(200, 3) @ torch.randn(3, 40)}
    settings = Training(updates=200, batch=20, learning_rate=1e-2, optimiser="adam")

    def learnt(dt: float) -> list[float]:
        torch.manual_seed(1)
        net = models.predictive_coding(((40,), (20,), (10,)), clamped=("r0",))
        return local.learn(net, data, settings, solver=Euler(dt=dt), until=80.0)

    assert learnt(1.0)[-1] < 0.1
    with pytest.raises(pcsim.TrainingError, match="overshoots with these weights"):
        learnt(4.0)


def test_local_learn_refuses_divergence_between_two_periodic_checks() -> None:
    """Weights grow in 14 updates from a limit of 1.7 ms to one below dt, between the checks of updates 0 and 20."""
    images = pcsim.stimuli.digit_debris(0, seed=5, batch=512).at(0.0)

    def learnt(updates: int, dt: float) -> list[float]:
        torch.manual_seed(0)
        net = models.predictive_coding(((1, 32, 32), (128,), (32,)), tau=10)
        settings = Training(updates=updates, batch=64, schedule="constant")
        return local.learn(net, {"r0": images}, settings, solver=Euler(dt=dt), until=40)

    assert learnt(12, 1.0)[0] == pytest.approx(24.9, abs=0.5)
    with pytest.raises(pcsim.TrainingError, match=r"dt=1\).*after 1[0-3] updates") as caught:
        learnt(20, 1.0)
    assert 0.9 < float(caught.value.expected.split()[2]) <= 1.0
