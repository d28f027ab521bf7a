"""CORnet: areas V1, V2, V4 and IT (Kubilius et al. 2018, 2019).

    Z     a_n = maxpool( ReLU( W a_{n-1} + b ) )
    R     s_n(t) = ReLU( GN( W ( in_n(t) + s_n(t-1) ) ) ),   in_n(t) = ReLU( GN( V s_{n-1}(t) + b ) ),     in_n(0) = 0
    RT    the same with in_n(t) = ReLU( GN( V s_{n-1}(t-1) + b ) )
    S     x <- ReLU( N_t( W3 ReLU( N_t( W2 ReLU( N_t( W1 x ) ) ) ) ) + x ),   2, 4 and 2 times in V2, V4 and IT

In R and RT, the image drives V1 at every step. The two models differ only in the delay of the bottom-up projections
between areas, which transmit nothing in the first step. In S, each area completes its repeats before the next one
starts. The repeats share weights but not batch norms, and the first repeat halves the size of the maps. Map sizes
follow from the image size. The decoder of every model is global average pooling followed by a linear layer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import nn

from pcsim.connections import Chain, GlobalMeanPool, StepNorm, Strided, channels_last, conv
from pcsim.core.checks import Count
from pcsim.core.exceptions import WiringError
from pcsim.models.areas import Wiring
from pcsim.models.registry import register
from pcsim.network import Network, Population, Projection
from pcsim.rules.rate import Rate
from pcsim.rules.wires import Sum

AREAS = ("v1", "v2", "v4", "it")
CHANNELS = (64, 128, 256, 512)


def _decoder(channels: int, classes: int, active: tuple[float, float] | None = None) -> Wiring:
    head = nn.Sequential(GlobalMeanPool(), nn.Linear(channels, classes))
    return [Population("readout", Sum(), active=active)], [Projection("it", "readout", head)]


@register(paper="Kubilius et al. 2018")
def cornet_z(
    channels: tuple[Count, Count, Count, Count] = CHANNELS,
    *,
    image: tuple[Count, Count, Count] = (3, 224, 224),
    classes: Count = 1000,
) -> Network:
    """Build the feed-forward CORnet-Z: each area is a convolution with bias, a ReLU and 3x3 max pooling with stride 2.

    It has 2,071,656 parameters, with Xavier initialisation and zero biases. `channels` has one entry per area.
    """
    populations: list[Population] = []
    projections: list[Projection] = []
    source, below = "image", image[0]
    for area, count in zip(AREAS, channels, strict=True):
        first = channels_last(nn.Conv2d(below, count, 7, 2, 3)) if area == "v1" else conv(below, count, bias=True)
        populations.append(Population(area, Rate(count, "identity", bias=False)))
        projections.append(Projection(source, area, nn.Sequential(first, nn.ReLU(), nn.MaxPool2d(3, 2, 1))))
        source, below = area, count
    nodes, edges = _decoder(below, classes)
    net = Network(
        {"image": image}, populations + nodes, projections + edges, readout="readout", steps=1, name="cornet_z"
    )
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
    return net


@register(paper="Kubilius et al. 2018")
def cornet_r(
    channels: tuple[Count, Count, Count, Count] = CHANNELS,
    steps: Count = 5,
    *,
    image: tuple[Count, Count, Count] = (3, 224, 224),
    classes: Count = 1000,
    groups: Count = 32,
) -> Network:
    """Build CORnet-R as in the published code: after step 0, areas receive the current output of the area below.

    It has 5,208,936 parameters. `channels` has one entry per area, each divisible by `groups`, the number of groups in
    group norm.
    """
    return _cornet_recurrent("cornet_r", 0, channels, steps, image, classes, groups)


@register(paper="Kubilius et al. 2018")
def cornet_rt(
    channels: tuple[Count, Count, Count, Count] = CHANNELS,
    steps: Count = 5,
    *,
    image: tuple[Count, Count, Count] = (3, 224, 224),
    classes: Count = 1000,
    groups: Count = 32,
) -> Network:
    """Build CORnet-RT, in which each area receives the output of the area below one step later.

    The image therefore reaches IT in the fourth step. The network has 5,208,936 parameters and the same options as
    `cornet_r`. The 2018 paper calls it R.
    """
    return _cornet_recurrent("cornet_rt", 1, channels, steps, image, classes, groups)


def _cornet_recurrent(
    name: str, delay: int, channels: Sequence[int], steps: int, image: tuple[int, int, int], classes: int, groups: int
) -> Network:
    """Build CORnet-R or RT. Each area convolves u_{area}, the sum of its input and its previous state."""
    if any(count % groups for count in channels):
        raise WiringError(
            given=f"groups={groups} for areas of {', '.join(map(str, channels))} channels",
            expected="a common divisor of the numbers of channels",
            remedy=f"pass groups={math.gcd(*channels)}, or another common divisor",
        )
    populations: list[Population] = []
    projections: list[Projection] = []
    source, below = "image", image[0]
    for area, count in zip(AREAS, channels, strict=True):
        u, first = f"u_{area}", area == "v1"
        entry = channels_last(nn.Conv2d(below, count, 7, 4, 3)) if first else conv(below, count, stride=2, bias=True)
        populations += [Population(u, Sum()), Population(area, Rate(count, bias=False))]
        projections += [
            Projection(
                source,
                u,
                nn.Sequential(entry, nn.GroupNorm(groups, count), nn.ReLU()),
                delay=0 if first else delay,
                active=None if first else (1, math.inf),
            ),
            Projection(area, u, nn.Identity(), "lateral", 1),
            Projection(u, area, nn.Sequential(conv(count, count), nn.GroupNorm(groups, count))),
        ]
        source, below = area, count
    nodes, edges = _decoder(below, classes)
    return Network(
        {"image": image}, populations + nodes, projections + edges, readout="readout", steps=steps, name=name
    )


@register(paper="Kubilius et al. 2019")
def cornet_s(
    channels: tuple[Count, Count, Count, Count] = CHANNELS,
    iterations: tuple[Count, Count, Count] = (2, 4, 2),
    *,
    image: tuple[Count, Count, Count] = (3, 224, 224),
    classes: Count = 1000,
    scale: Count = 4,
) -> Network:
    """Build CORnet-S, which has 53,416,616 parameters.

    channels    number of channels in each area
    iterations  number of repeats in V2, V4 and IT
    scale       number of channels in the middle of a repeat, relative to that of the area

    V1 runs in the first step, then V2, V4 and IT in turn, one step per repeat. These three areas have additional
    populations. In V2, for example, in_v2 is the 1x1 convolution of the input, first_v2 and wide_v2 are the expanded
    stage in the first and in later repeats, and deep_v2 is the 3x3 convolution after that stage. Populations keep their
    values while they are inactive. Convolution weights are drawn from N(0, 2 / (kernel area * output channels)).
    """
    v1 = channels[0]
    entry = [
        channels_last(nn.Conv2d(image[0], v1, 7, 2, 3, bias=False)),
        nn.BatchNorm2d(v1),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
    ]
    populations = [Population("stem", Sum(), active=(0, 1)), Population("v1", Sum(), active=(0, 1))]
    projections = [
        Projection("image", "stem", nn.Sequential(*entry)),
        Projection("stem", "v1", nn.Sequential(conv(v1, v1), nn.BatchNorm2d(v1), nn.ReLU())),
    ]
    begin, below = 1, v1
    timing = {"v1": (50.0, 100.0)}
    onsets = {"v2": (70.0, 100.0), "v4": (90.0, 50.0), "it": (100.0, 100.0)}
    for position, (count, repeats) in enumerate(zip(channels[1:], iterations, strict=True), 1):
        area = AREAS[position]
        nodes, edges = _repeated(area, AREAS[position - 1], below, count, scale * count, begin, begin + repeats)
        populations += nodes
        projections += edges
        timing[area] = onsets[area]
        begin, below = begin + repeats, count
    nodes, edges = _decoder(below, classes, (begin - 1, begin))
    net = Network(
        {"image": image},
        populations + nodes,
        projections + edges,
        readout="readout",
        steps=begin,
        timing=timing,
        name="cornet_s",
    )
    for module in net.modules():
        if isinstance(module, nn.Conv2d) and not module.weight.is_meta:
            sd = (2.0 / (module.kernel_size[0] ** 2 * module.out_channels)) ** 0.5
            nn.init.normal_(module.weight, 0.0, sd)
    return net


def _repeated(area: str, source: str, below: int, count: int, wide: int, begin: int, end: int) -> Wiring:
    """Build one area of CORnet-S, active from step `begin` until step `end`."""
    first, later, whole = (begin, begin + 1), (begin + 1, end), (begin, end)
    into, start, loop, deep = (f"{name}_{area}" for name in ("in", "first", "wide", "deep"))
    conv1, conv2, conv3 = conv(count, wide, 1), conv(wide, wide), conv(wide, count, 1)
    skip = nn.Sequential(conv(count, count, 1, 2), nn.BatchNorm2d(count))
    again = end - begin - 1
    populations = [
        Population(into, Sum(), active=first),
        Population(start, Sum(), active=first),
        Population(deep, Sum(), active=whole),
        Population(area, Rate(count, bias=False), active=whole),
    ]
    projections = [
        Projection(source, into, conv(below, count, 1)),
        Projection(into, start, nn.Sequential(conv1, nn.BatchNorm2d(wide), nn.ReLU())),
        Projection(start, deep, nn.Sequential(Strided(conv2, 2), nn.BatchNorm2d(wide), nn.ReLU()), active=first),
        Projection(deep, area, Chain(conv3, StepNorm(count, again + 1)), active=whole),
        Projection(into, area, skip, active=first),
    ]
    if again:
        populations.insert(2, Population(loop, Sum(), active=later))
        projections += [
            Projection(area, loop, Chain(conv1, StepNorm(wide, again), nn.ReLU()), "lateral", 1, active=later),
            Projection(loop, deep, Chain(conv2, StepNorm(wide, again), nn.ReLU()), active=later),
            Projection(area, area, nn.Identity(), "lateral", 1, active=later),
        ]
    return populations, projections
