"""The workloads of `experiments.speed`: what pcsim runs, a plain PyTorch loop of the same arithmetic, and its floor.

The plain loops are what one would write for a paper: a function, the equations, no tricks. A floor is the convolutions
and matrix products of the plain loop alone, on tensors of their shapes in channels_last.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from pcsim import RK4, Euler, Iterate, Network, Population, Projection, Record, TorchDiffEq, models, simulate
from pcsim.connections import conv, up_conv
from pcsim.rules import leaky_rate
from pcsim.solvers import Solver

Result = dict[str, Tensor]
Run = Callable[[], Result]


@dataclass
class Work:
    """One row of the table.

    contenders  name -> what to time; each returns what it computed, so that their answers can be compared
    tolerance   how far answers may lie from the plain ones, relative to the largest value
    """

    name: str
    what: str
    contenders: dict[str, Run]
    tolerance: float = 1e-4
    calls: int = 1
    targets: dict[str, str] = field(default_factory=dict)


def flow_of(network: Network, image: Any, solver: Solver, until: float, kept: tuple[str, ...], **options: Any) -> Run:
    """A simulation that keeps the last value of some populations."""
    record = Record(states=kept, every=round(until / solver.dt))

    def run() -> Result:
        done = simulate(network, image, solver=solver, until=until, record=record, **options)
        return {name: done[name][-1] for name in kept}

    return run


# ---------------------------------------------------------------------- W1, W2b: relaxation of predictive coding


def relaxation(layers: tuple[tuple[int, ...], ...], batch: int) -> tuple[Network, Tensor, Tensor, list[Tensor]]:
    """Layers given from the image to the label; p = tanh(W r), no bias, rate 0.1 a step."""
    torch.manual_seed(0)
    net = models.predictive_coding(
        layers[::-1],
        clamped=("r0", f"r{len(layers) - 1}"),
        tau=10.0,
        activation="tanh",
        nonlinearity="outside",
        bias=False,
        start="predictions",
    )
    count = len(layers) - 1
    weights = [next(net.transforms[f"r{k + 1}_to_p{k}"].parameters()).detach() for k in reversed(range(count))]
    # Plain weights lie as torch's own modules have them: (out, in), and not in channels_last.
    weights = [(w.T if w.dim() == 2 else w).clone(memory_format=torch.contiguous_format) for w in weights]
    image, label = torch.randn(batch, *layers[0]), torch.randn(batch, *layers[-1])
    return net, image, label, weights


def plain_dense(weights: list[Tensor], x: Tensor, y: Tensor, steps: int) -> Result:
    """z_l <- z_l - 0.1 dF/dz_l, F = 1/2 sum |z_l - tanh(W_l z_{l-1})|^2, between a clamped z_0 and z_3."""
    w1, w2, w3 = weights
    z1 = torch.tanh(x @ w1.T)
    z2 = torch.tanh(z1 @ w2.T)
    for _ in range(steps):
        mu1, mu2, mu3 = torch.tanh(x @ w1.T), torch.tanh(z1 @ w2.T), torch.tanh(z2 @ w3.T)
        e1, e2, e3 = z1 - mu1, z2 - mu2, y - mu3
        gradient1 = e1 - (e2 * (1 - mu2**2)) @ w2
        gradient2 = e2 - (e3 * (1 - mu3**2)) @ w3
        z1 = z1 - 0.1 * gradient1
        z2 = z2 - 0.1 * gradient2
    return {"r2": z1, "r1": z2}


def plain_convolutional(weights: list[Tensor], x: Tensor, y: Tensor, steps: int) -> Result:
    """The same with convolutions of stride 2 and their transposes."""
    w1, w2, w3 = weights

    def up(z: Tensor, w: Tensor) -> Tensor:
        return torch.tanh(functional.conv2d(z, w, stride=2, padding=1))

    def down(d: Tensor, w: Tensor) -> Tensor:
        return functional.conv_transpose2d(d, w, stride=2, padding=1, output_padding=1)

    z1 = up(x, w1)
    z2 = up(z1, w2)
    for _ in range(steps):
        mu1, mu2, mu3 = up(x, w1), up(z1, w2), up(z2, w3)
        e1, e2, e3 = z1 - mu1, z2 - mu2, y - mu3
        gradient1 = e1 - down(e2 * (1 - mu2**2), w2)
        gradient2 = e2 - down(e3 * (1 - mu3**2), w3)
        z1 = z1 - 0.1 * gradient1
        z2 = z2 - 0.1 * gradient2
    return {"r2": z1, "r1": z2}


# ---------------------------------------------------------------------- W4: three areas as an ODE


def three_areas(channels: tuple[int, int, int], size: int, batch: int) -> tuple[Network, Tensor]:
    """tau dr/dt = -r + relu(bottom-up + lateral + top-down), tau 5, 10, 20 ms, a static one-channel image."""
    torch.manual_seed(0)
    a, b, c = channels
    net = Network(
        {"image": (1, size, size)},
        [
            Population(name, leaky_rate(maps, tau, bias=False))
            for name, maps, tau in (("v1", a, 5.0), ("v2", b, 10.0), ("v4", c, 20.0))
        ],
        [
            Projection("image", "v1", conv(1, a)),
            Projection("v1", "v2", conv(a, b, stride=2)),
            Projection("v2", "v4", conv(b, c, stride=2)),
            *(Projection(name, name, conv(maps, maps), "lateral") for name, maps in zip(("v1", "v2", "v4"), channels)),
            Projection("v2", "v1", up_conv(b, a, kernel=4), "top_down"),
            Projection("v4", "v2", up_conv(c, b, kernel=4), "top_down"),
        ],
        name="three areas",
    )
    return net, torch.rand(batch, 1, size, size)


class PlainAreas(nn.Module):
    """The same three areas by hand, with the parameters of the network."""

    def __init__(self, net: Network) -> None:
        super().__init__()
        names = ("image_to_v1", "v1_to_v2", "v2_to_v4", "v1_to_v1", "v2_to_v2", "v4_to_v4", "v2_to_v1", "v4_to_v2")
        self.u1, self.u2, self.u3, self.l1, self.l2, self.l3, self.d1, self.d2 = (net.transforms[n] for n in names)

    def rates(self, image: Tensor, r1: Tensor, r2: Tensor, r3: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """dr/dt, per ms."""
        return (
            (-r1 + torch.relu(self.u1(image) + self.l1(r1) + self.d1(r2))) / 5.0,
            (-r2 + torch.relu(self.u2(r1) + self.l2(r2) + self.d2(r3))) / 10.0,
            (-r3 + torch.relu(self.u3(r2) + self.l3(r3))) / 20.0,
        )

    def start(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Zeros."""
        r1 = torch.zeros_like(self.u1(image))
        r2 = torch.zeros_like(self.u2(r1))
        return r1, r2, torch.zeros_like(self.u3(r2))

    def forward(self, image: Tensor, steps: int, dt: float = 1.0) -> Result:
        """Euler."""
        state = self.start(image)
        for _ in range(steps):
            state = tuple(r + dt * rate for r, rate in zip(state, self.rates(image, *state)))
        return dict(zip(("v1", "v2", "v4"), state))
