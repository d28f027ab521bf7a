"""Values without memory.

y = f( drive + b )
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pcsim.rules.base import Wire, activation_named
from pcsim.state import Shape, per_channel


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
