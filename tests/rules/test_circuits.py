"""Rules of cortical circuits against NumPy references and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from support import reference_circuits as reference
from support.tolerances import EQUATIONS
from torch import Tensor, nn

import pcsim
from pcsim import RK4, Euler, Iterate, Network, Population, Projection, Record, WiringError, models, rules, simulate

pytestmark = pytest.mark.usefixtures("float64")
ALL = Record(states="all")


def vector(values: object) -> Tensor:
    return torch.as_tensor(np.asarray(values, float))[None]


def path(run: pcsim.Run, *names: str) -> NDArray[np.float64]:
    """Return the values of one sample, with units of all `names` side by side: (time, unit)."""
    return np.concatenate([run[name][:, 0].detach().numpy() for name in names], axis=1)


def near(values: object, expected: object, tolerance: float = EQUATIONS) -> bool:
    return np.allclose(np.asarray(values), np.asarray(expected), rtol=0, atol=tolerance)


# ------------------------------------------------------------------ Wilson-Cowan

CYCLE = {**reference.WC_LIMIT_CYCLE, "k": "max"}
THREE = {**reference.WC_THREE_STATES, "k": "max"}


def wilson_cowan(parameters: dict) -> Network:
    p = parameters
    return models.wilson_cowan(
        (p["c1"], p["c2"], p["c3"], p["c4"]), slopes=(p["a_E"], p["a_I"]), thresholds=(p["th_E"], p["th_I"])
    )


@pytest.mark.parametrize("parameters", [CYCLE, THREE])
def test_wilson_cowan_follows_equations_for_4_steps(parameters: dict) -> None:
    drive = {"p": vector([1.25]), "q": vector([0.3])}
    start = {"e": vector([0.2]), "i": vector([0.1])}
    run = simulate(wilson_cowan(parameters), drive, solver=Euler(0.5), steps=4, record=ALL, initial=start)
    expected = reference.wilson_cowan_steps(0.2, 0.1, 4, dt=0.5, **{**parameters, "P": 1.25, "Q": 0.3})
    assert near(path(run, "e", "i"), expected[1:])


def test_wilson_cowan_oscillates_only_where_published() -> None:
    inputs = vector([[1.25], [0.5], [3.0]])[0]
    drive = {"p": inputs, "q": torch.zeros(3, 1)}
    run = simulate(wilson_cowan(CYCLE), drive, solver=RK4(0.5), until=500.0, record=ALL)
    assert reference.oscillates(run["e"][:, 0, 0].detach().numpy(), 0.5, 250.0)[0]
    for sample, p in ((1, 0.5), (2, 3.0)):
        ((e, i, rates),) = reference.wilson_cowan_fixed_points(**{**CYCLE, "P": p})
        assert (rates.real < 0).all()
        assert near(run["e"][-1, sample].detach(), e, 1e-5) and near(run["i"][-1, sample].detach(), i, 1e-5)


def test_wilson_cowan_settles_at_both_stable_states() -> None:
    stable = [(e, i) for e, i, rates in reference.wilson_cowan_fixed_points(**THREE) if (rates.real < 0).all()]
    assert len(stable) == 2
    start = {"e": vector([[0.0], [0.45]])[0], "i": vector([[0.0], [0.2]])[0]}
    drive = {"p": torch.zeros(2, 1), "q": torch.zeros(2, 1)}
    run = simulate(wilson_cowan(THREE), drive, solver=RK4(0.5), until=600.0, record=ALL, initial=start)
    found = np.stack([run[name][-1, :, 0].detach().numpy() for name in ("e", "i")], axis=1)
    assert near(found, sorted(stable), 1e-8)


def test_wilson_cowan_sigmoid_survives_extreme_thresholds() -> None:
    for threshold in (-2000.0, 2000.0):
        value = rules.WilsonCowan(1.0, threshold)(torch.zeros(1, 1), drive=torch.zeros(1, 1))
        assert value.item() == 0.0


# ------------------------------------------------------------------ stabilised supralinear network


def test_ssn_follows_equations_for_4_steps() -> None:
    start = {"e": vector([3.0]), "i": vector([5.0])}
    run = simulate(models.ssn(), vector([20.0]), solver=Euler(1.0), steps=4, record=ALL, initial=start)
    assert near(path(run, "e", "i"), reference.ssn_steps([3.0, 5.0], [20.0, 20.0], 4, dt=1.0)[1:])


def test_ssn_is_supralinear_then_sublinear() -> None:
    contrasts = [0.5, 5.0, 20.0, 40.0]
    drive = torch.tensor(contrasts)[:, None]
    run = simulate(models.ssn(), drive, solver=RK4(1.0), until=1500.0, record=Record(states="all", every=100))
    regimes = [reference.ssn_regime(c) for c in contrasts]
    found = np.stack([run[name][-1, :, 0].detach().numpy() for name in ("e", "i")], axis=1)
    assert near(found, [regime["r"] for regime in regimes], 1e-7)
    assert regimes[0]["slope"] > 1.9 and regimes[-1]["slope"] < 0.5
    assert not regimes[0]["isn"] and regimes[-1]["isn"]


def test_ssn_paradoxical_effect() -> None:
    """Extra drive to inhibitory cells lowers their rate if and only if inhibition stabilises the network."""
    net = models.ssn()
    parts = [*net.populations.values()]
    extra = Network({"h": (1,), "more": (1,)}, parts, [*net.projections, Projection("more", "i")])
    for contrast, falls in ((0.5, False), (20.0, True)):
        drive = {"h": torch.full((2, 1), contrast), "more": torch.tensor([[0.0], [0.01]])}
        run = simulate(extra, drive, solver=RK4(0.5), until=800.0, record=ALL)
        assert bool(run["i"][-1, 1] < run["i"][-1, 0]) is falls


def test_ssn_ring_equals_two_populations_for_uniform_input() -> None:
    ring = simulate(models.ssn(units=12), torch.full((1, 12), 20.0), solver=RK4(0.5), until=100.0, record=ALL)
    pair = simulate(models.ssn(), torch.full((1, 1), 20.0), solver=RK4(0.5), until=100.0, record=ALL)
    assert near(ring["e"].detach(), pair["e"].detach().expand(-1, -1, 12), 1e-9)


# ------------------------------------------------------------------ interneurons


def motif() -> Network:
    """Return the motif with one cell of each type and the weights of the reference."""
    cells = [cell.lower() for cell in reference.MOTIF_CELLS]
    weights = {
        (source.lower(), target.lower()): reference.MOTIF_WEIGHTS[
            reference.MOTIF_CELLS.index(target), reference.MOTIF_CELLS.index(source)
        ]
        for source, target in reference.MOTIF_PROJECTIONS
    }
    populations, projections = models.interneuron_area("a", (1, 1, 1, 1), tau=(10.0,) * 4, weights=weights)
    for edge in projections:
        pair = tuple(name.removeprefix("a_") for name in (edge.source, edge.target))
        nn.init.constant_(edge.transform.stored, weights[pair])
    inputs = {f"to_{cell}": (1, 1, 1) for cell in cells}
    drives = [Projection(f"to_{cell}", f"a_{cell}") for cell in cells]
    return Network(inputs, populations, [*drives, *projections])


def motif_run(h: list[float], solver: object, steps: int, start: list[float]) -> NDArray[np.float64]:
    names = [cell.lower() for cell in reference.MOTIF_CELLS]
    drive = {f"to_{name}": torch.full((1, 1, 1, 1), value) for name, value in zip(names, h, strict=True)}
    initial = {f"a_{name}": torch.full((1, 1, 1, 1), value) for name, value in zip(names, start, strict=True)}
    run = simulate(motif(), drive, solver=solver, steps=steps, record=ALL, initial=initial)
    return np.stack([run[f"a_{name}"].detach().numpy().reshape(-1) for name in names], axis=1)


H, START = [8.0, 6.0, 4.0, 4.0], [1.0, 0.5, 2.0, 0.0]


def test_interneurons_have_published_projections_and_signs() -> None:
    populations, projections = models.interneuron_area("v1", (2, 1, 1, 1))
    found = {}
    for edge in projections:
        channels = 2 if edge.source == "v1_e" else 1
        found[edge.source[3:].upper(), edge.target[3:].upper()] = int(
            edge.transform(torch.ones(1, channels, 1, 1))[0, 0].sign()
        )
    assert found == reference.MOTIF_PROJECTIONS
    assert [population.name for population in populations] == ["v1_e", "v1_pv", "v1_som", "v1_vip"]


def test_interneurons_follow_equations_for_4_steps() -> None:
    assert near(motif_run(H, Euler(1.0), 4, START), reference.motif_steps(START, H, 4, dt=1.0)[1:])


def test_vip_disinhibits_excitatory_cells() -> None:
    more = [*H[:3], H[3] + 0.5]
    signed = reference.motif_sign_matrix() * reference.MOTIF_WEIGHTS
    ends = []
    for h in (H, more):
        (expected,) = reference.threshold_linear_fixed_points(signed, h)
        ends.append(motif_run(h, RK4(2.0), 400, START)[-1])
        assert near(ends[-1], expected, 1e-8)
    assert ends[1][0] > ends[0][0] and ends[1][2] < ends[0][2]


# ------------------------------------------------------------------ normalisation


def organics(weights: NDArray[np.float64], **options: float) -> Network:
    net = models.organics(len(weights), **options)
    with torch.no_grad():
        net.transforms["u_to_a"].stored.copy_(torch.as_tensor(weights))
    return net


W4 = np.array([[0.5, 0.2, 0.1, 0.2], [0.3, 0.4, 0.0, 0.3], [0.1, 0.1, 0.6, 0.2], [0.25, 0.25, 0.25, 0.25]])
Z = np.array([1.0, 0.2, 0.0, 2.0])


def test_organics_follow_equations_for_4_steps() -> None:
    net = organics(W4, tau=(8.0, 12.0), sigma=0.3, gain=1.5, modulator_gain=0.8)
    y0, a0 = np.array([0.1, 0.5, 0.0, 1.0]), np.array([0.2, 0.0, 1.5, 0.4])
    run = simulate(net, vector(Z), solver=Euler(1.0), steps=4, record=ALL, initial={"y": vector(y0), "a": vector(a0)})
    ys, modulators = reference.organics_steps(
        y0, a0, Z, 4, W=W4, sigma=0.3, b0=0.8, b1=1.5, tau_y=8.0, tau_a=12.0, dt=1.0
    )
    assert near(path(run, "y"), ys[1:]) and near(path(run, "a"), modulators[1:])


def test_organics_settle_at_divisive_normalisation() -> None:
    net = organics(W4, sigma=0.3, gain=1.5, modulator_gain=0.8)
    run = simulate(net, vector(Z), solver=RK4(1.0), until=2000.0, record=ALL)
    y, a = reference.organics_fixed_point(Z, W=W4, sigma=0.3, b0=0.8, b1=1.5)
    assert near(path(run, "y")[-1], y, 1e-9) and near(path(run, "a")[-1], a, 1e-9)


def test_organics_have_finite_gradients_from_rest() -> None:
    net = models.organics(3)
    run = simulate(net, torch.tensor([[1.0, 0.0, 2.0]]), solver=Euler(1.0), steps=5, gradient=pcsim.Full())
    run["y"].sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in net.parameters())


DN = {"tau1": 30.0, "tau2": 70.0, "power": 1.5, "sigma": 0.15}


def delayed(contrasts: object, duration: float, until: float, solver: object, **options: float) -> NDArray[np.float64]:
    net = models.delayed_normalisation(None, tau=(30.0, 70.0), sigma=0.15, power=1.5, image=(1, 1, 1), **options)
    image = torch.as_tensor(np.atleast_1d(contrasts)).reshape(-1, 1, 1, 1)
    shown = pcsim.stimuli.held(image, duration)
    if duration < until:
        shown = shown.then(pcsim.stimuli.blank(until - duration, like=image))
    run = simulate(net, shown, solver=solver, until=until, record=Record(states=["r"]))
    return run["r"].detach().numpy()[:, :, 0, 0, 0]


def test_delayed_normalisation_follows_equations() -> None:
    stimulus = np.array([0.7, 0.7, 0.7, 0.0, 0.0, 0.0])
    expected = reference.dn_ode_steps(stimulus, dt=2.0, **DN)
    assert near(delayed(0.7, 6.0, 12.0, Euler(2.0))[:, 0], expected)


def test_delayed_normalisation_step_response_matches_closed_form() -> None:
    contrasts = np.array([0.05, 0.3, 1.0])
    found = delayed(contrasts, math.inf, 1500.0, RK4(1.0))
    times = np.arange(1.0, 1501.0)
    for sample, c in enumerate(contrasts):
        assert near(found[:, sample], reference.dn_step_response(times, c, **DN), 1e-6)
        assert near(found[-1, sample], reference.dn_steady_state(c, power=1.5, sigma=0.15), 1e-6)
    peaks = found.argmax(0)
    assert peaks[0] > peaks[1] > peaks[2], "latency falls with contrast"


def test_delayed_normalisation_is_subadditive_in_duration() -> None:
    areas = [delayed(1.0, duration, 2000.0, RK4(2.0)).sum() for duration in (50.0, 100.0, 200.0)]
    assert areas[0] < areas[1] < 2 * areas[0] and areas[1] < areas[2] < 2 * areas[1]


def test_biphasic_normalisation_settles_at_reduced_drive() -> None:
    found = delayed(0.8, math.inf, 2000.0, RK4(2.0), undershoot=0.3)
    assert near(found[-1, 0], reference.dn_steady_state(0.8, power=1.5, sigma=0.15, w=0.3), 1e-8)


def test_static_normalisation_saturates() -> None:
    drive = torch.tensor([[0.0, 0.1, 1e6, -1.0]])
    r = rules.DivisiveNormalisation(0.1, 2.0)(drive=drive, pool=drive)
    assert torch.allclose(r, torch.tensor([[0.0, 0.5, 1.0, 0.0]]), atol=1e-9)


# ------------------------------------------------------------------ adaptation


def adapting_net(**options: float) -> Network:
    rule = rules.IntrinsicSuppression(2, **options)
    return Network({"u": (2,)}, [Population("r", rule)], [Projection("u", "r")], readout="r", steps=4)


def test_intrinsic_suppression_follows_equations() -> None:
    drives = torch.randn(6, 3, 2)
    rule = rules.IntrinsicSuppression(2, alpha=0.8, beta=1.5)
    nn.init.constant_(rule.bias, 0.3)
    own = {"value": torch.zeros(3, 2), "suppression": torch.zeros(3, 2)}
    r, s = reference.intrinsic_suppression_steps(drives.numpy() + 0.3, alpha=0.8, beta=1.5)
    for step, drive in enumerate(drives):
        own = rule(own, drive=drive)
        assert near(own["value"].detach(), r[step]) and near(own["suppression"].detach(), s[step])


def test_intrinsic_suppression_of_constant_drive_is_geometric() -> None:
    run = simulate(adapting_net(), vector([2.0, 0.5]), solver=Iterate(), steps=80, record=Record(states=["r"]))
    for unit, drive in enumerate((2.0, 0.5)):
        expected, _ = reference.intrinsic_suppression_constant(np.arange(1, 81), drive)
        assert near(run["r"][:, 0, unit].detach(), expected, 1e-12)


def test_intrinsic_suppression_as_ode_has_slow_time_constant() -> None:
    flow = adapting_net(alpha=0.9, beta=0.0).as_ode(tau=10.0)
    record = Record(states=["r.suppression"])
    run = simulate(
        flow, vector([1.0, 1.0]), solver=RK4(1.0), until=300.0, initial={"r": vector([1.0, 1.0])}, record=record
    )
    expected = 1.0 - np.exp(-run.times / 100.0)  # tau / (1 - alpha)
    assert near(run["r.suppression"][:, 0, 0].detach(), expected, 1e-6)


def test_zero_suppression_is_feed_forward_network_to_the_bit() -> None:
    torch.set_default_dtype(torch.float32)
    net = models.intrinsic_suppression((3, 4), beta=0.0, image=(1, 8, 8))
    run = simulate(net, torch.rand(2, 1, 8, 8), solver=Iterate(), steps=6, record=Record(states=["l1", "l2"]))
    assert torch.equal(run["l1"][0], run["l1"][-1]) and torch.equal(run["l2"][1], run["l2"][-1])


# ------------------------------------------------------------------ short-term plasticity

SYNAPSES = [(0.15, 200.0, 1500.0), (0.5, 800.0, None), (0.2, None, 600.0)]


def synaptic_net(use: float, depletion: float | None, facilitation: float | None) -> Network:
    populations, projections = models.synapses("u", "y", use, depletion, facilitation, peak_hz=50.0)
    silent = Population("leak", rules.Leaky(rules.Sum(), 10.0))  # a network needs at least one memory
    return Network({"u": (1,)}, [silent, *populations], [Projection("u", "leak"), *projections], readout="y")


def state_of(run: pcsim.Run, use: float, depletion: float | None, facilitation: float | None) -> tuple:
    x = 1.0 - path(run, "y_d")[:, 0] if depletion else np.ones(len(run.times))
    u = use + path(run, "y_f")[:, 0] if facilitation else np.full(len(run.times), use)
    return x, u


@pytest.mark.parametrize("synapse", SYNAPSES)
def test_synapses_follow_equations_for_4_steps(synapse: tuple) -> None:
    use, depletion, facilitation = synapse
    run = simulate(synaptic_net(*synapse), vector([0.6]), solver=Euler(1.0), steps=4, record=ALL)
    tau_d = 1e12 if depletion is None else depletion / 1000.0
    tau_f = None if facilitation is None else facilitation / 1000.0
    x, u = reference.stp_steps(1.0, use, 30.0, 4, U=use, tau_D=tau_d, tau_F=tau_f, dt=1e-3)
    if depletion is None:
        x = np.ones(5)
    found = state_of(run, *synapse)
    assert near(found[0], x[1:]) and near(found[1], u[1:])
    assert near(path(run, "y")[:, 0], u[1:] * x[1:] * 0.6 / use)


@pytest.mark.parametrize("synapse", SYNAPSES[:2])
def test_synapses_settle_at_stationary_efficacy(synapse: tuple) -> None:
    use, depletion, facilitation = synapse
    run = simulate(
        synaptic_net(*synapse), vector([0.6]), solver=RK4(2.0), until=12000.0, record=Record("all", every=100)
    )
    tau_f = None if facilitation is None else facilitation / 1000.0
    x, u = reference.stp_steady_state(30.0, U=use, tau_D=depletion / 1000.0, tau_F=tau_f)
    found = state_of(run, *synapse)
    assert near(found[0][-1], x, 1e-6) and near(found[1][-1], u, 1e-6)


def test_synapse_at_rest_passes_activity_and_can_be_lesioned() -> None:
    net = models.dynamic_synapses(2)
    record = Record(states=["released", "pre", "released.strength"])
    intact = simulate(net, vector([1.0, 0.0]), solver=RK4(1.0), until=500.0, record=record)
    fixed = simulate(
        net.without("released_d->released"), vector([1.0, 0.0]), solver=RK4(1.0), until=500.0, record=record
    )
    assert torch.equal(fixed["released"], fixed["pre"])
    assert intact["released.strength"][-1, 0, 0] < 0.1 and near(intact["released.strength"][-1, 0, 1].detach(), 1.0)


# ------------------------------------------------------------------ options

BAD = [
    lambda: rules.PowerLaw(power=0.5),
    lambda: rules.PowerLaw(gain=-1.0),
    lambda: rules.PowerLaw(power=math.inf),
    lambda: rules.WilsonCowan(slope=0.0),
    lambda: rules.WilsonCowan(threshold=math.nan),
    lambda: rules.DivisiveNormalisation(sigma=0.0),
    lambda: rules.IntrinsicSuppression(2, alpha=1.5),
    lambda: rules.Depletion(utilisation=0.0),
    lambda: rules.Facilitation(utilisation=1.5),
    lambda: rules.Depletion(tau=-1.0),
    lambda: rules.Release(0.0),
    lambda: rules.HorizontalInhibition(2, "sigmoid"),
    lambda: rules.Accumulator(rate=2.0),
    lambda: rules.Accumulator(leak=-1.0),
    lambda: models.interneuron_area("a", (1, 1, 1, 1), weights={("e", "ndnf"): 1.0}),
    lambda: models.ei_rcnn((2, 2, 2), image=(1, 6, 6)),
    lambda: models.interneuron_area("a", (1, 1, 1, 1), tau=(10.0, 10.0)),
    lambda: models.laminar(((4,),)),
    lambda: models.laminar_hierarchy(["u"], {"a": (2,)}, [("u", "a", nn.Identity(), nn.Identity())], tau={}),
    lambda: models.laminar_hierarchy(["image"], {"v1": (2,)}, [("image", "v2", nn.Identity(), nn.Identity())]),
]


@pytest.mark.parametrize("attempt", BAD)
def test_invalid_options_refused(attempt: object) -> None:
    with pytest.raises(WiringError):
        attempt()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rules_keep_dtype(dtype: torch.dtype) -> None:
    value = torch.rand(2, 3, dtype=dtype)
    cells = {
        rules.PowerLaw(): {"drive"},
        rules.WilsonCowan(): {"drive"},
        rules.Organics(): {"drive", "recurrent", "modulator"},
        rules.Depletion(): {"drive", "facilitation"},
        rules.Facilitation(): {"drive"},
        rules.Accumulator(): {"drive", "inhibition"},
        rules.HorizontalExcitation(3).to(dtype): {"drive", "excitation", "mix"},
    }
    for rule, ports in cells.items():
        assert rule(value, **dict.fromkeys(ports, value)).dtype == dtype, rule
    wires = {
        rules.DivisiveNormalisation(): {"drive", "pool"},
        rules.OrganicsPool(): {"drive", "modulator"},
        rules.Release(): {"drive", "depletion", "facilitation"},
        rules.HorizontalInhibition(3).to(dtype): {"drive", "inhibition", "state"},
    }
    for rule, ports in wires.items():
        assert rule(**dict.fromkeys(ports, value)).dtype == dtype, rule
