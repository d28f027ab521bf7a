"""Weights of one sign (Dale's law) and symmetric weights."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from support.small import small
from torch import Tensor, nn

import pcsim
from pcsim import RK4, Iterate, Network, Population, Projection, Record, WiringError, simulate
from pcsim.connections import (
    Activation,
    Chain,
    Signed,
    Strided,
    Symmetric,
    Tied,
    conv,
    pool,
    same_conv,
    signed,
    summary,
    up_conv,
)
from pcsim.network.weights import load_tensors, trained_tensors
from pcsim.rules import Rate, Sum
from pcsim.training import Training, train

LAYERS = {
    "linear": lambda: nn.Linear(4, 3, bias=False),
    "conv": lambda: conv(4, 3),
    "grouped": lambda: nn.Conv2d(4, 6, 3, stride=2, padding=1, dilation=2, groups=2, bias=False),
    "circular": lambda: nn.Conv2d(4, 3, 3, padding=1, padding_mode="circular", bias=False),
    "same": lambda: nn.Conv2d(4, 3, 5, padding="same", bias=False),
    "up": lambda: up_conv(4, 3),
    "tied conv": lambda: Tied(conv(3, 4, stride=2)),
    "tied linear": lambda: Tied(nn.Linear(3, 4)),
    "strided": lambda: Strided(conv(4, 3), 2),
}
SEQUENCES = {
    "identity": nn.Identity,
    "pool": pool,
    "pooled conv": lambda: nn.Sequential(pool(), conv(4, 3)),
    "conv then pool": lambda: nn.Sequential(conv(4, 3), pool()),
    "separable": lambda: same_conv(4, 3, 4, separable=True),
    "chain": lambda: Chain(Activation("relu"), conv(4, 3), nn.Upsample(scale_factor=2.0)),
    "two layers": lambda: nn.Sequential(conv(4, 5), nn.ReLU(), conv(5, 3)),
}


def rates(name: str) -> Tensor:
    return torch.rand(2, 4) if "linear" in name else torch.rand(2, 4, 6, 6)


def with_absolute_weights(module: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.abs_()
    return module


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("name", [*LAYERS, *SEQUENCES])
def test_signed_equals_layer_with_absolute_weights(name: str, sign: int, float64: None) -> None:
    module = (LAYERS | SEQUENCES)[name]()
    transform = signed(module, sign)
    x = rates(name)
    output = transform(x)
    if name in LAYERS:
        assert torch.equal(transform.weight, sign * transform.stored.abs())
    plain = with_absolute_weights(module)
    bias = plain.forward_map.bias if name == "tied linear" else None
    assert bias is None or bias.shape == (4,)  # the transpose ignores the bias of the forward map
    assert torch.allclose(output, sign * plain(x), rtol=1e-12, atol=1e-14)
    assert (sign * output >= 0).all()


@pytest.mark.parametrize(
    ("form", "function"),
    [("absolute", torch.abs), ("rectified", torch.relu), ("softplus", lambda w: torch.log1p(torch.exp(w)))],
)
def test_form_of_signed_weight(form: str, function: object) -> None:
    layer = nn.Linear(5, 4, bias=False)
    assert torch.allclose(Signed(layer, -1, form).weight, -function(layer.weight), atol=1e-7)


def test_signed_shares_weights_and_leaves_module_unchanged() -> None:
    layer = conv(2, 2)
    before = layer.weight.detach().clone()
    edge, back = signed(layer, 1), signed(Tied(layer), -1)
    assert edge.layer is layer and torch.equal(layer.weight, before)
    assert {id(p) for p in edge.parameters()} == {id(p) for p in back.parameters()} == {id(layer.weight)}
    copied = pickle.loads(pickle.dumps(back))  # noqa: S301
    x = torch.rand(1, 2, 4, 4)
    assert torch.equal(copied(x), back(x))


def test_signed_summary_names_sign() -> None:
    assert summary(signed(nn.Sequential(pool(), conv(1, 2)), -1)) == "max pool 2, inhibitory conv 3x3 1>2"
    assert summary(signed(Tied(conv(1, 2)), 1)) == "excitatory transpose of conv 3x3 1>2"
    assert summary(signed(nn.Sequential(conv(1, 2), pool()), -1)).endswith("gain -1")


@pytest.mark.parametrize(
    "module",
    [
        nn.Linear(2, 2),
        conv(2, 2, bias=True),
        Strided(conv(2, 2, bias=True), 2),
        nn.BatchNorm2d(2),
        nn.Tanh(),
        Activation("identity", -1.0),
        nn.Upsample(scale_factor=2.0, mode="bicubic"),
        nn.Sequential(conv(2, 2), nn.GroupNorm(1, 2)),
        nn.Sequential(conv(2, 2), nn.Sequential(nn.Sigmoid())),
    ],
)
def test_signed_refuses_biases_and_other_layers(module: nn.Module) -> None:
    with pytest.raises(WiringError, match="without bias"):
        signed(module, 1)


@pytest.mark.parametrize("options", [{"sign": 0}, {"sign": 2}, {"sign": 1, "form": "square"}])
def test_signed_refuses_unknown_options(options: dict) -> None:
    with pytest.raises(WiringError) as caught:
        signed(conv(1, 1), **options)
    assert caught.value.remedy == ("pass form='absolute'" if "form" in options else "pass sign=1")


def signs_of(net: Network) -> dict[str, set[float]]:
    """Return the signs of the effective weights of each source, from the responses of edges to non-negative rates."""
    found: dict[str, set[float]] = {}
    for edge in net.projections:
        if any(isinstance(part, Signed) for part in edge.transform.modules()):
            channels, *size = net.shape(edge.source)
            for channel in range(channels):
                rate = torch.zeros(1, channels, *size)
                rate[:, channel] = torch.rand(size)
                found.setdefault(edge.source, set()).update(torch.sign(edge.transform(rate)).unique().tolist())
    return found


def test_signs_hold_after_1000_updates() -> None:
    """Train on random targets at a high rate, so that stored weights change sign many times."""
    net = pcsim.models.ei_rcnn((4, 4), image=(1, 4, 4), classes=3, steps=2)
    images, targets = torch.rand(16, 1, 4, 4), torch.eye(3)[torch.arange(16) % 3]
    before = {key: value.clone() for key, value in trained_tensors(net).items()}
    train(net, images, targets, Training(updates=1000, batch=4, learning_rate=0.01))
    changed = [key for key, w in trained_tensors(net).items() if (torch.sign(w) != torch.sign(before[key])).any()]
    assert any("layer" in key for key in changed), "the test must change the signs of stored weights"
    for source, signs in signs_of(net).items():
        assert signs <= {0.0, 1.0 if source.startswith("e") else -1.0}, source
        assert signs - {0.0}, source


@pytest.mark.parametrize("name", ["ei_rcnn", "wilson_cowan", "ssn", "interneurons"])
def test_circuits_obey_dales_law(name: str) -> None:
    net = small(name)
    assert "i" in net.populations or any("i1" in n or "som" in n for n in net.populations)
    for source, signs in signs_of(net).items():
        inhibits = source.split("_")[-1].rstrip("0123456789") in ("i", "pv", "som", "vip")
        assert signs <= {0.0, -1.0 if inhibits else 1.0}, source
    for edge in net.projections:
        if edge.kind == "lateral":
            assert any(isinstance(part, Signed) for part in edge.transform.modules()), edge.name


def ei_net(layer: nn.Module) -> Network:
    inhibition = conv(2, 2)
    with torch.no_grad():
        inhibition.weight.mul_(0.1)  # weak enough for e to stay active
    return Network(
        {"image": (2, 4, 4)},
        [Population("e", Rate(2)), Population("i", Rate(2)), Population("y", Sum())],
        [
            Projection("image", "e", signed(layer, 1)),
            Projection("e", "i", signed(Tied(layer), 1), delay=1),
            Projection("i", "e", signed(inhibition, -1), "lateral", 1),
            Projection("e", "y"),
        ],
        readout="y",
        steps=5,
    )


def test_signed_edges_in_runs_lesions_odes_and_files(tmp_path: Path) -> None:
    net = ei_net(conv(2, 2))
    image = torch.rand(3, 2, 4, 4)
    run = simulate(net, image, solver=Iterate(), record=Record(states="all"))
    expected, e, i = {}, torch.zeros(3, 2, 4, 4), torch.zeros(3, 2, 4, 4)
    w, v = (net.transforms[key].stored.detach().abs() for key in ("image_to_e", "i_to_e"))
    for step in range(5):
        drive = nn.functional.conv2d(image, w, padding=1) - nn.functional.conv2d(i, v, padding=1)
        e, i = torch.relu(drive), torch.relu(nn.functional.conv_transpose2d(e, w, padding=1))
        expected[step] = e
    for step, value in expected.items():
        assert torch.allclose(run["e"][step], value, atol=1e-5)
    sim = pcsim.Simulator(net, solver=Iterate(), record=Record(states="all"))
    for _ in range(2):
        assert torch.equal(sim(image, steps=5)["e"], run["e"])
    with torch.no_grad():
        net.transforms["i_to_e"].stored.mul_(-3.0)  # live weights
    assert not torch.equal(sim(image, steps=5)["e"], run["e"])
    assert torch.equal(
        sim(image, steps=5)["e"], simulate(net, image, solver=Iterate(), record=Record(states="all"))["e"]
    )
    lesioned = simulate(net.without("i->e"), image, solver=Iterate(), record=Record(states=["e"]))
    assert torch.equal(lesioned["e"][0], lesioned["e"][-1])
    other = ei_net(conv(2, 2))
    load_tensors(other, trained_tensors(net), "test")
    assert torch.equal(other(image), net(image))
    flow = simulate(net.as_ode(tau=10.0), image, solver=RK4(dt=1.0), until=50.0)
    assert torch.isfinite(flow["y"]).all()
    torch.save(net, tmp_path / "net")
    assert torch.equal(torch.load(tmp_path / "net", weights_only=False)(image), net(image))


def test_symmetric_weight_is_mean_with_adjoint(float64: None) -> None:
    layer = nn.Conv2d(3, 3, 5, padding=2, bias=False)
    symmetric, x, y = Symmetric(layer), torch.rand(2, 3, 6, 6), torch.rand(2, 3, 6, 6)
    adjoint = nn.functional.conv_transpose2d(x, layer.weight, padding=2)
    assert torch.allclose(symmetric(x), 0.5 * (layer(x) + adjoint), rtol=1e-12)
    assert (symmetric(x) * y).sum().item() == pytest.approx((x * symmetric(y)).sum().item(), rel=1e-12)
    assert summary(symmetric) == "symmetric conv 5x5 3>3"
    linear = nn.Linear(3, 3, bias=False)
    assert torch.equal(Symmetric(linear).weight, 0.5 * (linear.weight + linear.weight.t()))
    for other in (conv(2, 3), conv(2, 2, 4), up_conv(2, 2)):
        with pytest.raises(WiringError, match="as many output channels"):
            Symmetric(other)
