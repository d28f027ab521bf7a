"""Divisive normalisation: static, delayed and recurrent.

    r = [drive]+^n / ( sigma^n + [pool]+^n )                              normalisation, delayed if `pool` is delayed
    tau_y dy/dt = -y + drive + ( 1 - sqrt([modulator]+) ) recurrent       ORGaNICs, principal cells
    tau_a da/dt = -a + b_0^2 sigma^2 + W u,  u = [y]+^2 [a]+              ORGaNICs, modulator cells

With recurrent = y, the fixed point of an ORGaNICs circuit is y = drive / sqrt(sigma^2 b_0^2 + W [drive]+^2).
"""

from __future__ import annotations

import torch
from torch import Tensor

from pcsim.core.checks import Positive, checked
from pcsim.core.exceptions import WiringError
from pcsim.rules.base import Map, Own, Wire
from pcsim.rules.circuits import Power


@checked(WiringError)
class DivisiveNormalisation(Wire):
    """r = [drive]+^n / (sigma^n + [pool]+^n), which saturates at 1 if the pool is the drive itself.

    sigma  semisaturation constant: the drive at which r = 1/2 if pool = drive
    power  n >= 1

    Source: Heeger 1992; Zhou, Benson, Kay & Winawer 2019 eq. 3, in which the pool is a delayed copy of the drive.
    """

    ports = ("drive", "pool")

    def __init__(self, sigma: Positive = 0.1, power: Power = 2.0) -> None:
        super().__init__()
        self.sigma, self.power = sigma, power

    def forward(self, *, drive: Tensor, pool: Tensor) -> Tensor:
        """r = [drive]+^n / (sigma^n + [pool]+^n)."""
        excited, normalising = torch.relu(drive).pow(self.power), torch.relu(pool).pow(self.power)
        normalised: Tensor = excited / (normalising + self.sigma**self.power)
        return normalised

    def describe(self) -> str:
        """Return the name of the rule and its constants."""
        return f"divisive normalisation, sigma {self.sigma:g}, power {self.power:g}"


class Organics(Map):
    """y <- drive + (1 - sqrt([modulator]+)) recurrent, the principal cells of an ORGaNICs circuit.

    The edges to the port "recurrent" compute W_r y, or [W_r y]+ if they end in a rectification. As a flow,
    `Leaky(Organics(), tau_y)` is tau_y dy/dt = -y + drive + (1 - sqrt([a]+)) recurrent.
    Source: Heeger & Mackey 2019; Rawat, Heeger & Martiniani 2024 eq. 4.
    """

    ports = ("drive", "recurrent", "modulator")
    gates = ("recurrent_gain",)

    def forward(self, own: Own, *, drive: Tensor, recurrent: Tensor, modulator: Tensor) -> Tensor:
        """y <- drive + (1 - sqrt([modulator]+)) recurrent; the previous value is not used."""
        return drive + self.gate_values(None, modulator=modulator)["recurrent_gain"] * recurrent

    def gate_values(self, own: Own | None, **ports: Tensor) -> dict[str, Tensor]:
        """Return 1 - sqrt([modulator]+) ("recurrent_gain")."""
        # A square root has an infinite slope at 0, which would make gradients NaN.
        smallest = torch.finfo(ports["modulator"].dtype).tiny
        return {"recurrent_gain": 1.0 - torch.sqrt(ports["modulator"].clamp(min=smallest))}


class OrganicsPool(Wire):
    """u = [drive]+^2 [modulator]+, the input of the modulator cells of an ORGaNICs circuit.

    Source: Rawat, Heeger & Martiniani 2024 eq. 5.
    """

    ports = ("drive", "modulator")

    def forward(self, *, drive: Tensor, modulator: Tensor) -> Tensor:
        """u = [drive]+^2 [modulator]+."""
        return torch.relu(drive).square() * torch.relu(modulator)
