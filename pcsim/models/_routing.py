"""Networks in which a control signal opens and closes routes.

    two_streams   context = f( W cue + b ),   ventral = f( g_what W v1 + b ),   dorsal = f( g_where W v1 + b )
    shifter       out_i = sum_j w_ij in_j,    w_ij = sum_k c_k Gamma_ijk,       c = softmax( beta W cue )

Gates are gains: a modulatory edge delivers g - 1, and a route delivers drive (1 + gain) = g drive.
"""

from __future__ import annotations

from string import ascii_lowercase

import torch
from torch import nn

from pcsim.connections import GlobalMaxPool, Opening, Standardise, Window, conv, pool, up_conv
from pcsim.core.checks import Count, Positive
from pcsim.core.exceptions import WiringError
from pcsim.core.state import Shape
from pcsim.models.areas import enlarged
from pcsim.models.registry import register
from pcsim.network import Network, Population, Projection
from pcsim.rules.attractor import Softmax
from pcsim.rules.modulation import modulated
from pcsim.rules.rate import Rate
from pcsim.rules.wires import Sum


@register(paper="Mishkin, Ungerleider & Macko 1983; gates by gain, not from a paper")
def two_streams(
    channels: tuple[Count, Count, Count] = (8, 16, 16),
    *,
    image: tuple[Count, Count, Count] = (1, 40, 40),
    keys: Count = 4,
    feedback: bool = True,
    steps: Count = 6,
) -> Network:
    """Build a ventral stream for "what" and a dorsal stream for "where" from one v1, with a gate at the start of each.

    Both streams end at the same response `keys`, so the context has to select a stream. The input "cue" (2,) drives
    the population "context", which contains the gates of the ventral and the dorsal stream, with values from 0 to 1.
    The weights from the cue start at 0, so both gates start half open. With `net.clamped("context")`, the gates are an
    input.

    channels  maps of v1, of ventral2 and dorsal2, and of ventral3; dorsal3 has a single map of places
    keys      number of responses, each of which represents one object and one place
    feedback  if True, ventral2 and dorsal2 project back to v1

    Raises WiringError unless the image can be halved three times.

        net = pcsim.models.two_streams()
    """
    if image != (fitting := enlarged(image, 8)):
        raise WiringError(
            given=f"images of shape {image}",
            expected="a height and width divisible by 8",
            remedy=f"pass image={fitting}",
        )
    low, middle, high = channels
    populations = [
        Population("context", Rate(2, "hard_sigmoid")),
        Population("ventral2", modulated(Rate(middle)), shape=(middle, image[1] // 4, image[2] // 4)),
        Population("ventral3", Rate(high)),
        Population("v1", Rate(low)),
        Population("dorsal2", modulated(Rate(middle)), shape=(middle, image[1] // 4, image[2] // 4)),
        Population("dorsal3", Rate(1, "sigmoid")),
        Population("what", Sum()),
        Population("readout", Sum()),
        Population("where", Sum()),
    ]
    name_place = nn.Sequential(nn.Flatten(), nn.Linear(image[1] // 8 * (image[2] // 8), keys))
    projections = [
        Projection("cue", "context", _zeros(2, 2)),
        Projection("image", "v1", nn.Sequential(Standardise(), conv(image[0], low, 5, stride=2))),
        Projection("v1", "ventral2", nn.Sequential(pool(), conv(low, middle))),
        Projection("v1", "dorsal2", nn.Sequential(pool(), conv(low, middle))),
        Projection("context", "ventral2", Opening(0), "modulatory"),
        Projection("context", "dorsal2", Opening(1), "modulatory"),
        Projection("ventral2", "ventral3", nn.Sequential(pool(), conv(middle, high))),
        Projection("dorsal2", "dorsal3", nn.Sequential(pool(), conv(middle, 1))),
        Projection("ventral3", "what", nn.Sequential(GlobalMaxPool(), nn.Linear(high, keys))),
        Projection("dorsal3", "where", name_place),
        Projection("what", "readout"),
        Projection("where", "readout"),
    ]
    if feedback:
        projections += [Projection(name, "v1", up_conv(middle, low), "top_down", 1) for name in ("ventral2", "dorsal2")]
    inputs: dict[str, Shape] = {"image": image, "cue": (2,)}
    return Network(inputs, populations, projections, readout="readout", steps=steps, name="two_streams")


@register(paper="Olshausen, Anderson & Van Essen 1993; one stage, with learned control")
def shifter(
    channels: tuple[Count, Count] = (16, 32),
    *,
    image: tuple[Count, Count, Count] = (1, 40, 40),
    window: Count = 20,
    grid: tuple[Count, Count] = (3, 3),
    places: Count = 4,
    sharpness: Positive = 4.0,
    classes: Count = 10,
) -> Network:
    """Build a shifter circuit: control neurons select which window of the image reaches the next layer.

    Each window is a separate route: an edge from "retina" to "route_a", "route_b", ... in reading order, whose gain is
    set by a neuron in "control". The routes are summed in "field", whose content a small network recognises. The
    weights from the input "cue" (places,) to the control neurons start at 0, so all routes start equally open. With
    `net.clamped("control")`, "control" is an input.

    channels   maps of "features" and "object", which recognise the content of the field
    window     height and width of a window in pixels
    grid       rows and columns of windows, equally spaced over the image; at most 26 windows
    places     number of cues
    sharpness  beta, the slope of the competition between control neurons

    Raises WiringError for windows larger than the image, or for more than 26 windows.

        net = pcsim.models.shifter()
    """
    tops, lefts = (_starts(length, window, count) for length, count in zip(image[1:], grid, strict=True))
    routes = {f"route_{letter}": (top, left) for letter, (top, left) in _lettered(tops, lefts)}
    low, high = channels
    field = (image[0], window, window)
    populations = [
        Population("retina", Rate(image[0], "identity", bias=False)),
        Population("goal", Rate(len(routes), "identity", bias=False)),
        Population("control", Softmax(sharpness)),
        *(Population(name, modulated(Sum()), shape=field) for name in routes),
        Population("field", Sum()),
        Population("features", Rate(low)),
        Population("object", Rate(high)),
        Population("readout", Sum()),
    ]
    projections = [
        Projection("cue", "goal", _zeros(places, len(routes))),
        Projection("goal", "control"),
        Projection("image", "retina"),
        *(Projection("retina", name, Window(top, left, window, window)) for name, (top, left) in routes.items()),
        *(Projection("control", name, Opening(number), "modulatory") for number, name in enumerate(routes)),
        *(Projection(name, "field") for name in routes),
        Projection("field", "features", nn.Sequential(Standardise(), conv(image[0], low, 5))),
        Projection("features", "object", nn.Sequential(pool(), conv(low, high))),
        Projection("object", "readout", nn.Sequential(GlobalMaxPool(), nn.Linear(high, classes))),
    ]
    inputs: dict[str, Shape] = {"image": image, "cue": (places,)}
    return Network(inputs, populations, projections, readout="readout", steps=1, name="shifter")


def _zeros(inputs: int, outputs: int) -> nn.Linear:
    """Build a linear layer without bias whose weights are 0."""
    layer = nn.Linear(inputs, outputs, bias=False)
    with torch.no_grad():
        layer.weight.zero_()
    return layer


def _starts(length: int, window: int, count: int) -> list[int]:
    """Return the first pixel of each window along one axis."""
    if window > length:
        raise WiringError(
            given=f"a window of {window} pixels in an image of {length}",
            expected="windows no larger than the image",
            remedy=f"pass window={length}",
        )
    return [round(number * (length - window) / max(count - 1, 1)) for number in range(count)]


def _lettered(tops: list[int], lefts: list[int]) -> list[tuple[str, tuple[int, int]]]:
    """Return the letter and the corner of each window, in reading order."""
    corners = [(top, left) for top in tops for left in lefts]
    if len(corners) > len(ascii_lowercase):
        raise WiringError(
            given=f"grid=({len(tops)}, {len(lefts)})",
            expected=f"at most {len(ascii_lowercase)} windows",
            remedy="pass grid=(5, 5)",
        )
    return list(zip(ascii_lowercase, corners, strict=False))
