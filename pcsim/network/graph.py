"""Populations joined by projections: the structure of a network, and what follows from it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

from torch import nn

from pcsim.core.exceptions import WiringError
from pcsim.core.state import Shape
from pcsim.network.order import arrivals, topological_order
from pcsim.network.parts import Population, Projection
from pcsim.network.shapes import Shapes, infer_shapes
from pcsim.network.validate import all_flows, check_delay_ms, check_names, check_windows
from pcsim.rules.base import Flow, Relaxed, Rule, Wire
from pcsim.rules.predictive import ErrorUnit
from pcsim.rules.time_constants import TimeConstant, time_constant


class Graph(nn.Module):
    """Validated populations and projections, with shapes inferred and the order of evaluation derived.

    The modules have one home each, `rules`, `transforms` and `delays`; `populations` and `projections` show what is
    there now.
    """

    def __init__(
        self,
        inputs: Mapping[str, Shape],
        populations: Sequence[Population],
        projections: Sequence[Projection],
        *,
        readout: str | None = None,
        steps: int | None = None,
        step_ms: float = 10.0,
        timing: Mapping[str, tuple[float, float]] | None = None,
        name: str = "network",
        initialiser: Graph | None = None,
    ) -> None:
        super().__init__()
        self.name, self.readout, self.steps, self.step_ms = name, readout, steps, step_ms
        self.timing = dict(timing or {})
        self.inputs = dict(inputs)
        check_names(self.inputs, populations, projections, readout)
        if not (isinstance(step_ms, int | float) and math.isfinite(step_ms) and step_ms > 0):
            raise WiringError(
                given=f"step_ms={step_ms!r}", expected="a positive number of ms", remedy="10.0 is usual in vision"
            )
        self.is_flow = all_flows(populations)
        self._populations = {population.name: population for population in populations}
        self.rules = nn.ModuleDict({population.name: population.rule for population in populations})
        self._edges = tuple(self._resolved(edge) for edge in projections)
        self.transforms = nn.ModuleDict({edge.key: edge.transform for edge in self._edges})
        delays = {edge.key: edge.delay_ms for edge in self._edges if isinstance(edge.delay_ms, nn.Module)}
        self.delays = nn.ModuleDict(delays)
        self.initialiser = initialiser
        self.wires = tuple(population.name for population in populations if isinstance(population.rule, Wire))
        self.memories = tuple(population.name for population in populations if population.name not in self.wires)
        declared = {p.name: tuple(p.shape) for p in populations if p.shape is not None}
        rules = {population.name: population.rule for population in populations}
        self.shapes: Shapes = infer_shapes(self.inputs, rules, declared, self._edges)
        self.order = self.order_of([edge for edge in self._edges if edge.delay == 0])
        check_windows(populations, self._edges, self.shapes.variables, self.is_flow)

    def _resolved(self, edge: Projection) -> Projection:
        """Return the edge with its port and delay made explicit."""
        rule = self._populations[edge.target].rule
        port = edge.port or (edge.kind if edge.kind in rule.ports else rule.ports[0])
        if port not in rule.ports:
            raise WiringError(
                given=f"edge {edge.name} to port {port!r}",
                expected=f"one of the ports of {type(rule).__name__}: {', '.join(rule.ports)}",
                remedy="correct port=... of the projection",
            )
        source = self._populations.get(edge.source)
        has_memory = source is not None and not isinstance(source.rule, Wire)
        if edge.delay_ms is not None:
            check_delay_ms(edge, self.is_flow, None if source is None else has_memory)
            return replace(edge, delay=1, port=port, delay_ms=time_constant(edge.delay_ms))
        delay = edge.delay if edge.delay is not None else int(self.is_flow and has_memory)
        if self.is_flow and (delay > 1 or (delay == 1 and not has_memory)):
            raise WiringError(
                given=f"edge {edge.name} with delay={delay} in a flow",
                expected="every value read at the present time, or some ms ago",
                remedy="leave the delay out, or write delay_ms=... for a conduction delay",
            )
        return replace(edge, delay=delay, port=port)

    def order_of(self, edges: Sequence[Projection]) -> tuple[str, ...]:
        """Return the populations, each after the sources of these edges to it."""
        before: dict[str, list[str]] = {name: [] for name in self._populations}
        for edge in edges:
            if edge.source in self._populations:
                before[edge.target].append(edge.source)
        return topological_order(list(self._populations), before)

    # ------------------------------------------------------------------ parts

    @property
    def populations(self) -> dict[str, Population]:
        """The populations by name, with the rules that are in `rules` now."""
        found = {}
        for name, population in self._populations.items():
            rule = cast(Rule, self.rules[name])
            found[name] = population if population.rule is rule else replace(population, rule=rule)
        return found

    @property
    def projections(self) -> tuple[Projection, ...]:
        """The edges, with the transforms and delays that are in `transforms` and `delays` now."""
        found = []
        for edge in self._edges:
            transform = self.transforms[edge.key]
            delay = self.delays[edge.key] if edge.delay_ms is not None else None
            if edge.transform is not transform or edge.delay_ms is not delay:
                edge = replace(edge, transform=transform, delay_ms=cast(TimeConstant, delay))
            found.append(edge)
        return tuple(found)

    @property
    def is_as_built(self) -> bool:
        """Whether all modules are those that were checked, none replaced since."""
        rules = all(p.rule is self.rules[name] for name, p in self._populations.items())
        return rules and all(edge is other for edge, other in zip(self._edges, self.projections, strict=True))

    @property
    def incoming(self) -> dict[str, tuple[Projection, ...]]:
        """Population -> the edges to it."""
        found: dict[str, list[Projection]] = {name: [] for name in self._populations}
        for edge in self.projections:
            found[edge.target].append(edge)
        return {name: tuple(edges) for name, edges in found.items()}

    @property
    def flows(self) -> dict[str, Flow]:
        """The rules of the populations that flow."""
        return {name: rule for name, rule in self.rules.items() if isinstance(rule, Flow)}

    @property
    def errors(self) -> tuple[str, ...]:
        """Populations that are prediction errors."""
        return tuple(name for name, rule in self.rules.items() if isinstance(_bare(rule), ErrorUnit))

    @property
    def predicted(self) -> dict[str, str]:
        """Prediction error -> the population (or input) it is the error about."""
        incoming = self.incoming
        return {name: edge.source for name in self.errors for edge in incoming[name] if edge.port == "target"}

    @property
    def step_delays(self) -> dict[str, int]:
        """Source -> the longest delay in steps with which edges of a discrete network read it, where that is not 0."""
        longest: dict[str, int] = {}
        for edge in self._edges:
            if not self.is_flow and edge.delay:
                longest[edge.source] = max(longest.get(edge.source, 0), edge.delay)
        return longest

    @property
    def conduction_delays(self) -> dict[str, tuple[TimeConstant, ...]]:
        """Source -> the delays in ms with which edges of a flow read it."""
        found: dict[str, tuple[TimeConstant, ...]] = {}
        for edge in self.projections:
            if isinstance(edge.delay_ms, TimeConstant):
                found[edge.source] = (*found.get(edge.source, ()), edge.delay_ms)
        return found

    # ------------------------------------------------------------------ what follows

    @property
    def arrivals(self) -> dict[str, float]:
        """Population -> when an onset of the inputs first reaches it: the shortest path of delays.

        In steps for a discrete network (0: in the first step), in ms for a flow. Infinite where nothing arrives. Edges
        lesioned for good do not count.
        """
        early = tuple(self.initialiser.populations) if self.initialiser else ()
        return arrivals(tuple(self.inputs), self.populations, self.projections, self.is_flow, early)

    @property
    def parameter_count(self) -> int:
        """How many numbers the network learns, shared ones counted once."""
        return sum(parameter.numel() for parameter in self.parameters())

    def shape(self, name: str) -> Shape:
        """Return (channel, height, width) of an input or population. Raises WiringError for an unknown name."""
        if name not in self.shapes.nodes:
            raise WiringError(
                given=f"the shape of {name!r}",
                expected=f"an input or population of {self.name!r}: {', '.join(self.shapes.nodes)}",
                remedy="correct the name; net.describe() lists them",
            )
        return self.shapes.nodes[name]

    def time_of(self, name: str, step: int) -> float:
        """Return how many ms after the onset of the image step 0, 1, ... stands for in a population.

        (step + 1) step_ms, the end of the step; or by `timing`, counted from the beginning of its window. For discrete
        networks. Raises WiringError for a step outside of that window.
        """
        if name not in self.timing:
            return (step + 1) * self.step_ms
        begin, end = self._populations[name].active or (0, math.inf)
        if not begin <= step < end:
            raise WiringError(
                given=f"step {step} of {name!r}",
                expected=f"one in which it is active: from {begin:g} and before {end:g}",
                remedy="its value outside them is one that it holds",
            )
        return self.timing[name][0] + (step - begin) * self.timing[name][1]


def _bare(rule: nn.Module) -> nn.Module:
    return rule.rule if isinstance(rule, Relaxed) else rule
