"""Adaptation of cells and of synapses.

    s <- alpha s + (1 - alpha) r,   r <- [ drive + b - beta s ]+                      intrinsic suppression
    tau_d dd/dt = -d + tau_d u (1 - d) nu                                             depletion (short-term depression)
    tau_f df/dt = -f + tau_f U (1 - U - f) nu                                         facilitation
    released = u (1 - d) drive / U,   u = U + f

The resources of a synapse are x = 1 - d, its utilisation is u, and nu is the presynaptic rate in spikes per ms. All
variables are 0 at rest, where a network starts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from pcsim.core.checks import Count, Positive, Share, checked
from pcsim.core.exceptions import WiringError
from pcsim.core.state import Shape, State, per_channel
from pcsim.rules.base import Flow, Map, Wire
from pcsim.rules.time_constants import TimeConstant, time_constant

Utilisation = Annotated[float, Field(gt=0, le=1)]


@checked(WiringError)
class IntrinsicSuppression(Map):
    """s <- alpha s + (1 - alpha) r,  r <- [drive + b - beta s]+, a unit suppressed by its own recent activity.

    The suppression s is updated first, from the previous r. It can be recorded as "population.suppression". As a flow
    with time constant tau, s follows r with time constant tau / (1 - alpha).

    alpha  decay of the suppression per step, in [0, 1]
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
    """tau_f df/dt = -f + tau_f U (1 - U - f) nu, the increase of a synapse's utilisation above U.

    The arguments are those of `Depletion`. Source: Mongillo, Barak & Tsodyks 2008 eq. 2, with u = U + f.
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
    """y = (U + facilitation) (1 - depletion) drive / U, the presynaptic activity as scaled by its synapses.

    At rest, y is the drive, because U is part of the weights of the edges that y projects through.
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
