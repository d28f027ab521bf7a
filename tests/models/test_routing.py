"""Routing: gates of 0 and 1, the shifter circuit, and the time course of a switch."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from support.plain import array, conv, conv_transpose, max_pool, per_channel, relu
from support.small import SMALL, shown, small
from support.tracing import Trace, agree, weights
from torch import Tensor, nn

import pcsim
from pcsim import RK4, Euler, Iterate, Network, Population, Projection, Record, connections, models, rules, simulate

ALL = Record(states="all")
GRID = [(top, left) for top in (0, 3) for left in (0, 2, 5)]
"""corners of the windows of the small shifter: 2 x 3 windows of 5 x 5 pixels in 8 x 10"""


def run(net: Network, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    return dict(simulate(net, inputs, solver=Iterate(), steps=4, record=ALL).values)


def gated(net: Network, what: float, where: float) -> dict[str, Tensor]:
    """Return the values of the two streams with imposed gates."""
    given = {key: value for key, value in shown(net, 3).items() if key != "cue"}
    inputs = given | {"cue": torch.zeros(3, 2), "context": torch.tensor([[what, where]]).repeat(3, 1)}
    return run(net.clamped("context"), inputs)


@pytest.mark.parametrize("name", ["two_streams", "two_streams/feedforward"])
def test_gate_of_0_is_absent_route_and_gate_of_1_untouched_route_bitwise(name: str) -> None:
    net = small(name)
    closed, absent = gated(net, 0.0, 1.0), gated(net.without("v1->ventral2"), 1.0, 1.0)
    assert all(torch.equal(closed[key], absent[key]) for key in closed)
    opened, plain = gated(net, 1.0, 1.0), gated(net.without("modulatory"), 0.3, 0.6)
    assert all(torch.equal(opened[key], plain[key]) for key in opened)
    assert not torch.equal(opened["what"], closed["what"]) and not torch.equal(
        gated(net, 0.5, 1.0)["what"], opened["what"]
    )


@pytest.mark.usefixtures("float64")
def test_two_streams_match_numpy() -> None:
    net = small("two_streams").double()
    inputs = shown(net, 3)
    image, cue = array(inputs["image"]), array(inputs["cue"])

    def drive(source: str, target: str, value: np.ndarray) -> np.ndarray:
        first = weights(net, f"{source}->{target}")[0]
        return conv(max_pool(value), first)

    def biased(name: str, value: np.ndarray) -> np.ndarray:
        rule = net.populations[name].rule
        return relu(value + per_channel(array(getattr(rule, "rule", rule).bias)))

    bias = array(net.populations["context"].rule.bias)
    context = np.clip(0.2 * (cue @ weights(net, "cue->context")[0].T + bias) + 0.5, 0, 1)
    trace: Trace = {name: [] for name in net.populations}
    back = {name: np.zeros((3, *net.shape(name))) for name in ("ventral2", "dorsal2")}
    for step in range(4):
        v1 = conv(image, weights(net, "image->v1")[0], stride=2)
        for name, value in back.items():
            v1 = v1 + (conv_transpose(value, weights(net, f"{name}->v1")[0], 2) if step else 0.0)
        v1 = biased("v1", v1)
        for gate, name in enumerate(back):
            back[name] = biased(name, drive("v1", name, v1) * context[:, gate, None, None, None])
        ventral3 = biased("ventral3", drive("ventral2", "ventral3", back["ventral2"]))
        places = drive("dorsal2", "dorsal3", back["dorsal2"]) + array(net.populations["dorsal3"].rule.bias)
        dorsal3 = 1 / (1 + np.exp(-places))
        (w, b), (w2, b2) = weights(net, "ventral3->what"), weights(net, "dorsal3->where")
        what, where = ventral3.max((2, 3)) @ w.T + b, dorsal3.reshape(3, -1) @ w2.T + b2
        made = {"context": context, "v1": v1, **back, "ventral3": ventral3, "dorsal3": dorsal3}
        for name, value in (made | {"what": what, "where": where, "readout": what + where}).items():
            trace[name].append(value)
    agree(net, trace, inputs)


@pytest.mark.usefixtures("float64")
def test_shifter_matches_sum_of_shifts() -> None:
    """out_i = sum_j w_ij in_j with w_ij = sum_k c_k Gamma_ijk, as an explicit matrix."""
    net = small("shifter").double()
    inputs = shown(net, 3)
    image, cue = array(inputs["image"]), array(inputs["cue"])
    goal = cue @ weights(net, "cue->goal")[0].T
    control = np.exp(4.0 * goal) / np.exp(4.0 * goal).sum(1, keepdims=True)
    gamma = np.zeros((5 * 5, 8 * 10, len(GRID)))
    for k, (top, left) in enumerate(GRID):
        for i in range(25):
            gamma[i, (top + i // 5) * 10 + left + i % 5, k] = 1
    field = np.einsum("ijk,nk,ncj->nci", gamma, control, image.reshape(3, 2, 80)).reshape(3, 2, 5, 5)
    agree(
        net, {"goal": [goal] * 4, "control": [control] * 4, "field": [field] * 4}, inputs, ["goal", "control", "field"]
    )


@pytest.mark.parametrize("number", range(len(GRID)))
def test_shifter_with_one_open_route_is_exact_crop(number: int) -> None:
    net = small("shifter")
    inputs = shown(net, 3) | {"control": torch.eye(len(GRID))[[number] * 3]}
    found = run(net.clamped("control"), inputs)
    top, left = GRID[number]
    assert torch.equal(found["field"][-1], inputs["image"][:, :, top : top + 5, left : left + 5])
    cut = run(net.clamped("control").without(f"retina->route_{'abcdef'[number]}"), inputs)
    assert not cut["field"].any()


def test_shifter_without_control_superimposes_all_windows() -> None:
    net, inputs = small("shifter"), shown(small("shifter"), 2)
    crops = [inputs["image"][:, :, top : top + 5, left : left + 5] for top, left in GRID]
    found = run(net.without("modulatory"), inputs)["field"][-1]
    assert torch.allclose(found, sum(crops[1:], crops[0]), rtol=0, atol=1e-5)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("tau", [20.0, 60.0])
def test_switch_of_context_follows_closed_form(tau: float) -> None:
    """From cue to cue, goal(t) = g1 + (g0 - g1) exp(-t / tau), so opposite routes cross at t = tau ln 2."""
    net = small("shifter").double()
    with torch.no_grad():
        next(e.transform for e in net.projections if e.name == "cue->goal").weight.copy_(torch.eye(6)[:, :3])
    flow = net.as_ode(tau={"goal": tau, "default": 10.0})
    first, second = torch.eye(3)[[0]], torch.eye(3)[[1]]
    cue = pcsim.stimuli.held(first, 200.0).then(pcsim.stimuli.held(second))
    image = shown(net, 1)["image"]
    start = {"goal": torch.eye(6)[[0]], "retina": image}
    found = simulate(
        flow, {"image": image, "cue": cue}, solver=RK4(dt=2.0), until=400.0, initial=start,
        record=Record(states=["goal", "control"]),
    )  # fmt: skip
    after = found.times >= 200.0
    t = torch.as_tensor(found.times[after]) - 200.0
    decay = torch.exp(-t / tau)
    assert torch.allclose(found["goal"][after, 0, :2], torch.stack([decay, 1 - decay], 1), rtol=0, atol=1e-5)
    old, new = found["control"][after, 0, :2].T
    crossing = float(t[(new > old).nonzero()[0, 0]])
    assert abs(crossing - tau * math.log(2)) <= 2.0


@pytest.mark.parametrize("name", ["two_streams", "shifter"])
def test_routing_runs_as_ode_and_equals_map_at_rest(name: str) -> None:
    net = small(name).double()
    inputs = {key: value.double() for key, value in shown(net, 2).items()}
    if name == "two_streams":
        net = net.without("top_down")
    flow = simulate(net.as_ode(tau=5.0), inputs, solver=RK4(dt=1.0), until=300.0)["readout"][-1]
    assert torch.allclose(flow, simulate(net, inputs, solver=Iterate(), steps=1)["readout"][-1], rtol=0, atol=1e-8)


def test_opening_gates_vector_and_image_populations() -> None:
    gates, x = torch.tensor([[0.25, 0.5]]), torch.rand(1, 4)
    net = Network(
        {"x": (4,), "gates": (2,)},
        [Population("y", rules.modulated(rules.Sum()))],
        [Projection("x", "y"), Projection("gates", "y", connections.Opening(1), "modulatory")],
    )
    found = simulate(net, {"x": x, "gates": gates}, solver=Iterate(), steps=1, record=ALL)["y"][0]
    assert torch.equal(found, 0.5 * x)
    assert "gate 1 - 1" in net.describe() and "window 5x5 at 3,2" in small("shifter").describe()


def test_gates_start_half_open_and_learn() -> None:
    net = models.two_streams(**SMALL["two_streams"])
    found = simulate(net, shown(net, 2), solver=Euler(1.0) if net.is_flow else Iterate(), record=ALL)
    assert torch.equal(found["context"], torch.full_like(found["context"], 0.5))
    assert isinstance(next(e.transform for e in net.projections if e.name == "cue->context"), nn.Linear)


@pytest.mark.parametrize(
    "build",
    [
        lambda: models.two_streams(image=(1, 20, 20)),
        lambda: models.shifter(window=41),
        lambda: models.shifter(grid=(6, 6)),
        lambda: models.shifter(sharpness=0.0),
        lambda: Network(
            {"x": (1, 8, 8)}, [Population("y", rules.Sum())], [Projection("x", "y", connections.Window(4, 4, 5, 5))]
        ),
        lambda: Network(
            {"x": (4,), "g": (2,)},
            [Population("y", rules.modulated(rules.Sum()), shape=(4,))],
            [Projection("x", "y"), Projection("g", "y", connections.Opening(2), "modulatory")],
        ),
    ],
)
def test_routing_rejects_wrong_options(build: object) -> None:
    with pytest.raises(pcsim.WiringError):
        build()
