"""The two stages of the horizontal gated recurrent unit (hGRU).

    h1(t) = f( drive - f0( inhibition (alpha h2(t-1) + mu) ) )                    suppression, without memory
    h2(t) = (1 - g) h2(t-1) + g f( kappa h1 + beta excitation + omega h1 excitation ),   g = s( mix + b )

f0 is ReLU if f is ReLU, and the identity otherwise. The edges compute inhibition = W * (gain h2(t-1)),
excitation = W * h1(t), and the input of the gate, mix = U * h1(t). Source: Linsley et al. 2018 eq. 7-10.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from pcsim.core.checks import Count, checked
from pcsim.core.exceptions import WiringError
from pcsim.core.state import Shape, State, per_channel
from pcsim.rules.base import Map, Own, Wire, activation_named


@checked(WiringError)
class HorizontalInhibition(Wire):
    """h1 = f(drive - f0(inhibition (alpha state + mu))), with one alpha and one mu per channel.

    The port "state" receives h2 from the previous step. alpha scales divisive (shunting) inhibition, and mu scales
    subtractive inhibition.
    """

    ports = ("drive", "inhibition", "state")

    def __init__(self, channels: Count, activation: Literal["tanh", "relu"] = "tanh") -> None:
        super().__init__()
        self.channels, self.activation = channels, activation
        self.function = activation_named(activation)
        self.alpha = nn.Parameter(torch.full((channels,), 0.1))
        self.mu = nn.Parameter(torch.ones(channels))

    def shapes(self, ports: Mapping[str, Shape]) -> dict[str, Shape]:
        """Return the shape of the drive, which must have the same number of channels as the rule."""
        return self._shapes_of_channels(self.channels, ports)

    def forward(self, *, drive: Tensor, inhibition: Tensor, state: Tensor) -> Tensor:
        """h1 = f(drive - f0(inhibition (alpha state + mu)))."""
        inhibited = inhibition * (per_channel(self.alpha, state) * state + per_channel(self.mu, state))
        return self.function(drive - (torch.relu(inhibited) if self.activation == "relu" else inhibited))

    def describe(self) -> str:
        """Return the name of the rule and its nonlinearity."""
        return f"horizontal inhibition, {self.activation}"


@checked(WiringError)
class HorizontalExcitation(Map):
    """h2(t) = (1 - g) h2(t-1) + g f(kappa drive + beta excitation + omega drive excitation), g = s(mix + b).

    The port "drive" receives h1. kappa, beta, omega and b have one value per channel.
    """

    ports = ("drive", "excitation", "mix")
    gates = ("mixed",)

    def __init__(self, channels: Count, activation: Literal["tanh", "relu"] = "tanh") -> None:
        super().__init__()
        self.channels, self.activation = channels, activation
        self.function = activation_named(activation)
        self.kappa = nn.Parameter(torch.full((channels,), 0.5))
        self.beta = nn.Parameter(torch.ones(channels))
        self.omega = nn.Parameter(torch.full((channels,), 0.5))
        self.bias = nn.Parameter(torch.zeros(channels))

    def shapes(self, ports: Mapping[str, Shape]) -> dict[str, Shape]:
        """Return the shape of the drive, which must have the same number of channels as the rule."""
        return self._shapes_of_channels(self.channels, ports)

    def forward(self, own: Tensor, *, drive: Tensor, excitation: Tensor, mix: Tensor) -> Tensor:
        """h2(t) = (1 - g) h2(t-1) + g f(kappa drive + beta excitation + omega drive excitation)."""
        kappa, beta, omega = (per_channel(each, drive) for each in (self.kappa, self.beta, self.omega))
        fresh = self.function(kappa * drive + (beta + omega * drive) * excitation)
        return torch.lerp(own, fresh, self.gate_values(own, mix=mix)["mixed"])

    def gate_values(self, own: Own | None, **ports: Tensor) -> State:
        """Return g ("mixed"), the fraction of the previous value that is replaced."""
        return {"mixed": torch.sigmoid(ports["mix"] + per_channel(self.bias, ports["mix"]))}

    def describe(self) -> str:
        """Return the name of the rule and its nonlinearity."""
        return f"horizontal excitation, {self.activation}"
