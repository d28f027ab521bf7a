"""Evidence accumulators: decision units that integrate a readout over time.

    x <- max( floor, x + a ( [drive - gate]+ - inhibition - leak x ) ),   a = dt / tau

race    one unit per choice, without leak or inhibition
drift   no floor, and drives that sum to 0 over the choices: with two choices, each unit is a drift-diffusion process
LCA     leak, inhibition from the other units, floor 0 (Usher & McClelland 2001 eq. 4)
gated   a gate, which blocks weak evidence (Purcell et al. 2010 eq. 4)

A decision is made when a unit reaches a bound (see `pcsim.analysis.bound_crossings`). Noise is part of the
drive; see `pcsim.stimuli.noise` and `pcsim.models.with_noise`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pcsim.core.checks import Finite, NonNegative, Share, checked
from pcsim.core.exceptions import WiringError
from pcsim.rules.base import Map


@checked(WiringError)
class Accumulator(Map):
    """x <- max(floor, x + a (u - inhibition - leak x)), with u = [drive - gate]+, or u = drive without a gate.

    rate   a = dt / tau, the fraction of the input that is integrated per step. As a flow with time constant T, the
           unit integrates with the time constant T / a
    leak   0 for a perfect integrator
    gate   evidence below this value is ignored; None for no gate
    floor  lowest value, or None for no floor
    """

    ports = ("drive", "inhibition")

    def __init__(
        self,
        rate: Share = 0.1,
        leak: NonNegative = 0.0,
        gate: Finite | None = None,
        floor: Finite | None = 0.0,
    ) -> None:
        super().__init__()
        self.rate, self.leak, self.gate, self.floor = rate, leak, gate, floor

    def forward(self, own: Tensor, *, drive: Tensor, inhibition: Tensor) -> Tensor:
        """x <- max(floor, x + a (u - inhibition - leak x))."""
        evidence = drive if self.gate is None else torch.relu(drive - self.gate)
        value = own + self.rate * (evidence - inhibition - self.leak * own)
        return value if self.floor is None else value.clamp(min=self.floor)

    def describe(self) -> str:
        """Return the name of the rule and its constants."""
        gate = "" if self.gate is None else f", gate {self.gate:g}"
        floor = "" if self.floor is None else f", floor {self.floor:g}"
        return f"accumulator, rate {self.rate:g}, leak {self.leak:g}{gate}{floor}"
