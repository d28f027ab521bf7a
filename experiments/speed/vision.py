"""Other workloads of `experiments.speed`: PCN global, PredNet, local learning and stimuli."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from pcsim import Euler, Iterate, Network, models, stimuli
from pcsim.training import local

from .work import NOTHING, Result, Work, by_torch, channels_last, simulated


def pcn(channels: Sequence[int], pooled: Sequence[int], cycles: int, batch: int) -> Work:
    """Return workload W5 or (c): PCN global on 3x32x32 images, with the published update order."""
    net = models.pcn_global(channels, pooled, cycles).eval()
    plain, in_layout = (PlainPCN(net, len(channels), cycles) for _ in range(2))
    for parameter in in_layout.parameters():
        parameter.data = channels_last(parameter.data) if parameter.dim() == 4 else parameter.data
    image = torch.rand(batch, 3, 32, 32)
    return Work(
        f"PCN with global loops, {'-'.join(map(str, channels))} maps, batch {batch}, {cycles} cycles",
        {
            "plain": lambda: plain(image),
            "plain channels_last": lambda: in_layout(channels_last(image)),
            "torch's products": lambda: in_layout.products(channels_last(image)),
            **simulated(net, image, Iterate(), cycles, ("readout",)),
        },
    )


class PlainPCN(nn.Module):
    """Hand-written loop that implements algorithm 1 of Wen et al. 2018."""

    def __init__(self, net: Network, layers: int, cycles: int) -> None:
        super().__init__()
        own: Any = by_torch(net)
        names = ["image", *(f"r{layer}" for layer in range(1, layers + 1))]
        self.up = nn.ModuleList(own.transforms[f"e{k}_to_r{k + 1}"] for k in range(layers))
        priors = [f"prior{k}" for k in range(1, layers)] + [names[-1]]
        self.down = nn.ModuleList(own.transforms[f"{priors[k]}_to_p{k}"] for k in range(layers))
        self.a = nn.ParameterList(own.rules[f"prior{k}"].rate.weight[:, None, None] for k in range(1, layers))
        self.b = nn.ParameterList(own.rules[f"r{k}"].rate.weight[:, None, None] for k in range(1, layers + 1))
        self.head = own.transforms[f"{names[-1]}_to_readout"]
        self.layers, self.cycles = layers, cycles

    def feed_forward(self, image: Tensor) -> list[Tensor]:
        """Return r_0 (the image) to r_L."""
        r = [image]
        for up in self.up:
            r.append(torch.relu(up(r[-1])))
        return r

    def forward(self, image: Tensor) -> Result:
        """Return the readout after the last cycle."""
        r = self.feed_forward(image)
        for _ in range(self.cycles):
            p: list[Tensor] = [image] * self.layers
            for layer in range(self.layers, 0, -1):
                p[layer - 1] = self.down[layer - 1](r[layer])
                if layer > 1:
                    a = torch.relu(self.a[layer - 2] + 0.0)
                    r[layer - 1] = torch.relu((1 - a) * r[layer - 1] + a * p[layer - 1])
            for layer in range(1, self.layers + 1):
                error = r[layer - 1] - p[layer - 1]
                r[layer] = torch.relu(r[layer] + torch.relu(self.b[layer - 1]) * self.up[layer - 1](error))
        return {"readout": self.head(r[-1])}

    def products(self, image: Tensor) -> Result:
        """Run only the maps, including pooling and upsampling. Bottom-up maps run once more than top-down maps."""
        r = self.feed_forward(image)
        for _ in range(self.cycles):
            for layer in range(self.layers):
                self.down[layer](r[layer + 1])
                self.up[layer](r[layer])
        return NOTHING


def prednet(
    batch: int, frames: int, channels: Sequence[int] = (3, 48, 96, 192), size: tuple[int, int] = (128, 160)
) -> Work:
    """Return workload (d): PredNet at its KITTI size."""
    net = models.prednet(channels, size=size).eval()
    plain = PlainPredNet(net, channels)
    film = torch.rand(frames, batch, channels[0], *size)
    shown = stimuli.sequence(film, every=net.step_ms)
    return Work(
        f"PredNet, {'-'.join(map(str, channels))} channels, {size[0]}x{size[1]}, batch {batch}, {frames} frames",
        {
            "plain": lambda: plain(film),
            **simulated(net, shown, Iterate(), frames, ("p0",)),
        },
    )


class PlainPredNet(nn.Module):
    """Hand-written PredNet (Lotter et al. 2017); in each layer, one convolution of [E, R, R above] yields all gates."""

    def __init__(self, net: Network, channels: Sequence[int]) -> None:
        super().__init__()
        own: Any = by_torch(net)
        self.channels, self.layers = channels, len(channels)
        self.gates = nn.ModuleList()
        for layer, count in enumerate(channels):
            edges = [own.transforms[f"e{layer}_to_r{layer}"], own.transforms[f"r{layer}_to_r{layer}"]]
            edges += [own.transforms[f"r{layer + 1}_to_r{layer}"][-1]] if layer + 1 < self.layers else []
            gate = nn.Conv2d(sum(edge.in_channels for edge in edges), 4 * count, 3, padding=1)
            gate.weight.data = torch.cat([edge.weight for edge in edges], 1).contiguous()
            gate.bias = own.rules[f"r{layer}"].bias
            self.gates.append(gate)
        self.to_prediction = nn.ModuleList(own.transforms[f"r{layer}_to_p{layer}"] for layer in range(self.layers))
        self.bias = nn.ParameterList(own.rules[f"p{layer}"].bias[:, None, None] for layer in range(self.layers))
        self.to_target = nn.ModuleList(own.transforms[f"e{k}_to_a{k + 1}"] for k in range(self.layers - 1))

    def forward(self, film: Tensor) -> Result:
        """Return the prediction of the last frame."""
        _, batch, _, height, width = film.shape
        sizes = [(batch, c, height >> k, width >> k) for k, c in enumerate(self.channels)]
        r, c = [film.new_zeros(size) for size in sizes], [film.new_zeros(size) for size in sizes]
        e = [film.new_zeros(batch, 2 * size[1], *size[2:]) for size in sizes]
        for frame in film:
            for k in reversed(range(self.layers)):
                above = (
                    [functional.interpolate(r[k + 1], scale_factor=2, mode="nearest")] if k + 1 < self.layers else []
                )
                i, f, o, z = self.gates[k](torch.cat([e[k], r[k], *above], 1)).chunk(4, 1)
                i, f, o = ((0.2 * gate + 0.5).clamp(0.0, 1.0) for gate in (i, f, o))
                c[k] = f * c[k] + i * torch.tanh(z)
                r[k] = o * torch.tanh(c[k])
            target, predictions = frame, []
            for k in range(self.layers):
                p = torch.relu(self.to_prediction[k](r[k]) + self.bias[k])
                p = p.clamp(max=1.0) if k == 0 else p
                predictions.append(p)
                e[k] = torch.cat([torch.relu(p - target), torch.relu(target - p)], 1)
                if k + 1 < self.layers:
                    target = self.to_target[k](e[k])
        return {"p0": predictions[0]}


def local_learning(batch: int, steps: int) -> Work:
    """Return workload (e): one update of predictive coding by its local rule, i.e. relaxation and then dW = d r^T."""
    sizes = ((10,), (300,), (300,), (784,))
    net = models.predictive_coding(
        sizes, clamped=("r0", "r3"), activation="tanh", nonlinearity="outside", bias=False, start="predictions"
    )
    image, label = torch.rand(batch, 784), torch.eye(10)[torch.arange(batch) % 10]
    parameters = [next(net.transforms[f"r{k + 1}_to_p{k}"].parameters()) for k in (2, 1, 0)]
    weights = [p.detach().T.contiguous() for p in parameters]

    shown, solver, until = {"r3": image, "r0": label}, Euler(dt=1.0), float(steps)
    relaxation = local.Relaxation(net, solver, until)

    def changed(values: Result) -> Result:
        net.zero_grad()
        relaxation.local_gradient(values)
        return {f"W{n}": p.grad for n, p in enumerate(parameters) if p.grad is not None}

    def by_hand() -> Result:
        z = [image]
        for w in weights[:2]:
            z.append(torch.tanh(z[-1] @ w.T))
        z.append(label)
        with torch.no_grad():
            for _ in range(steps):
                mu = [torch.tanh(low @ w.T) for low, w in zip(z, weights, strict=False)]
                e = [high - m for high, m in zip(z[1:], mu, strict=True)]
                d = [error * (1 - m**2) for error, m in zip(e, mu, strict=True)]
                z[1] = z[1] - 0.1 * (e[0] - d[1] @ weights[1])
                z[2] = z[2] - 0.1 * (e[1] - d[2] @ weights[2])
            mu = [torch.tanh(low @ w.T) for low, w in zip(z, weights, strict=False)]
            d = [(high - m) * (1 - m**2) for high, m in zip(z[1:], mu, strict=True)]
        return {f"W{n}": -(z[n].T @ d[n]) / batch for n in range(3)}

    return Work(
        f"predictive coding with its local rule, 784-300-300-10, batch {batch}, {steps} steps of relaxation and one "
        "update of all weights",
        {
            "plain": by_hand,
            "pcsim": lambda: changed(relaxation(shown)),
            "pcsim first run": lambda: changed(local.relax(net, shown, solver, until)),
        },
        gradient=True,
    )


def stimulus(count: int) -> Work:
    """Return workload (g): generate digits under debris from (seed, index)."""

    def drawn() -> Result:
        stimuli.digit_debris(fragments=10, seed=0, batch=count).at(0.0)
        return NOTHING

    return Work(f"{count} images of digits under debris", {"pcsim": drawn})
