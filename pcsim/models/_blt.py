"""The BLT family: bottom-up, lateral and top-down convolutional networks (Spoerer, McClure & Kriegeskorte 2017).

    z[t,m] = Wb[m] * pool(h[t,m-1]) + Wl[m] * h[t-1,m] + Wt[m] *T h[t-1,m+1] + b[m]
    h[t,m] = LRN( ReLU( z[t,m] ) )                                                      m = 1, 2
    readout[t] = Wr max_{i,j} h[t,2] + br                                               at every step

There is no lateral or top-down input at t = 0, so the first step is a feed-forward pass. The published networks
have two layers of 32 feature maps with 3x3 kernels, except that BK has 5x5 kernels and BF has 64 maps. Their parameter
counts are B 9,898, BT 19,114, BK 26,794, BL 28,330, BLT 37,546 and BF 38,218. BK is the size-matched control for BL,
and BF for BLT.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import nn

from pcsim.connections import LocalResponseNorm
from pcsim.core.checks import Count
from pcsim.models.areas import add_readout, areas
from pcsim.models.registry import register
from pcsim.network import Network
from pcsim.rules.rate import Rate

Unroll = Literal["engineering", "biological"]
DELAYS: dict[str, tuple[int, int]] = {"engineering": (0, 1), "biological": (1, 1)}


OPTIONS = """

    width     number of feature maps per layer; BF has twice as many
    unroll    "engineering": the image passes through all layers within a step; "biological": each projection takes
              one step
    lrn       "state": lateral and top-down projections use the activity after local response normalisation, as
              published; "output": they use the unnormalised activity, which is then also recorded as l1 and l2.
              In both cases, the next layer and the readout receive the normalised activity.
    size, channels  size and channels of the image, (channels, size, size)
    classes   number of classes; the readout is computed at every step

    See docs/models/blt.md for equations and source. Raises WiringError for an unknown `unroll` or `lrn`, or an odd
    `size`.
    """


def _blt(
    name: str,
    width: Count,
    unroll: Unroll,
    lrn: Literal["state", "output"],
    image: tuple[Count, Count, Count],
    classes: Count,
    lateral: bool,
    top_down: bool,
    kernel: Count,
    widening: int,
) -> Network:
    maps = widening * width
    normalised = lrn == "state"
    rules = [Rate(maps, normalise=LocalResponseNorm(maps) if normalised else None) for _ in range(2)]
    wiring = areas(
        rules,
        (maps, maps),
        image,
        kernel=kernel,
        lateral=lateral,
        top_down=top_down,
        delays=DELAYS[unroll],
        bottom_up=nn.Identity if normalised else lambda: LocalResponseNorm(maps),
    )
    populations, projections = add_readout(wiring, maps, classes, [] if normalised else [LocalResponseNorm(maps)])
    return Network(
        {"image": image},
        populations,
        projections,
        readout="readout",
        steps=4 if lateral or top_down else DELAYS[unroll][0] + 1,
        name=name,
    )


def _member(
    name: str, what: str, *, lateral: bool = False, top_down: bool = False, kernel: Count = 3, widening: int = 1
) -> Callable[..., Network]:
    """Return a function that builds one member of the family; all members have the same options."""

    def member(
        width: Count = 32,
        *,
        unroll: Unroll = "engineering",
        lrn: Literal["state", "output"] = "state",
        size: Count = 32,
        channels: Count = 1,
        classes: Count = 10,
    ) -> Network:
        image = (channels, size, size)
        return _blt(name, width, unroll, lrn, image, classes, lateral, top_down, kernel, widening)

    member.__name__ = member.__qualname__ = name
    member.__doc__ = f"Build {what} (Spoerer et al. 2017).{OPTIONS}"
    return register(paper="Spoerer et al. 2017")(member)


blt_b = _member("blt_b", "B, with bottom-up connections only")
blt_bk = _member(
    "blt_bk", "BK, with bottom-up connections only and 5x5 kernels, the size-matched control for BL", kernel=5
)
blt_bf = _member(
    "blt_bf", "BF, with bottom-up connections only and twice as many maps, the size-matched control for BLT", widening=2
)
blt_bl = _member("blt_bl", "BL, with bottom-up and lateral connections", lateral=True)
blt_bt = _member("blt_bt", "BT, with bottom-up and top-down connections", top_down=True)
blt = _member("blt", "BLT, with bottom-up, lateral and top-down connections", lateral=True, top_down=True)
