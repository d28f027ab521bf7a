"""The wiring that recurrent convolutional models share: a chain of areas, each with lateral and top-down input."""

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
    bottom_up: Callable[[], nn.Module] = nn.Identity,
) -> Wiring:
    """Build areas l1, l2, ... of `maps` feature maps, each half as large as the one below, under an input "image".

    bottom-up: 2x2 max pool (from area 2 on), convolution; lateral: convolution; top-down: transposed
    convolution of stride 2. No edge has a bias: it belongs to the rule. `delays` are those of the bottom-up
    edges between areas, and of the lateral and top-down ones. `bottom_up` makes the module that an area's
    activity passes first on its way up.
    Raises WiringError unless the image can be halved once for every area but the first.
    """
    channels, height, width = image
    multiple = 2 ** (len(maps) - 1)
    if height % multiple or width % multiple or not maps:
        raise WiringError(
            given=f"an image of {height}x{width} for {len(maps)} areas",
            expected=f"at least one area, and a height and width that {multiple} divides",
            remedy="crop or pad the images, or use fewer areas",
        )
    up, back = delays
    names = [f"l{position}" for position in range(1, len(maps) + 1)]
    populations = [Population(name, rule) for name, rule in zip(names, rules, strict=True)]
    first = nn.Sequential(Standardise(), conv(channels, maps[0], kernel))
    projections = [Projection("image", "l1", first)]
    for low, high, fewer, more in zip(names, names[1:], maps, maps[1:], strict=False):
        transform = nn.Sequential(bottom_up(), pool(2), conv(fewer, more, kernel))
        projections.append(Projection(low, high, transform, delay=up))
    for name, count in zip(names, maps, strict=True):
        if lateral:
            projections.append(Projection(name, name, conv(count, count, kernel), "lateral", back))
    for low, high, fewer, more in zip(names, names[1:], maps, maps[1:], strict=False):
        if top_down:
            projections.append(Projection(high, low, up_conv(more, fewer, kernel), "top_down", back))
    return populations, projections


def add_readout(wiring: Wiring, maps: int, classes: int) -> Wiring:
    """Add a read-out of the last area at every step: spatial maximum, then one linear layer with bias."""
    populations, projections = wiring
    top = populations[-1].name
    transform = nn.Sequential(GlobalMaxPool(), nn.Linear(maps, classes))
    return [*populations, Population("readout", Sum())], [*projections, Projection(top, "readout", transform)]
