"""Rate units.

    h(t) = N( f( drive(t) + b ) )                    as a map (RCNN, BLT)
    tau dr/dt = -r + f( drive + b )                  as a flow (leaky RCNN)

f is a pointwise nonlinearity, N an optional normalisation over channels, and b one bias per channel, shared by all
inputs to the population.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pcsim.core.checks import Count, checked
from pcsim.core.exceptions import WiringError
from pcsim.core.state import Shape, per_channel
from pcsim.rules.base import Leaky, Map, Own, activation_named
from pcsim.rules.time_constants import TimeConstant


@checked(WiringError)
class Rate(Map):
    """h(t) = N( f( drive(t) + b ) ), with drive (batch, channel, ...).

    Source: Liang & Hu 2015 eq. 2-3 (RCNN), Spoerer et al. 2017 eq. 1-3 (BLT).
    """

    def __init__(
        self, channels: Count, activation: str = "relu", bias: bool = True, normalise: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.channels = channels
        self.activation = activation
        self.function = activation_named(activation)
        self.bias = nn.Parameter(torch.zeros(channels)) if bias else None
        self.normalise = normalise

    def shapes(self, ports: Mapping[str, Shape]) -> dict[str, Shape]:
        """Return the shape of the drive, which must have the same number of channels as the rule."""
        return self._shapes_of_channels(self.channels, ports)

    def forward(self, own: Own, *, drive: Tensor) -> Tensor:
        """h(t) = N(f(drive + b)); the previous value is not used."""
        if self.bias is not None:
            drive = drive + per_channel(self.bias, drive)
        value = self.function(drive)
        return value if self.normalise is None else self.normalise(value)

    def describe(self) -> str:
        """Return the names of the nonlinearity and the normalisation."""
        return self.activation + (f", {type(self.normalise).__name__}" if self.normalise is not None else "")


@checked(WiringError)
def leaky_rate(
    channels: Count, tau: float | Tensor | TimeConstant, activation: str = "relu", bias: bool = True
) -> Leaky:
    """tau dr/dt = -r + f(drive + b), with tau in ms: the map `Rate` as a flow."""
    return Leaky(Rate(channels, activation, bias), tau)
