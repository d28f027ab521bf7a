"""Local rules on projections: their equations in NumPy, their closed forms, signs, delays and checkpoints."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from support import reference_circuits as reference
from support.tolerances import EQUATIONS
from torch import nn
from torch.nn import functional

import pcsim
from pcsim import Euler, Iterate, Network, Population, Projection, Record, models, simulate
from pcsim.connections import Activation, Chain, Symmetric, Tied, conv, pool, signed
from pcsim.rules import Rate, Sum, leaky_rate
from pcsim.training import local

RNG = np.random.default_rng(0)


def linear(inputs: int, units: int, weight: np.ndarray | None = None) -> Network:
    """Return y = W x, of which y is a wire."""
    layer = nn.Linear(inputs, units, bias=False)
    if weight is not None:
        with torch.no_grad():
            layer.weight.copy_(torch.as_tensor(weight))
    return Network({"x": (inputs,)}, [Population("y", Sum())], [Projection("x", "y", layer)])


def weight_of(net: Network, name: str = "x->y") -> np.ndarray:
    (edge,) = [edge for edge in net.projections if edge.name == name]
    return edge.transform.weight.detach().numpy()


def answer(net: Network, x: np.ndarray) -> dict[str, torch.Tensor]:
    """Return the values of a run of one step on inputs (batch, ...)."""
    run = simulate(net, torch.as_tensor(x), solver=Iterate(), steps=1, record=Record(states=["y"]))
    return {"x": torch.as_tensor(x), "y": run["y"][-1]}


# ------------------------------------------------------------------ equations, sample after sample


def test_hebb_follows_numpy(float64: None) -> None:
    w, pre, post = RNG.normal(size=(2, 3)), RNG.normal(size=(4, 3)), RNG.normal(size=(4, 2))
    net = linear(3, 2, w)
    plasticity = local.Plasticity(net, {"x->y": local.Hebb(0.3)})
    for x, y in zip(pre, post, strict=True):
        plasticity.step({"x": torch.as_tensor(x[None]), "y": torch.as_tensor(y[None])})
    assert np.abs(weight_of(net) - reference.hebb_steps(w, pre, post, eta=0.3)).max() <= EQUATIONS


def test_hebb_of_linear_unit_grows_as_matrix_power(float64: None) -> None:
    w, x = RNG.normal(size=(1, 3)), RNG.normal(size=(50, 3))
    net = linear(3, 1, w)
    plasticity = local.Plasticity(net, {"x->y": local.Hebb(0.1)})
    for _ in range(7):
        plasticity.step(answer(net, x))
    assert np.abs(weight_of(net)[0] - reference.hebb_linear_mean(w[0], x.T @ x / 50, 7, eta=0.1)).max() <= EQUATIONS


def test_oja_follows_numpy(float64: None) -> None:
    w, x = RNG.normal(size=(1, 3)), RNG.normal(size=(4, 3))
    net = linear(3, 1, w)
    plasticity = local.Plasticity(net, {"x->y": local.Oja(0.2, alpha=2.0)})
    for sample in x:
        plasticity.step(answer(net, sample[None]))
    assert np.abs(weight_of(net)[0] - reference.oja_steps(w[0], x, eta=0.2, alpha=2.0)).max() <= EQUATIONS


def test_oja_converges_to_first_eigenvector(float64: None) -> None:
    x = RNG.normal(size=(200, 3)) * [2.0, 1.0, 0.5] @ np.linalg.qr(RNG.normal(size=(3, 3)))[0]
    w = 0.3 * RNG.normal(size=(2, 3))
    net = linear(3, 2, w)
    plasticity = local.Plasticity(net, {"x->y": local.Oja(0.01, alpha=4.0)})
    covariance = x.T @ x / len(x)
    for update in range(2_000):
        plasticity.step({"x": torch.as_tensor(x), "y": torch.as_tensor(x @ weight_of(net).T)})
        if update == 99:  # t = 1 of the mean flow, to first order in eta
            closed = [reference.oja_mean_closed(row, covariance, 1.0, alpha=4.0) for row in w]
            assert np.abs(weight_of(net) - closed).max() < 0.02
    first = np.linalg.eigh(covariance)[1][:, -1]
    assert np.abs(np.abs(weight_of(net) @ first) - 0.5).max() < 1e-9, "the norm must be 1 / sqrt(alpha)"
    assert np.abs(np.linalg.norm(weight_of(net), axis=1) - 0.5).max() < 1e-9


@pytest.mark.parametrize(
    ("options", "theirs"),
    [
        ({"tau_theta": None}, {"theta": "exact"}),
        ({"tau_theta": 5.0, "start": 0.7}, {"theta": "sliding", "theta0": 0.7, "tau_theta": 5.0}),
        (
            {"tau_theta": 5.0, "target": "squared mean", "scale": 0.5},
            {"theta": "sliding", "tau_theta": 5.0, "power": "E[y]^2", "y0": 0.5},
        ),
    ],
)
def test_bcm_follows_numpy(float64: None, options: dict, theirs: dict) -> None:
    w, x = RNG.normal(size=3), RNG.normal(size=(5, 3))
    net = linear(3, 1, w[None])
    plasticity = local.Plasticity(net, {"x->y": local.BCM(0.1, **options)})
    for _ in range(4):
        plasticity.step(answer(net, x))
    expected, theta = reference.bcm_steps(w, x, 4, eta=0.1, **theirs)
    assert np.abs(weight_of(net)[0] - expected).max() <= EQUATIONS
    if options["tau_theta"] is not None:
        assert abs(float(plasticity.state["x->y"]["theta"]) - theta) <= EQUATIONS


def test_bcm_becomes_selective(float64: None) -> None:
    """A single unit ends with a response 1/p to one of three patterns, and 0 to the others."""
    x = np.array([[1.0, 0.2, 0.1], [0.3, 1.0, 0.2], [0.1, 0.3, 1.0]])
    net = linear(3, 1, np.array([[0.2, 0.5, 0.3]]))
    plasticity = local.Plasticity(net, {"x->y": local.BCM(0.02, tau_theta=5.0)})
    for _ in range(6_000):
        plasticity.step({"x": torch.as_tensor(x), "y": torch.as_tensor(x @ weight_of(net).T)})
    expected, theta = reference.bcm_selective(x, int((x @ weight_of(net)[0]).argmax()))
    assert theta == pytest.approx(3.0)
    assert np.abs(weight_of(net)[0] - expected).max() < 1e-6


def test_three_factors_follow_numpy(float64: None) -> None:
    w, pre, post = RNG.normal(size=(2, 3)), RNG.normal(size=(4, 3)), RNG.normal(size=(4, 2))
    rewards = np.array([0.0, 1.0, -0.5, 2.0])
    net = linear(3, 2, w)
    plasticity = local.Plasticity(net, {"x->y": local.ThreeFactor(0.3, decay=0.8, baseline=0.25)})
    for x, y, reward in zip(pre, post, rewards, strict=True):
        plasticity.step({"x": torch.as_tensor(x[None]), "y": torch.as_tensor(y[None])}, reward=float(reward))
    expected, trace = reference.three_factor_steps(w, pre, post, rewards, eta=0.3, decay=0.8, baseline=0.25)
    assert np.abs(weight_of(net) - expected).max() <= EQUATIONS
    assert np.abs(plasticity.state["x->y"]["eligibility"].numpy()[0] - trace).max() <= EQUATIONS


def test_running_baseline_is_mean_of_past_rewards(float64: None) -> None:
    """Each sample has its own reward and trace; the prediction error uses the mean reward before the update."""
    w, pre, post = RNG.normal(size=(2, 3)), RNG.normal(size=(4, 5, 3)), RNG.normal(size=(4, 5, 2))
    rewards = RNG.random(size=(4, 5))
    net = linear(3, 2, w)
    plasticity = local.Plasticity(net, {"x->y": local.ThreeFactor(0.3, decay=0.5, tau_reward=4.0)})
    expected, trace, baseline = w.copy(), np.zeros((5, 2, 3)), 0.0
    for x, y, reward in zip(pre, post, rewards, strict=True):
        plasticity.step({"x": torch.as_tensor(x), "y": torch.as_tensor(y)}, reward=torch.as_tensor(reward))
        trace = 0.5 * trace + y[:, :, None] * x[:, None, :]
        expected = expected + 0.3 * np.mean([(r - baseline) * e for r, e in zip(reward, trace, strict=True)], axis=0)
        baseline += (reward.mean() - baseline) / 4.0
    assert np.abs(weight_of(net) - expected).max() <= EQUATIONS


def test_constant_reward_without_trace_equals_hebb(float64: None) -> None:
    w, x = RNG.normal(size=(2, 3)), RNG.normal(size=(6, 3))
    nets = linear(3, 2, w), linear(3, 2, w)
    hebb = local.Plasticity(nets[0], {"x->y": local.Hebb(0.1)})
    gated = local.Plasticity(nets[1], {"x->y": local.ThreeFactor(0.1, decay=0.0, baseline=0.0)})
    for _ in range(4):
        hebb.step(answer(nets[0], x))
        gated.step(answer(nets[1], x), reward=1.0)
    assert np.abs(weight_of(nets[0]) - weight_of(nets[1])).max() <= EQUATIONS
    h, (grown, _) = x.T @ x, reference.three_factor_constant(4, 1.0, eta=0.1, decay=0.9)
    net = linear(3, 3, np.zeros((3, 3)))
    traced = local.Plasticity(net, {"x->y": local.ThreeFactor(0.1, decay=0.9, baseline=0.0)})
    for _ in range(4):
        traced.step({"x": torch.as_tensor(x), "y": torch.as_tensor(x)}, reward=1.0)
    assert np.abs(weight_of(net) - grown * h / 6).max() <= EQUATIONS


def test_trace_without_reward_leaves_weights_unchanged() -> None:
    net = linear(3, 2)
    before = weight_of(net).copy()
    plasticity = local.Plasticity(net, {"x->y": local.ThreeFactor(0.3)})
    plasticity.step({"x": torch.rand(2, 3), "y": torch.rand(2, 2)})
    assert np.array_equal(weight_of(net), before) and plasticity.state["x->y"]["eligibility"].abs().sum() > 0


def balanced(weight: np.ndarray) -> Network:
    """Return post = [I - w pre]+, with inhibition from the input x and excitation from the input i."""
    layer = signed(nn.Linear(len(weight), 1, bias=False), -1)
    with torch.no_grad():
        layer.layer.weight.copy_(torch.as_tensor(weight[None]))
    edges = [Projection("i", "y"), Projection("x", "y", layer)]
    return Network({"x": (len(weight),), "i": (1,)}, [Population("y", Rate(1, bias=False))], edges)


def rates(net: Network, x: np.ndarray, i: np.ndarray) -> dict[str, torch.Tensor]:
    shown = {"x": torch.as_tensor(x), "i": torch.as_tensor(i)}
    run = simulate(net, shown, solver=Iterate(), steps=1, record=Record(states=["y"]))
    return {"x": shown["x"], "y": run["y"][-1]}


def test_vogels_follows_numpy(float64: None) -> None:
    w, x, i = RNG.random(3), RNG.random((4, 3)), 8.0 * RNG.random(4)
    net = balanced(w)
    plasticity = local.Plasticity(net, {"x->y": local.Vogels(0.3, target=1.0)})
    for pre, excitation in zip(x, i, strict=True):
        plasticity.step(rates(net, pre[None], np.array([[excitation]])))
    expected, _ = reference.vogels_steps(w, i, x, eta=0.3, rho0=1.0)
    assert np.abs(-weight_of(net)[0] - expected).max() <= EQUATIONS


def test_vogels_balances_currents_at_target_rate(float64: None) -> None:
    x = np.array([[1.0, 0.2, 0.1], [0.3, 1.0, 0.2], [0.1, 0.3, 1.0]])
    i = np.array([[9.0], [7.0], [8.0]])
    net = balanced(np.full(3, 0.1))
    plasticity = local.Plasticity(net, {"x->y": local.Vogels(0.3, target=2.0)})
    for _ in range(1_000):
        plasticity.step(rates(net, x, i))
    assert np.abs(rates(net, x, i)["y"].numpy() - 2.0).max() < 1e-9
    assert np.abs(-weight_of(net)[0] - reference.vogels_balanced_weights(i[:, 0], x, rho0=2.0)).max() < 1e-9


# ------------------------------------------------------------------ predictive coding


@pytest.mark.parametrize("nonlinearity", ["inside", "outside"])
def test_predictive_coding_equals_local_gradient(float64: None, nonlinearity: str) -> None:
    """Convolutions and full connections; the change is minus the gradient that `learn` uses."""
    net = models.predictive_coding(
        ((2, 8, 8), (3, 4, 4), (6,)),
        activation="tanh",
        nonlinearity=nonlinearity,
        precision=(0.5, 2.0),
        bias=False,
        clamped=("r0",),
    )
    values = local.relax(net, {"r0": torch.randn(5, 2, 8, 8)}, Euler(dt=1.0), 30.0)
    local.local_gradient(net, values)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    expected = {name: p.grad.clone() for name, p in net.named_parameters()}
    plasticity = local.Plasticity(net, {f"r{k + 1}->p{k}": local.PredictiveCoding(0.1) for k in (0, 1)})
    run = simulate(net, {"r0": values["r0"]}, solver=Euler(dt=1.0), until=30.0, record=plasticity.record(at=[30.0]))
    plasticity.follow(run)
    assert before.keys() == expected.keys() and len(before) == 2
    for name, p in net.named_parameters():
        assert (p.detach() - before[name] + 0.1 * expected[name]).abs().max() <= EQUATIONS, name


# ------------------------------------------------------------------ layers, signs


def patches(x: np.ndarray, kernel: int, stride: int, padding: int) -> np.ndarray:
    """Return the patches (batch, positions, channel * kernel * kernel) of a convolution."""
    return functional.unfold(torch.as_tensor(x), kernel, padding=padding, stride=stride).numpy().swapaxes(1, 2)


def test_convolution_learns_from_patches(float64: None) -> None:
    """Oja's rule on every patch of the pooled source, averaged over samples and positions."""
    layer = conv(2, 3, kernel=3, stride=2)
    w = layer.weight.detach().numpy().reshape(3, -1).copy()
    edge = Projection("x", "y", nn.Sequential(pool(), layer))
    net = Network({"x": (2, 16, 16)}, [Population("y", Sum())], [edge])
    values = answer(net, RNG.random((5, 2, 16, 16)))
    local.Plasticity(net, {"x->y": local.Oja(0.3)}).step(values)
    x = patches(functional.max_pool2d(values["x"], 2).numpy(), 3, 2, 1)
    y = values["y"].flatten(2).numpy().swapaxes(1, 2)
    product = np.einsum("bpo,bpi->oi", y, x) / (5 * y.shape[1])
    expected = w + 0.3 * (product - (y**2).mean((0, 1))[:, None] * w)
    assert np.abs(layer.weight.detach().numpy().reshape(3, -1) - expected).max() <= EQUATIONS


def test_transposed_layers_learn_in_their_own_shape(float64: None) -> None:
    layer = nn.Linear(4, 3, bias=False)
    w = layer.weight.detach().numpy().copy()
    net = Network({"x": (3,)}, [Population("y", Sum())], [Projection("x", "y", Tied(layer))])
    values = answer(net, RNG.normal(size=(6, 3)))
    local.Plasticity(net, {"x->y": local.Oja(0.3)}).step(values)
    x, y = values["x"].numpy(), values["y"].numpy()
    expected = w + 0.3 * (x.T @ y / 6 - (y**2).mean(0)[None, :] * w)
    assert np.abs(layer.weight.detach().numpy() - expected).max() <= EQUATIONS


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("form", ["absolute", "rectified", "softplus"])
def test_signs_are_kept(float64: None, sign: int, form: str) -> None:
    """The strength |w| changes by the rule and stops at 0, for 1,000 updates."""
    layer = signed(nn.Linear(5, 4, bias=False), sign, form)
    net = Network({"x": (5,)}, [Population("y", Sum())], [Projection("x", "y", layer)])
    plasticity = local.Plasticity(net, {"x->y": local.Hebb(0.05)})
    generator = torch.Generator().manual_seed(0)
    strength = layer.weight.detach().abs().numpy()
    stopped = 0
    for update in range(1_000):
        x, y = (torch.randn(3, size, generator=generator, dtype=torch.float64) for size in (5, 4))
        plasticity.step({"x": x, "y": y})
        strength = np.maximum(strength + 0.05 * y.numpy().T @ x.numpy() / 3, 0.0)
        stopped += int((strength == 0).sum())
        if update < 200:
            assert np.abs(sign * layer.weight.detach().numpy() - strength).max() <= 1e-10
    assert (sign * layer.weight >= 0).all() and stopped > 100


def test_symmetric_weights_stay_symmetric(float64: None) -> None:
    layer = Symmetric(nn.Linear(4, 4, bias=False))
    net = Network({"x": (4,)}, [Population("y", Sum())], [Projection("x", "y", layer)])
    before = layer.weight.detach().numpy()
    values = answer(net, RNG.normal(size=(3, 4)))
    local.Plasticity(net, {"x->y": local.Hebb(0.2)}).step(values)
    product = values["y"].numpy().T @ values["x"].numpy() / 3
    assert np.abs(layer.weight.detach().numpy() - before - 0.1 * (product + product.T)).max() <= EQUATIONS


# ------------------------------------------------------------------ runs


def recurrent() -> Network:
    edges = [
        Projection("x", "a", nn.Linear(3, 4, bias=False)),
        Projection("a", "b", nn.Linear(4, 2, bias=False), delay=1),
    ]
    return Network({"x": (3,)}, [Population("a", Rate(4)), Population("b", Rate(2))], edges)


def test_follow_pairs_activities_across_delay(float64: None) -> None:
    torch.manual_seed(0)
    net = recurrent()
    plasticity = local.Plasticity(net, {"a->b": local.Hebb(0.1)})
    shown = torch.rand(3, 3)
    run = simulate(net, shown, solver=Iterate(), steps=5, record=plasticity.record())
    expected = weight_of(net, "a->b").copy()
    for t in range(1, 5):
        expected += 0.1 * run["b"][t].detach().numpy().T @ run["a"][t - 1].detach().numpy() / 3
    plasticity.follow(run)
    assert np.abs(weight_of(net, "a->b") - expected).max() <= EQUATIONS
    last = simulate(net, shown, solver=Iterate(), steps=5, record=plasticity.record(at=list(run.times[-1:])))
    with pytest.raises(pcsim.TrainingError, match="record every step"):
        plasticity.follow(last)


def test_reward_at_the_end_reaches_early_activity(float64: None) -> None:
    """The trace decays between the rows of a run, and each run starts a new trial."""
    net = linear(3, 2)
    before = weight_of(net).copy()
    plasticity = local.Plasticity(net, {"x->y": local.ThreeFactor(0.2, decay=0.5, baseline=0.0)})
    x = torch.rand(4, 3)
    for _ in range(2):
        run = simulate(net, x, solver=Iterate(), steps=3, record=plasticity.record())
        plasticity.follow(run, reward=torch.tensor([1.0, 0.0, 2.0, 0.0]))
        trace = 1.75 * torch.einsum("bi,bj->bij", run["y"][0], x).numpy()
        before = before + 0.2 * (trace[0] + 2.0 * trace[2]) / 4
        assert np.abs(weight_of(net) - before).max() <= EQUATIONS
    with pytest.raises(pcsim.TrainingError, match="3 rows"):
        plasticity.follow(run, reward=torch.zeros(2, 4))


def slow() -> Network:
    torch.manual_seed(0)
    edges = [Projection("x", "y", nn.Linear(6, 3, bias=False))]
    return Network({"x": (6,)}, [Population("y", leaky_rate(3, 10.0))], edges)


def reward(values: dict[str, torch.Tensor], chosen: torch.Tensor) -> torch.Tensor:
    return (chosen % 2).float() * values["y"].sum(1)


RULES = [local.Oja(1e-2), local.BCM(1e-2), local.ThreeFactor(1e-2, decay=0.8), local.Hebb(1e-3)]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_learning_resumes_with_the_same_bits(rule: local.LocalRule, tmp_path: Path) -> None:
    shown = {"x": torch.rand(20, 6, generator=torch.Generator().manual_seed(1))}
    options = {"solver": Euler(dt=1.0), "until": 20.0, "batch": 4, "reward": reward, "at": [10.0, 20.0], "every": 3}
    whole, halves = slow(), slow()
    start = weight_of(whole).copy()
    rewards = local.Plasticity(whole, {"x->y": rule}).learn(shown, updates=12, **options)
    kept = tmp_path / "plastic"
    local.Plasticity(halves, {"x->y": rule}).learn(shown, updates=5, checkpoint=kept, **options)
    again = slow()
    resumed = local.Plasticity(again, {"x->y": rule})
    assert resumed.learn(shown, updates=12, checkpoint=kept, **options) == rewards and len(rewards) == 12
    assert np.array_equal(weight_of(again), weight_of(whole)) and not np.array_equal(weight_of(whole), start)
    with pytest.raises(pcsim.StorageError, match="the options with which learning was started"):
        resumed.learn(shown, updates=12, checkpoint=kept, **options | {"seed": 1})


def test_prefix_in_training_mode_is_not_changed() -> None:
    norm = nn.BatchNorm2d(2)
    net = Network({"x": (2, 4, 4)}, [Population("y", Sum())], [Projection("x", "y", nn.Sequential(norm, conv(2, 3)))])
    net.train()
    local.Plasticity(net, {"x->y": local.Hebb(0.1)}).step({"x": torch.rand(2, 2, 4, 4), "y": torch.rand(2, 3, 4, 4)})
    assert norm.training and int(norm.num_batches_tracked) == 0


# ------------------------------------------------------------------ mistakes


def edge_with(transform: nn.Module, shape: tuple[int, ...] = (2, 8, 8)) -> Network:
    return Network({"x": shape}, [Population("y", Sum())], [Projection("x", "y", transform)])


@pytest.mark.parametrize(
    "transform",
    [nn.Identity(), pool(), nn.Sequential(conv(2, 3), conv(3, 2)), Chain(conv(2, 3), pool()), Activation("tanh")],
)
def test_projection_without_single_weight_is_refused(transform: nn.Module) -> None:
    with pytest.raises(pcsim.WiringError, match="x->y"):
        local.Plasticity(edge_with(transform), {"x->y": local.Hebb(1e-3)})


def test_invalid_plasticity_is_refused() -> None:
    net = linear(3, 2)
    with pytest.raises(pcsim.WiringError, match="a projection of"):
        local.Plasticity(net, {"y->x": local.Hebb(1e-3)})
    with pytest.raises(pcsim.WiringError, match="inhibitory"):
        local.Plasticity(net, {"x->y": local.Vogels(1e-3)})
    with pytest.raises(pcsim.WiringError, match="prediction error"):
        local.Plasticity(net, {"x->y": local.PredictiveCoding(1e-3)})
    with pytest.raises(pcsim.TrainingError, match="rate"):
        local.Hebb(-1.0)
    parametrized = nn.utils.parametrizations.weight_norm(nn.Linear(3, 2))
    with pytest.raises(pcsim.WiringError, match="computed from other parameters"):
        local.Plasticity(edge_with(parametrized, (3,)), {"x->y": local.Hebb(1e-3)})
    plasticity = local.Plasticity(net, {"x->y": local.Hebb(1e-3)})
    good = {"x": torch.rand(4, 3), "y": torch.rand(4, 2)}
    for wrong in ({"x": torch.rand(4, 5)}, {"y": torch.full((4, 2), torch.nan)}, {"x": good["x"].double()}):
        with pytest.raises(pcsim.TrainingError, match="finite values"):
            plasticity.step(good | wrong)
    with pytest.raises(pcsim.TrainingError, match="values of y"):
        plasticity.step({"x": good["x"]})
    with pytest.raises(pcsim.TrainingError, match="a reward"):
        plasticity.step(good, reward=torch.zeros(3))


def test_exploding_weights_are_refused_and_kept() -> None:
    net = linear(2, 1)
    before = weight_of(net).copy()
    plasticity = local.Plasticity(net, {"x->y": local.Hebb(1e30)})
    with pytest.raises(pcsim.TrainingError, match="lower rate"):
        plasticity.step({"x": torch.full((1, 2), 1e20), "y": torch.full((1, 1), 1e20)})
    assert np.array_equal(weight_of(net), before)


def test_trace_of_other_batch_is_refused() -> None:
    net = linear(3, 2)
    plasticity = local.Plasticity(net, {"x->y": local.ThreeFactor(0.1)})
    plasticity.step({"x": torch.rand(4, 3), "y": torch.rand(4, 2)}, reward=1.0)
    with pytest.raises(pcsim.TrainingError, match=r"start_trial\(\)"):
        plasticity.step({"x": torch.rand(2, 3), "y": torch.rand(2, 2)}, reward=1.0)
    plasticity.start_trial()
    plasticity.step({"x": torch.rand(2, 3), "y": torch.rand(2, 2)}, reward=1.0)
    assert "expected" in plasticity.state["x->y"]
