"""Values without memory.

y = f( drive + b ),   and   y = own where share > 1/2, given elsewhere
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pcsim.core.state import Shape, per_channel
from pcsim.rules.base import Wire, activation_named


class Sum(Wire):
    """y = f(drive + b): a read-out, or any quantity that is just the sum of what arrives.

    `channels` gives it one bias per channel; without, it has none.
    """

    def __init__(self, activation: str = "identity", channels: int | None = None) -> None:
        super().__init__()
        self.function = activation_named(activation)
        self.bias = nn.Parameter(torch.zeros(channels)) if channels is not None else None

    def shapes(self, ports: Mapping[str, Shape]) -> dict[str, Shape]:
        """That of the drive, whose channels must be those of the bias if there is one."""
        return super().shapes(ports) if self.bias is None else self._shapes_of_channels(len(self.bias), ports)

    def forward(self, *, drive: Tensor) -> Tensor:
        """f(drive + b)."""
        if self.bias is None:
            return self.function(drive)
        return self.function(drive + per_channel(self.bias, drive))


class Switch(Wire):
    """y = own where share > 1/2, given elsewhere: the world is seen, or the network's own prediction.

    `share` is (batch, 1, ...), a number for each sample. Gradients go to what was chosen.
    """

    ports = ("given", "own", "share")

    def shapes(self, ports: Mapping[str, Shape]) -> dict[str, Shape]:
        """That of what is given, which the own must have too."""
        return super().shapes({port: shape for port, shape in ports.items() if port != "share"})

    def forward(self, *, given: Tensor, own: Tensor, share: Tensor) -> Tensor:
        """One of the two."""
        return torch.where(share > 0.5, own, given)
