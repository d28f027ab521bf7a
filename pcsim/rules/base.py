"""Rules by which one population responds to its input, of three kinds.

    Flow   with memory, gives its rate of change     forward(own, **ports) -> tau d own / dt
    Map    with memory, gives its next value         forward(own, **ports) -> next value
    Wire   without memory, gives its present value   forward(**ports)      -> value

A rule reads its own variables and the summed input at each of its named ports; it depends neither on other
populations nor on the step number. The sum at a port without input is zero.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

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
"""Derivatives of the activations that a gradient flow may use."""


def activation_named(name: str) -> Callable[[Tensor], Tensor]:
    """Return the pointwise nonlinearity `name`. Raises WiringError for an unknown one."""
    if name not in ACTIVATIONS:
        raise WiringError(
            given=f"activation {name!r}",
            expected=f"one of {', '.join(ACTIVATIONS)}",
            remedy="write activation='relu', or put a module of your own into the transform of an edge",
        )
    return ACTIVATIONS[name]


def slope_named(name: str) -> Callable[[Tensor], Tensor]:
    """Return the derivative of the nonlinearity `name`. Raises WiringError for an unknown one."""
    if name not in SLOPES:
        raise WiringError(
            given=f"activation {name!r} in a gradient flow",
            expected=f"one whose derivative is known: {', '.join(SLOPES)}",
            remedy="write activation='tanh', or 'softplus' for a smooth rectifier",
        )
    return SLOPES[name]


class Rule(nn.Module):
    """Base class of flows, maps and wires.

    `ports` names the inputs; projections arrive at the first one unless they name another.
    `extra` names variables stored besides the value that other populations read; a rule with extra variables
    takes and returns a dict with the keys "value" and those names, a rule without takes and returns a tensor.
    `gates` names intermediate values that can be recorded, as "population.gate"; see `gate_values`.
    """

    ports: tuple[str, ...] = ("drive",)
    extra: tuple[str, ...] = ()
    gates: tuple[str, ...] = ()

    def gate_values(self, own: Own | None, **ports: Tensor) -> State:
        """Return the value of each of `gates` in the step from `own` (None for a wire) to its next value."""
        raise NotImplementedError

    def shapes(self, ports: Mapping[str, Shape]) -> dict[str, Shape]:
        """Return the shapes of "value" and each extra from those at the connected ports; all equal by default."""
        given = set(ports.values())
        if len(given) != 1:
            raise WiringError(
                given=", ".join(f"{port}: {shape}" for port, shape in ports.items()) or "no input",
                expected=f"one shape at every port of {type(self).__name__}",
                remedy="make the transforms of the incoming projections end in the same (channel, height, width)",
            )
        shape = given.pop()
        return dict.fromkeys(("value", *self.extra), shape)

    def describe(self) -> str:
        """Return a short description for the wiring table."""
        return type(self).__name__

    def _shapes_of_gates(self, channels: int, gates: int, ports: Mapping[str, Shape]) -> dict[str, Shape]:
        """Return the shapes of a cell of `channels` maps whose one port receives `gates` times as many channels."""
        arriving = Rule.shapes(self, ports)["value"]
        if arriving[0] != gates * channels:
            raise WiringError(
                given=f"{type(self).__name__}({channels}) that receives {arriving[0]} channels",
                expected=f"{gates * channels} channels: {gates} for each of its own",
                remedy=f"end the transforms of its incoming projections in {gates * channels} channels",
            )
        return dict.fromkeys(("value", *self.extra), (channels, *arriving[1:]))

    def _shapes_of_channels(self, channels: int, ports: Mapping[str, Shape]) -> dict[str, Shape]:
        """Return the default shapes for a rule whose parameters fit only `channels` channels."""
        shapes = Rule.shapes(self, ports)
        if shapes["value"][0] != channels:
            raise WiringError(
                given=f"{type(self).__name__}({channels}) that receives {shapes['value'][0]} channels",
                expected=f"{channels} channels",
                remedy=f"build the rule with channels={shapes['value'][0]}, or end the transforms of its incoming "
                f"projections in {channels} channels",
            )
        return shapes


class Wire(Rule):
    """value = f(ports), without memory. `forward(**ports)` returns the present value."""


class Map(Rule):
    """own(t) = F(own(t-1), ports). `forward(own, **ports)` returns the next value (with `extra`, a dict of values)."""


class Flow(Rule):
    """tau d own/dt = G(own, ports). `forward(own, **ports)` returns G, in the units of the activity.

    `tau`, in ms, is the time constant that limits the step.
    """

    tau: TimeConstant


class Leaky(Flow):
    """tau d own/dt = F(own, ports) - own, for any map or wire F.

    Euler with dt = tau recovers own <- F(own, ports). `tau` is in ms: a number, one per channel, or a
    `LearnableTau`.
    """

    def __init__(self, rule: Map | Wire, tau: float | Tensor | TimeConstant) -> None:
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
        """Return F(own, ports), the value that `own` decays toward."""
        return cast(Own, self.rule(own, **ports) if isinstance(self.rule, Map) else self.rule(**ports))

    def forward(self, own: Own, **ports: Tensor) -> Own:
        """tau d own/dt = F(own, ports) - own."""
        return _combine(torch.sub, self.target(own, **ports), own)

    def describe(self) -> str:
        """Return the description of F, with tau."""
        return f"{self.rule.describe()} with a leak, tau {self.tau.describe()} ms"


def _combine(function: Callable[..., Tensor], first: Own, second: Own) -> Own:
    """Apply `function` to two tensors, or to each variable of two dicts of tensors."""
    if isinstance(first, dict) and isinstance(second, dict):
        return {name: function(value, second[name]) for name, value in first.items()}
    return function(first, second)


def with_tau(rule: Rule, tau: float | Tensor | TimeConstant) -> Flow:
    """Return a map or wire as a flow with time constant `tau`, or a flow with another tau and the same parameters."""
    if isinstance(rule, Map | Wire):
        return Leaky(rule, tau)
    flow = cast(Flow, copy(rule))
    flow._modules = dict(rule._modules)
    flow.tau = time_constant(tau)
    return flow
