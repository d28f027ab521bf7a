"""The three kinds of rules that determine how a population responds to its input.

    Flow   with memory, returns its rate of change     forward(own, **ports) -> tau d own / dt
    Map    with memory, returns its next value         forward(own, **ports) -> next value
    Wire   without memory, returns its current value   forward(**ports)      -> value

A rule receives its own variables and the summed input at each of its named ports. It has no access to other
populations or to the step number. The input at an unconnected port is zero.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from pcsim.core.checks import checked
from pcsim.core.exceptions import WiringError
from pcsim.core.state import Shape, State
from pcsim.rules.time_constants import TimeConstant, time_constant

Own = Tensor | State


def _identity(drive: Tensor) -> Tensor:
    return drive


def _hard_sigmoid(drive: Tensor) -> Tensor:
    return (0.2 * drive + 0.5).clamp(0.0, 1.0)


# Module-level functions, so that rules can be pickled.
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": _identity,
    "relu": functional.relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "hard_sigmoid": _hard_sigmoid,
    "elu": functional.elu,
    "softplus": functional.softplus,
    "square": torch.square,
}


def _relu_slope(value: Tensor) -> Tensor:
    return (value > 0).to(value)


def _tanh_slope(value: Tensor) -> Tensor:
    return 1.0 - torch.tanh(value).square()


def _sigmoid_slope(value: Tensor) -> Tensor:
    return torch.sigmoid(value) * torch.sigmoid(-value)


SLOPES: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": torch.ones_like,
    "relu": _relu_slope,
    "tanh": _tanh_slope,
    "sigmoid": _sigmoid_slope,
    "softplus": torch.sigmoid,
}
"""Derivatives of the activations that can be used in a gradient flow."""


def activation_named(name: str) -> Callable[[Tensor], Tensor]:
    """Return the pointwise nonlinearity called `name`. Raises WiringError if the name is unknown."""
    if name not in ACTIVATIONS:
        raise WiringError(
            given=f"activation {name!r}",
            expected=f"one of {', '.join(ACTIVATIONS)}",
            remedy="pass activation='relu', or apply your own module in the transform of an edge",
        )
    return ACTIVATIONS[name]


def slope_named(name: str) -> Callable[[Tensor], Tensor]:
    """Return the derivative of the nonlinearity called `name`. Raises WiringError if the derivative is unknown."""
    if name not in SLOPES:
        raise WiringError(
            given=f"activation {name!r} in a gradient flow",
            expected=f"an activation with a known derivative: {', '.join(SLOPES)}",
            remedy="pass activation='tanh', or activation='softplus' for a smooth rectifier",
        )
    return SLOPES[name]


class Rule(nn.Module):
    """Base class for flows, maps and wires.

    `ports` lists the input ports. A projection without a port name targets the port named after its `kind`
    ("prediction", "error") if there is one, and the first port otherwise.
    `extra` lists variables stored in addition to the value; other populations receive only the value. A rule with extra
    variables receives and returns a dict, with "value" and these names as keys; other rules use a single tensor.
    `gates` lists intermediate values that can be recorded as "population.gate"; see `gate_values`.
    """

    ports: tuple[str, ...] = ("drive",)
    extra: tuple[str, ...] = ()
    gates: tuple[str, ...] = ()

    def gate_values(self, own: Own | None, **ports: Tensor) -> State:
        """Return the values of all `gates` in the step that starts from `own` (None for a wire)."""
        raise NotImplementedError

    def shapes(self, ports: Mapping[str, Shape]) -> dict[str, Shape]:
        """Return the shapes of "value" and the extra variables, given the port shapes. By default, all are equal."""
        given = set(ports.values())
        if len(given) != 1:
            raise WiringError(
                given=", ".join(f"{port}: {shape}" for port, shape in ports.items()) or "no input",
                expected=f"the same shape at every port of {type(self).__name__}",
                remedy="make all incoming projections deliver the same shape (channel, height, width)",
            )
        shape = given.pop()
        return dict.fromkeys(("value", *self.extra), shape)

    def describe(self) -> str:
        """Return a short description for the wiring table; `net.describe()` adds the tau of a flow."""
        return type(self).__name__

    def _shapes_of_gates(self, channels: int, gates: int, ports: Mapping[str, Shape]) -> dict[str, Shape]:
        """Return the shapes of a cell with `channels` channels whose port receives `gates * channels` channels."""
        arriving = Rule.shapes(self, ports)["value"]
        if arriving[0] != gates * channels:
            raise WiringError(
                given=f"{type(self).__name__}({channels}) that receives {arriving[0]} channels",
                expected=f"{gates * channels} input channels, {gates} for each channel of the cell",
                remedy=f"give the transforms of its incoming projections {gates * channels} output channels",
            )
        return dict.fromkeys(("value", *self.extra), (channels, *arriving[1:]))

    def _shapes_of_channels(self, channels: int, ports: Mapping[str, Shape]) -> dict[str, Shape]:
        """Return the default shapes for a rule whose parameters require exactly `channels` channels."""
        shapes = Rule.shapes(self, ports)
        if shapes["value"][0] != channels:
            raise WiringError(
                given=f"{type(self).__name__}({channels}) that receives {shapes['value'][0]} channels",
                expected=f"{channels} channels",
                remedy=f"build the rule with channels={shapes['value'][0]}, or give the transforms of its "
                f"incoming projections {channels} output channels",
            )
        return shapes


class Wire(Rule):
    """value = f(ports), without memory. `forward(**ports)` returns the current value."""


class Map(Rule):
    """own(t) = F(own(t-1), ports). `forward(own, **ports)` returns the next value (a dict if `extra` is set)."""


class Flow(Rule):
    """tau d own/dt = G(own, ports). `forward(own, **ports)` returns G, in the units of the activity.

    `tau` is the time constant in ms, which limits the step size of solvers.
    """

    tau: TimeConstant


@checked(WiringError)
class Leaky(Flow):
    """tau d own/dt = F(own, ports) - own, for any map or wire F.

    An Euler step with dt = tau recovers own <- F(own, ports). `tau`, in ms, is a single number, one number per channel,
    or a `LearnableTau`.
    """

    def __init__(self, rule: Map | Wire, tau: float | Sequence[float] | Tensor | TimeConstant) -> None:
        super().__init__()
        self.rule = rule
        self.tau = time_constant(tau)
        self.ports, self.extra, self.gates = rule.ports, rule.extra, rule.gates

    def gate_values(self, own: Own | None, **ports: Tensor) -> State:
        """Return the gate values of F."""
        return self.rule.gate_values(own, **ports)

    def shapes(self, ports: Mapping[str, Shape]) -> dict[str, Shape]:
        """Return the shapes of F."""
        return self.rule.shapes(ports)

    def target(self, own: Own, **ports: Tensor) -> Own:
        """Return F(own, ports), the value that `own` decays towards."""
        return cast(Own, self.rule(own, **ports) if isinstance(self.rule, Map) else self.rule(**ports))

    def forward(self, own: Own, **ports: Tensor) -> Own:
        """tau d own/dt = F(own, ports) - own."""
        return _combine(torch.sub, self.target(own, **ports), own)

    def describe(self) -> str:
        """Return the description of F."""
        return f"{self.rule.describe()} with a leak"


def _combine(function: Callable[..., Tensor], first: Own, second: Own) -> Own:
    """Apply `function` to two tensors, or to each variable of two dicts of tensors."""
    if isinstance(first, dict) and isinstance(second, dict):
        return {name: function(value, second[name]) for name, value in first.items()}
    return function(first, second)


def with_tau(rule: Rule, tau: float | Sequence[float] | Tensor | TimeConstant) -> Flow:
    """Return a flow with time constant `tau`. Maps and wires become leaky; flows are copied with the new tau.

    Parameters are shared with `rule`.
    """
    if isinstance(rule, Map | Wire):
        return Leaky(rule, tau)
    flow = cast(Flow, copy(rule))
    flow._modules = dict(rule._modules)
    flow.tau = time_constant(tau)
    return flow
