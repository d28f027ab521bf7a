"""Units whose gates are driven by separate projections.

    h(t) = f( g(gate) drive + k(retention) h(t-1) )         reciprocal gated; g, k = offset + factor s(.)
    h(t) = u h(t-1) + (1 - u) f(candidate)                  gated update, u = s(update)
    tau / (1 - u) dh/dt = -h + f(candidate)                 the same as an ODE
    h(t) = a h(t-1) + drive                                 decay
    y = s(gate) drive                                       gated, without memory
    y = u drive + (1 - u) f(candidate)                      highway, without memory

Every gate is a port that populations drive through ordinary edges, which can have transforms, lesions and delays.
The input at an unconnected port is zero, so its gate 1 - s(0) equals one half.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pcsim.core.checks import Count, checked
from pcsim.core.exceptions import WiringError
from pcsim.core.state import Shape, State, per_channel
from pcsim.rules.base import Map, Own, Wire, activation_named


@checked(WiringError)
@dataclass(frozen=True)
class Gate:
    """g(x) = offset + factor s(x); by default 1 - sigmoid(x)."""

    offset: float = 1.0
    factor: float = -1.0
    nonlinearity: str = "sigmoid"

    def __call__(self, drive: Tensor) -> Tensor:
        """g(x) = offset + factor s(x)."""
        return self.offset + self.factor * activation_named(self.nonlinearity)(drive)


@checked(WiringError)
class ReciprocalGated(Map):
    """h(t) = f( g(gate + b_g) drive + k(retention + b_k) h(t-1) ).

    A reciprocal gated cell consists of two such units, h and c. Each unit drives the gate of the other and its own
    retention.

    bias       if True, the gates have one bias per channel
    gate_bias  if False, only the retention gate has a bias; for units whose drive gate has no input

    Source: Nayebi et al. 2018 eq. 4-5 (g = k = 1 - sigmoid, no bias); other variants follow the authors' code.
    """

    ports = ("drive", "gate", "retention")
    gates = ("open", "kept")

    def __init__(
        self,
        channels: Count,
        activation: str = "elu",
        gate: Gate = Gate(),
        retention: Gate = Gate(),
        bias: bool = False,
        gate_bias: bool = True,
    ) -> None:
        super().__init__()
        self.channels, self.activation = channels, activation
        self.function = activation_named(activation)
        self.gate, self.retention = gate, retention
        activation_named(gate.nonlinearity), activation_named(retention.nonlinearity)
        # The bias of the drive gate, if any, precedes the bias of the retention gate.
        self.bias = nn.Parameter(torch.zeros(1 + gate_bias, channels)) if bias else None

    def shapes(self, ports: Mapping[str, Shape]) -> dict[str, Shape]:
        """Return the shape of the drive, which must have the same number of channels as the unit."""
        return self._shapes_of_channels(self.channels, ports)

    def forward(self, own: Tensor, *, drive: Tensor, gate: Tensor, retention: Tensor) -> Tensor:
        """h(t) = f(g drive + k h(t-1)), with the gate values g and k."""
        gates = self.gate_values(own, gate=gate, retention=retention)
        return self.function(gates["open"] * drive + gates["kept"] * own)

    def gate_values(self, own: Own | None, **ports: Tensor) -> State:
        """Return g ("open"), which multiplies the drive, and k ("kept"), which multiplies the previous value."""
        gate, retention = ports["gate"], ports["retention"]
        if self.bias is not None:
            retention = retention + per_channel(self.bias[-1], retention)
            gate = gate + per_channel(self.bias[0], gate) if len(self.bias) == 2 else gate
        return {"open": self.gate(gate), "kept": self.retention(retention)}

    def describe(self) -> str:
        """Return the nonlinearities of the unit and its gate."""
        return f"reciprocal gated, {self.activation}, gates {self.gate.nonlinearity}"


@checked(WiringError)
class GatedUpdate(Map):
    """h(t) = u h(t-1) + (1 - u) f(candidate + b),  u = s(update + b_u).

    `kept` is the initial b_u; if it is positive, the unit initially retains most of its value. Source: the UGRNN of
    Collins et al. 2017 eq. 5-7. If the candidate receives h through a `Gated` reset, the unit is the GRU of Cho et
    al. 2014.

    As an ODE, tau dh/dt = (1 - u) (f(candidate + b) - h): a leaky unit whose time constant tau / (1 - u) is at least
    tau. It depends on the input, or is fixed if nothing projects to the port "update". Source: Jordan, Sokol & Park
    2021.
    """

    ports = ("candidate", "update")
    gates = ("kept",)

    def __init__(self, channels: Count, activation: str = "tanh", kept: float = 0.0) -> None:
        super().__init__()
        self.channels, self.activation = channels, activation
        self.function = activation_named(activation)
        self.bias = nn.Parameter(torch.tensor([[0.0], [kept]]).repeat(1, channels))

    def shapes(self, ports: Mapping[str, Shape]) -> dict[str, Shape]:
        """Return the shape of the candidate, which must have the same number of channels as the unit."""
        return self._shapes_of_channels(self.channels, ports)

    def forward(self, own: Tensor, *, candidate: Tensor, update: Tensor) -> Tensor:
        """h(t) = u h(t-1) + (1 - u) f(candidate + b)."""
        fresh = self.function(candidate + per_channel(self.bias[0], candidate))
        return torch.lerp(fresh, own, self.gate_values(own, update=update)["kept"])

    def gate_values(self, own: Own | None, **ports: Tensor) -> State:
        """Return u ("kept"), the fraction of the previous value that is retained."""
        return {"kept": torch.sigmoid(ports["update"] + per_channel(self.bias[1], ports["update"]))}

    def describe(self) -> str:
        """Return the name of the unit and the nonlinearity of the candidate."""
        return f"gated update, {self.activation}"


class Decay(Map):
    """h(t) = a h(t-1) + drive, with one learnable a, initially 0. Source: the "time decay" of Nayebi et al. 2018."""

    def __init__(self) -> None:
        super().__init__()
        self.kept = nn.Parameter(torch.zeros(()))

    def forward(self, own: Tensor, *, drive: Tensor) -> Tensor:
        """h(t) = a h(t-1) + drive."""
        return self.kept * own + drive


@checked(WiringError)
class Gated(Wire):
    """y = s(gate + b) drive, a gated drive. `bias` is the number of channels of b, or None for no bias."""

    ports = ("drive", "gate")
    gates = ("open",)

    def __init__(self, bias: Count | None = None) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(bias)) if bias is not None else None

    def forward(self, *, drive: Tensor, gate: Tensor) -> Tensor:
        """y = s(gate + b) drive."""
        return self.gate_values(None, gate=gate)["open"] * drive

    def gate_values(self, own: Own | None, **ports: Tensor) -> State:
        """Return s(gate + b) ("open")."""
        gate = ports["gate"]
        return {"open": torch.sigmoid(gate if self.bias is None else gate + per_channel(self.bias, gate))}


@checked(WiringError)
class Highway(Wire):
    """y = u drive + (1 - u) f(candidate + b),  u = s(update + b_u): a unit that can pass on its drive unchanged.

    `kept` is the initial b_u. Source: Collins et al. 2017 eq. 8-13, the output of the intersection RNN (+RNN).
    """

    ports = ("drive", "candidate", "update")
    gates = ("passed",)

    def __init__(self, channels: Count, activation: str = "relu", kept: float = 1.0) -> None:
        super().__init__()
        self.function = activation_named(activation)
        self.bias = nn.Parameter(torch.tensor([[0.0], [kept]]).repeat(1, channels))

    def forward(self, *, drive: Tensor, candidate: Tensor, update: Tensor) -> Tensor:
        """y = u drive + (1 - u) f(candidate + b)."""
        fresh = self.function(candidate + per_channel(self.bias[0], candidate))
        return torch.lerp(fresh, drive, self.gate_values(None, update=update)["passed"])

    def gate_values(self, own: Own | None, **ports: Tensor) -> State:
        """Return u ("passed"), the fraction of the drive that is passed on."""
        return {"passed": torch.sigmoid(ports["update"] + per_channel(self.bias[1], ports["update"]))}
