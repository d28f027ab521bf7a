"""Values without memory.

y = f( drive + b )
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pcsim.rules.base import Wire, activation_named
from pcsim.state import per_channel


class Sum(Wire):
    """y = f(drive + b): a read-out, or any quantity that is just the sum of what arrives.

    `channels` gives it one bias per channel; without, it has none.
    """

    def __init__(self, activation: str = "identity", channels: int | None = None) -> None:
        super().__init__()
        self.function = activation_named(activation)
        self.bias = nn.Parameter(torch.zeros(channels)) if channels is not None else None

    def forward(self, *, drive: Tensor) -> Tensor:
        """f(drive + b)."""
        if self.bias is None:
            return self.function(drive)
        return self.function(drive + per_channel(self.bias, drive))
