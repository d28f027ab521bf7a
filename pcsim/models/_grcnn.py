"""Gated recurrent convolutional network (Wang & Hu 2017).

    x(0) = ReLU( BN(w_f u) )
    G(t) = s( BN(w_gf u) + BN_t(w_gr x(t-1)) )                                        w_gf, w_gr 1x1
    x(t) = ReLU( BN(w_f u) + BN_t( BN_t(w_r x(t-1)) o G(t) ) ),   t = 1..T             w_f, w_r 3x3

The gate multiplies only the recurrent term, so each unit controls the growth of its receptive field. The convolutions
are shared over t, but the three norms of the recurrent terms are not. The terms in u are computed once. As in the RCNN,
each layer completes its iterations before the next one starts.
"""

from __future__ import annotations

import math

from torch import nn

from pcsim.connections import Chain, GlobalMeanPool, Standardise, StepNorm, conv, pool
from pcsim.core.checks import Count, Counts, Whole
from pcsim.core.exceptions import WiringError
from pcsim.models.areas import enlarged
from pcsim.models.registry import register
from pcsim.network import Network, Population, Projection
from pcsim.rules.rate import Rate
from pcsim.rules.reciprocal import Gated
from pcsim.rules.wires import Sum


@register(paper="Wang & Hu 2017")
def grcnn(
    channels: Counts = (64, 128, 256),
    iterations: Whole = 3,
    *,
    stem: Count = 64,
    image: tuple[Count, Count, Count] = (1, 32, 32),
    classes: Count = 10,
) -> Network:
    """Build a GRCNN: a convolution, gated recurrent layers, global average pooling and a linear layer.

    Each recurrent layer is preceded by 2x2 max pooling. The layers are those of the paper's network for text
    recognition. There, two LSTMs and a CTC loss follow them; here, global average pooling.

    channels    number of channels in each recurrent layer
    iterations  T, the number of iterations after the feed-forward step; 0 gives the feed-forward network
    stem        number of channels of the first convolution
    image       shape of the image, (channel, height, width)

    Raises WiringError if 2^len(channels) does not divide the height and width of the image.
    """
    multiple = 2 ** len(channels)
    if image[1] % multiple or image[2] % multiple:
        raise WiringError(
            given=f"images of {image[1]}x{image[2]} for {len(channels)} layers",
            expected=f"a height and width divisible by {multiple}",
            remedy=f"pass image={enlarged(image, multiple)}",
        )
    steps = len(channels) * (iterations + 1)
    populations = [Population("features", Sum("relu", stem), active=(0, 1))]
    projections = [Projection("image", "features", nn.Sequential(Standardise(), conv(image[0], stem)))]
    source, below = "features", stem
    for layer, count in enumerate(channels, 1):
        begin = (layer - 1) * (iterations + 1)
        nodes, edges = _layer(layer, source, below, count, begin, iterations)
        populations += nodes
        projections += edges
        source, below = f"x{layer}", count
    populations.append(Population("readout", Sum(), active=(steps - 1, steps)))
    head = nn.Sequential(GlobalMeanPool(), nn.Linear(below, classes))
    return Network(
        {"image": image},
        populations,
        [*projections, Projection(source, "readout", head)],
        readout="readout",
        steps=steps,
        name="grcnn",
    )


def _layer(
    layer: int, source: str, below: int, count: int, begin: int, iterations: int
) -> tuple[list[Population], list[Projection]]:
    """Build f = BN(w_f u) and x; if the layer iterates, also g = BN(w_gf u) and the gated recurrent term m."""
    f, g, m, x = (f"{name}{layer}" for name in "fgmx")
    first, end = (begin, begin + 1), begin + iterations + 1
    populations = [
        Population(f, Sum(), active=first),
        Population(x, Rate(count, bias=False), active=(begin, end)),
    ]
    projections = [
        Projection(source, f, nn.Sequential(pool(), conv(below, count), nn.BatchNorm2d(count))),
        Projection(f, x),
    ]
    if iterations == 0:
        return populations, projections
    window = (begin + 1, end)

    def step_norm() -> StepNorm:
        return StepNorm(count, iterations)

    populations += [Population(g, Sum(), active=first), Population(m, Gated(), active=window)]
    projections += [
        Projection(source, g, nn.Sequential(pool(), conv(below, count, 1), nn.BatchNorm2d(count))),
        Projection(g, m, port="gate", active=(begin + 1, math.inf)),
        Projection(x, m, Chain(conv(count, count), step_norm()), "lateral", 1, active=window),
        Projection(
            x, m, Chain(conv(count, count, 1), step_norm()), "lateral", 1, "gate", active=window, name=f"{x}->{m}:gate"
        ),
        Projection(m, x, Chain(step_norm()), "lateral", active=window),
    ]
    return populations, projections
