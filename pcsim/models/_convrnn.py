"""Convolutional networks with recurrent cells and long-range feedback (Nayebi et al. 2018, NeurIPS).

    x_n(t) = W_n pool( h_{n-1}(t-1) ) + b_n,   h_n(t) = cell( x_n(t) ),   f_n(t) = sum_m W_nm resize( h_m(t-1) )

In "biological" unrolling, as published, each layer receives the output of the layer below one step (10 ms) later, so
the image needs one step per layer; in "engineering" unrolling it passes through all layers within a step. Cells
(`models.cells`) add memory to a layer. The feedback f_n comes from higher layers and is resized bilinearly. While the
source of a projection has no value, the projection applies its transform to zeros.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import ceil
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import nn

from pcsim.connections import GlobalMeanPool, Resize, Standardise, channels_last, same_conv
from pcsim.core.checks import Count, Whole, checked
from pcsim.core.exceptions import WiringError
from pcsim.models import cells
from pcsim.models._blt import DELAYS, Unroll
from pcsim.models.areas import Wiring
from pcsim.models.cells import CELLS, MEDIAN, SHALLOW, ReciprocalCell, Site
from pcsim.models.registry import register, unknown
from pcsim.network import Network, Population, Projection
from pcsim.rules.wires import Sum

Five = tuple[Count, Count, Count, Count, Count]
Ten = tuple[Count, Count, Count, Count, Count, Count, Count, Count, Count, Count]
Choice = str | ReciprocalCell | Callable[[Site], Wiring]


@checked(WiringError)
@dataclass(frozen=True)
class Layer:
    """A convolution to `channels` maps and an ELU. If `pooled`, other layers receive the 2x2 max-pooled output."""

    EXAMPLE: ClassVar[str] = "Layer(8, pooled=True)"

    channels: Whole
    pooled: bool = False
    kernel: Count = 3
    stride: Count = 1


@register(paper="Nayebi et al. 2018")
def convrnn(
    layers: Annotated[Sequence[Layer], Field(min_length=1)] = (Layer(16, True), Layer(16, True), Layer(16)),
    cell: Choice = "reciprocal",
    *,
    recurrent: Sequence[Count] = (2, 3),
    feedback: Sequence[tuple[Count, Count]] = ((3, 2),),
    unroll: Unroll = "biological",
    readout: Literal["mean", "conv"] = "mean",
    steps: Count | None = None,
    image: tuple[Count, Count, Count] = (1, 32, 32),
    classes: Count = 10,
) -> Network:
    """Build a ConvRNN: convolutional layers, some with recurrent cells, and feedback from higher to lower layers.

    layers     a `Layer(channels, pooled, kernel, stride)` for each layer, lowest first
    cell       a name in `models.CELLS`, a `ReciprocalCell` with its own settings, or a function that takes a `Site`
               and returns the populations and projections of one layer
    recurrent  numbers (from 1) of the layers that have the cell
    feedback   pairs (from, to) of layers connected by top-down projections
    unroll     "biological": projections between layers take one step; "engineering": each step is a full
               feed-forward pass
    readout    "mean": global average pooling and a linear layer; "conv": a 2x2 convolution and global average pooling
    steps      number of steps: by default, one per layer, one for the readout and 6 more for recurrence. The
               published control with minimal unrolling uses len(layers) + 2

    Raises WiringError if `cell`, `recurrent` or `feedback` is invalid.

        net = pcsim.models.convrnn(cell="gru", feedback=())
    """
    _check(layers, cell, recurrent, feedback)
    cell = ReciprocalCell() if cell == "reciprocal" else cell
    up, back = DELAYS[unroll]
    populations: list[Population] = []
    projections: list[Projection] = []
    for site, layer in zip(_sites(layers, image, up), layers, strict=True):
        drive = same_conv(site.source_channels, layer.channels, layer.kernel, layer.stride)
        populations.append(Population(site.x, Sum("identity", layer.channels)))
        projections.append(
            Projection(site.source, site.x, nn.Sequential(*site.entry(), drive), delay=site.delay, before="zeros")
        )
        nodes, edges = _cell(site, cell if site.layer in recurrent else "none")
        senders = [high for high, low in feedback if low == site.layer]
        fed = _feedback(site, cell, senders, layers, back) if senders else ([], [])
        populations += [*fed[0], *nodes]
        projections += [*fed[1], *edges]
    last = layers[-1]
    head = [GlobalMeanPool(), nn.Linear(last.channels, classes)]
    if readout == "conv":
        head = [channels_last(nn.Conv2d(last.channels, classes, 2)), GlobalMeanPool()]
    populations.append(Population("readout", Sum()))
    answer = nn.Sequential(*_pool(last), *head)
    projections.append(Projection(f"h{len(layers)}", "readout", answer, delay=up, before="zeros"))
    return Network(
        {"image": image},
        populations,
        projections,
        readout="readout",
        steps=steps or len(layers) + 7,
        name="convrnn",
    )


@register(paper="Nayebi et al. 2018")
def convrnn_shallow(
    cell: Choice = SHALLOW,
    *,
    channels: Five = (64, 128, 256, 256, 512),
    feedback: Sequence[tuple[Count, Count]] = (),
    unroll: Unroll = "biological",
    steps: Count = 16,
    image: tuple[Count, Count, Count] = (3, 224, 224),
    classes: Count = 1000,
) -> Network:
    """Build the shallow ConvRNN: five layers with cells in the upper three.

    `channels` lists the number of maps in each layer. The other options are those of `convrnn`.
    """
    layers = [Layer(channels[0], True, 7, 2), *(Layer(count, True) for count in channels[1:])]
    net = convrnn(
        layers,
        cell,
        recurrent=(3, 4, 5),
        feedback=feedback,
        unroll=unroll,
        readout="conv",
        steps=steps,
        image=image,
        classes=classes,
    )
    net.name = "convrnn_shallow"
    return net


@register(paper="Nayebi et al. 2018")
def convrnn_intermediate(
    cell: Choice = MEDIAN,
    *,
    channels: Ten = (64, 128, 128, 128, 128, 256, 256, 256, 512, 512),
    feedback: Sequence[tuple[Count, Count]] = ((8, 5), (9, 6), (10, 7), (7, 6), (10, 9)),
    unroll: Unroll = "biological",
    steps: Count = 17,
    image: tuple[Count, Count, Count] = (3, 224, 224),
    classes: Count = 1000,
) -> Network:
    """Build the intermediate ConvRNN: ten layers, cells in layers 4 to 10, and five long-range feedback projections.

    It has 15,445,800 parameters. `channels` lists the number of maps in each layer. With steps=12, it is the published
    control with minimal unrolling. The other options are those of `convrnn`.
    """
    pooled = (4, 6, 7, 10)
    layers = [Layer(count, n in pooled) for n, count in enumerate(channels[1:], 2)]
    layers = [Layer(channels[0], True, 7, 2), *layers]
    net = convrnn(
        layers,
        cell,
        recurrent=range(4, 11),
        feedback=feedback,
        unroll=unroll,
        steps=steps,
        image=image,
        classes=classes,
    )
    net.name = "convrnn_intermediate"
    return net


def _pool(layer: Layer) -> list[nn.Module]:
    return [nn.MaxPool2d(2, 2, ceil_mode=True)] if layer.pooled else []


def _sites(layers: Sequence[Layer], image: tuple[int, int, int], delay: int) -> list[Site]:
    """Return a `Site` for each layer, with its map size before pooling and the source of its input."""
    sites: list[Site] = []
    channels, height, width = image
    for n, layer in enumerate(layers, 1):
        height, width = ceil(height / layer.stride), ceil(width / layer.stride)
        entry = partial(_pool, layers[n - 2]) if n > 1 else _standardised
        source = f"h{n - 1}" if n > 1 else "image"
        late = delay if n > 1 else 0
        sites.append(Site(n, layer.channels, (height, width), source, channels, entry, layer.stride, late))
        channels = layer.channels
        if layer.pooled:
            height, width = ceil(height / 2), ceil(width / 2)
    return sites


def _standardised() -> list[nn.Module]:
    return [Standardise()]


def _cell(site: Site, cell: Choice) -> Wiring:
    if isinstance(cell, ReciprocalCell):
        return cells.reciprocal(site, cell)
    return (CELLS[cell] if isinstance(cell, str) else cell)(site)


def _feedback(site: Site, cell: Choice, senders: Sequence[int], layers: Sequence[Layer], delay: int) -> Wiring:
    """Build the feedback population f{n}, its projections from higher layers and its projection to layer n."""
    chosen = cell if isinstance(cell, ReciprocalCell) else ReciprocalCell(feedback_entry="input")
    f, entry = f"f{site.layer}", {"input": site.x, "cell": f"c{site.layer}", "out": site.h}[chosen.feedback_entry]
    maps = site.channels if chosen.feedback_entry != "cell" or chosen.depth is None else chosen.depth
    projections = [
        Projection(
            f"h{high}",
            f,
            nn.Sequential(
                *_pool(layers[high - 1]),
                Resize(site.size),
                site.conv(layers[high - 1].channels, maps, chosen.feedback_kernel, "feedback" in chosen.separable),
            ),
            "top_down",
            delay,
            before="zeros",
        )
        for high in senders
    ]
    rule = Sum(chosen.feedback_activation, maps if chosen.bias else None)
    return [Population(f, rule)], [*projections, Projection(f, entry, kind="top_down")]


def _check(
    layers: Sequence[Layer],
    cell: Choice,
    recurrent: Sequence[int],
    feedback: Sequence[tuple[int, int]],
) -> None:
    if isinstance(cell, str) and cell not in CELLS:
        raise unknown("cell", cell, tuple(CELLS))
    known = range(1, len(layers) + 1)
    wrong = [edge for edge in feedback if not (edge[0] in known and edge[1] in known and edge[0] > edge[1])]
    if wrong or not set(recurrent) <= set(known):
        raise WiringError(
            given=f"{len(layers)} layers, recurrent={tuple(recurrent)}, feedback={tuple(feedback)}",
            expected=f"layer numbers from 1 to {len(layers)}, and feedback (from, to) to a lower layer",
            remedy=f"pass recurrent=({len(layers)},), feedback=()",
        )
