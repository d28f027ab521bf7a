"""Multiplicative modulation: networks without a gain are unchanged, and a gain multiplies the drive."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support.small import SMALL, shown, small, stepping
from support.tolerances import EQUATIONS
from torch import Tensor, nn

import pcsim
from pcsim import RK4, Euler, Iterate, Network, Population, Projection, Record, Simulator, WiringError, rules, simulate
from pcsim.network.variants import rebuilt
from pcsim.plots.diagrams import STYLES

ALL = Record(states="all")


def modulated(net: Network, with_edges: bool) -> Network:
    """Return a network in which each population has a gain, from an input of its own if `with_edges`."""
    names = [name for name, p in net.populations.items() if "gain" not in p.rule.ports]
    populations = [
        replace(p, rule=rules.modulated(p.rule, "value" if isinstance(p.rule, rules.SplitError) else None),
                shape=net.shape(name)) if name in names else p
        for name, p in net.populations.items()
    ]  # fmt: skip
    inputs, edges = dict(net.inputs), list(net.projections)
    if with_edges:
        inputs |= {f"gain_{name}": net.shape(name) for name in names}
        edges += [Projection(f"gain_{name}", name, kind="modulatory") for name in names]
    return rebuilt(net, populations, edges, inputs=inputs)


def gains(net: Network, of: Network, size: float = 0.0) -> dict[str, Tensor]:
    """Return the inputs of `net`, and gains for the populations of `of`."""
    zeros = {f"gain_{name}": torch.full((2, *net.shape(name)), size) for name in net.populations}
    return shown(net, 2) | {name: value for name, value in zeros.items() if name in of.inputs}


def assert_same(net: Network, other: Network, inputs: dict[str, Tensor], run: dict) -> None:
    first, second = simulate(net, shown(net, 2), **run), simulate(other, inputs, **run)
    assert all(torch.equal(first[key], second[key]) for key in first.values)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("with_edges", [False, True])
def test_gain_of_zero_is_untouched_network_bitwise(name: str, with_edges: bool) -> None:
    net = small(name)
    solver, steps = stepping(net)
    other = modulated(net, with_edges)
    assert_same(net, other, gains(net, other), {"solver": solver, "steps": steps, "record": ALL})
    assert other.errors == net.errors and other.parameter_count == net.parameter_count


@pytest.mark.parametrize("name", SMALL)
def test_gain_of_zero_is_untouched_ode_bitwise(name: str) -> None:
    net = small(name)
    other = modulated(net, with_edges=True)
    run = {"solver": RK4(dt=4.0), "until": 24.0, "record": ALL}
    assert_same(net.as_ode(tau=8.0), other.as_ode(tau=8.0), gains(net, other), run)


@pytest.mark.parametrize("name", ["blt", "prednet", "predictive_coding", "dynamic_synapses", "hgru", "sublstm"])
def test_lesion_of_modulatory_edges_is_untouched_network_bitwise(name: str) -> None:
    net = small(name)
    solver, steps = stepping(net)
    other = modulated(net, with_edges=True)
    inputs = gains(net, other, 0.5)
    run = {"solver": solver, "steps": steps, "record": ALL}
    assert_same(net, other.without("modulatory"), inputs, run)
    changed, plain = simulate(other, inputs, **run), simulate(net, shown(net, 2), **run)
    assert any(not torch.equal(changed[key], plain[key]) for key in plain.values)


@pytest.mark.parametrize("name", ["blt", "predictive_coding", "sublstm"])
def test_gain_of_zero_is_untouched_in_simulator_pickle_and_file(name: str, tmp_path: Path) -> None:
    net = small(name)
    solver, steps = stepping(net)
    other = modulated(net, with_edges=True)
    inputs = gains(net, other)
    plain = simulate(net, shown(net, 2), solver=solver, steps=steps, record=ALL)
    other.save(tmp_path / "net")
    loaded = pcsim.load(tmp_path / "net", into=modulated(small(name), with_edges=True))
    for each in (other, pickle.loads(pickle.dumps(other)), loaded):  # noqa: S301 - our own bytes
        sim = Simulator(each, solver=solver, record=ALL)
        for _ in range(3):  # the first runs fill the traced program
            found = sim(inputs, steps=steps)
            assert all(torch.equal(found[key], plain[key]) for key in plain.values)


def unit(rule: rules.Rule, shape: tuple[int, ...], gain: tuple[int, ...], target: tuple[int, ...]) -> Network:
    edges = [Projection("image", "v1"), Projection("cue", "v1", kind="modulatory")]
    return Network({"image": shape, "cue": gain}, [Population("v1", rule, shape=target)], edges)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("gain", [(3, 4, 5), (3, 1, 1), (3,), (1, 4, 5), (1, 1, 1)])
def test_gain_per_unit_channel_or_place_multiplies_drive_over_4_steps(gain: tuple[int, ...]) -> None:
    rule = rules.Rate(3, "tanh")
    nn.init.normal_(rule.bias)
    net = unit(rules.Leaky(rules.modulated(rule), 10.0), (3, 4, 5), gain, (3, 4, 5))
    generator = torch.Generator().manual_seed(0)
    image, cue = (torch.randn((2, *shape), generator=generator) for shape in ((3, 4, 5), gain))
    run = simulate(net, {"image": image, "cue": cue}, solver=Euler(dt=2.0), steps=4, record=ALL)
    drive = image.numpy() * (1.0 + cue.numpy().reshape(2, *gain, *[1] * (3 - len(gain))))
    target = np.tanh(drive + rule.bias.detach().numpy()[:, None, None])
    r = np.zeros(drive.shape)
    for step in range(4):
        r = r + 0.2 * (target - r)
        assert np.allclose(run["v1"][step].detach().numpy(), r, rtol=0, atol=EQUATIONS)


@pytest.mark.usefixtures("float64")
def test_gain_of_value_changes_slope() -> None:
    rule = rules.Rate(2)
    nn.init.constant_(rule.bias, 0.5)
    net = unit(rules.modulated(rule, "value"), (2, 3, 3), (2,), (2, 3, 3))
    image, cue = torch.randn(2, 2, 3, 3), torch.tensor([[0.5, -0.25], [0.0, 1.0]])
    run = simulate(net, {"image": image, "cue": cue}, solver=Iterate(), steps=1, record=ALL)
    expected = np.maximum(image.numpy() + 0.5, 0) * (1 + cue.numpy()[:, :, None, None])
    assert np.allclose(run["v1"][0].detach().numpy(), expected, rtol=0, atol=EQUATIONS)


@pytest.mark.usefixtures("float64")
def test_gain_of_channel_multiplies_all_of_its_gates() -> None:
    plain, drive, cue = rules.LSTM(2), torch.randn(2, 8, 3, 3), torch.randn(2, 2, 1, 1)
    net = unit(rules.modulated(plain), (8, 3, 3), (2, 1, 1), (2, 3, 3))
    run = simulate(net, {"image": drive, "cue": cue}, solver=Iterate(), steps=1, record=ALL)
    own = {"value": torch.zeros(2, 2, 3, 3), "c": torch.zeros(2, 2, 3, 3)}
    expected = plain(own, gates=drive * (1.0 + torch.cat([cue] * 4, dim=1)))["value"]
    assert torch.allclose(run["v1"][0], expected, rtol=0, atol=EQUATIONS)


def test_modulated_flow_uses_the_tau_of_a_variant_in_its_equation() -> None:
    flow = rules.Facilitation(tau=1500.0)
    net = unit(rules.modulated(flow), (2,), (2,), (2,)).as_ode(tau=300.0)
    plain = Network({"image": (2,)}, [Population("v1", rules.Facilitation(tau=300.0))], [Projection("image", "v1")])
    image = {"image": torch.rand(1, 2)}
    run = simulate(net, image | {"cue": torch.zeros(1, 2)}, solver=Euler(5.0), steps=6, record=ALL)
    assert torch.equal(run["v1"], simulate(plain, image, solver=Euler(5.0), steps=6, record=ALL)["v1"])
    assert float(flow.tau()) == 1500.0


def test_modulatory_edges_are_drawn_and_described() -> None:
    net = modulated(small("blt"), with_edges=True)
    assert "modulatory to gain" in net.describe() and "drive (1 + gain)" in net.describe()
    labels = [text.get_text() for text in pcsim.plots.network(net).get_legend().get_texts()]
    assert "modulatory" in labels
    others = [STYLES[kind] for kind in STYLES if kind != "modulatory"]
    assert all(STYLES["modulatory"][part] not in [style[part] for style in others] for part in (0, 1, 2))


@pytest.mark.parametrize("gain", [(2, 4, 4), (3, 2, 4), (3, 4, 1, 1), (6, 1, 1)])
def test_gain_that_cannot_be_broadcast_is_rejected(gain: tuple[int, ...]) -> None:
    with pytest.raises(WiringError, match="a gain of shape"):
        unit(rules.modulated(rules.Rate(3)), (3, 4, 4), gain, (3, 4, 4))


def test_modulatory_edge_to_rule_without_gain_names_remedy() -> None:
    with pytest.raises(WiringError, match=r"rules.modulated\(rule\)"):
        unit(rules.Rate(3), (3, 4, 4), (3, 1, 1), (3, 4, 4))


@pytest.mark.parametrize(
    ("rule", "port"),
    [(rules.Rate(3), "gate"), (rules.modulated(rules.Rate(3)), None), (rules.Facilitation(), "value")],
)
def test_modulated_rejects_unknown_ports_second_gains_and_values_of_flows(rule: rules.Rule, port: str | None) -> None:
    with pytest.raises(WiringError, match="modulated"):
        rules.modulated(rule, port)
