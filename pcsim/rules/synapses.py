"""Short-term synaptic plasticity, in terms of firing rates.

tau_d dd/dt = -d + tau_d u (1 - d) nu                                             depletion (depression)
tau_f df/dt = -f + tau_f U (1 - U - f) nu                                         facilitation
released = u (1 - d) drive / U,   u = U + f

The resources of a synapse are x = 1 - d, its utilisation is u, and nu is the presynaptic rate in spikes per ms. d and f
are 0 at rest, the initial state of a network.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from pcsim.core.checks import Positive, checked
from pcsim.core.exceptions import WiringError
from pcsim.core.state import State
from pcsim.rules.base import Flow, Wire
from pcsim.rules.time_constants import TimeConstant, time_constant

Utilisation = Annotated[float, Field(gt=0, le=1)]


@checked(WiringError)
class Depletion(Flow):
    """tau_d dd/dt = -d + tau_d u (1 - d) nu, the depleted fraction of a synapse's resources.

    The port "drive" receives the presynaptic activity a, with nu = peak_hz [a]+ / 1000, and "facilitation" receives f.

    utilisation  U, in (0, 1]; u = U + f
    tau          recovery time constant in ms
    peak_hz      firing rate in Hz for an activity of 1

    Source: Tsodyks, Pawelzik & Markram 1998 eq. 2.2; Mongillo, Barak & Tsodyks 2008 eq. 1, with x = 1 - d.
    """

    ports = ("drive", "facilitation")

    def __init__(
        self, utilisation: Utilisation = 0.5, tau: float | Tensor | TimeConstant = 800.0, peak_hz: Positive = 100.0
    ) -> None:
        super().__init__()
        self.utilisation, self.peak_hz, self.tau = utilisation, peak_hz, time_constant(tau)

    def forward(self, own: Tensor, *, drive: Tensor, facilitation: Tensor) -> Tensor:
        """Return -d + tau_d u (1 - d) nu."""
        spikes = 0.001 * self.peak_hz * torch.relu(drive)
        return self.tau.for_(own) * (self.utilisation + facilitation) * (1.0 - own) * spikes - own

    def describe(self) -> str:
        """Return the name of the rule and its constants."""
        return f"depletion, U {self.utilisation:g}, tau {self.tau.describe()} ms"


@checked(WiringError)
class Facilitation(Flow):
    """tau_f df/dt = -f + tau_f U (1 - U - f) nu, the increase in a synapse's utilisation above U.

    The arguments are as in `Depletion`. Source: Mongillo, Barak & Tsodyks 2008 eq. 2, with u = U + f.
    """

    def __init__(
        self, utilisation: Utilisation = 0.15, tau: float | Tensor | TimeConstant = 1500.0, peak_hz: Positive = 100.0
    ) -> None:
        super().__init__()
        self.utilisation, self.peak_hz, self.tau = utilisation, peak_hz, time_constant(tau)

    def forward(self, own: Tensor, *, drive: Tensor) -> Tensor:
        """Return -f + tau_f U (1 - U - f) nu."""
        spikes = 0.001 * self.peak_hz * torch.relu(drive)
        return self.tau.for_(own) * self.utilisation * (1.0 - self.utilisation - own) * spikes - own

    def describe(self) -> str:
        """Return the name of the rule and its constants."""
        return f"facilitation, U {self.utilisation:g}, tau {self.tau.describe()} ms"


@checked(WiringError)
class Release(Wire):
    """y = (U + facilitation) (1 - depletion) drive / U, the presynaptic activity scaled by its synapses.

    At rest, y equals the drive, because U is included in the weights of the edges from y.
    """

    ports = ("drive", "depletion", "facilitation")
    gates = ("strength",)

    def __init__(self, utilisation: Utilisation = 0.5) -> None:
        super().__init__()
        self.utilisation = utilisation

    def forward(self, *, drive: Tensor, depletion: Tensor, facilitation: Tensor) -> Tensor:
        """y = (U + facilitation) (1 - depletion) drive / U."""
        return self.gate_values(None, depletion=depletion, facilitation=facilitation)["strength"] * drive

    def gate_values(self, own: Tensor | State | None, **ports: Tensor) -> State:
        """Return (U + facilitation) (1 - depletion) / U ("strength"), which is 1 at rest."""
        return {"strength": (1.0 + ports["facilitation"] / self.utilisation) * (1.0 - ports["depletion"])}
