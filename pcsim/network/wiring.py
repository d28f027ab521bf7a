"""A snapshot of a network's wiring and its derived properties, as plain data.

A network looks up its modules on every access, because they may be replaced at any time. A run needs the same
properties many times, so it first creates a `Wiring`, which computes each property only once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from torch import nn

from pcsim.core.state import Shape, variable_key
from pcsim.network.order import arrivals
from pcsim.network.parts import Population, Projection
from pcsim.network.shapes import Shapes
from pcsim.rules.base import Flow, Leaky
from pcsim.rules.predictive import ErrorUnit
from pcsim.rules.time_constants import TimeConstant


@dataclass(frozen=True, eq=False)
class Wiring:
    """A snapshot of the network `module`. Attributes have the same meaning as in `Graph`."""

    module: nn.Module
    name: str
    readout: str | None
    steps: int | None
    step_ms: float
    inputs: Mapping[str, Shape]
    is_flow: bool
    shapes: Shapes
    wires: tuple[str, ...]
    memories: tuple[str, ...]
    order: tuple[str, ...]
    populations: Mapping[str, Population]
    projections: tuple[Projection, ...]
    initialiser: Wiring | None

    @cached_property
    def _first(self) -> tuple[dict[str, nn.Parameter | None], str] | None:
        """The dict that contains the first parameter, and its key in that dict."""
        for module in self.module.modules():
            for name, parameter in module._parameters.items():
                if parameter is not None:
                    return module._parameters, name
        return None

    @property
    def parameter(self) -> nn.Parameter | None:
        """The first parameter, which has the dtype and device of the network."""
        return None if self._first is None else self._first[0].get(self._first[1])

    @property
    def device(self) -> str:
        """The device type of the network, "cpu" or "cuda"."""
        return "cpu" if self.parameter is None else self.parameter.device.type

    @cached_property
    def memory_keys(self) -> list[tuple[int, str]]:
        """The pair (population index, state key) for each variable of each memory."""
        numbers = {name: number for number, name in enumerate(self.shapes.variables)}
        variables = self.shapes.variables
        return [(numbers[name], variable_key(name, variable)) for name in self.memories for variable in variables[name]]

    @cached_property
    def incoming(self) -> dict[str, tuple[Projection, ...]]:
        """The incoming edges of each population, by name."""
        found: dict[str, list[Projection]] = {name: [] for name in self.populations}
        for edge in self.projections:
            found[edge.target].append(edge)
        return {name: tuple(edges) for name, edges in found.items()}

    @cached_property
    def flows(self) -> dict[str, Flow]:
        """The rules that are flows, by population name."""
        return {name: p.rule for name, p in self.populations.items() if isinstance(p.rule, Flow)}

    @cached_property
    def errors(self) -> tuple[str, ...]:
        """The names of the populations that are prediction errors."""
        return tuple(name for name, p in self.populations.items() if isinstance(_bare(p.rule), ErrorUnit))

    @cached_property
    def predicted(self) -> dict[str, str]:
        """The target (a population or an input) of each prediction error, by the error's name."""
        return {name: edge.source for name in self.errors for edge in self.incoming[name] if edge.port == "target"}

    @cached_property
    def step_delays(self) -> dict[str, int]:
        """The longest nonzero delay, in steps, among the edges leaving each source in a discrete network."""
        longest: dict[str, int] = {}
        for edge in self.projections:
            if not self.is_flow and edge.delay:
                longest[edge.source] = max(longest.get(edge.source, 0), edge.delay)
        return longest

    @cached_property
    def conduction_delays(self) -> dict[str, tuple[TimeConstant, ...]]:
        """The delays, in ms, of the edges leaving each source in a flow."""
        found: dict[str, tuple[TimeConstant, ...]] = {}
        for edge in self.projections:
            if isinstance(edge.delay_ms, TimeConstant):
                found[edge.source] = (*found.get(edge.source, ()), edge.delay_ms)
        return found

    @cached_property
    def arrivals(self) -> Mapping[str, float]:
        """The time at which an input onset first reaches each population; see `Graph.arrivals`."""
        early = tuple(self.initialiser.populations) if self.initialiser else ()
        return arrivals(tuple(self.inputs), self.populations, self.projections, self.is_flow, early)


def _bare(rule: nn.Module) -> nn.Module:
    return rule.rule if isinstance(rule, Leaky) else rule
