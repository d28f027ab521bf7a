"""The hGRU, laminar areas, decisions and neural noise, against NumPy references and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from support import reference_circuits as reference
from support.small import small
from support.tolerances import EQUATIONS
from torch import Tensor, nn

import pcsim
from pcsim import (
    Euler,
    Iterate,
    Network,
    PcsimWarning,
    Record,
    StimulusError,
    WiringError,
    analysis,
    models,
    simulate,
    stimuli,
)
from pcsim.connections import Tied
from pcsim.rules import ErrorRelaxation, PredictionError

pytestmark = pytest.mark.usefixtures("float64")
ALL = Record(states="all")


def near(values: object, expected: object, tolerance: float = EQUATIONS) -> bool:
    return np.allclose(np.asarray(values), np.asarray(expected), rtol=0, atol=tolerance)


# ------------------------------------------------------------------ hGRU


def contour_net(**options: object) -> Network:
    net = models.hgru(3, 3, filters=3, image=(1, 6, 6), steps=4, **options)
    with torch.no_grad():
        for rule in net.rules.values():
            for parameter in rule.parameters():
                parameter.add_(0.3 * torch.randn(parameter.shape))
    return net.eval()


def kernel(weight: Tensor) -> NDArray[np.float64]:
    """Convert (out, in, height, width) to (height, width, in, out)."""
    return weight.detach().numpy().transpose(2, 3, 1, 0)


@pytest.mark.parametrize("symmetric", [True, False])
def test_hgru_follows_equations(symmetric: bool) -> None:
    net, image = contour_net(symmetric=symmetric), torch.randn(2, 1, 6, 6)
    run = simulate(net, image, solver=Iterate(), record=ALL)
    horizontal = net.transforms["g1_to_h1_inhibition"]
    w = kernel((horizontal.layer if symmetric else horizontal).weight)
    w = reference.hgru_symmetric(w) if symmetric else w
    inhibition, excitation = net.rules["h1"], net.rules["h2"]
    u1, u2 = (net.transforms[key].weight.detach().numpy()[:, :, 0, 0].T for key in ("h2_to_g1_gate", "h1_to_h2_mix"))
    options = {name: getattr(excitation, name).detach().numpy() for name in ("kappa", "omega", "beta")}
    options |= {name: getattr(inhibition, name).detach().numpy() for name in ("alpha", "mu")}
    options |= {"b1": net.rules["g1"].bias.detach().numpy(), "b2": excitation.bias.detach().numpy()}
    for sample in range(2):
        x = run["x"][0, sample].detach().numpy().transpose(1, 2, 0)
        filtered = reference.conv_same(
            image[sample].numpy().transpose(1, 2, 0), kernel(net.transforms["image_to_x"].weight)
        )
        assert near(x, (filtered + net.rules["x"].bias.detach().numpy()) ** 2)
        for steps in range(1, 5):
            h1, h2 = reference.hgru_steps(x, np.zeros_like(x), steps, W=w, U1=u1, U2=u2, **options)
            assert near(run["h1"][steps - 1, sample].detach().numpy().transpose(1, 2, 0), h1)
            assert near(run["h2"][steps - 1, sample].detach().numpy().transpose(1, 2, 0), h2)


def test_hgru_without_horizontal_edges_matches_closed_form() -> None:
    net = contour_net()
    for key in ("g1->h1:inhibition", "h1->h2:excitation", "h1->h2:mix"):
        net = net.without(key)
    run = simulate(net, torch.randn(1, 1, 6, 6), solver=Iterate(), record=ALL)
    x = run["x"][0, 0].detach().numpy().transpose(1, 2, 0)
    rule = net.rules["h2"]
    kappa, b2 = (value.detach().numpy() for value in (rule.kappa, rule.bias))
    for step in range(4):
        expected = reference.hgru_no_horizontal(x, np.zeros_like(x), step + 1, kappa=kappa, b2=b2)
        assert near(run["h2"][step, 0].detach().numpy().transpose(1, 2, 0), expected)


def test_hgru_with_norm_is_rectified_twice() -> None:
    rule = pcsim.rules.HorizontalInhibition(1, "relu")
    nn.init.constant_(rule.alpha, 0.5)
    drive, inhibition, state = (torch.tensor([[value]]) for value in (1.0, -2.0, 1.0))
    assert rule(drive=drive, inhibition=inhibition, state=state).item() == 1.0  # negative inhibition has no effect
    assert rule(drive=drive, inhibition=-0.2 * inhibition, state=state).item() == pytest.approx(1.0 - 0.4 * 1.5)


def test_hgru_shares_horizontal_weights() -> None:
    net = models.hgru(4, 5, image=(1, 8, 8))
    assert net.transforms["g1_to_h1_inhibition"] is net.transforms["h1_to_h2_excitation"]


@pytest.mark.parametrize("size", [9, 10, 11])
def test_hgru_with_stride_samples_the_filtered_image(size: int) -> None:
    net = models.hgru(3, 3, filters=5, stride=3, image=(1, size, size), steps=2).eval()
    dense = models.hgru(3, 3, filters=5, image=(1, size, size), steps=2).eval()
    dense.transforms["image_to_x"].load_state_dict(net.transforms["image_to_x"].state_dict())
    dense.rules["x"].load_state_dict(net.rules["x"].state_dict())
    image = torch.randn(2, 1, size, size)
    found, full = (simulate(each, image, solver=Iterate(), record=ALL) for each in (net, dense))
    assert near(found["x"].detach(), full["x"].detach()[..., ::3, ::3])
    assert found["h2"].shape[-2:] == found["x"].shape[-2:] == net.shape("h2")[1:]


# ------------------------------------------------------------------ laminar areas


def as_predictive_coding(net: Network) -> Network:
    """Return the hierarchy of `predictive_coding` with the weights of a laminar network."""
    layers = [net.inputs["image"], *(net.shape(f"v{n}_l5") for n in (1, 2, 3))]
    other = models.predictive_coding(layers, activation="tanh", tau=20.0, bias=False)
    with torch.no_grad():
        for target, source in zip(other.parameters(), net.parameters(), strict=True):
            target.copy_(source)
    return other


def test_laminar_equals_predictive_coding() -> None:
    net = small("laminar")
    other = as_predictive_coding(net)
    image = torch.rand(2, 2, 8, 8)
    record = Record(states="all", errors="all")
    ours = simulate(net, image, solver=Euler(2.0), until=100.0, record=record)
    theirs = simulate(other, image, solver=Euler(2.0), until=100.0, record=record)
    for n in (1, 2, 3):
        assert near(ours[f"v{n}_l5"].detach(), theirs[f"r{n}"].detach())
    for name, error in zip(("image", "v1", "v2"), ("e0", "e1", "e2"), strict=True):
        assert near(ours.errors[f"{name}_l23"].detach(), theirs.errors[error].detach())


def test_laminar_linear_area_follows_equations() -> None:
    net = models.laminar(((5,), (3,)), tau=10.0, tau_l23=4.0)
    u = torch.rand(1, 5)
    weights = next(net.parameters()).detach().numpy().T
    start = {"v1_l5": torch.rand(1, 3)}
    run = simulate(net, u, solver=Euler(1.0), steps=4, record=ALL, initial=start)
    errors, states = reference.laminar_pc_steps(
        start["v1_l5"][0].numpy(), u[0].numpy(), 4, W=weights, prec=0.0, tau_e=4.0, tau_x=10.0, dt=1.0
    )
    assert near(run["image_l23"][:, 0].detach(), errors[1:]) and near(run["v1_l5"][:, 0].detach(), states[1:])


def test_laminar_edges_between_areas_join_published_layers() -> None:
    net = small("laminar")
    rank = {"image": 0, "v1": 1, "v2": 2, "v3": 3}
    layer = {"l4": "L4", "l23": "L2/3", "l5": "L5"}
    table = []
    for edge in net.projections:
        (a, _, from_layer), (b, _, to_layer) = (name.rpartition("_") for name in (edge.source, edge.target))
        if a and rank[a] != rank[b]:
            where = ("this", "higher") if rank[b] > rank[a] else ("this", "lower")
            sign = -1 if edge.kind == "prediction" else 1
            table.append((where[0], layer[from_layer], where[1], layer[to_layer], sign, edge.name))
    assert len(table) == 6 and reference.laminar_check(table) == []


def test_laminar_hierarchy_with_skip_link_descends_energy() -> None:
    """Two areas predict the image, and the energy of all errors falls."""
    first, second, skip = (nn.Linear(*pair, bias=False) for pair in ((8, 6), (6, 3), (8, 3)))
    links = [
        ("image", "v1", first, Tied(first)),
        ("v1", "v2", second, Tied(second)),
        ("image", "v2", skip, Tied(skip)),
    ]
    wiring = models.laminar_hierarchy(["image"], {"v1": (6,), "v2": (3,)}, links, tau={"v1": 10.0, "v2": 30.0})
    net = Network({"image": (8,)}, *wiring)
    run = simulate(net, torch.rand(3, 8), solver=Euler(1.0), until=300.0, record=Record(states="all"))
    energy = sum(run[name].square().sum(-1) for name in ("image_l23", "v1_l23")).detach()
    assert (energy.diff(dim=0) <= 1e-12).all() and energy[-1].max() < energy[0].min()
    assert set(net.errors) == {"image_l23", "v1_l23"} and isinstance(net.rules["v2_l5"], ErrorRelaxation)
    assert isinstance(net.rules["v1_l23"], PredictionError)


# ------------------------------------------------------------------ decisions


def evidence_net(choices: int) -> Network:
    """Return a network whose readout is its input."""
    return Network(
        {"z": (choices,)},
        [pcsim.Population("readout", pcsim.rules.Sum()), pcsim.Population("memory", pcsim.rules.Rate(choices))],
        [pcsim.Projection("z", "readout"), pcsim.Projection("z", "memory")],
        readout="readout",
        steps=4,
    )


def test_leaky_competing_accumulators_follow_equations() -> None:
    net = models.with_decision(evidence_net(3), "lca", leak=0.2, inhibition=0.4)
    rho = np.array([1.0, 0.9, 0.3])
    run = simulate(net, torch.tensor(rho)[None], solver=Iterate(), steps=4, record=Record(states=["decision"]))
    expected = reference.lca_steps(np.zeros(3), rho, 4, k=0.2, beta=0.4, dt=0.1)
    assert near(run["decision"][:, 0], expected[1:])
    winner, is_consistent = reference.lca_winner(rho, k=0.2, beta=0.4)
    end = simulate(net, torch.tensor(rho)[None], solver=Iterate(), steps=3000)
    assert is_consistent and near(end["decision"][-1, 0], winner, 1e-8)


def test_race_and_gate() -> None:
    evidence = torch.tensor([[1.0, 0.25, -0.5]])
    run = simulate(models.with_decision(evidence_net(3), "race"), evidence, solver=Iterate(), steps=4)
    expected = reference.race_steps(np.zeros(3), evidence[0].numpy(), 4, dt=0.1, floor=0.0)
    assert near(run["decision"][:, 0], expected[1:])
    gated = models.with_decision(evidence_net(3), "race", gate=0.4)
    run = simulate(gated, evidence, solver=Iterate(), steps=5)
    assert near(run["decision"][-1, 0], [0.5 * 0.6, 0.0, 0.0])


def test_drift_integrates_contrast_with_other_choices() -> None:
    run = simulate(
        models.with_decision(evidence_net(3), "drift"), torch.tensor([[2.0, 1.0, 0.0]]), solver=Iterate(), steps=10
    )
    assert near(run["decision"][-1, 0], [1.5, 0.0, -1.5])


def test_decision_in_flow_integrates_with_same_time_constant() -> None:
    flow = evidence_net(2).as_ode(tau=10.0)
    net = models.with_decision(flow, "race", tau=50.0)
    run = simulate(net, torch.tensor([[1.0, 0.5]]), solver=Euler(1.0), until=100.0)
    times, choices = analysis.bound_crossings(run.times, run["decision"], 1.0)
    assert near(times, [50.0], 1e-9) and choices.tolist() == [0]


def test_decision_keeps_parameters_and_network_unchanged() -> None:
    net = models.blt((2, 2), image=(1, 8, 8))
    decided = models.with_decision(net, "lca", tau=80.0)
    assert net.readout == "readout" and "decision" not in net.populations
    assert {id(p) for p in net.parameters()} <= {id(p) for p in decided.parameters()}
    image = torch.rand(2, 1, 8, 8)
    plain = simulate(net, image, solver=Iterate(), record=Record(states=["l1", "readout"]))
    other = simulate(decided, image, solver=Iterate(), record=Record(states=["l1", "readout"]))
    assert all(torch.equal(plain[key], other[key]) for key in ("l1", "readout"))
    assert decided.shape("decision") == (10,) and decided.readout == "decision"
    without = simulate(decided.without("decision->decision"), image, solver=Iterate())
    assert torch.isfinite(without["decision"]).all()


@pytest.mark.parametrize(
    "options", [{"kind": "vote"}, {"kind": "drift", "inhibition": 1.0}, {"source": "l1"}, {"tau": 1.0}, {"leak": -1.0}]
)
def test_decision_refuses_invalid_options(options: dict) -> None:
    with pytest.raises(WiringError):
        models.with_decision(models.blt((2, 2), image=(1, 8, 8)), **options)


def test_drift_diffusion_matches_closed_form() -> None:
    """Mean decision time and accuracy of 4,000 noisy decisions against the exact values for the discretised walk."""
    v, a, s, dt, count = 1.0, 1.0, 1.0, 0.05, 4000
    rule = pcsim.rules.Accumulator(rate=dt, floor=None)
    net = Network({"z": (1,)}, [pcsim.Population("x", rule)], [pcsim.Projection("z", "x")], readout="x", step_ms=1.0)
    drive = stimuli.noise(torch.full((count, 1), v), s / math.sqrt(dt), duration=300.0, every=1.0, seed=0)
    run = simulate(net, drive, solver=Iterate())
    times, choices = analysis.bound_crossings(run.times, run["x"], a)
    steps = torch.ceil(times - 1e-9) * dt  # the reference counts whole steps
    accuracy, mean = reference.ddm_discrete_exact(v=v, a=a, s=s, dt=dt, nodes=201)
    assert (choices >= 0).all()
    assert abs(float((choices == 0).double().mean()) - accuracy) < 4 * math.sqrt(accuracy * (1 - accuracy) / count)
    assert abs(float(steps.mean()) - mean) < 4 * float(steps.std()) / math.sqrt(count)
    assert abs(float(times.mean()) * dt - reference.ddm_closed_form(v=v, a=a, s=s)[1]) < 0.15  # discretisation


# ------------------------------------------------------------------ noise


@pytest.mark.parametrize("method", ["exact", "euler"])
def test_ou_noise_follows_recursion(method: str) -> None:
    line = stimuli.ou_noise(torch.zeros(3, 2), 1.5, 20.0, 600.0, 4.0, seed=3, method=method)
    frames = np.stack([line.at(4.0 * k).numpy() for k in range(150)])
    kept = math.exp(-0.2) if method == "exact" else 0.8
    size = 1.5 * math.sqrt(1 - kept**2) if method == "exact" else 1.5 * math.sqrt(0.4)
    drawn = (frames[1:] - kept * frames[:-1]) / size
    step = reference.ou_exact_steps if method == "exact" else reference.ou_euler_steps
    assert near(step(frames[0], drawn, tau=20.0, sigma=1.5, dt=4.0), frames, 1e-12)
    assert abs(drawn.mean()) < 4 / math.sqrt(drawn.size) and abs(drawn.std() - 1) < 4 / math.sqrt(2 * drawn.size)


@pytest.mark.parametrize("method", ["exact", "euler"])
def test_ou_noise_variance_and_autocorrelation(method: str) -> None:
    every, tau, sd, count = 5.0, 20.0, 2.0, 20000
    line = stimuli.ou_noise(torch.zeros(count, 1), sd, tau, 200.0, every, seed=0, method=method)
    _, _, variance, lag_one = reference.ou_moments(1, 0.0, tau=tau, sigma=sd, dt=every, method=method)
    if method == "exact":
        assert variance == sd**2 and lag_one == pytest.approx(math.exp(-every / tau))
    first = line.at(0.0)[:, 0].numpy()
    for k in (0, 1, 4, 20):
        value = line.at(k * every)[:, 0].numpy()
        assert abs(value.var() / variance - 1) < 5 * math.sqrt(2 / count), "stationary from the start"
        assert abs(np.corrcoef(first, value)[0, 1] - lag_one**k) < 5 / math.sqrt(count)


def test_ou_noise_depends_on_seed_sample_and_frame_only() -> None:
    options = {"sd": 1.0, "tau": 10.0, "duration": 1000.0, "every": 1.0, "seed": 5}
    whole = stimuli.ou_noise(torch.zeros(4, 1, 3, 3), **options)
    frames = {k: whole.at(float(k)) for k in (0, 1, 2, 300, 64, 65, 63, 999, 128, 0, 300)}
    for k in (999, 0, 65, 300, 2):
        fresh = stimuli.ou_noise(torch.zeros(4, 1, 3, 3), **options)
        assert torch.equal(fresh.at(float(k)), frames[k])
    part = stimuli.ou_noise(torch.zeros(2, 1, 3, 3), **options, first=2)
    assert torch.equal(part.at(300.0), frames[300][2:])
    other = stimuli.ou_noise(torch.zeros(4, 1, 3, 3), **{**options, "seed": 6})
    assert not torch.equal(other.at(0.0), frames[0])
    images = torch.rand(4, 1, 3, 3)
    assert torch.allclose(stimuli.ou_noise(images, **options).at(5.0) - images, whole.at(5.0), atol=1e-12)


@pytest.mark.parametrize(
    "options", [{"every": 30.0, "method": "euler"}, {"sd": -1.0}, {"tau": 0.0}, {"method": "heun"}]
)
def test_ou_noise_refuses_invalid_options(options: dict) -> None:
    with pytest.raises(StimulusError):
        stimuli.ou_noise(
            torch.zeros(1, 1), **{"sd": 1.0, "tau": 10.0, "duration": 50.0, "every": 1.0, "seed": 0} | options
        )


def test_with_noise_adds_input_to_drive() -> None:
    net = models.leaky_rcnn((3, 4), tau=(10.0, 20.0), image=(1, 8, 8))
    noisy = models.with_noise(net, "l1", "l2")
    assert noisy.inputs["noise_l1"] == (3, 8, 8) and noisy.inputs["noise_l2"] == (4, 4, 4)
    image = torch.rand(2, 1, 8, 8)
    noise = {f"noise_{n}": torch.zeros(2, *noisy.inputs[f"noise_{n}"]) for n in ("l1", "l2")}
    plain = simulate(net, image, solver=Euler(1.0), until=20.0, record=Record(states=["l2"]))
    silent = simulate(noisy, {"image": image, **noise}, solver=Euler(1.0), until=20.0, record=Record(states=["l2"]))
    assert torch.equal(plain["l2"], silent["l2"])
    line = stimuli.ou_noise(noise["noise_l1"], 0.5, 20.0, 20.0, 1.0, seed=1)
    runs = [
        simulate(noisy, {"image": image, **noise, "noise_l1": line}, solver=Euler(1.0), until=20.0) for _ in range(2)
    ]
    assert torch.equal(runs[0]["readout"], runs[1]["readout"])
    assert not torch.equal(runs[0]["readout"], simulate(net, image, solver=Euler(1.0), until=20.0)["readout"])
    with pytest.raises(WiringError, match="no population"):
        models.with_noise(net)
    with pytest.raises(WiringError, match="l9"):
        models.with_noise(net, "l9")


def test_white_noise_into_leak_is_euler_maruyama() -> None:
    """A leaky population driven by white noise of sd sqrt(2 tau / dt) is an Ornstein-Uhlenbeck process."""
    tau, dt, count = 20.0, 1.0, 5000
    rule = pcsim.rules.Leaky(pcsim.rules.Sum(), tau)
    net = Network({"xi": (1,)}, [pcsim.Population("x", rule)], [pcsim.Projection("xi", "x")], readout="x")
    line = stimuli.noise(torch.zeros(count, 1), math.sqrt(2 * tau / dt), duration=200.0, every=dt, seed=0)
    run = simulate(net, line, solver=Euler(dt))
    xi = np.stack([line.at(k * dt).numpy() for k in range(4)]) / math.sqrt(2 * tau / dt)
    expected = reference.ou_euler_steps(np.zeros((count, 1)), xi, tau=tau, dt=dt)
    assert near(run["x"][:4], expected[1:], 1e-12)
    _, variance, *_ = reference.ou_moments(200, 0.0, tau=tau, dt=dt)
    assert abs(float(run["x"][-1].var()) / variance - 1) < 5 * math.sqrt(2 / count)


# ------------------------------------------------------------------ bound crossings


def test_bound_crossings_interpolate_and_choose() -> None:
    values = torch.tensor([[[0.0, 0.0], [0.0, 2.0]], [[0.5, 0.2], [0.0, 0.0]], [[1.5, 0.4], [0.1, 0.0]]])
    times, choices = analysis.bound_crossings([0.0, 10.0, 20.0], values, 1.0)
    assert times.tolist() == [15.0, 0.0] and choices.tolist() == [0, 1]
    with pytest.warns(PcsimWarning, match=r"1 of 2 decisions .* at most 10\. Pass Record"):
        times, choices = analysis.bound_crossings([10.0, 20.0, 30.0], values, 1.0)
    assert times.tolist() == [25.0, 10.0] and choices.tolist() == [0, 1]


def test_bound_crossings_without_decision_or_with_nan() -> None:
    values = torch.tensor([[[0.1], [torch.nan], [0.0]], [[0.2], [torch.nan], [-3.0]]])
    times, choices = analysis.bound_crossings([1.0, 2.0], values, 1.5)
    assert times.isnan().tolist() == [True, True, False] and times[2] == 1.5
    assert choices.tolist() == [-1, -1, 1]
    with pytest.raises(StimulusError):
        analysis.bound_crossings([1.0], values, 1.5)
    with pytest.raises(StimulusError, match="bound"):
        analysis.bound_crossings([1.0, 2.0], values, -1.0)


# ------------------------------------------------------------------ Dirichlet readouts


def test_evidence_is_log_of_dirichlet_concentrations() -> None:
    net, logits = models.with_evidence(evidence_net(3)), torch.tensor([[2.0, -1.0, 0.5], [-30.0, -30.0, -30.0]])
    run = simulate(net, logits, solver=Iterate(), steps=2)
    alpha = 1.0 + np.log1p(np.exp(logits.numpy()))
    assert net.readout == "evidence" and near(run["evidence"][-1], np.log(alpha))
    assert near(analysis.evidential_uncertainty(run["evidence"])[-1], 3.0 / alpha.sum(1))
    targets = nn.functional.one_hot(torch.tensor([2, 0]), 3).double()
    loss = pcsim.training.loss_at_step(run["evidence"][-1], targets, "softmax")
    assert near(loss, np.mean(np.log(alpha.sum(1)) - np.log(alpha[[0, 1], [2, 0]])))  # Sensoy et al. 2018 eq. 3


def test_evidence_needs_a_vector_of_classes() -> None:
    silent = Network({"z": (2,)}, [pcsim.Population("a", pcsim.rules.Sum())], [pcsim.Projection("z", "a")])
    for net in (evidence_net(1), silent):
        with pytest.raises(WiringError):
            models.with_evidence(net)
