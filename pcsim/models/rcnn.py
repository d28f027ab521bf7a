"""Leaky recurrent convolutional networks.

    tau_a dr_a/dt = -r_a + f( BU_a(r_{a-1}) + LAT_a(r_a) + TD_a(r_{a+1}) + b_a )

Every area reads the present activity of the areas around it. Euler with dt = tau is the discrete RCNN in which
every edge takes one step. Source: the leaky form of Liang & Hu 2015 eq. 1-3; time constants per area in ms.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from pcsim.exceptions import WiringError
from pcsim.graph import Network
from pcsim.models.areas import add_readout, areas
from pcsim.models.registry import register
from pcsim.rules.rate import leaky_rate
from pcsim.rules.time_constants import TimeConstant


@register(paper="leaky form of Liang & Hu 2015")
def leaky_rcnn(
    channels: Sequence[int] = (16, 32, 64),
    tau: Sequence[float | Tensor | TimeConstant] | float = (10.0, 20.0, 40.0),
    *,
    kernel: int = 3,
    activation: str = "relu",
    lateral: bool = True,
    top_down: bool = True,
    size: int = 32,
    image_channels: int = 1,
    classes: int = 10,
) -> Network:
    """A leaky RCNN of as many areas as `channels` names, each half as large as the one below.

    tau: ms, one for every area (a number for all; each may be a `LearnableTau` or one per channel).
    Raises WiringError unless there is one tau for each area, or the image cannot be halved often enough.

        net = pcsim.models.leaky_rcnn(channels=(16, 32), tau=(10.0, 20.0))
    """
    taus = [tau] * len(channels) if isinstance(tau, int | float) else list(tau)
    if len(taus) != len(channels):
        raise WiringError(
            given=f"{len(taus)} time constants for {len(channels)} areas",
            expected="one for each area",
            remedy="give tau one number, or as many as channels",
        )
    rules = [leaky_rate(count, area_tau, activation) for count, area_tau in zip(channels, taus, strict=True)]
    image = (image_channels, size, size)
    wiring = areas(rules, channels, image, kernel=kernel, lateral=lateral, top_down=top_down)
    populations, projections = add_readout(wiring, channels[-1], classes)
    return Network({"image": image}, populations, projections, readout="readout", name="leaky_rcnn")
