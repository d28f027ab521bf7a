"""Predictive coding network with local recurrent processing (Han et al. 2018, NeurIPS, arXiv 1805.07526).

The blocks run sequentially. Each block completes its T cycles before the next one starts:

    x = BatchNorm( output of the block below )                  once, fixed during the cycles
    y(0) = ReLU( FF( x ) )
    p = FB( y );  e = ReLU( x - p );  y <- y + b FF( e )         T times; b = ReLU( b0 + 1 ), initially b0 = 0
    output = y + Bypass( x ), then 2x2 max pooling if the architecture includes it

In the cycles, the nonlinearity is applied to the error, not to y, and there is one b0 per channel. FF and FB are 3x3
convolutions and Bypass is a 1x1 convolution, all without biases. Each block is active for T + 1 steps, the first of
which computes x and y(0), and keeps its values at all other times. Since a cycle takes one step, every cycle can be
recorded. In the first step of block n, y(0) is recorded as s{n}, while y{n} is still 0; t steps later, y{n} is y(t).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import nn

from pcsim.connections import GlobalMeanPool, channels_last, conv, pool
from pcsim.core.checks import Count, Whole, checked
from pcsim.core.exceptions import WiringError
from pcsim.models.registry import register
from pcsim.network import Network, Population, Projection
from pcsim.rules.predictive import Correction, Prediction, PredictionError, UpdateRate
from pcsim.rules.wires import Sum

Variant = Literal["published", "chainer"]


@checked(WiringError)
@dataclass(frozen=True)
class Architecture:
    """Sizes of a PCN with local loops.

    `channels` lists the number of output channels of each block, and `pooled` the numbers (from 1) of the blocks
    followed by pooling. `stem` is the number of channels of an initial 7x7 convolution with stride 2, or None.
    """

    channels: tuple[Count, ...]
    pooled: tuple[Count, ...]
    stem: Count | None = None


ARCHITECTURES = {
    "C": Architecture((64, 64, 128, 128, 256, 256, 256, 256), (3, 5)),
    "D": Architecture((64, 64, 128, 128, 256, 256, 512, 512), (3, 5)),
    "E": Architecture((64, 128, 128, 128, 128, 256, 256, 256, 512, 512, 512), (3, 5, 7, 10), 64),
}
"""C and D (CIFAR) and E (ImageNet) of the paper; as in its code, pooling comes one block later than in the paper"""


@register(paper="Han et al. 2018")
def pcn_local(
    architecture: str | Architecture = "D",
    cycles: Whole = 5,
    *,
    variant: Variant = "published",
    image: tuple[Count, Count, Count] = (3, 32, 32),
    classes: Count = 10,
) -> Network:
    """Build a PCN with local loops: each block predicts its own input and is corrected by the prediction error.

    architecture  "C", "D", "E" or an `Architecture`
    cycles        T, the number of cycles; 0 gives the feed-forward network with the same FF and Bypass
    variant       "published", or "chainer" as in T. Yamamoto's Chainer code (commit 4cf5a51), in which blocks predict
                  their input before batch norm; FF, FB and Bypass have biases; the rate is |b|, with one b per block;
                  the last batch norm follows average pooling, without a ReLU, and the last layer has no bias

    Raises WiringError for an unknown architecture or variant, or an image that cannot be halved often enough.
    """
    plan = _plan(architecture, image)
    published = variant == "published"
    populations: list[Population] = []
    projections: list[Projection] = []
    source, channels = "image", image[0]
    entry: list[nn.Module] = []
    if plan.stem is not None:
        entry = [
            channels_last(nn.Conv2d(channels, plan.stem, 7, 2, 3, bias=False)),
            nn.BatchNorm2d(plan.stem),
            nn.ReLU(),
        ]
        channels = plan.stem
    for block, out in enumerate(plan.channels, 1):
        nodes, edges = _block(block, source, entry, channels, out, cycles, published)
        populations += nodes
        projections += edges
        source, channels = f"out{block}", out
        entry = [pool()] if block in plan.pooled else []
    steps = len(plan.channels) * (cycles + 1)
    # The Chainer code averages first, so its last batch norm uses the statistics of the averages.
    head = (
        [*entry, nn.BatchNorm2d(channels), nn.ReLU(), GlobalMeanPool()]
        if published
        else [*entry, GlobalMeanPool(), nn.BatchNorm1d(channels)]
    )
    populations.append(Population("readout", Sum(), active=(steps - 1, steps)))
    linear = nn.Linear(channels, classes, bias=published)
    projections.append(Projection(source, "readout", nn.Sequential(*head, linear)))
    return Network({"image": image}, populations, projections, readout="readout", steps=steps, name="pcn_local")


def _block(
    block: int, source: str, entry: Sequence[nn.Module], channels: int, out: int, cycles: int, published: bool
) -> tuple[list[Population], list[Projection]]:
    """Build the populations and projections of one block, with their windows; `entry` is applied to its input."""
    x, s, y, p, e, end = (f"{name}{block}" for name in ("x", "s", "y", "p", "e", "out"))
    first = (block - 1) * (cycles + 1)
    start, loop, finish = (first, first + 1), (first + 1, first + 1 + cycles), (first + cycles, first + cycles + 1)
    bias = not published
    forward = conv(channels, out, bias=bias)
    populations = [
        Population(x, Sum(), active=start),
        Population(s, Sum("relu"), active=start),
        Population(end, Sum(), active=finish),
    ]
    projections = [
        Projection(source, x, nn.Sequential(*entry, nn.BatchNorm2d(channels))),
        Projection(x, s, forward),
        Projection(x, end, conv(channels, out, 1, bias=bias)),
    ]
    if cycles == 0:
        return populations, [*projections, Projection(s, end)]
    rate = UpdateRate(out, 1.0, offset=1.0) if published else UpdateRate(1, 1.0, form="absolute")
    backward = channels_last(nn.ConvTranspose2d(out, channels, 3, padding=1, bias=bias))
    about = Projection(x, e) if published else Projection(source, e, nn.Sequential(*entry))
    return (
        [
            *populations,
            Population(p, Prediction(), active=loop),
            Population(e, PredictionError(activation="relu"), active=loop),
            Population(y, Correction(rate, "identity"), active=loop, starts_from=s),
        ],
        [
            *projections,
            Projection(y, p, backward, "prediction", delay=1),
            about,
            Projection(p, e, kind="prediction"),
            Projection(e, y, forward, "error", port="drive"),
            Projection(y, y, kind="lateral", delay=1, port="prior"),
            Projection(y, end),
        ],
    )


def _plan(architecture: str | Architecture, image: tuple[int, int, int]) -> Architecture:
    if isinstance(architecture, str) and architecture not in ARCHITECTURES:
        raise WiringError(
            given=f"architecture {architecture!r}",
            expected=f"one of {', '.join(ARCHITECTURES)}, or an Architecture",
            remedy="pass 'D' or an Architecture(channels, pooled); A and B are not in the published code",
        )
    plan = ARCHITECTURES[architecture] if isinstance(architecture, str) else architecture
    multiple = 2 ** (len(plan.pooled) + (plan.stem is not None))
    if image[1] % multiple or image[2] % multiple:
        raise WiringError(
            given=f"an image of {image[1]}x{image[2]}",
            expected=f"a height and width divisible by {multiple}",
            remedy="crop or pad the images, or pool after fewer blocks",
        )
    return plan
