"""Wires: rules without memory.

y = f( drive + b )
y = own where share > 1/2, and given elsewhere
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pcsim.core.checks import Count, checked
from pcsim.core.exceptions import WiringError
from pcsim.core.state import Shape, per_channel
from pcsim.rules.base import Wire, activation_named


@checked(WiringError)
class Sum(Wire):
    """y = f(drive + b): a readout, or any other function of the summed input.

    `channels` is the number of channels of b, or None for no bias.
    """

    def __init__(self, activation: str = "identity", channels: Count | None = None) -> None:
        super().__init__()
        self.function = activation_named(activation)
        self.bias = nn.Parameter(torch.zeros(channels)) if channels is not None else None

    def shapes(self, ports: Mapping[str, Shape]) -> dict[str, Shape]:
        """Return the shape of the drive, whose channels must match the bias if there is one."""
        return super().shapes(ports) if self.bias is None else self._shapes_of_channels(len(self.bias), ports)

    def forward(self, *, drive: Tensor) -> Tensor:
        """y = f(drive + b)."""
        if self.bias is None:
            return self.function(drive)
        return self.function(drive + per_channel(self.bias, drive))


class Switch(Wire):
    """y = own where share > 1/2, and given elsewhere: a switch between the network's own prediction and the stimulus.

    `share` has shape (batch, 1, ...), with one value per sample. Gradients flow only to the selected values.
    """

    ports = ("given", "own", "share")

    def shapes(self, ports: Mapping[str, Shape]) -> dict[str, Shape]:
        """Return the common shape of `given` and `own`."""
        return super().shapes({port: shape for port, shape in ports.items() if port != "share"})

    def forward(self, *, given: Tensor, own: Tensor, share: Tensor) -> Tensor:
        """y = own where share > 1/2, and given elsewhere."""
        return torch.where(share > 0.5, own, given)
