"""Models of object recognition: properties beyond the equations, and published weights."""

from __future__ import annotations

import math

import pytest
import torch
from support.plain_torch import FULL_SIZE, CORnetRT, CORnetS, CORnetZ, full_size
from support.small import CORNET, shown, small
from torch import nn

from pcsim import (
    RK4,
    Euler,
    ExponentialEuler,
    Iterate,
    Network,
    Population,
    Projection,
    Record,
    WiringError,
    models,
    rollout,
    simulate,
)
from pcsim.brain import latencies
from pcsim.connections import Chain, LocalResponseNorm, StepNorm, conv
from pcsim.models import published
from pcsim.models.areas import areas
from pcsim.network.weights import load_tensors, trained_tensors
from pcsim.rules import Leaky, Rate, Sum


def randomised(module: nn.Module) -> nn.Module:
    """Randomise every tensor, keeping running variances positive, and switch to evaluation mode."""
    with torch.no_grad():
        for tensor in module.state_dict().values():
            if tensor.is_floating_point():
                tensor.uniform_(0.5, 1.5) if tensor.dim() == 1 else tensor.normal_(0.0, 0.2)
    return module.eval()


PUBLISHED = {
    "cornet_z": (CORnetZ((4, 4, 8, 8), 2, 3), {}),
    "cornet_r": (CORnetRT((4, 4, 8, 8), 2, 3, 2, within=True), {"groups": 2}),
    "cornet_rt": (CORnetRT((4, 4, 8, 8), 2, 3, 2), {"groups": 2}),
    "cornet_s": (CORnetS((4, 4, 8, 8), (2, 4, 1), 2, 3), {"iterations": (2, 4, 1)}),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_cornet_state_dict_gives_same_readout(name: str, float64: None) -> None:
    theirs, options = PUBLISHED[name]
    theirs = randomised(theirs.double())
    net = models.build(name, **CORNET | options).eval()
    published.load(net, {f"module.{key}": value for key, value in theirs.state_dict().items()}, published.cornet)
    image = shown(net, 3)["image"]
    with torch.no_grad():
        expected = theirs(image)
    found = simulate(net, image, solver=Iterate())["readout"][-1]
    assert (found - expected).abs().max() <= 1e-12 * expected.abs().max()


def gradient_of_the_image(net: Network, steps: int) -> torch.Tensor:
    image = shown(net, 2)["image"].requires_grad_()
    *_, (_, state) = rollout(net, image, Iterate(), steps)
    (gradient,) = torch.autograd.grad(state["readout"].square().sum(), image, allow_unused=True, materialize_grads=True)
    return gradient


def test_cornet_readout_gradient_zero_before_image_arrives() -> None:
    net = small("cornet_rt")
    assert (gradient_of_the_image(net, 3) == 0).all() and gradient_of_the_image(net, 4).abs().sum() > 0
    assert net.arrivals["readout"] == 3
    engineering = small("cornet_r")
    assert (gradient_of_the_image(engineering, 1) == 0).all() and gradient_of_the_image(engineering, 2).abs().sum() > 0


@pytest.mark.parametrize(("channels", "groups"), [((3, 9, 15, 21), 3), ((5, 10, 10, 5), 5), ((2, 3, 4, 5), 1)])
def test_cornet_groups_remedy_divides_channels(channels: tuple[int, ...], groups: int) -> None:
    options = {"image": (2, 32, 32), "classes": 3}
    with pytest.raises(WiringError, match=f"pass groups={groups},"):
        models.cornet_rt(channels, **options)
    assert models.cornet_rt(channels, **options, groups=groups).name == "cornet_rt"


def test_cornet_r_and_rt_differ_only_in_bottom_up_delays() -> None:
    r, rt = small("cornet_r"), small("cornet_rt")
    load_tensors(rt, trained_tensors(r), "r")
    for one, other in zip(r.projections, rt.projections, strict=True):
        same = (one.source, one.target, one.kind, one.active, one.port) == (
            other.source,
            other.target,
            other.kind,
            other.active,
            other.port,
        )
        between = one.kind == "bottom_up" and one.target in ("u_v2", "u_v4", "u_it")
        assert same and (one.delay, other.delay) == ((0, 1) if between else (one.delay, one.delay))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("blt", {"l1": 0, "l2": 0, "readout": 0}),
        ("cornet_rt", {"v1": 0, "v2": 1, "v4": 2, "it": 3, "readout": 3}),
        ("cornet_r", {"v1": 0, "v2": 1, "v4": 1, "it": 1, "readout": 1}),
        ("cornet_s", {"v1": 0, "v2": 1, "v4": 3, "it": 6, "readout": 6}),
        ("convrnn", {"h1": 0, "h2": 1, "c2": 1, "h3": 2, "readout": 3}),
        ("convrnn_intermediate", {"h1": 0, "h10": 9, "readout": 10}),
        ("multi_state/unshared", {"h1": 0, "h2": 1, "h3": 1}),
    ],
)
def test_latencies_match_arrival_steps(name: str, expected: dict[str, int]) -> None:
    net = small(name)
    assert {area: net.arrivals[area] for area in expected} == expected
    steps = max(expected.values()) + 1
    runs = [
        simulate(net, {"image": image}, solver=Iterate(), steps=steps, record=Record(states=list(expected)))
        for image in (shown(net, 2)["image"], torch.zeros(2, *net.shape("image")))
    ]
    assert {a: ms.tolist() for a, ms in latencies(*runs).items()} == {a: [10.0 * n] * 2 for a, n in expected.items()}


def test_time_of_maps_steps_to_ms() -> None:
    s = models.cornet_s((4, 4, 8, 8), image=(2, 32, 32), classes=3)
    assert [s.time_of("v4", step) for step in range(3, 7)] == [90.0, 140.0, 190.0, 240.0]  # Brain-Score's mapping
    assert s.time_of("it", 7) == 100.0 and s.time_of("v1", 0) == 50.0
    assert [small("convrnn").time_of("h2", step) for step in (0, 1)] == [10.0, 20.0]


# ---------------------------------------------------------------------- equivalent formulations


def test_leaky_rcnn_equals_discrete_rcnn_as_ode() -> None:
    """Rate units connected like `leaky_rcnn`, with delays of 1, are bitwise the same network `as_ode`."""
    leaky = models.leaky_rcnn((3, 4), (10.0, 20.0), image=(1, 8, 8))
    wiring = areas([Rate(3), Rate(4)], (3, 4), (1, 8, 8), delays=(1, 1))
    transforms = {edge.name: edge.transform for edge in leaky.projections}
    populations, projections = wiring
    with torch.no_grad():
        for edge in projections:
            edge.transform.load_state_dict(transforms[edge.name].state_dict())
    as_ode = Network({"image": (1, 8, 8)}, populations, projections).as_ode((10.0, 20.0))
    image, record = shown(leaky, 3)["image"], Record(states=["l1", "l2"])
    for solver in (Euler(dt=2.5), RK4(dt=5.0)):
        one, other = (simulate(net, image, solver=solver, until=50.0, record=record) for net in (leaky, as_ode))
        assert all(torch.equal(one[name], other[name]) for name in ("l1", "l2"))


def test_rcnn_as_ode_layer_matches_leaky_layer_with_norm(float64: None) -> None:
    """tau dx/dt = LRN(ReLU(u + W x + b)) - x, built manually, against the published network `as_ode`."""
    net = models.rcnn((8, 8), 3, lrn=(0.1, 0.75), image=(1, 8, 8), classes=3).eval()
    flow = net.as_ode(tau=10.0)
    image = shown(net, 2)["image"]
    record = Record(states=["u1", "x1"])
    run = simulate(flow, image, solver=RK4(dt=2.5), until=40.0, record=record)
    rule = Rate(8, normalise=LocalResponseNorm(8, 2, 0.1 / 2, 0.75))
    rule.load_state_dict(net.populations["x1"].rule.state_dict())
    lateral = conv(8, 8)
    lateral.load_state_dict(next(edge.transform for edge in net.projections if edge.name == "x1->x1").state_dict())
    alone = Network(
        {"u": (8, 4, 4)},
        [Population("x", Leaky(rule, 10.0))],
        [Projection("u", "x"), Projection("x", "x", lateral, "lateral")],
    )
    by_hand = simulate(alone, run["u1"][0], solver=RK4(dt=2.5), until=40.0, record=Record(states=["x"]))
    assert (by_hand["x"] - run["x1"]).abs().max() < 1e-12


# ---------------------------------------------------------------------- per-step norms


def test_step_norm_equals_one_batch_norm_per_step() -> None:
    norm = StepNorm(3, 2)
    apart = [nn.BatchNorm2d(3) for _ in range(2)]
    for step in (0, 1, 1, 2):  # the last norm applies to all later steps
        value = torch.randn(4, 3, 5, 5) * (step + 1)
        assert torch.equal(norm(value, step), apart[min(step, 1)](value))
    for t, other in enumerate(apart):
        assert torch.equal(norm.running_mean[t], other.running_mean)
        assert torch.equal(norm.running_var[t], other.running_var)


def test_step_norm_counts_steps_from_edge_window() -> None:
    norm = StepNorm(1, 3).eval()
    with torch.no_grad():
        norm.bias.copy_(torch.tensor([[1.0], [2.0], [3.0]]))
    net = Network(
        {"u": (1,)},
        [Population("a", Sum()), Population("b", Rate(1, "identity", bias=False))],
        [Projection("u", "a", Chain(norm), active=(2, math.inf)), Projection("a", "b")],
    ).eval()
    zero, record = torch.zeros(1, 1), Record(states=["b"])
    steps = simulate(net, zero, solver=Iterate(), steps=6, record=record)["b"][:, 0, 0]
    assert steps.tolist() == [0.0, 0.0, 1.0, 2.0, 3.0, 3.0]
    flow = net.as_ode(tau=1e-6, step_ms=4.0)
    assert flow.step_ms == 4.0
    run = simulate(flow, zero, solver=ExponentialEuler(dt=2.0), until=24.0, record=record)
    assert run["b"][:, 0, 0].tolist() == [0.0] * 4 + [1.0] * 2 + [2.0] * 2 + [3.0] * 4


# ---------------------------------------------------------------------- control networks and full-size models


def test_matched_returns_nearest_parameter_count() -> None:
    net = models.matched(lambda width: models.blt_b(channels=(width, width)), 28_330)
    counts = [models.blt_b(channels=(width, width)).parameter_count for width in range(1, 80)]
    assert abs(net.parameter_count - 28_330) == min(abs(count - 28_330) for count in counts)


@pytest.mark.slow
@pytest.mark.parametrize("name", FULL_SIZE)
def test_full_size_model_matches_plain_pytorch(name: str) -> None:
    net, theirs = full_size(name)
    image = torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        expected = theirs(image)
    found = simulate(net, image, solver=Iterate())["readout"][-1]
    assert (found - expected).abs().max() < 1e-4 * expected.abs().max()
    assert sum(parameter.numel() for parameter in theirs.parameters()) == net.parameter_count
