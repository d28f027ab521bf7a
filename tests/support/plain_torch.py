"""The recognition models as ordinary PyTorch modules, written from the layer tables of their papers and code.

The module names are those of the published code, so the state dicts have the published names. The modules share no code
with pcsim, whose networks are compared with them in values, time and memory.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from pcsim import Network, models
from pcsim.models import published


class Decoder(nn.Module):
    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.mean((2, 3)))


class AreaZ(nn.Module):
    def __init__(self, below: int, channels: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(below, channels, kernel, stride, kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        return functional.max_pool2d(functional.relu(self.conv(x)), 3, 2, 1)


class CORnetZ(nn.Module):
    def __init__(self, channels: tuple[int, ...] = (64, 128, 256, 512), colours: int = 3, classes: int = 1000) -> None:
        super().__init__()
        self.V1 = AreaZ(colours, channels[0], 7, 2)
        self.V2, self.V4, self.IT = (AreaZ(a, b, 3, 1) for a, b in pairwise(channels))
        self.decoder = Decoder(channels[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.IT(self.V4(self.V2(self.V1(x)))))


class AreaRT(nn.Module):
    def __init__(self, below: int, channels: int, kernel: int, stride: int, groups: int) -> None:
        super().__init__()
        self.conv_input = nn.Conv2d(below, channels, kernel, stride, kernel // 2)
        self.norm_input = nn.GroupNorm(groups, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.norm1 = nn.GroupNorm(groups, channels)

    def forward(self, x: Tensor | None, state: Tensor) -> Tensor:
        given = 0.0 if x is None else functional.relu(self.norm_input(self.conv_input(x)))
        return functional.relu(self.norm1(self.conv1(given + state)))


class CORnetRT(nn.Module):
    """CORnet-RT or, with `within`, CORnet-R, in which areas receive outputs of the current step."""

    def __init__(
        self,
        channels: tuple[int, ...] = (64, 128, 256, 512),
        colours: int = 3,
        classes: int = 1000,
        groups: int = 32,
        times: int = 5,
        within: bool = False,
    ) -> None:
        super().__init__()
        self.V1 = AreaRT(colours, channels[0], 7, 4, groups)
        self.V2, self.V4, self.IT = (AreaRT(a, b, 3, 2, groups) for a, b in pairwise(channels))
        self.decoder = Decoder(channels[-1], classes)
        self.channels, self.times, self.within = channels, times, within

    def forward(self, x: Tensor) -> Tensor:
        areas = [self.V1, self.V2, self.V4, self.IT]
        sizes = [-(-x.shape[2] // 4 // 2**n) for n in range(4)]
        states = [x.new_zeros(len(x), c, s, s) for c, s in zip(self.channels, sizes, strict=True)]
        for t in range(self.times):
            before = [x, *states]
            for n, area in enumerate(areas):
                source = ([x, *states] if self.within else before)[n]
                states[n] = area(None if t == 0 and n > 0 else source, states[n])
        return self.decoder(states[-1])


class EntryS(nn.Module):
    def __init__(self, colours: int, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(colours, channels, 7, 2, 3, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.max_pool2d(functional.relu(self.norm1(self.conv1(x))), 3, 2, 1)
        return functional.relu(self.norm2(self.conv2(x)))


class AreaS(nn.Module):
    def __init__(self, below: int, channels: int, times: int, scale: int) -> None:
        super().__init__()
        wide = scale * channels
        self.conv_input = nn.Conv2d(below, channels, 1, bias=False)
        self.skip = nn.Conv2d(channels, channels, 1, 2, bias=False)
        self.norm_skip = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, wide, 1, bias=False)
        self.conv2 = nn.Conv2d(wide, wide, 3, 2, 1, bias=False)
        self.conv3 = nn.Conv2d(wide, channels, 1, bias=False)
        self.times = times
        for t in range(times):
            for name, count in (("norm1", wide), ("norm2", wide), ("norm3", channels)):
                setattr(self, f"{name}_{t}", nn.BatchNorm2d(count))

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_input(x)
        for t in range(self.times):
            skip = self.norm_skip(self.skip(x)) if t == 0 else x
            x = functional.relu(getattr(self, f"norm1_{t}")(self.conv1(x)))
            x = functional.conv2d(x, self.conv2.weight, None, 2 if t == 0 else 1, 1)
            x = functional.relu(getattr(self, f"norm2_{t}")(x))
            x = functional.relu(getattr(self, f"norm3_{t}")(self.conv3(x)) + skip)
        return x


class CORnetS(nn.Module):
    def __init__(
        self,
        channels: tuple[int, ...] = (64, 128, 256, 512),
        times: tuple[int, ...] = (2, 4, 2),
        colours: int = 3,
        classes: int = 1000,
        scale: int = 4,
    ) -> None:
        super().__init__()
        self.V1 = EntryS(colours, channels[0])
        self.V2, self.V4, self.IT = (
            AreaS(a, b, t, scale) for a, b, t in zip(channels, channels[1:], times, strict=False)
        )
        self.decoder = Decoder(channels[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.IT(self.V4(self.V2(self.V1(x)))))


class LocalBlock(nn.Module):
    """A block of Han et al. 2018, with the names used in the authors' code."""

    def __init__(self, below: int, channels: int, cycles: int) -> None:
        super().__init__()
        self.FFconv = nn.Conv2d(below, channels, 3, padding=1, bias=False)
        self.FBconv = nn.ConvTranspose2d(channels, below, 3, padding=1, bias=False)
        self.b0 = nn.ParameterList([nn.Parameter(torch.zeros(1, channels, 1, 1))])
        self.bypass = nn.Conv2d(below, channels, 1, bias=False)
        self.cycles = cycles

    def forward(self, x: Tensor) -> Tensor:
        rate = functional.relu(1.0 + self.b0[0])
        y = functional.relu(self.FFconv(x))
        for _ in range(self.cycles):
            y = y + rate * self.FFconv(functional.relu(x - self.FBconv(y)))
        return y + self.bypass(x)


class LocalPCN(nn.Module):
    def __init__(
        self,
        channels: tuple[int, ...],
        pooled: tuple[int, ...],
        colours: int,
        classes: int,
        cycles: int = 3,
        stem: int | None = None,
    ) -> None:
        super().__init__()
        first = [colours if stem is None else stem, *channels]
        if stem is not None:
            self.baseconv = nn.Module()
            self.baseconv.conv = nn.Conv2d(colours, stem, 7, 2, 3, bias=False)
            self.baseconv.featBN = nn.BatchNorm2d(stem)
        self.PcConvs = nn.ModuleList(LocalBlock(a, b, cycles) for a, b in pairwise(first))
        self.BNs = nn.ModuleList(nn.BatchNorm2d(a) for a in first[:-1])
        self.linear = nn.Linear(channels[-1], classes)
        self.BNend = nn.BatchNorm2d(channels[-1])
        self.pooled = pooled

    def forward(self, x: Tensor) -> Tensor:
        if hasattr(self, "baseconv"):
            x = functional.relu(self.baseconv.featBN(self.baseconv.conv(x)))
        for n, (norm, block) in enumerate(zip(self.BNs, self.PcConvs, strict=True), 1):
            x = block(norm(x))
            x = functional.max_pool2d(x, 2) if n in self.pooled else x
        return self.linear(functional.relu(self.BNend(x)).mean((2, 3)))


class Block(nn.Module):
    def __init__(self, below: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(below, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = (
            nn.Sequential(nn.Conv2d(below, channels, 1, stride, bias=False), nn.BatchNorm2d(channels))
            if stride > 1
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        path = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        return functional.relu(path + self.downsample(x))


class ResNet(nn.Module):
    def __init__(self, blocks: tuple[int, ...] = (2, 2, 2, 2), classes: int = 1000) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        parts, below = [], 64
        for stage, count in enumerate(blocks):
            for block in range(count):
                parts.append(Block(below, 64 << stage, 2 if stage and not block else 1))
                below = 64 << stage
        self.blocks = nn.Sequential(*parts)
        self.fc = nn.Linear(below, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.max_pool2d(functional.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        return self.fc(self.blocks(x).mean((2, 3)))


class MedianLayer(nn.Module):
    """A layer of the intermediate ConvRNN with its cell (depth 64, separable 7x7 gates)."""

    def __init__(self, below: int, maps: int, fed: int, depth: int = 64) -> None:
        super().__init__()
        self.ff = nn.Conv2d(below, maps, 3, 1, 1)
        self.to_cell = nn.Conv2d(maps, depth, 2)
        self.to_out = nn.Conv2d(maps, maps, 3, 1, 1)
        self.res = nn.Conv2d(below, maps, 1, bias=False) if below != maps else nn.Identity()
        self.tau_c, self.gate_c = self.separable(depth, depth), self.separable(maps, depth)
        self.tau_o, self.gate_o = self.separable(maps, maps), self.separable(depth, maps)
        self.fb = nn.Conv2d(fed, maps, 1) if fed else None

    @staticmethod
    def separable(channels: int, out: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(channels, channels, 7, 1, 3, groups=channels, bias=False), nn.Conv2d(channels, out, 1)
        )

    def forward(self, below: Tensor, c: Tensor, o: Tensor, fed: Tensor | None) -> tuple[Tensor, Tensor]:
        x = functional.elu(self.ff(below))  # the cell's input activation precedes its convolutions
        ci = self.to_cell(functional.pad(x, (0, 1, 0, 1)))
        oi = self.to_out(x) + self.res(below)
        if self.fb is not None and fed is not None:
            oi = oi + self.fb(fed)
        new_c = functional.elu(
            0.9219 * (1 - torch.sigmoid(self.tau_c(c))) * c + 0.7007 * (1 - torch.tanh(self.gate_c(o))) * ci
        )
        new_o = functional.elu(
            0.9219 * (1 - torch.sigmoid(self.tau_o(o))) * o + 0.7007 * (1 - torch.tanh(self.gate_o(c))) * oi
        )
        return new_c, new_o


class Intermediate(nn.Module):
    """The intermediate ConvRNN, in which every layer receives the output of the layer below from the previous step."""

    maps = (64, 128, 128, 128, 128, 256, 256, 256, 512, 512)
    pooled = (1, 4, 6, 7, 10)
    feedback = ((8, 5), (9, 6), (10, 7), (7, 6), (10, 9))

    def __init__(self, steps: int = 17, classes: int = 1000) -> None:
        super().__init__()
        self.steps = steps
        self.plain = nn.ModuleList([nn.Conv2d(3, 64, 7, 2), nn.Conv2d(64, 128, 3, 1, 1), nn.Conv2d(128, 128, 3, 1, 1)])
        self.cells = nn.ModuleList(
            MedianLayer(self.maps[n - 2], self.maps[n - 1], sum(self.maps[a - 1] for a, b in self.feedback if b == n))
            for n in range(4, 11)
        )
        self.fc = nn.Linear(512, classes)

    def forward(self, image: Tensor) -> Tensor:
        size = image.shape[2] // 2
        o, c = {}, {}
        for n in range(1, 11):
            o[n] = image.new_zeros(len(image), self.maps[n - 1], size, size)
            c[n] = image.new_zeros(len(image), 64, size, size)
            size = -(-size // 2) if n in self.pooled else size
        out = image.new_zeros(())
        for _ in range(self.steps):
            old, old_c = dict(o), dict(c)
            up = {n: functional.max_pool2d(v, 2, 2, ceil_mode=True) if n in self.pooled else v for n, v in old.items()}
            o[1] = functional.elu(self.plain[0](functional.pad(image, (2, 3, 2, 3))))
            o[2], o[3] = functional.elu(self.plain[1](up[1])), functional.elu(self.plain[2](up[2]))
            for n in range(4, 11):
                fed = [
                    functional.interpolate(up[a], old[n].shape[2:], mode="bilinear", align_corners=True)
                    for a, b in self.feedback
                    if b == n
                ]
                c[n], o[n] = self.cells[n - 4](up[n - 1], old_c[n], old[n], torch.cat(fed, 1) if fed else None)
            out = self.fc(up[10].mean((2, 3)))
        return out


# ---------------------------------------------------------------------- pcsim's networks with the same weights

FULL_SIZE = {
    "cornet_z": CORnetZ,
    "cornet_rt": CORnetRT,
    "cornet_s": CORnetS,
    "convrnn_intermediate": Intermediate,
    "resnet18": ResNet,
    "resnet34": lambda: ResNet((3, 4, 6, 3)),
}


def full_size(name: str) -> tuple[Network, nn.Module]:
    """Return the published network and its plain equivalent, with the same tensors."""
    net, plain = models.build(name).eval(), FULL_SIZE[name]().eval()
    if name.startswith("cornet"):
        published.load(net, plain.state_dict(), published.cornet)
        return net, plain
    edges = {edge.name: edge.transform for edge in net.projections}
    with torch.no_grad():
        if isinstance(plain, ResNet):
            fill_resnet(edges, plain)
        else:
            fill_intermediate(net, edges, plain)
    return net, plain


def fill(target: nn.Module, *sources: nn.Module) -> None:
    """Copy the tensors of `sources`, in order, to the tensors of `target`."""
    theirs = [tensor for source in sources for tensor in source.state_dict().values()]
    for ours, other in zip(target.state_dict().values(), theirs, strict=True):
        ours.copy_(other)


def fill_resnet(edges: dict[str, nn.Module], plain: ResNet) -> None:
    fill(edges["image->h0"], plain.conv1, plain.bn1)
    for n, block in enumerate(plain.blocks, 1):
        fill(edges[f"h{n - 1}->h{n}"], block.conv1, block.bn1, block.conv2, block.bn2)
        fill(edges[f"h{n - 1}->h{n}:skip"], block.downsample)
    fill(edges[f"h{len(plain.blocks)}->readout"], plain.fc)


def fill_intermediate(net: Network, edges: dict[str, nn.Module], plain: Intermediate) -> None:
    for n, layer in enumerate(plain.plain, 1):
        conv = edges[f"h{n - 1}->x{n}" if n > 1 else "image->x1"][-1]
        next(conv.parameters()).copy_(layer.weight)
        net.populations[f"x{n}"].rule.bias.copy_(layer.bias)
    for n, cell in enumerate(plain.cells, 4):
        next(edges[f"h{n - 1}->x{n}"].parameters()).copy_(cell.ff.weight)
        net.populations[f"x{n}"].rule.bias.copy_(cell.ff.bias)
        fill(edges[f"x{n}->c{n}"], cell.to_cell)
        fill(edges[f"x{n}->h{n}"], cell.to_out)
        fill(edges[f"h{n - 1}->h{n}"], cell.res)
        for target, gate, tau, other in (
            (f"c{n}", cell.gate_c, cell.tau_c, f"h{n}"),
            (f"h{n}", cell.gate_o, cell.tau_o, f"c{n}"),
        ):
            for edge, source in ((f"{other}->{target}:gate", gate), (f"{target}->{target}:retention", tau)):
                for ours, theirs in zip(edges[edge].parameters(), (source[0].weight, source[1].weight), strict=True):
                    ours.copy_(theirs)
            net.populations[target].rule.bias.copy_(torch.stack([gate[1].bias, tau[1].bias]))
        if cell.fb is not None:
            senders = [a for a, b in plain.feedback if b == n]
            parts = cell.fb.weight.split([plain.maps[a - 1] for a in senders], 1)
            for a, part in zip(senders, parts, strict=True):
                next(edges[f"h{a}->f{n}"].parameters()).copy_(part)
            net.populations[f"f{n}"].rule.bias.copy_(cell.fb.bias)
    fill(edges["h10->readout"], plain.fc)
