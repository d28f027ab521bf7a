"""Attractor memories.

    s_i <- sgn( drive_i - theta ),  s_i unchanged where drive_i = theta         Hopfield 1982, s in {-1, 1}
    E = -1/2 s.(W s) + theta sum s
    E = -1/2 v.(W v) - I.v + (1/g) sum_i integral_0^v_i artanh                  Hopfield 1984, v = tanh(g u)
    p = softmax( beta drive )                                                   Ramsauer et al. 2020
    E = -1/beta log sum_mu exp(beta X_mu.xi) + 1/2 xi.xi + log(N)/beta + 1/2 M^2

An energy is a wire with one value per sample, and can be recorded like any other population.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from pcsim.core.checks import checked
from pcsim.core.exceptions import WiringError
from pcsim.core.state import Shape
from pcsim.rules.base import Map, Wire


@checked(WiringError)
class Threshold(Map):
    """s_i <- sgn(drive_i - theta) where turn_i = 1; s_i is unchanged elsewhere and where drive_i = theta.

    The port "turn" selects the units to update in each step: one, several or all. If `synchronous` is True, every step
    updates all units. Source: Hopfield 1982 eq. 1.
    """

    ports = ("drive", "turn")

    def __init__(self, threshold: float = 0.0, synchronous: bool = False) -> None:
        super().__init__()
        self.threshold, self.synchronous = threshold, synchronous

    def forward(self, own: Tensor, *, drive: Tensor, turn: Tensor) -> Tensor:
        """s <- sgn(drive - theta) where turn = 1; s is unchanged elsewhere and where drive = theta."""
        field = drive - self.threshold
        flips = field != 0 if self.synchronous else (field != 0) & (turn > 0)
        return torch.where(flips, torch.sign(field), own)


class Energy(Wire):
    """Base class for energies, which have one value per sample, (batch, 1)."""

    def shapes(self, ports: Mapping[str, Shape]) -> dict[str, Shape]:
        """Return (1,), the shape of an energy without the batch axis."""
        return {"value": (1,)}


@checked(WiringError)
class ThresholdEnergy(Energy):
    """E = -1/2 s.field + theta sum s, with field = W s. Source: Hopfield 1982 eq. 7."""

    ports = ("state", "field")

    def __init__(self, threshold: float = 0.0) -> None:
        super().__init__()
        self.threshold = threshold

    def forward(self, *, state: Tensor, field: Tensor) -> Tensor:
        """E = -1/2 s.field + theta sum s, (batch, 1)."""
        return (self.threshold * state - 0.5 * state * field).sum(1, keepdim=True)


@checked(WiringError)
class GradedEnergy(Energy):
    """E = -1/2 v.field - I.v + (1/g) sum_i integral_0^v_i artanh(x) dx, with field = W v.

    The integral is v artanh(v) + 1/2 log(1 - v^2). Source: Hopfield 1984 eq. 7, with unit resistances.
    """

    ports = ("state", "field", "current")

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.gain = gain

    def forward(self, *, state: Tensor, field: Tensor, current: Tensor) -> Tensor:
        """E = -1/2 v.field - I.v + (1/g) sum_i integral_0^v_i artanh(x) dx, (batch, 1)."""
        # The entropy terms stay finite when v reaches -1 or 1 in floating point.
        high, low = 0.5 * (1.0 + state), 0.5 * (1.0 - state)
        integral = math.log(2.0) + torch.special.xlogy(high, high) + torch.special.xlogy(low, low)
        energy: Tensor = -0.5 * state * field - current * state + integral / self.gain
        return energy.sum(1, keepdim=True)


@checked(WiringError)
class Softmax(Wire):
    """p = softmax(beta drive) over channels, the weights of the stored patterns."""

    def __init__(self, beta: float) -> None:
        super().__init__()
        self.beta = beta

    def forward(self, *, drive: Tensor) -> Tensor:
        """p = softmax(beta drive), (batch, patterns), which sums to 1."""
        return torch.softmax(self.beta * drive, dim=1)


@checked(WiringError)
class RetrievalEnergy(Energy):
    """E = -1/beta log sum_mu exp(beta match_mu) + 1/2 xi.xi + log(N)/beta + 1/2 M^2, match = X^T xi.

    M is the largest norm among the N patterns, so that E >= 0. Source: Ramsauer et al. 2020 eq. 2.
    """

    ports = ("state", "match")

    def __init__(self, beta: float, largest_norm: float) -> None:
        super().__init__()
        self.beta, self.largest_norm = beta, largest_norm

    def forward(self, *, state: Tensor, match: Tensor) -> Tensor:
        """E = -1/beta log sum_mu exp(beta match_mu) + 1/2 xi.xi + log(N)/beta + 1/2 M^2, (batch, 1)."""
        free = -torch.logsumexp(self.beta * match, 1, keepdim=True) / self.beta
        constant = math.log(match.shape[1]) / self.beta + 0.5 * self.largest_norm**2
        return free + 0.5 * state.square().sum(1, keepdim=True) + constant
