"""The workloads of `experiments.speed`: what pcsim runs, a plain PyTorch loop of the same arithmetic, and its products.

The plain loops are what one would write for a paper: the equations, no tricks, weights as torch's own modules lay them.
"torch's products" are the convolutions (by oneDNN, as torch chooses) or matrix products of the plain loop alone, in the
order and layout that serve them best. They are no lower bound: other kernels are faster on small maps.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from pcsim import RK4, Dopri5, Euler, Full, Network, Population, Projection, Record, Run, Simulator, models, simulate
from pcsim.connections import conv, up_conv
from pcsim.rules import leaky_rate
from pcsim.solvers import Solver
from pcsim.stimuli.timeline import Stimulus

Result = dict[str, Tensor]
Contender = Callable[[], Result]
NOTHING: Result = {}
"""what products alone compute is no answer"""


@dataclass(frozen=True)
class Work:
    """One row of the table.

    contenders  name -> what is timed; "plain" is what the others are divided by, and their answers must be its own
    tolerance   how far answers may lie from the plain one, relative to its largest value
    gradient    whether gradients are kept
    relaxation  (weights, image, label, steps) that other packages can be asked for (`experiments.speed.others`)
    areas       (plain loop, image, steps) of areas as an ODE, likewise
    """

    what: str
    contenders: dict[str, Contender]
    tolerance: float = 1e-3
    gradient: bool = False
    relaxation: tuple[list[Tensor], Tensor, Tensor, int] | None = None
    areas: tuple[Areas, Tensor, int] | None = None


def simulated(
    network: Network, shown: Stimulus, solver: Solver, steps: int, kept: Sequence[str]
) -> dict[str, Contender]:
    """The contenders that are pcsim, of which the last value of some populations is kept.

    pcsim            a Simulator that has run before
    pcsim compiled   the same, its steps by torch.compile
    pcsim first run  `simulate`, which prepares everything anew
    """
    record = Record(states=kept, every=steps)
    sim = Simulator(network, solver=solver, record=record)
    compiled = Simulator(network, solver=solver, record=record, compile=True)

    def ends(run: Run) -> Result:
        return {name: run[name][-1] for name in kept}

    return {
        "pcsim": lambda: ends(sim(shown, steps=steps)),
        "pcsim first run": lambda: ends(simulate(network, shown, solver=solver, steps=steps, record=record)),
        "pcsim compiled": lambda: ends(compiled(shown, steps=steps)),
    }


def by_torch(network: Network) -> Network:
    """A copy whose weights lie as torch's modules make them, for the plain loops."""
    plain = copy.deepcopy(network)
    for parameter in plain.parameters():
        parameter.data = parameter.data.contiguous()
    return plain


def channels_last(value: Tensor) -> Tensor:
    """The same image stack, channels side by side in memory."""
    return value.contiguous(memory_format=torch.channels_last)


# ------------------------------------------------------------------ W1, W2b: relaxation of predictive coding


IMAGES = ((3, 32, 32), (32, 16, 16), (64, 8, 8), (64, 4, 4))


def relaxing(layers: Sequence[tuple[int, ...]], batch: int) -> tuple[Network, dict[str, Tensor]]:
    """Layers from the image to the label, p = tanh(W r) without bias; both ends, which are shown."""
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
    """W1, W2b: both ends clamped, rate 0.1 a step."""
    net, shown = relaxing(layers, batch)
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
    """W z."""
    return z @ w.T


def dense_down(d: Tensor, w: Tensor) -> Tensor:
    """W^T d."""
    return d @ w


def conv_up(z: Tensor, w: Tensor) -> Tensor:
    """A 3x3 convolution of stride 2."""
    return functional.conv2d(z, w, stride=2, padding=1)


def conv_down(d: Tensor, w: Tensor) -> Tensor:
    """Its transpose."""
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
    """From the feed-forward values."""
    z1 = torch.tanh(up(x, w[0]))
    z2 = torch.tanh(up(z1, w[1]))
    for _ in range(steps):
        z1, z2 = step(w, x, z1, z2, y, up, down)
    return {"r2": z1, "r1": z2}


def relaxation_products(w: list[Tensor], x: Tensor, y: Tensor, steps: int, up: Linear, down: Linear) -> Result:
    """What the equations leave when z_0 is clamped: two maps up and two down a step."""
    if x.dim() == 4:
        w, x, y = [channels_last(weight) for weight in w], channels_last(x), channels_last(y)
    z1 = up(x, w[0])
    z2 = up(z1, w[1])
    for _ in range(steps):
        up(z1, w[1]), up(z2, w[2]), down(z2, w[1]), down(y, w[2])
    return NOTHING


# ------------------------------------------------------------------ W4, (a), (b), (f): three areas as an ODE


class Areas(nn.Module):
    """tau dr/dt = -r + relu(bottom-up + lateral + top-down), three areas, by hand, with the weights of a network."""

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
            self.u1 = self.u1[-1]  # the image as it is: its mean and sd are 0 and 1
        for name, up in zip(names, (self.u1, self.u2, self.u3), strict=True):
            if (bias := dict(plain.rules[name].named_parameters()).get("rule.bias")) is not None:
                (up[-1] if isinstance(up, nn.Sequential) else up).bias = bias
        self.names, self.taus = names, taus

    def rates(self, image: Tensor, r1: Tensor, r2: Tensor, r3: Tensor) -> tuple[Tensor, ...]:
        """dr/dt, per ms."""
        return (
            (-r1 + torch.relu(self.u1(image) + self.l1(r1) + self.d1(r2))) / self.taus[0],
            (-r2 + torch.relu(self.u2(r1) + self.l2(r2) + self.d2(r3))) / self.taus[1],
            (-r3 + torch.relu(self.u3(r2) + self.l3(r3))) / self.taus[2],
        )

    def start(self, image: Tensor) -> tuple[Tensor, ...]:
        """Zeros."""
        r1 = torch.zeros_like(self.u1(image))
        r2 = torch.zeros_like(self.u2(r1))
        return r1, r2, torch.zeros_like(self.u3(r2))

    def step(self, image: Tensor, dt: float, *state: Tensor) -> tuple[Tensor, ...]:
        """One of Euler."""
        return tuple(r + dt * rate for r, rate in zip(state, self.rates(image, *state), strict=True))

    def run(
        self, image: Tensor, steps: int, dt: float, step: Callable[..., tuple[Tensor, ...]] | None = None
    ) -> Result:
        """The last state."""
        state = self.start(image)
        for _ in range(steps):
            state = (step or self.step)(image, dt, *state)
        return dict(zip(self.names, state, strict=True))

    def products(self, image: Tensor, steps: int) -> Result:
        """Every convolution of a step once, that of the image once in all."""
        r1, r2, r3 = (channels_last(r) for r in self.start(image))
        self.u1(image)
        for _ in range(steps):
            self.l1(r1), self.d1(r2), self.u2(r1), self.l2(r2), self.d2(r3), self.u3(r2), self.l3(r3)
        return NOTHING

    def by_torchdiffeq(self, image: Tensor, until: float, **options: object) -> Result:
        """The library on the plain right-hand side."""
        from torchdiffeq import odeint

        ends = odeint(
            lambda _, state: self.rates(image, *state), self.start(image), torch.tensor([0.0, until]), **options
        )
        return {name: value[-1] for name, value in zip(self.names, ends, strict=True)}


def three_areas(channels: Sequence[int], size: int, batch: int) -> tuple[Network, Areas, Tensor]:
    """W4: tau 5, 10, 20 ms, no bias; 3x3 up (stride 1, 2, 2) and lateral, 4x4 transposed down; a static image."""
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
    """(a), (b): `models.leaky_rcnn` of three areas, 32 channels each, on 32x32."""
    taus = (10.0, 20.0, 40.0)
    net = models.leaky_rcnn((32, 32, 32), taus)
    return net, Areas(net, ("l1", "l2", "l3"), taus), torch.rand(batch, 1, 32, 32)


def ode(net: Network, plain: Areas, image: Tensor, steps: int) -> Work:
    """Euler with dt = 1 ms, no gradient."""
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
    """RK4 with dt = 4 ms over 48 ms, against the library's rk4 on the plain right-hand side (the plain of this row)."""
    return Work(
        f"W4, batch {len(image)}: RK4, 12 steps of 4 ms",
        {
            "plain": lambda: plain.by_torchdiffeq(
                image, 48.0, method="rk4", options={"step_size": 4.0, "perturb": False}
            ),
            **simulated(net, image, RK4(dt=4.0), 12, plain.names),
        },
        tolerance=1e-2,  # torchdiffeq's "rk4" is the 3/8 rule; both have order 4
    )


def adaptive(net: Network, plain: Areas, image: Tensor) -> Work:
    """dopri5 at 1e-3 over 50 ms against 50 plain steps of Euler."""
    by_pcsim = simulated(net, image, Dopri5(dt=50.0, rtol=1e-3, atol=1e-3), 1, plain.names)
    del by_pcsim["pcsim compiled"]  # it looks at its numbers to choose a step: there is nothing to compile
    return Work(
        f"W4, batch {len(image)}: dopri5 at tolerances of 1e-3 over 50 ms, against Euler",
        {
            "plain": lambda: plain.run(image, 50, 1.0),
            "torchdiffeq": lambda: plain.by_torchdiffeq(image, 50.0, method="dopri5", rtol=1e-3, atol=1e-3),
            **by_pcsim,
        },
        tolerance=0.2,  # Euler's own error at 1 ms
    )


def trained(net: Network, plain: Areas, image: Tensor, steps: int) -> Work:
    """Gradients of sum r^2 of the last state with respect to all weights, by backpropagation through all steps."""
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

    def afresh() -> Result:
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
            "pcsim first run": afresh,
        },
        gradient=True,
    )


def gradients(ends: Iterable[Tensor], weights: Sequence[Tensor]) -> Result:
    """The norm of d sum r^2 / d weights."""
    loss = torch.stack([end.square().sum() for end in ends]).sum()
    return {"norm": torch.stack([gradient.norm() for gradient in torch.autograd.grad(loss, weights)]).norm()}
