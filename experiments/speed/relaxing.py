"""Workloads W1 and W2b of `experiments.speed`: relaxation in predictive coding."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from pcsim import Euler, Network, models

from .work import NOTHING, Result, Work, channels_last, simulated

IMAGES = ((3, 32, 32), (32, 16, 16), (64, 8, 8), (64, 4, 4))


def build(layers: Sequence[tuple[int, ...]], batch: int) -> tuple[Network, dict[str, Tensor]]:
    """Build a network from image to label with p = tanh(W r); return it and its two clamped inputs."""
    top = len(layers) - 1
    net = models.predictive_coding(
        layers[::-1],
        clamped=("r0", f"r{top}"),
        activation="tanh",
        nonlinearity="outside",
        bias=False,
        start="predictions",
    )
    return net, {f"r{top}": torch.randn(batch, *layers[0]), "r0": torch.randn(batch, *layers[-1])}


def relaxation(layers: Sequence[tuple[int, ...]], batch: int, steps: int) -> Work:
    """Return workload W1 or W2b, with image and label clamped and a rate of 0.1 per step."""
    net, shown = build(layers, batch)
    top = len(layers) - 1
    image, label = shown[f"r{top}"], shown["r0"]
    shared = [next(net.transforms[f"r{k + 1}_to_p{k}"].parameters()).detach() for k in reversed(range(top))]
    dense = len(layers[0]) == 1
    weights = [(w.T if dense else w).clone(memory_format=torch.contiguous_format) for w in shared]
    up, down = (dense_up, dense_down) if dense else (conv_up, conv_down)
    step = torch.compile(relax, dynamic=False)
    sizes = " - ".join("x".join(map(str, layer)) for layer in layers)
    return Work(
        f"relaxation of predictive coding, layers {sizes}, batch {batch}, {steps} steps",
        {
            "plain": lambda: plain_relaxation(weights, image, label, steps, up, down, relax),
            "plain compiled": lambda: plain_relaxation(weights, image, label, steps, up, down, step),
            "torch's products": lambda: relaxation_products(weights, image, label, steps, up, down),
            **simulated(net, shown, Euler(dt=1.0), steps, ("r1", "r2")),
        },
        relaxation=(weights, image, label, steps),
    )


Linear = Callable[[Tensor, Tensor], Tensor]


def dense_up(z: Tensor, w: Tensor) -> Tensor:
    """y = W z."""
    return z @ w.T


def dense_down(d: Tensor, w: Tensor) -> Tensor:
    """y = W^T d."""
    return d @ w


def conv_up(z: Tensor, w: Tensor) -> Tensor:
    """y = W z, a 3x3 convolution with stride 2."""
    return functional.conv2d(z, w, stride=2, padding=1)


def conv_down(d: Tensor, w: Tensor) -> Tensor:
    """y = W^T d, the transposed convolution."""
    return functional.conv_transpose2d(d, w, stride=2, padding=1, output_padding=1)


def relax(
    w: list[Tensor], x: Tensor, z1: Tensor, z2: Tensor, y: Tensor, up: Linear, down: Linear
) -> tuple[Tensor, Tensor]:
    """z_l <- z_l - 0.1 dF/dz_l,  F = 1/2 sum |z_l - tanh(W_l z_{l-1})|^2."""
    mu1, mu2, mu3 = torch.tanh(up(x, w[0])), torch.tanh(up(z1, w[1])), torch.tanh(up(z2, w[2]))
    e1, e2, e3 = z1 - mu1, z2 - mu2, y - mu3
    gradient1 = e1 - down(e2 * (1 - mu2**2), w[1])
    gradient2 = e2 - down(e3 * (1 - mu3**2), w[2])
    return z1 - 0.1 * gradient1, z2 - 0.1 * gradient2


def plain_relaxation(
    w: list[Tensor], x: Tensor, y: Tensor, steps: int, up: Linear, down: Linear, step: Callable = relax
) -> Result:
    """Relax from the feed-forward values; return the final z_1 and z_2."""
    z1 = torch.tanh(up(x, w[0]))
    z2 = torch.tanh(up(z1, w[1]))
    for _ in range(steps):
        z1, z2 = step(w, x, z1, z2, y, up, down)
    return {"r2": z1, "r1": z2}


def relaxation_products(w: list[Tensor], x: Tensor, y: Tensor, steps: int, up: Linear, down: Linear) -> Result:
    """Run only the maps that are needed with z_0 clamped: two up and two down per step."""
    if x.dim() == 4:
        w, x, y = [channels_last(weight) for weight in w], channels_last(x), channels_last(y)
    z1 = up(x, w[0])
    z2 = up(z1, w[1])
    for _ in range(steps):
        up(z1, w[1]), up(z2, w[2]), down(z2, w[1]), down(y, w[2])
    return NOTHING
