"""Recurrent cells for ConvRNN layers, each driven by the feed-forward input x of its layer (Nayebi et al. 2018).

The cell of layer n has an output population h{n}, which projects to other layers, and may have memory populations.

    reciprocal    h = f( [1 - s(W_ch c)] x + [1 - s(W_hh h)] h ),   c = f( [1 - s(W_hc h)] x + [1 - s(W_cc c)] c )
    time_decay    s = a s + x,  h = f(s)
    simple_rnn    h = f( LN( W x + U h ) )
    gru           h = u h + (1 - u) tanh(W x + U (r h)),  u, r = s(.)
    ugrnn         h = u h + (1 - u) tanh(W x + U h)
    intersection  s = u s + (1 - u) tanh(.),  h = v x + (1 - v) ReLU(.)
    lstm          Hochreiter & Schmidhuber 1997, forget bias 1
    none          h = f(x)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as validated
from torch import nn

from pcsim.connections import Activation, same_conv
from pcsim.core.checks import Count, checked
from pcsim.core.exceptions import WiringError
from pcsim.models.areas import Wiring
from pcsim.network import Population, Projection
from pcsim.network.parts import Kind
from pcsim.rules.base import Rule
from pcsim.rules.gated import LSTM
from pcsim.rules.rate import Rate
from pcsim.rules.reciprocal import Decay, Gate, Gated, GatedUpdate, Highway, ReciprocalGated
from pcsim.rules.wires import Sum

Kernel = Annotated[int, Field(ge=1)]


@checked(WiringError)
@validated(frozen=True, config=ConfigDict(extra="forbid"))
class ReciprocalCell:
    """Settings of the reciprocal gated cell. The defaults give the published cell (eq. 4-5).

    Let `res` be the input of the layer, x its convolution (the drive), and fb the feedback from higher layers:

        c(t) = f_c( tau(W_cc c + ..) c + gate(W_hc h + ..) [conv(f_x(x)) + conv(res)] )
        h(t) = f_h( tau(W_hh h + ..) h + gate(W_ch c + ..) [conv(f_x(x)) + W c + res + f_fb(conv(fb))] )

    Source: Nayebi et al. 2018 figure 3a and the reference code. `MEDIAN` is the median cell of the published search.
    """

    depth: Annotated[int | None, Field(ge=0)] = None
    """number of channels of c; None for the same number as in the layer, 0 for no c"""
    tau: Gate = Gate()
    """retention gate: the fraction of its previous value that a unit keeps"""
    gate: Gate = Gate()
    """drive gate: the fraction of its drive that a unit receives"""
    tau_kernel: Kernel = 3
    """kernel size of the convolutions that compute tau"""
    gate_kernel: Kernel = 3
    """kernel size of the convolutions that compute the gates"""
    input_to_cell: bool = True
    """x drives c"""
    cell_kernel: Kernel | None = None
    """kernel size of the convolution from x to c; None for none, which requires as many channels in c as in x"""
    input_to_out_kernel: Kernel | None = None
    """kernel size of the convolution from x to h; None for no convolution"""
    input_to_tau: bool = False
    """x also drives the tau of c and of h"""
    input_to_gate: bool = False
    """x also drives the gates of c and of h"""
    cell_to_out: bool = False
    """c drives h through a convolution, which has the gate's bias, instead of gating the drive of h"""
    cell_residual: bool = False
    """res drives c"""
    out_residual: bool = False
    """res drives h, through a 1x1 convolution if the numbers of channels differ"""
    residual_to_cell_tau: bool = False
    """res drives the tau of c"""
    residual_to_cell_gate: bool = False
    """res drives the gate of c"""
    residual_to_out_tau: bool = False
    """res drives the tau of h"""
    residual_to_out_gate: bool = False
    """res drives the gate of h"""
    separable: tuple[Literal["tau", "gate", "input", "feedback"], ...] = ()
    """which convolutions are depthwise separable; "input" refers to those from x to c and h"""
    input_activation: str = "identity"
    """nonlinearity f_x, applied to x before it enters the cell, after any feedback has been added"""
    cell_activation: str = "elu"
    """nonlinearity f_c of c"""
    out_activation: str = "elu"
    """nonlinearity f_h of h"""
    feedback_activation: str = "identity"
    """nonlinearity f_fb of the feedback"""
    feedback_kernel: Kernel = 1
    """kernel size of the feedback convolution"""
    feedback_entry: Literal["input", "cell", "out"] = "out"
    """target of the feedback: x, or the drive of c or h"""
    bias: bool = False
    """include one bias per channel in the gates, in tau, and in the convolutions of x and of the feedback"""


PUBLISHED = ReciprocalCell()
MEDIAN = ReciprocalCell(
    depth=64,
    tau=Gate(0.9219, -0.9219),
    gate=Gate(0.7007, -0.7007, "tanh"),
    tau_kernel=7,
    gate_kernel=7,
    cell_kernel=2,
    input_to_out_kernel=3,
    out_residual=True,
    separable=("tau", "gate"),
    input_activation="elu",
    bias=True,
)
"""The median cell of the published search, used in the intermediate ConvRNN."""
SHALLOW = ReciprocalCell(cell_kernel=3, residual_to_out_gate=True, input_activation="elu", bias=True)
"""The cell used in the shallow ConvRNN, with the ELU that follows the convolution in each layer."""


@checked(WiringError)
@dataclass(frozen=True)
class Site:
    """Layer n, for which a cell is built. Its input `res` comes from `source`, and x{n} is the convolution of `res`.

    entry   function that builds the modules from `source` to `res`, such as a pooling layer
    stride  stride of the convolution from `res` to x{n}
    """

    layer: Count
    channels: Count
    size: tuple[Count, Count]
    source: str
    source_channels: Count
    entry: Callable[[], list[nn.Module]]
    stride: Count
    delay: int

    @property
    def x(self) -> str:
        """The name of the drive population."""
        return f"x{self.layer}"

    @property
    def h(self) -> str:
        """The name of the output population, which projects to other layers."""
        return f"h{self.layer}"

    @checked(WiringError)
    def conv(
        self, channels: Count, out: Count, kernel: Count, separable: bool = False, bias: bool = False
    ) -> nn.Module:
        """Build a size-preserving convolution with a kernel no larger than the maps."""
        return same_conv(channels, out, min(kernel, *self.size), 1, bias, separable)

    @checked(WiringError)
    def residual(self, target: str, port: str, out: Count, kernel: Count | None, separable: bool = False) -> Projection:
        """Build the projection res -> target.

        Without `kernel`, it is the identity, or a 1x1 convolution if the channels differ.
        """
        parts = [*self.entry(), *([nn.AvgPool2d(self.stride)] if self.stride > 1 else [])]
        if kernel is not None or out != self.source_channels:
            parts.append(self.conv(self.source_channels, out, kernel or 1, separable))
        return edge(self.source, target, nn.Sequential(*parts), "bottom_up", self.delay, port)


def edge(
    source: str,
    target: str,
    transform: nn.Module | None = None,
    kind: Kind = "bottom_up",
    delay: int = 0,
    port: str = "",
) -> Projection:
    """Build a projection whose name includes its port, because a cell has several projections from the same source."""
    name = f"{source}->{target}" + (f":{port}" if port not in ("", "drive") else "")
    return Projection(source, target, transform or nn.Identity(), kind, delay, port or None, name=name)


def reciprocal(site: Site, cell: ReciprocalCell = PUBLISHED) -> Wiring:
    """Build the reciprocal gated cell: h{n} and c{n}, which gate each other."""
    maps, depth, c, h = site.channels, cell.depth, f"c{site.layer}", site.h
    depth = maps if depth is None else depth
    _check(cell, depth, maps)
    tau, gate = "tau" in cell.separable, "gate" in cell.separable

    def driven(target: str, *convolution: nn.Module, port: str = "") -> Projection:
        return edge(site.x, target, nn.Sequential(Activation(cell.input_activation), *convolution), port=port)

    def drive(target: str, out: Count, kernel: Count | None) -> Projection:
        inward = [] if kernel is None else [site.conv(maps, out, kernel, "input" in cell.separable, cell.bias)]
        return driven(target, *inward)

    units = [(h, maps, cell.out_activation), *([(c, depth, cell.cell_activation)] if depth else [])]
    populations = []
    projections = [drive(h, maps, cell.input_to_out_kernel)]
    # The bias of a gate is part of the convolution from the other unit; without this convolution, there is no bias.
    is_gated = {h: bool(depth) and not cell.cell_to_out, c: True}
    for name, out, activation in units:
        rule = ReciprocalGated(out, activation, cell.gate, cell.tau, cell.bias, is_gated[name])
        populations.append(Population(name, rule))
        kept = site.conv(out, out, cell.tau_kernel, tau)
        projections.append(edge(name, name, kept, "lateral", 1, "retention"))
        if cell.input_to_tau:
            projections.append(driven(name, site.conv(maps, out, cell.tau_kernel, tau), port="retention"))
        if cell.input_to_gate:
            projections.append(driven(name, site.conv(maps, out, cell.gate_kernel, gate), port="gate"))
    if cell.out_residual:
        projections.append(site.residual(h, "drive", maps, None))
    if cell.residual_to_out_tau:
        projections.append(site.residual(h, "retention", maps, cell.tau_kernel, tau))
    if cell.residual_to_out_gate:
        projections.append(site.residual(h, "gate", maps, cell.gate_kernel, gate))
    if depth:
        through = site.conv(depth, maps, cell.gate_kernel, gate, cell.bias and cell.cell_to_out)
        outward = edge(c, h, through, "lateral", 1, "drive" if cell.cell_to_out else "gate")
        # The bias of the convolution drives h from the first step, even though c starts at 0.
        projections.append(replace(outward, before="zeros") if cell.cell_to_out else outward)
        projections.append(edge(h, c, site.conv(maps, depth, cell.gate_kernel, gate), "lateral", 1, "gate"))
        if cell.input_to_cell:
            projections.append(drive(c, depth, cell.cell_kernel))
        if cell.cell_residual:
            projections.append(site.residual(c, "drive", depth, cell.cell_kernel or 1))
        if cell.residual_to_cell_tau:
            projections.append(site.residual(c, "retention", depth, cell.tau_kernel, tau))
        if cell.residual_to_cell_gate:
            projections.append(site.residual(c, "gate", depth, cell.gate_kernel, gate))
    return populations, projections


def _check(cell: ReciprocalCell, depth: int, maps: int) -> None:
    if depth and not (cell.input_to_cell or cell.cell_residual):
        raise WiringError(
            given="a cell state c without any input",
            expected="input_to_cell=True or cell_residual=True",
            remedy="pass input_to_cell=True, or depth=0 for no cell state",
        )
    if depth not in (0, maps) and cell.input_to_cell and cell.cell_kernel is None:
        raise WiringError(
            given=f"{depth} channels of c, driven directly by {maps} channels of x",
            expected="a convolution from x to c",
            remedy="pass cell_kernel=3, or depth=None",
        )
    if cell.feedback_entry == "cell" and not depth:
        raise WiringError(
            given="feedback_entry='cell' without a cell state",
            expected="depth > 0",
            remedy="pass feedback_entry='out'",
        )


def time_decay(site: Site) -> Wiring:
    """Build a memory s{n} that decays by a learnable factor, initially 0, and h{n} = ELU(s{n})."""
    s = f"s{site.layer}"
    populations = [Population(s, Decay()), Population(site.h, Sum("elu"))]
    return populations, [edge(site.x, s), edge(s, site.h)]


def _recurrent(site: Site, rule: Rule, ports: Sequence[str], width: int = 1, own: str = "") -> Wiring:
    """Build h{n} (or `own`) with `rule`. Each port receives convolutions of x and of the population itself."""
    name = own or site.h
    maps = site.channels
    projections = []
    for port in ports:
        projections.append(edge(site.x, name, site.conv(maps, width * maps, 3), port=port))
        projections.append(edge(name, name, site.conv(maps, width * maps, 3), "lateral", 1, port))
    return [Population(name, rule, (maps, *site.size))], projections


def simple_rnn(site: Site) -> Wiring:
    """z{n} = W x + U h, h{n} = ELU(LN(z{n})).

    Layer norm is computed over maps and positions, with one weight and one bias per map.
    """
    z, maps = f"z{site.layer}", site.channels
    populations = [Population(z, Sum()), Population(site.h, Rate(maps, "elu", bias=False))]
    return populations, [
        edge(site.x, z, site.conv(maps, maps, 3)),
        edge(site.h, z, site.conv(maps, maps, 3), "lateral", 1),
        edge(z, site.h, nn.GroupNorm(1, maps)),
    ]


def gru(site: Site) -> Wiring:
    """Build a gated recurrent unit, where r{n} is h multiplied by the reset gate. Source: Cho et al. 2014."""
    r, maps = f"r{site.layer}", site.channels
    populations, projections = _recurrent(site, GatedUpdate(maps), ["update"])
    return [Population(r, Gated(maps)), *populations], [
        edge(site.h, r, kind="lateral", delay=1),
        edge(site.h, r, site.conv(maps, maps, 3), "lateral", 1, "gate"),
        edge(site.x, r, site.conv(maps, maps, 3), port="gate"),
        *projections,
        edge(site.x, site.h, site.conv(maps, maps, 3), port="candidate"),
        edge(r, site.h, site.conv(maps, maps, 3), "lateral", port="candidate"),
    ]


def ugrnn(site: Site) -> Wiring:
    """Build an update-gate RNN with an initial gate bias of 1. Source: Collins et al. 2017."""
    return _recurrent(site, GatedUpdate(site.channels, kept=1.0), ["candidate", "update"])


def intersection(site: Site) -> Wiring:
    """Build an intersection RNN (+RNN): a memory s{n} and an output h{n} that can pass x through.

    Gate biases start at 1. Source: Collins et al. 2017.
    """
    s, maps = f"s{site.layer}", site.channels
    populations, projections = _recurrent(site, GatedUpdate(maps, kept=1.0), ["candidate", "update"], own=s)
    ways: list[tuple[str, Kind, int]] = [(site.x, "bottom_up", 0), (s, "lateral", 1)]
    outward = [
        edge(source, site.h, site.conv(maps, maps, 3), kind, delay, port)
        for port in ("candidate", "update")
        for source, kind, delay in ways
    ]
    return [*populations, Population(site.h, Highway(maps))], [*projections, edge(site.x, site.h), *outward]


def lstm(site: Site) -> Wiring:
    """Build a convolutional LSTM without peepholes, with an initial forget bias of 1."""
    return _recurrent(site, LSTM(site.channels, forget=1.0), ["gates"], width=4)


def none(site: Site) -> Wiring:
    """h{n} = ELU(x{n}), without recurrence."""
    return [Population(site.h, Rate(site.channels, "elu", bias=False))], [edge(site.x, site.h)]


CELLS: dict[str, Callable[[Site], Wiring]] = {
    "reciprocal": reciprocal,
    "time_decay": time_decay,
    "simple_rnn": simple_rnn,
    "gru": gru,
    "ugrnn": ugrnn,
    "intersection": intersection,
    "lstm": lstm,
    "none": none,
}
