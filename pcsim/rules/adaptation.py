"""Intrinsic suppression: units whose responses are reduced by their own recent activity.

s <- alpha s + (1 - alpha) r
r <- [ drive + b - beta s ]+
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pcsim.core.checks import Count, Share, checked
from pcsim.core.exceptions import WiringError
from pcsim.core.state import Shape, State, per_channel
from pcsim.rules.base import Map


@checked(WiringError)
class IntrinsicSuppression(Map):
    """s <- alpha s + (1 - alpha) r,  r <- [drive + b - beta s]+, a unit suppressed by its own recent activity.

    The suppression s is updated first, from the previous r. It can be recorded as "population.suppression". As a flow
    with time constant tau, s follows r with time constant tau / (1 - alpha).

    alpha  decay factor of the suppression per step, in [0, 1]
    beta   strength; a negative value gives enhancement

    Source: Vinken, Boix & Kreiman 2020 eq. 1-2 (alpha = 0.96, beta = 0.7).
    """

    extra = ("suppression",)

    def __init__(self, channels: Count, alpha: Share = 0.96, beta: float = 0.7) -> None:
        super().__init__()
        self.channels, self.alpha, self.beta = channels, alpha, beta
        self.bias = nn.Parameter(torch.zeros(channels))

    def shapes(self, ports: Mapping[str, Shape]) -> dict[str, Shape]:
        """Return the shape of the drive, which must have the same number of channels as the rule."""
        return self._shapes_of_channels(self.channels, ports)

    def forward(self, own: State, *, drive: Tensor) -> State:
        """Return the next r ("value") and s ("suppression")."""
        suppression = self.alpha * own["suppression"] + (1.0 - self.alpha) * own["value"]
        value = torch.relu(drive + per_channel(self.bias, drive) - self.beta * suppression)
        return {"value": value, "suppression": suppression}

    def describe(self) -> str:
        """Return the name of the rule and its constants."""
        return f"intrinsic suppression, alpha {self.alpha:g}, beta {self.beta:g}"
