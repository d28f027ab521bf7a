"""The structure of a network (populations joined by projections), and the properties derived from it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, cast

from torch import nn

from pcsim.core.checks import Positive, checked
from pcsim.core.exceptions import WiringError
from pcsim.core.state import Shape
from pcsim.network.order import evaluation_order
from pcsim.network.parts import Population, Projection
from pcsim.network.recipe import Recipe
from pcsim.network.shapes import Shapes, infer_shapes
from pcsim.network.validate import all_flows, check_delay_ms, check_names, check_taus, check_windows
from pcsim.network.wiring import Wiring
from pcsim.rules.base import Flow, Rule, Wire
from pcsim.rules.time_constants import TimeConstant, time_constant


@checked(WiringError)
class Graph(nn.Module):
    """Validated populations and projections, with inferred shapes and evaluation order.

    Modules are stored only in `rules`, `transforms` and `delays`; `populations` and `projections` always contain the
    current modules.
    """

    # Set by pcsim.models, which imports this package.
    construct: ClassVar[Callable[..., Any] | None] = None
    recipe: Recipe | None = None
    """the calls that built the network, for registered models and their variants"""

    def __init__(
        self,
        inputs: Mapping[str, Shape],
        populations: Sequence[Population],
        projections: Sequence[Projection],
        *,
        readout: str | None = None,
        steps: int | None = None,
        step_ms: Positive = 10.0,
        timing: Mapping[str, tuple[float, float]] | None = None,
        name: str = "network",
        initialiser: Graph | None = None,
    ) -> None:
        super().__init__()
        self.name, self.readout, self.steps, self.step_ms = name, readout, steps, step_ms
        self.timing = dict(timing or {})
        self.inputs = dict(inputs)
        check_names(self.inputs, populations, projections, readout)
        self.is_flow = all_flows(populations)
        self._populations = {population.name: population for population in populations}
        self.rules = nn.ModuleDict({population.name: population.rule for population in populations})
        resolved = [self._resolved(edge) for edge in projections]
        self._edges = {edge.key: edge for edge in resolved}
        self.transforms = nn.ModuleDict({key: edge.transform for key, edge in self._edges.items()})
        self.delays = nn.ModuleDict(
            {k: e.delay_ms for k, e in self._edges.items() if isinstance(e.delay_ms, nn.Module)}
        )
        self.initialiser = initialiser
        self.wires = tuple(population.name for population in populations if isinstance(population.rule, Wire))
        self.memories = tuple(population.name for population in populations if population.name not in self.wires)
        declared = {p.name: tuple(p.shape) for p in populations if p.shape is not None}
        rules = {population.name: population.rule for population in populations}
        self.shapes: Shapes = infer_shapes(self.inputs, rules, declared, resolved)
        self.order = evaluation_order(list(self._populations), (edge for edge in resolved if edge.delay == 0))
        check_taus(populations, resolved, self.shapes.variables)
        check_windows(populations, resolved, self.shapes.variables, self.is_flow)

    def _resolved(self, edge: Projection) -> Projection:
        """Return the edge with an explicit port and delay."""
        rule = self._populations[edge.target].rule
        is_modulatory = edge.kind == "modulatory"
        wanted = "gain" if is_modulatory else edge.kind
        port = edge.port or (wanted if is_modulatory or wanted in rule.ports else rule.ports[0])
        if port not in rule.ports:
            raise WiringError(
                given=f"edge {edge.name} to port {port!r}",
                expected=f"one of the ports of {type(rule).__name__}: {', '.join(rule.ports)}",
                remedy=f"give {edge.target!r} the rule rules.modulated(rule), which has the port 'gain'"
                if is_modulatory
                else f"pass port={rule.ports[0]!r} to the projection",
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
                expected="no delay in steps, because delays in a flow are specified in ms",
                remedy="omit delay, or pass delay_ms=10.0 for a conduction delay of 10 ms",
            )
        return replace(edge, delay=delay, port=port)

    # ------------------------------------------------------------------ parts

    @property
    def populations(self) -> dict[str, Population]:
        """The populations by name, with their current rules from `rules`."""
        rules = self.rules._modules
        found = {}
        for name, population in self._populations.items():
            rule = cast(Rule, rules[name])
            found[name] = population if population.rule is rule else replace(population, rule=rule)
        return found

    @property
    def projections(self) -> tuple[Projection, ...]:
        """The edges, with their current modules from `transforms` and `delays`."""
        transforms, delays = self.transforms._modules, self.delays._modules
        found = []
        for key, edge in self._edges.items():
            transform, delay = transforms[key], delays[key] if edge.delay_ms is not None else None
            if edge.transform is not transform or edge.delay_ms is not delay:
                edge = replace(edge, transform=transform, delay_ms=cast(TimeConstant, delay))
            found.append(edge)
        return tuple(found)

    @property
    def is_as_built(self) -> bool:
        """True if no module has been replaced since the network was checked."""
        rules = self.rules._modules
        same = all(population.rule is rules[name] for name, population in self._populations.items())
        return same and all(e is other for e, other in zip(self._edges.values(), self.projections, strict=True))

    def wiring(self) -> Wiring:
        """Return the current wiring as plain data."""
        return Wiring(
            self,
            self.name,
            self.readout,
            self.steps,
            self.step_ms,
            self.inputs,
            self.is_flow,
            self.shapes,
            self.wires,
            self.memories,
            self.order,
            self.populations,
            self.projections,
            self.initialiser.wiring() if self.initialiser is not None else None,
        )

    # ------------------------------------------------------------------ derived

    @property
    def incoming(self) -> dict[str, tuple[Projection, ...]]:
        """The incoming edges of each population, by name."""
        return self.wiring().incoming

    @property
    def flows(self) -> dict[str, Flow]:
        """The flow rules, by population name."""
        return self.wiring().flows

    @property
    def errors(self) -> tuple[str, ...]:
        """The names of the populations that are prediction errors."""
        return self.wiring().errors

    @property
    def predicted(self) -> dict[str, str]:
        """The target (a population or an input) of each prediction error, by error name."""
        return self.wiring().predicted

    @property
    def step_delays(self) -> dict[str, int]:
        """The longest nonzero delay, in steps, among the edges from each source in a discrete network."""
        return self.wiring().step_delays

    @property
    def conduction_delays(self) -> dict[str, tuple[TimeConstant, ...]]:
        """The delays, in ms, of the edges from each source in a flow."""
        return self.wiring().conduction_delays

    @property
    def arrivals(self) -> Mapping[str, float]:
        """The time at which an input onset first reaches each population, along the path with the shortest delay.

        Times are in steps for a discrete network (0 is the first step) and in ms for a flow. A time is infinite if the
        onset never arrives. Edges with a permanent lesion are ignored.
        """
        return self.wiring().arrivals

    @property
    def parameter_count(self) -> int:
        """The number of parameters, counting shared parameters once."""
        return sum(parameter.numel() for parameter in self.parameters())

    @checked(WiringError)
    def shape(self, name: str) -> Shape:
        """Return the shape (channel, height, width) of an input or population. Raises WiringError for unknown names."""
        if name not in self.shapes.nodes:
            raise WiringError(
                given=f"the shape of {name!r}",
                expected=f"an input or population of {self.name!r}: {', '.join(self.shapes.nodes)}",
                remedy=f"call net.shape({next(iter(self.shapes.nodes), 'name')!r}); net.describe() lists all names",
            )
        return self.shapes.nodes[name]

    @checked(WiringError)
    def time_of(self, name: str, step: int) -> float:
        """Return the time in ms after image onset that a step (0, 1, ...) of a population represents.

        By default this is the end of the step, (step + 1) step_ms. For populations in `timing`, it is computed from
        their entry, with steps counted from the start of the population's window. Only discrete networks
        have such times. Raises WiringError for a step outside that window.
        """
        if name not in self.timing:
            return (step + 1) * self.step_ms
        begin, end = self._populations[name].active or (0, math.inf)
        if not begin <= step < end:
            raise WiringError(
                given=f"step {step} of {name!r}",
                expected=f"a step in which the population is active: {begin:g} <= step < {end:g}",
                remedy=f"pass step={begin:g}, for example; outside the window, the population's value is constant",
            )
        return self.timing[name][0] + (step - begin) * self.timing[name][1]
