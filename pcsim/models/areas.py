"""Wiring shared by recurrent convolutional models: a chain of areas with lateral and top-down projections."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

from pcsim.connections import GlobalMaxPool, Standardise, conv, pool, up_conv
from pcsim.core.exceptions import WiringError
from pcsim.network import Population, Projection
from pcsim.rules.base import Rule
from pcsim.rules.wires import Sum

Wiring = tuple[list[Population], list[Projection]]


def areas(
    rules: Sequence[Rule],
    maps: Sequence[int],
    image: tuple[int, int, int],
    *,
    kernel: int = 3,
    lateral: bool = True,
    top_down: bool = True,
    delays: tuple[int | None, int | None] = (None, None),
    bottom_up: Callable[[int], nn.Module] = nn.Identity,
) -> Wiring:
    """Build areas l1, l2, ... with `maps` feature maps above the input "image", each half the size of the one below.

    Bottom-up projections are 2x2 max pooling (from area 2 on) and a convolution, lateral projections are convolutions,
    and top-down projections are transposed convolutions with stride 2. Biases are part of the rules.
    `delays` is a pair: the delay of bottom-up projections between areas, and that of lateral and top-down projections.
    `bottom_up(channels)` builds the module that precedes pooling in bottom-up projections between areas.
    Raises WiringError unless the image size can be halved once for every area but the first.
    """
    channels, height, width = image
    multiple = 2 ** (len(maps) - 1)
    if height % multiple or width % multiple:
        raise WiringError(
            given=f"an image of {height}x{width} for {len(maps)} areas",
            expected=f"a height and width divisible by {multiple}",
            remedy="crop or pad the images, or use fewer areas",
        )
    up, back = delays
    names = [f"l{position}" for position in range(1, len(maps) + 1)]
    populations = [Population(name, rule) for name, rule in zip(names, rules, strict=True)]
    first = nn.Sequential(Standardise(), conv(channels, maps[0], kernel))
    projections = [Projection("image", "l1", first)]
    for low, high, fewer, more in zip(names, names[1:], maps, maps[1:], strict=False):
        transform = nn.Sequential(bottom_up(fewer), pool(2), conv(fewer, more, kernel))
        projections.append(Projection(low, high, transform, delay=up))
    for name, count in zip(names, maps, strict=True):
        if lateral:
            projections.append(Projection(name, name, conv(count, count, kernel), "lateral", back))
    for low, high, fewer, more in zip(names, names[1:], maps, maps[1:], strict=False):
        if top_down:
            projections.append(Projection(high, low, up_conv(more, fewer, kernel), "top_down", back))
    return populations, projections


def enlarged(image: tuple[int, int, int], multiple: int) -> tuple[int, int, int]:
    """Return the smallest shape that contains the image and has sides divisible by `multiple`."""
    channels, height, width = image
    return channels, -(-height // multiple) * multiple, -(-width // multiple) * multiple


def add_readout(wiring: Wiring, maps: int, classes: int, entry: Sequence[nn.Module] = ()) -> Wiring:
    """Add a readout of the last area at every step: `entry`, global max pooling and a linear layer with bias."""
    populations, projections = wiring
    top = populations[-1].name
    transform = nn.Sequential(*entry, GlobalMaxPool(), nn.Linear(maps, classes))
    return [*populations, Population("readout", Sum())], [*projections, Projection(top, "readout", transform)]
