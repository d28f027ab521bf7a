"""Rate units of cortical circuits with separate excitatory and inhibitory populations.

    r <- k [drive]+^n                                            supralinear; the SSN is tau dr/dt = -r + k [W r + h]+^n
    E <- (S_max - rho E) S(drive)                                Wilson & Cowan, with refractoriness rho
    S(x) = 1 / (1 + exp(-a (x - theta))) - 1 / (1 + exp(a theta)),   S_max = 1 - 1 / (1 + exp(a theta))

Each rule is a map. `rules.Leaky(rule, tau)` turns it into the published flow. Inhibition is delivered by edges with
negative weights (`connections.signed`).
"""

from __future__ import annotations

import math
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from pcsim.core.checks import NonNegative, Positive, checked
from pcsim.core.exceptions import WiringError
from pcsim.rules.base import Map, Own

Power = Annotated[float, Field(ge=1, lt=math.inf)]


@checked(WiringError)
class PowerLaw(Map):
    """r <- k [drive]+^n, the supralinear input-output function of cortical neurons.

    gain   k, the rate for a drive of 1
    power  n >= 1

    Source: Ahmadian, Rubin & Miller 2013 eq. 2.1-2.2; Rubin, Van Hooser & Miller 2015 (k = 0.04, n = 2).
    """

    def __init__(self, gain: Positive = 0.04, power: Power = 2.0) -> None:
        super().__init__()
        self.gain, self.power = gain, power

    def forward(self, own: Own, *, drive: Tensor) -> Tensor:
        """r <- k [drive]+^n; the previous value is not used."""
        return self.gain * torch.relu(drive).pow(self.power)

    def describe(self) -> str:
        """Return the equation with its constants."""
        return f"{self.gain:g} [drive]+^{self.power:g}"


@checked(WiringError)
class WilsonCowan(Map):
    """E <- (S_max - rho E) S(drive), the fraction of cells that are active.

    slope       a, the steepness of the sigmoid S
    threshold   theta, the drive at which S is steepest; S(0) = 0
    refractory  rho, the refractory period relative to the time constant, usually 1; with rho = 0, E <- S_max S(drive)

    Source: Wilson & Cowan 1972 eq. 11-12 and 15 (a = 1.3 and theta = 4 for excitatory cells, a = 2 and theta = 3.7 for
    inhibitory cells).
    """

    def __init__(self, slope: Positive = 1.3, threshold: float = 4.0, refractory: NonNegative = 1.0) -> None:
        super().__init__()
        self.slope, self.threshold, self.refractory = slope, threshold, refractory

    def forward(self, own: Tensor, *, drive: Tensor) -> Tensor:
        """E <- (S_max - rho E) S(drive)."""
        rest = 0.5 * (1.0 - math.tanh(0.5 * self.slope * self.threshold))  # does not overflow, unlike exp
        active = torch.sigmoid(self.slope * (drive - self.threshold)) - rest
        return (1.0 - rest - self.refractory * own) * active

    def describe(self) -> str:
        """Return the name of the rule and its constants."""
        return f"Wilson-Cowan, slope {self.slope:g}, threshold {self.threshold:g}, refractory {self.refractory:g}"
