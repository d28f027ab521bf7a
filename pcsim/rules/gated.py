"""Gated cells, which receive the stacked inputs of all their gates at a single port.

Each projection to a cell drives all gates with one transform, such as a convolution; the bias is a parameter of the
cell. Cells are convolutional for image-shaped populations and dense for vectors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, cast

import torch
from torch import Tensor, nn

from pcsim.core.checks import Count, checked
from pcsim.core.exceptions import WiringError
from pcsim.core.state import Shape, State, per_channel
from pcsim.rules.base import Map, Own, activation_named

Peephole = Literal["none", "channel", "full"]


@checked(WiringError)
class LSTM(Map):
    """i, f, o = s(gates + b + peephole);  c(t) = f c(t-1) + i tanh(z);  h(t) = o tanh(c(t)).

    The port "gates" receives i, f, o and z stacked, (batch, 4 * channels, ...). The peepholes of i and f use
    c(t-1), and the peephole of o uses c(t).

    peephole  "none"; "channel", with one weight per gate and channel; or "full", with one weight per gate, channel and
              position, which requires feature maps of fixed `size` (height, width)
    gate      the nonlinearity s: "sigmoid" or "hard_sigmoid", which is clip(0.2 x + 0.5, 0, 1)
    forget    initial bias of the forget gate

    Source: Shi et al. 2015 eq. 3 (convolutional, full peepholes); Hochreiter & Schmidhuber 1997, Gers et al. 2000.
    Raises WiringError if the peephole or gate is unknown, or if the size is missing.
    """

    ports = ("gates",)
    extra = ("c",)
    gates = ("i", "f", "o")

    def __init__(
        self,
        channels: Count,
        peephole: Peephole = "none",
        size: tuple[Count, Count] | None = None,
        gate: str = "sigmoid",
        forget: float = 0.0,
    ) -> None:
        super().__init__()
        if (peephole == "full") != (size is not None):
            raise WiringError(
                given=f"LSTM(peephole={peephole!r}, size={size})",
                expected="peephole='none' or 'channel' without size, or peephole='full' with size=(height, width)",
                remedy="use LSTM(channels, 'full', size=(height, width)), or omit size",
            )
        self.channels, self.kind, self.size = channels, peephole, size
        self.gate = activation_named(gate)
        self.gate_name = gate
        self.bias = nn.Parameter(torch.zeros(4 * channels))
        with torch.no_grad():
            self.bias[channels : 2 * channels] = forget
        weights = {"none": None, "channel": (3, channels), "full": (3, channels, *(size or ()))}[peephole]
        self.peephole = nn.Parameter(torch.zeros(weights)) if weights else None

    def shapes(self, ports: Mapping[str, Shape]) -> dict[str, Shape]:
        """Return the shapes of h and c, which have a quarter of the input channels."""
        shapes = self._shapes_of_gates(self.channels, 4, ports)
        if self.size is not None and shapes["value"][1:] != self.size:
            raise WiringError(
                given=f"feature maps of size {shapes['value'][1:]} for full peepholes of size {self.size}",
                expected="the same height and width for both",
                remedy="build the network for this image size, or pass peephole='channel'",
            )
        return shapes

    def forward(self, own: State, *, gates: Tensor) -> State:
        """c(t) = f c(t-1) + i tanh(z),  h(t) = o tanh(c(t)); h is returned as "value"."""
        return self._opened(own["c"], gates)[1]

    def gate_values(self, own: Own | None, **ports: Tensor) -> State:
        """Return i, f and o, each between 0 and 1."""
        return self._opened(cast(State, own)["c"], ports["gates"])[0]

    def _opened(self, c: Tensor, gates: Tensor) -> tuple[State, State]:
        """Return the gate values and the next h and c."""
        i, f, o, z = (gates + per_channel(self.bias, gates)).chunk(4, dim=1)
        i, f = self.gate(self._looking(i, 0, c)), self.gate(self._looking(f, 1, c))
        c = f * c + i * torch.tanh(z)
        o = self.gate(self._looking(o, 2, c))
        return {"i": i, "f": f, "o": o}, {"value": o * torch.tanh(c), "c": c}

    def _looking(self, drive: Tensor, gate: int, c: Tensor) -> Tensor:
        """Return the drive of a gate, including its peephole input from c."""
        if self.peephole is None:
            return drive
        weight = self.peephole[gate]
        return drive + (weight if self.kind == "full" else per_channel(weight, c)) * c

    def describe(self) -> str:
        """Return the nonlinearity of the gates and the type of the peepholes."""
        return f"LSTM, {self.gate_name}" + ("" if self.kind == "none" else f", {self.kind} peepholes")


@checked(WiringError)
class SubLSTM(Map):
    """i, o, z, f = s(gates + b);  c(t) = f c(t-1) + z - i;  h(t) = s(c(t)) - o.

    Inhibition is subtractive: the input and output gates are subtracted instead of multiplied. All four gates are
    logistic. The port "gates" receives i, o, z and f stacked, (batch, 4 * channels, ...). If `fixed_forget`, it
    receives only i, o and z, and f is a learned constant in [0, 1] for each channel (fix-subLSTM).

    Source: Costa et al. 2017 eq. 5-10; subConvLSTM replaces the matrices with convolutions.
    """

    ports = ("gates",)
    extra = ("c",)

    def __init__(self, channels: Count, fixed_forget: bool = False, forget: float = 0.0) -> None:
        super().__init__()
        self.channels = channels
        self.gates = ("i", "o", "z") if fixed_forget else ("i", "o", "z", "f")
        self.bias = nn.Parameter(torch.zeros(len(self.gates) * channels))
        self.kept = nn.Parameter(torch.full((channels,), 0.5)) if fixed_forget else None
        if not fixed_forget:
            with torch.no_grad():
                self.bias[3 * channels :] = forget

    def shapes(self, ports: Mapping[str, Shape]) -> dict[str, Shape]:
        """Return the shapes of h and c, with 1/4 of the input channels, or 1/3 if the forget gate is fixed."""
        return self._shapes_of_gates(self.channels, len(self.gates), ports)

    def forward(self, own: State, *, gates: Tensor) -> State:
        """c(t) = f c(t-1) + z - i,  h(t) = s(c(t)) - o; h is returned as "value"."""
        i, o, z, *forget = self.gate_values(own, gates=gates).values()
        f = forget[0] if self.kept is None else per_channel(self.kept.clamp(0.0, 1.0), i)
        c = f * own["c"] + z - i
        return {"value": torch.sigmoid(c) - o, "c": c}

    def gate_values(self, own: Own | None, **ports: Tensor) -> State:
        """Return i, o, z and (unless it is fixed) f, each between 0 and 1."""
        gates = ports["gates"]
        values = torch.sigmoid(gates + per_channel(self.bias, gates)).chunk(len(self.gates), dim=1)
        return dict(zip(self.gates, values, strict=True))

    def describe(self) -> str:
        """Return the name of the cell, followed by "fixed forget" if its forget gate is fixed."""
        return "subLSTM" + ("" if self.kept is None else ", fixed forget")
