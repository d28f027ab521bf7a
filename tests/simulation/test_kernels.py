"""The choice of convolution kernel depends only on shapes and does not change results."""

from __future__ import annotations

import itertools

import pytest
import torch
from support.small import shown, small
from torch import nn
from torch.nn import functional

import pcsim
from pcsim import Euler, Network, Population, Projection, Record, Simulator, rollout, simulate
from pcsim.connections import Strided, Tied, conv, up_conv
from pcsim.rules import leaky_rate
from pcsim.simulation import kernels
from pcsim.simulation.kernels import Convolution, as_product
from pcsim.simulation.layers import Layers

# channels, out, kernel, stride, size
PLAIN = list(itertools.product((1, 3, 8), (4, 7), (1, 3, 5), (1, 2), (5, 8)))
UP = list(itertools.product((3, 8), (4,), (1, 2, 3, 4, 5), (1, 2, 3), (3, 4)))


def is_own(settings: Convolution, image: tuple[int, ...], weight: tuple[int, ...]) -> bool:
    return settings.chosen(image, weight) != settings.by_torch


def test_kernel_choice_follows_table() -> None:
    plain, strided, up = (Convolution((s, s), (1, 1), up=up) for s, up in ((1, False), (2, False), (2, True)))
    for batch, expected in ((1, True), (2, True), (4, True), (32, False)):
        assert is_own(plain, (batch, 8, 8, 8), (8, 8, 3, 3)) == expected
        assert is_own(up, (batch, 8, 4, 4), (8, 4, 4, 4))
    assert is_own(plain, (2, 64, 7, 7), (64, 64, 3, 3)) and not is_own(plain, (4, 64, 7, 7), (64, 64, 3, 3))
    assert not is_own(plain, (2, 16, 28, 28), (16, 16, 3, 3))
    assert is_own(strided, (2, 3, 32, 32), (32, 3, 3, 3)) and not is_own(strided, (16, 3, 32, 32), (32, 3, 3, 3))
    assert is_own(up, (3, 64, 7, 7), (64, 32, 4, 4)) and not is_own(up, (16, 64, 7, 7), (64, 32, 4, 4))


@pytest.mark.parametrize("settings", [Convolution((1, 1), (1, 1), groups=2), Convolution((1, 1), (1, 1), (2, 2))])
def test_kernel_choice_leaves_groups_and_dilation_to_torch(settings: Convolution) -> None:
    assert not is_own(settings, (1, 4, 8, 8), (4, 4 // settings.groups, 3, 3))


@pytest.mark.parametrize("has_bias", [False, True])
def test_layers_function_equals_module(has_bias: bool) -> None:
    torch.manual_seed(0)
    owner = nn.Conv2d(6, 5, 3, stride=2, padding=1, bias=has_bias)
    modules = [
        (nn.Conv2d(6, 5, 3, padding=1, bias=has_bias), 6),
        (nn.Conv2d(6, 4, (3, 5), (1, 2), (0, 2), bias=has_bias), 6),
        (nn.Conv2d(6, 6, 3, padding=2, dilation=2, groups=3, bias=has_bias), 6),
        (nn.Conv2d(6, 6, 3, padding="same", bias=has_bias), 6),
        (nn.Conv2d(6, 6, 3, padding=1, padding_mode="circular", bias=has_bias), 6),
        (nn.ConvTranspose2d(6, 3, (4, 3), 2, 1, (0, 1), bias=has_bias), 6),
        (nn.Sequential(conv(6, 4, bias=has_bias), nn.ReLU(), up_conv(4, 3, 4, bias=has_bias)), 6),
        (Strided(owner, 3), 6),
        (Tied(owner), 5),
        (nn.Sequential(nn.Flatten(), nn.Linear(6 * 64, 3, bias=has_bias)), 6),
    ]
    for module, channels in modules:
        for batch in (1, 2, 40):
            image = torch.randn(batch, channels, 8, 8).contiguous(memory_format=torch.channels_last)
            made = Layers(chooses=True).function(module, "an edge")(image)
            expected = module(image)
            assert made.shape == expected.shape and made.stride() == expected.stride()
            assert torch.allclose(made, expected, rtol=1e-5, atol=1e-6), module
            assert torch.equal(Layers().function(module, "an edge")(image), expected), module


def test_layers_choose_only_float32_and_read_live_weights() -> None:
    layer = conv(4, 4)
    run = Layers(chooses=True).function(layer, "an edge")
    image = torch.randn(2, 4, 8, 8)
    run(image)
    layer.weight = nn.Parameter(torch.randn(4, 4, 3, 3))
    assert torch.allclose(run(image), layer(image), atol=1e-6)
    layer.double()
    double = Layers(chooses=True).function(layer, "an edge")
    assert torch.equal(double(image.double()), layer(image.double()))


class Own(nn.Conv2d):
    """A user-defined convolution that doubles its output."""

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(value)


def test_layers_call_subclassed_hooked_and_patched_modules() -> None:
    image = torch.randn(2, 4, 8, 8)
    seen: list[int] = []
    watched, patched, mine = conv(4, 4), conv(4, 4), Own(4, 4, 3, padding=1)
    watched.register_forward_hook(lambda *_: seen.append(1))
    patched.forward = lambda value: 3 * value
    for module in (watched, patched, mine, nn.Sequential(mine)):
        assert torch.equal(Layers(chooses=True).function(module, "an edge")(image), module(image))
    assert seen == [1, 1]


def tiny() -> Network:
    torch.manual_seed(2)
    return Network(
        {"image": (2, 8, 8)},
        [Population("a", leaky_rate(4, 10.0)), Population("b", leaky_rate(6, 20.0))],
        [
            Projection("image", "a", conv(2, 4)),
            Projection("a", "b", conv(4, 6, stride=2)),
            Projection("a", "a", conv(4, 4), "lateral"),
            Projection("b", "a", up_conv(6, 4, kernel=4), "top_down"),
        ],
    )


@pytest.mark.parametrize("batch", [1, 2, 3, 12, 40])
def test_kernel_same_in_simulate_simulator_and_rollout(batch: int) -> None:
    net, image, record = tiny(), torch.rand(batch, 2, 8, 8), Record(states="all")
    plain = simulate(net, image, solver=Euler(dt=1.0), steps=40, record=record)
    sim = Simulator(net, solver=Euler(dt=1.0), record=record)
    for run in (sim(image, steps=40), sim(image, steps=40)):
        assert all(torch.equal(run[key], plain[key]) for key in plain.values)
    with torch.no_grad():
        rows = [values for _, values in rollout(net, image, Euler(dt=1.0), 40)]
    assert all(torch.equal(row["a"], plain["a"][step]) for step, row in enumerate(rows))


def test_kernel_with_gradient_agrees_to_rounding() -> None:
    net, image = tiny(), torch.rand(2, 2, 8, 8)
    plain = simulate(net, image, solver=Euler(dt=1.0), steps=20)
    graded = simulate(net, image, solver=Euler(dt=1.0), steps=20, gradient=pcsim.Full())
    assert all(torch.allclose(plain[key], graded[key], rtol=1e-5, atol=1e-6) for key in plain.values)
    graded["b"].sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_vmap_of_rollout_equals_single_images() -> None:
    net, images = tiny(), torch.rand(3, 2, 2, 8, 8)

    def last(image: torch.Tensor) -> torch.Tensor:
        *_, (_, values) = rollout(net, image, Euler(dt=1.0), 5, ["b"])
        return values["b"]

    with torch.no_grad():
        many = torch.func.vmap(last)(images)
        assert all(torch.allclose(one, last(image), atol=1e-6) for one, image in zip(many, images, strict=True))


@pytest.mark.parametrize(("channels", "out", "kernel", "stride", "size"), [s for s in PLAIN if s[4] >= s[2]])
def test_as_product_equals_conv2d(channels: int, out: int, kernel: int, stride: int, size: int) -> None:
    image = torch.randn(2, channels, size, size + 1, dtype=torch.float64)
    weight, bias = torch.randn(out, channels, kernel, kernel, dtype=torch.float64), torch.randn(out).double()
    padding = [kernel // 2, 0]
    made = as_product(image, weight, bias, [stride, 1], padding, [1, 1], False, [0, 0], 1)
    expected = functional.conv2d(image, weight, bias, (stride, 1), padding)
    assert made.shape == expected.shape and torch.allclose(made, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("channels", "out", "kernel", "stride", "size"), UP)
def test_as_product_equals_conv_transpose2d(channels: int, out: int, kernel: int, stride: int, size: int) -> None:
    image = torch.randn(2, channels, size, size + 1, dtype=torch.float64)
    weight = torch.randn(channels, out, kernel, kernel, dtype=torch.float64)
    bias = torch.randn(out).double()
    for padding, extra in itertools.product((0, (kernel - 1) // 2), range(stride)):
        arguments = ([stride, stride], [padding, padding], [1, 1], True, [extra, extra], 1)
        made = as_product(image, weight, bias, *arguments)
        expected = functional.conv_transpose2d(image, weight, bias, stride, padding, extra)
        assert made.shape == expected.shape and torch.allclose(made, expected, rtol=0, atol=1e-12)


def test_as_product_declines_all_but_small_plain_conv2d() -> None:
    image, weight = torch.rand(1, 4, 8, 8), torch.rand(4, 4, 3, 3)
    common = ([1, 1], [1, 1], [1, 1], False, [0, 0])
    assert as_product(image, weight, None, *common, 1) is not NotImplemented
    assert as_product(image, weight[:, :2], None, *common, 2) is NotImplemented
    assert as_product(image, weight, None, [1, 1], [1, 1], [2, 2], False, [0, 0], 1) is NotImplemented
    assert as_product(image.bfloat16(), weight.bfloat16(), None, *common, 1) is NotImplemented
    assert as_product(image[:, :, 0], weight[:, :, 0], None, [1], [1], [1], False, [0], 1) is NotImplemented
    many = kernels.MOST_COLUMNS // (4 * 9 * 64) + 1
    assert as_product(image.expand(many, -1, -1, -1), weight, None, *common, 1) is NotImplemented


def test_autocast_network_rounds_to_bfloat16() -> None:
    net = small("leaky_rcnn")
    plain = simulate(net, shown(net, 1), solver=Euler(dt=2.0), steps=10)
    run = simulate(net.autocast(), shown(net, 1), solver=Euler(dt=2.0), steps=10)
    apart = max(float((run[key] - plain[key]).abs().max() / plain[key].abs().max()) for key in plain.values)
    assert 1e-5 < apart < 0.1, "results must be rounded to bfloat16"
