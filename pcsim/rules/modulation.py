"""Multiplicative modulation of any rule.

    drive <- drive (1 + gain)

If nothing modulates the population, the gain is 0 and the rule is unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from torch import Tensor

from pcsim.core.checks import checked
from pcsim.core.exceptions import WiringError
from pcsim.core.state import Shape, State
from pcsim.rules.base import Flow, Leaky, Map, Own, Rule, Wire, with_tau
from pcsim.rules.predictive import ErrorUnit

GAIN = "gain"


@checked(WiringError)
def modulated(rule: Rule, port: str | None = None) -> Rule:
    """Return the rule with a port "gain": drive <- drive (1 + gain).

    The gain can differ between units (channel, height, width), channels (channel, 1, 1) or (channel,), or places
    (1, height, width). In a rule whose port receives several values per channel, such as the gates of an LSTM, all of
    them are multiplied by the channel's gain. Without an edge to "gain", or with a gain of 0, the results are
    bitwise equal to those of `rule`. Parameters are shared with `rule`.

    port  input port that is multiplied, by default the first; "value" multiplies the output of a map or wire instead,
          which changes the slope of its response (Lindsay & Miller 2018)

    Raises WiringError for an unknown port, for port="value" in a flow other than `Leaky`, whose value is integrated,
    or for a rule that already has a port "gain".

        Population("v1", rules.modulated(rules.Rate(16)))
    """
    outputs = () if isinstance(rule, Flow) and not isinstance(rule, Leaky) else ("value",)
    known = (*rule.ports, *outputs)
    if GAIN in rule.ports or (port is not None and port not in known):
        raise WiringError(
            given=f"modulated({type(rule).__name__}(...), port={port!r})",
            expected=f"a rule without a port {GAIN!r}, and one of {', '.join(known)}",
            remedy="use the rule as it is" if GAIN in rule.ports else f"pass port={known[0]!r}, or omit it",
        )
    if isinstance(rule, Leaky):
        return Leaky(cast(Map | Wire, modulated(rule.rule, port)), rule.tau)
    kinds = (_ModulatedError, _ModulatedWire, _ModulatedMap, _ModulatedFlow)
    return next(kind for kind in kinds if isinstance(rule, kind.__bases__[1]))(rule, port or rule.ports[0])


class _Modulated(Rule):
    """A rule whose input at `port`, or whose value, is multiplied by 1 + gain."""

    def __init__(self, rule: Rule, port: str) -> None:
        super().__init__()
        self.rule, self.port = rule, port
        self.ports, self.extra, self.gates = (*rule.ports, GAIN), rule.extra, rule.gates

    def shapes(self, ports: Mapping[str, Shape]) -> dict[str, Shape]:
        """Check that the gain can be broadcast, and return the shapes of the rule."""
        driven = {port: shape for port, shape in ports.items() if port != GAIN}
        if not driven:
            raise WiringError(
                given="a gain without another input from which its shape could be inferred",
                expected="an input to another port, or a shape",
                remedy="declare it: Population(name, rule, shape=(channel, height, width))",
            )
        shapes = self.rule.shapes(driven)
        value = shapes["value"]  # also the shape of the gain if there is no edge
        gain, drive = ports.get(GAIN, value), driven.get(self.port, value)
        channels = gain[0] in (1, drive[0]) or (gain[0] == value[0] and drive[0] % gain[0] == 0)
        places = all(own in (1, length) for own, length in zip(gain[1:], drive[1:], strict=False))
        if not (channels and places and len(gain) <= len(drive)):
            ones = (1,) * (len(drive) - 1)
            raise WiringError(
                given=f"a gain of shape {gain} for {self.port!r} of shape {drive}",
                expected=f"one gain for each unit {drive}, channel {(drive[0], *ones)} or position {(1, *drive[1:])}",
                remedy="change the transform of the modulatory edge, for instance with connections.Resize((height, "
                "width)), or pass port='value' to rules.modulated",
            )
        return shapes

    def gate_values(self, own: Own | None, **ports: Tensor) -> State:
        """Return the gate values of the rule with the modulated input."""
        return self.rule.gate_values(own, **self._inputs(ports))

    def forward(self, *own: Own, **ports: Tensor) -> Own:
        """Return the response of the rule with the modulated input, or its modulated value."""
        made: Own = self.rule(*own, **self._inputs(ports))
        if self.port != "value":
            return made
        if isinstance(made, dict):
            return {**made, "value": _times(made["value"], ports[GAIN])}
        return _times(made, ports[GAIN])

    def describe(self) -> str:
        """Return the description of the rule and the modulated port."""
        return f"{self.rule.describe()}, {self.port} (1 + gain)"

    def _inputs(self, ports: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {
            port: _times(value, ports[GAIN]) if port == self.port else value
            for port, value in ports.items()
            if port != GAIN
        }


class _ModulatedWire(_Modulated, Wire):
    """A modulated wire."""


class _ModulatedError(_Modulated, ErrorUnit):
    """A modulated prediction error, which a run records among its errors."""


class _ModulatedMap(_Modulated, Map):
    """A modulated map."""


class _ModulatedFlow(_Modulated, Flow):
    """A modulated flow. Its tau is that of its rule, even in variants that change tau, such as `net.as_ode`."""

    def __getattr__(self, name: str) -> Any:
        return self.rule.tau if name == "tau" else super().__getattr__(name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "tau":
            self.rule = with_tau(self.rule, value)
        else:
            super().__setattr__(name, value)


def _times(drive: Tensor, gain: Tensor) -> Tensor:
    """Return drive (1 + gain), where the gain of a channel applies to all of its values and positions."""
    gain = gain.reshape(*gain.shape, *(1 for _ in range(drive.dim() - gain.dim())))
    if gain.shape[1] not in (1, drive.shape[1]):
        gain = gain.repeat(1, drive.shape[1] // gain.shape[1], *(1 for _ in gain.shape[2:]))
    return drive * (1.0 + gain)
