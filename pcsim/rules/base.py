"""How one population responds: three kinds of rule, told apart by what they have memory of.

    Flow   has memory, says how it is pushed       forward(own, **ports) -> tau d own / dt
    Map    has memory, says its next value         forward(own, **ports) -> next
    Wire   has none, says its value now            forward(**ports)      -> value

A rule sees its own variables and the sums that arrive at its named input ports; it knows neither its
neighbours nor the step. Sums are zero where nothing arrives.
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


# Functions with names, so that rules can be pickled.
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
    """The pointwise nonlinearity of that name. Raises WiringError with the known names."""
    if name not in ACTIVATIONS:
        raise WiringError(
            given=f"activation {name!r}",
            expected=f"one of {', '.join(ACTIVATIONS)}",
            remedy="choose one of these, or put a module of your own into the transform of an edge",
        )
    return ACTIVATIONS[name]


def slope_named(name: str) -> Callable[[Tensor], Tensor]:
    """The derivative of that nonlinearity. Raises WiringError with the known names."""
    if name not in SLOPES:
        raise WiringError(
            given=f"activation {name!r} in a gradient flow",
            expected=f"one whose derivative is known: {', '.join(SLOPES)}",
            remedy="choose one of these",
        )
    return SLOPES[name]


class Rule(nn.Module):
    """Base of the three kinds.

    `ports` names the inputs, the first being where projections arrive unless they say otherwise.
    `extra` names variables kept besides the value that other populations read; a rule with extras
    gets and gives a dict with the keys "value" and those names, a rule without gets and gives a tensor.
    `gates` names what it computes on the way that can be recorded, as "population.gate"; see `gate_values`.
    """

    ports: tuple[str, ...] = ("drive",)
    extra: tuple[str, ...] = ()
    gates: tuple[str, ...] = ()

    def gate_values(self, own: Own | None, **ports: Tensor) -> State:
        """Return the value of each of `gates` in the step that makes the next value of `own` (None for a wire)."""
        raise NotImplementedError

    def shapes(self, ports: Mapping[str, Shape]) -> dict[str, Shape]:
        """Shape of "value" and of each extra, from the shapes at the connected ports; all equal by default."""
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
        """A word or two for the wiring table."""
        return type(self).__name__

    def _shapes_of_gates(self, channels: int, gates: int, ports: Mapping[str, Shape]) -> dict[str, Shape]:
        """The shapes of a cell of `channels` maps at whose one port `gates` times as many arrive."""
        arriving = Rule.shapes(self, ports)["value"]
        if arriving[0] != gates * channels:
            raise WiringError(
                given=f"{type(self).__name__}({channels}) that receives {arriving[0]} channels",
                expected=f"{gates * channels}: {gates} for each of its own",
                remedy="give the transforms of its incoming projections that many output channels",
            )
        return dict.fromkeys(("value", *self.extra), (channels, *arriving[1:]))

    def _shapes_of_channels(self, channels: int, ports: Mapping[str, Shape]) -> dict[str, Shape]:
        """The default shapes, for a rule whose parameters fit that many channels only."""
        shapes = Rule.shapes(self, ports)
        if shapes["value"][0] != channels:
            raise WiringError(
                given=f"{type(self).__name__}({channels}) that receives {shapes['value'][0]} channels",
                expected=f"{channels} channels",
                remedy="give the rule the channels that arrive, or the transforms that many output channels",
            )
        return shapes


class Wire(Rule):
    """value = f(ports): no memory of its own. `forward(**ports)` gives the value now."""


class Map(Rule):
    """own(t) = F(own(t-1), ports). `forward(own, **ports)` gives the next value (a dict of them with `extra`)."""


class Flow(Rule):
    """tau d own/dt = G(own, ports). `forward(own, **ports)` gives G, in the units of the activity.

    `tau`, in ms, is the time constant that limits the step.
    """

    tau: TimeConstant


class Relaxed(Flow):
    """tau d own/dt = F(own, ports) - own, for any map or wire F.

    Euler with dt = tau gives own <- F(own, ports) back. `tau` is in ms: a number, one per channel, or a
    `LearnableTau`.
    """

    def __init__(self, rule: Map | Wire, tau: float | Tensor | TimeConstant) -> None:
        super().__init__()
        self.rule = rule
        self.tau = time_constant(tau)
        self.ports, self.extra, self.gates = rule.ports, rule.extra, rule.gates

    def gate_values(self, own: Own | None, **ports: Tensor) -> State:
        """Return those of the rule that is relaxed toward."""
        return self.rule.gate_values(own, **ports)

    def shapes(self, ports: Mapping[str, Shape]) -> dict[str, Shape]:
        """As the rule that is relaxed toward."""
        return self.rule.shapes(ports)

    def target(self, own: Own, **ports: Tensor) -> Own:
        """What the map (or wire) would have said."""
        return cast(Own, self.rule(own, **ports) if isinstance(self.rule, Map) else self.rule(**ports))

    def forward(self, own: Own, **ports: Tensor) -> Own:
        """F(own, ports) - own."""
        return _combine(torch.sub, self.target(own, **ports), own)

    def describe(self) -> str:
        """What is relaxed toward, and how fast."""
        return f"relaxed {self.rule.describe()}, tau {self.tau.describe()} ms"


def _combine(function: Callable[..., Tensor], first: Own, second: Own) -> Own:
    """`function` on two tensors, or on each variable of two dicts of them."""
    if isinstance(first, dict) and isinstance(second, dict):
        return {name: function(value, second[name]) for name, value in first.items()}
    return function(first, second)


def with_tau(rule: Rule, tau: float | Tensor | TimeConstant) -> Flow:
    """The rule relaxed toward, or a flow with another time constant and the same parameters."""
    if isinstance(rule, Map | Wire):
        return Relaxed(rule, tau)
    flow = cast(Flow, copy(rule))
    flow._modules = dict(rule._modules)
    flow.tau = time_constant(tau)
    return flow
