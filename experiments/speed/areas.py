"""Workloads W4, (a), (b) and (f) of `experiments.speed`: three areas as an ODE."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from pcsim import RK4, Dopri5, Euler, Full, Network, Population, Projection, Record, Simulator, models, simulate
from pcsim.connections import conv, up_conv
from pcsim.rules import leaky_rate

from .work import NOTHING, Result, Work, by_torch, channels_last, simulated


class Areas(nn.Module):
    """Hand-written loop for three areas of a network, tau dr/dt = -r + relu(bottom-up + lateral + top-down)."""

    def __init__(self, net: Network, names: Sequence[str], taus: Sequence[float]) -> None:
        super().__init__()
        plain = by_torch(net)
        one, two, three = names
        sources, targets = (
            ("image", one, two, one, two, three, two, three),
            (one, two, three, one, two, three, one, two),
        )
        self.u1, self.u2, self.u3, self.l1, self.l2, self.l3, self.d1, self.d2 = (
            plain.transforms[f"{source}_to_{target}"] for source, target in zip(sources, targets, strict=True)
        )
        if isinstance(self.u1, nn.Sequential):
            self.u1 = self.u1[-1]  # skip the normalisation, which has mean 0 and sd 1
        for name, up in zip(names, (self.u1, self.u2, self.u3), strict=True):
            if (bias := dict(plain.rules[name].named_parameters()).get("rule.bias")) is not None:
                (up[-1] if isinstance(up, nn.Sequential) else up).bias = bias
        self.names, self.taus = names, taus

    def rates(self, image: Tensor, r1: Tensor, r2: Tensor, r3: Tensor) -> tuple[Tensor, ...]:
        """Return dr/dt of each area, per ms."""
        return (
            (-r1 + torch.relu(self.u1(image) + self.l1(r1) + self.d1(r2))) / self.taus[0],
            (-r2 + torch.relu(self.u2(r1) + self.l2(r2) + self.d2(r3))) / self.taus[1],
            (-r3 + torch.relu(self.u3(r2) + self.l3(r3))) / self.taus[2],
        )

    def start(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return zero firing rates for each area."""
        r1 = torch.zeros_like(self.u1(image))
        r2 = torch.zeros_like(self.u2(r1))
        return r1, r2, torch.zeros_like(self.u3(r2))

    def step(self, image: Tensor, dt: float, *state: Tensor) -> tuple[Tensor, ...]:
        """r <- r + dt dr/dt."""
        return tuple(r + dt * rate for r, rate in zip(state, self.rates(image, *state), strict=True))

    def run(
        self, image: Tensor, steps: int, dt: float, step: Callable[..., tuple[Tensor, ...]] | None = None
    ) -> Result:
        """Run the loop and return the final state."""
        state = self.start(image)
        for _ in range(steps):
            state = (step or self.step)(image, dt, *state)
        return dict(zip(self.names, state, strict=True))

    def products(self, image: Tensor, steps: int) -> Result:
        """Run each convolution once per step, except the convolution of the image, which runs only once."""
        r1, r2, r3 = (channels_last(r) for r in self.start(image))
        self.u1(image)
        for _ in range(steps):
            self.l1(r1), self.d1(r2), self.u2(r1), self.l2(r2), self.d2(r3), self.u3(r2), self.l3(r3)
        return NOTHING

    def by_torchdiffeq(self, image: Tensor, until: float, **options: object) -> Result:
        """Integrate the plain right-hand side with torchdiffeq; return the final state."""
        from torchdiffeq import odeint

        ends = odeint(
            lambda _, state: self.rates(image, *state), self.start(image), torch.tensor([0.0, until]), **options
        )
        return {name: value[-1] for name, value in zip(self.names, ends, strict=True)}


def three_areas(channels: Sequence[int], size: int, batch: int) -> tuple[Network, Areas, Tensor]:
    """Build W4: three areas with tau = 5, 10 and 20 ms and no bias, driven by a static image.

    Bottom-up (stride 1, 2, 2) and lateral convolutions are 3x3, and top-down transposed convolutions are 4x4.
    """
    names, taus = ("v1", "v2", "v4"), (5.0, 10.0, 20.0)
    a, b, c = channels
    net = Network(
        {"image": (1, size, size)},
        [Population(n, leaky_rate(maps, tau, bias=False)) for n, maps, tau in zip(names, channels, taus, strict=True)],
        [
            Projection("image", "v1", conv(1, a)),
            Projection("v1", "v2", conv(a, b, stride=2)),
            Projection("v2", "v4", conv(b, c, stride=2)),
            *(Projection(n, n, conv(maps, maps), "lateral") for n, maps in zip(names, channels, strict=True)),
            Projection("v2", "v1", up_conv(b, a, kernel=4), "top_down"),
            Projection("v4", "v2", up_conv(c, b, kernel=4), "top_down"),
        ],
        name="three areas",
    )
    return net, Areas(net, names, taus), torch.rand(batch, 1, size, size)


def leaky_blt(batch: int) -> tuple[Network, Areas, Tensor]:
    """Build the network for (a) and (b): `models.leaky_rcnn` with three areas of 32 channels and 32x32 images."""
    taus = (10.0, 20.0, 40.0)
    net = models.leaky_rcnn((32, 32, 32), taus)
    return net, Areas(net, ("l1", "l2", "l3"), taus), torch.rand(batch, 1, 32, 32)


def ode(net: Network, plain: Areas, image: Tensor, steps: int) -> Work:
    """Return the workload that runs Euler with dt = 1 ms, without gradients."""
    compiled = torch.compile(plain.step, dynamic=False)
    in_layout = copy.deepcopy(plain)
    for parameter in in_layout.parameters():
        if parameter.dim() == 4:
            parameter.data = channels_last(parameter.data)
    shapes = ", ".join(str(tuple(net.shape(name))) for name in plain.names)
    return Work(
        f"leaky recurrent areas {shapes}, batch {len(image)}, {steps} steps of Euler",
        {
            "plain": lambda: plain.run(image, steps, 1.0),
            "plain channels_last": lambda: in_layout.run(channels_last(image), steps, 1.0),
            "plain compiled": lambda: plain.run(image, steps, 1.0, compiled),
            "torch's products": lambda: in_layout.products(channels_last(image), steps),
            "torchdiffeq": lambda: plain.by_torchdiffeq(
                image, float(steps), method="euler", options={"step_size": 1.0}
            ),
            **simulated(net, image, Euler(dt=1.0), steps, plain.names),
        },
        areas=(plain, image, steps),
    )


def higher_order(net: Network, plain: Areas, image: Tensor) -> Work:
    """Return the workload that runs RK4 with dt = 4 ms over 48 ms; torchdiffeq's rk4 serves as the plain loop."""
    return Work(
        f"W4, batch {len(image)}: RK4, 12 steps of 4 ms",
        {
            "plain": lambda: plain.by_torchdiffeq(
                image, 48.0, method="rk4", options={"step_size": 4.0, "perturb": False}
            ),
            **simulated(net, image, RK4(dt=4.0), 12, plain.names),
        },
        tolerance=1e-2,  # torchdiffeq's "rk4" is the 3/8 rule, which also has order 4
    )


def adaptive(net: Network, plain: Areas, image: Tensor) -> Work:
    """Return the workload that compares dopri5 over 50 ms (tolerances of 1e-3) with 50 plain Euler steps."""
    by_pcsim = simulated(net, image, Dopri5(dt=50.0, rtol=1e-3, atol=1e-3), 1, plain.names)
    del by_pcsim["pcsim compiled"]  # its step size depends on the values, so it cannot be compiled
    return Work(
        f"W4, batch {len(image)}: dopri5 with tolerances of 1e-3 over 50 ms, compared with Euler",
        {
            "plain": lambda: plain.run(image, 50, 1.0),
            "torchdiffeq": lambda: plain.by_torchdiffeq(image, 50.0, method="dopri5", rtol=1e-3, atol=1e-3),
            **by_pcsim,
        },
        tolerance=0.2,  # the error of Euler with dt = 1 ms
    )


def trained(net: Network, plain: Areas, image: Tensor, steps: int) -> Work:
    """Return the workload that backpropagates sum r^2 of the final state through all steps to the weights."""
    network = net.train()
    weights = [p for p in network.parameters() if p.requires_grad and p.dim() == 4]
    plain_weights = [p for p in plain.parameters() if p.dim() == 4]
    step = torch.compile(plain.step, dynamic=False)
    record = Record(states=plain.names, every=steps)
    sim = Simulator(network, solver=Euler(dt=1.0), record=record, gradient=Full())

    def by_pcsim() -> Result:
        (window,) = sim.windows(image, steps, plain.names)
        ((_, values),) = deque(window, maxlen=1)
        return gradients([values[name] for name in plain.names], weights)

    def first_run() -> Result:
        run = simulate(network, image, solver=Euler(dt=1.0), steps=steps, record=record, gradient=Full())
        return gradients([run[name][-1] for name in plain.names], weights)

    def by_hand(step: Callable[..., tuple[Tensor, ...]] | None = None) -> Result:
        return gradients(plain.run(image, steps, 1.0, step).values(), plain_weights)

    def by_library() -> Result:
        ends = plain.by_torchdiffeq(image, float(steps), method="euler", options={"step_size": 1.0})
        return gradients(ends.values(), plain_weights)

    return Work(
        f"backpropagation through {steps} steps, batch {len(image)}",
        {
            "plain": by_hand,
            "plain compiled": lambda: by_hand(step),
            "torchdiffeq": by_library,
            "pcsim": by_pcsim,
            "pcsim first run": first_run,
        },
        gradient=True,
    )


def gradients(ends: Iterable[Tensor], weights: Sequence[Tensor]) -> Result:
    """Return the norm of d sum r^2 / d weights."""
    loss = torch.stack([end.square().sum() for end in ends]).sum()
    return {"norm": torch.stack([gradient.norm() for gradient in torch.autograd.grad(loss, weights)]).norm()}
