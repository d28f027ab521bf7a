"""Populations joined by projections: what a network is, in which order it is evaluated, how it is read and drawn."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor, nn

from pcsim.network import variants
from pcsim.core.clock import Clock
from pcsim.connections import Phased
from pcsim.network.describe import describe
from pcsim.core.exceptions import WiringError
from pcsim.network.history import recalled, remembered, steps_for
from pcsim.network.parts import Population, Projection, Window
from pcsim.rules.base import Flow, Map, Own, Relaxed, Rule, Wire, combine
from pcsim.rules.predictive import ErrorUnit
from pcsim.rules.time_constants import TimeConstant, time_constant
from pcsim.core.state import Shape, State, laid_out, zeros
from pcsim.network.variants import Taus
from pcsim.network.validate import (
    Shapes,
    all_flows,
    arrivals,
    check_delay_ms,
    check_names,
    check_windows,
    infer_shapes,
    topological_order,
)

Advance = Callable[[Any, Own, dict[str, Tensor]], Own]


class Network(nn.Module):
    """Populations and projections, validated, with shapes inferred and the order of evaluation derived.

    inputs       shape (channel, height, width) of every stimulus, by name
    readout      the population whose value answers the task, if there is one
    steps        for a discrete model, how many steps its paper runs it for
    step_ms      how many ms of neural time a step stands for; in a relaxed network, after which its per-step
                 transforms move on
    timing       population -> (ms after the onset, ms per step) where its steps do not follow the common clock; see
                 `time_of`
    initialiser  a network run for one step on the first input, whose values populations of the same name
                 start from; it usually shares modules with this one

    Raises WiringError for duplicate or unknown names, shapes that do not fit, a zero-delay cycle, flows mixed
    with maps, delays in steps in a flow and delays in ms in a discrete network.
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
        initialiser: Network | None = None,
    ) -> None:
        super().__init__()
        self.name, self.readout, self.steps, self.step_ms = name, readout, steps, step_ms
        self.timing = dict(timing or {})
        self.inputs = dict(inputs)
        self.populations = {population.name: population for population in populations}
        check_names(self.inputs, populations, projections, readout)
        self.is_flow = all_flows(populations)
        self.projections = tuple(self._resolved(edge) for edge in projections)
        self.rules = nn.ModuleDict({population.name: population.rule for population in populations})
        self.transforms = nn.ModuleDict({edge.key: edge.transform for edge in self.projections})
        delays = {edge.key: edge.delay_ms for edge in self.projections if isinstance(edge.delay_ms, nn.Module)}
        self.delays = nn.ModuleDict(delays)
        self.initialiser = initialiser
        declared = {p.name: tuple(p.shape) for p in populations if p.shape is not None}
        self.shapes: Shapes = infer_shapes(self.inputs, self._rules, declared, self.projections)
        self.order = self._order([edge for edge in self.projections if edge.delay == 0])
        self.incoming = {n: tuple(e for e in self.projections if e.target == n) for n in self.populations}
        check_windows(populations, self.shapes.variables)
        for parameter in self.parameters():
            if parameter.dim() == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)

    # ------------------------------------------------------------------ structure

    @property
    def _rules(self) -> dict[str, Rule]:
        return {name: population.rule for name, population in self.populations.items()}

    def _resolved(self, edge: Projection) -> Projection:
        """The edge with its port and delay made explicit."""
        rule = self.populations[edge.target].rule
        port = edge.port or (edge.kind if edge.kind in rule.ports else rule.ports[0])
        if port not in rule.ports:
            raise WiringError(
                given=f"edge {edge.name} to port {port!r}",
                expected=f"one of the ports of {type(rule).__name__}: {', '.join(rule.ports)}",
                remedy="correct port=... of the projection",
            )
        source = self.populations.get(edge.source)
        has_memory = source is not None and not isinstance(source.rule, Wire)
        if edge.delay_ms is not None:
            check_delay_ms(edge, self.is_flow, None if source is None else has_memory)
            return replace(edge, delay=1, port=port, delay_ms=time_constant(edge.delay_ms))
        delay = edge.delay if edge.delay is not None else int(self.is_flow and has_memory)
        if self.is_flow and (delay > 1 or (delay == 1 and source is None)):
            raise WiringError(
                given=f"edge {edge.name} with delay={delay} in a flow",
                expected="every value read at the present time, or some ms ago",
                remedy="leave the delay out, or write delay_ms=... for a conduction delay",
            )
        return replace(edge, delay=delay, port=port)

    def _order(self, edges: Sequence[Projection]) -> tuple[str, ...]:
        """The populations, each after the sources of these edges to it."""
        before: dict[str, list[str]] = {name: [] for name in self.populations}
        for edge in edges:
            if edge.source in self.populations:
                before[edge.target].append(edge.source)
        return topological_order(list(self.populations), before)

    @cached_property
    def wires(self) -> tuple[str, ...]:
        """Populations without memory."""
        return tuple(name for name, rule in self._rules.items() if isinstance(rule, Wire))

    @cached_property
    def memories(self) -> tuple[str, ...]:
        """Populations with memory."""
        return tuple(name for name in self.populations if name not in self.wires)

    @property
    def flows(self) -> dict[str, Flow]:
        """The rules of the populations that flow."""
        return {name: rule for name, rule in self._rules.items() if isinstance(rule, Flow)}

    @property
    def errors(self) -> tuple[str, ...]:
        """Populations that are prediction errors."""
        return tuple(name for name, rule in self._rules.items() if isinstance(_bare(rule), ErrorUnit))

    @property
    def predicted(self) -> dict[str, str]:
        """Prediction error -> the population (or input) it is the error about."""
        edges = ((name, edge) for name in self.errors for edge in self.incoming[name] if edge.port == "target")
        return {name: edge.source for name, edge in edges}

    @cached_property
    def step_delays(self) -> dict[str, int]:
        """Source -> the longest delay in steps with which edges read it, where that is not 0."""
        longest: dict[str, int] = {}
        for edge in self.projections:
            if edge.delay_ms is None:
                longest[edge.source] = max(longest.get(edge.source, 0), edge.delay or 0)
        return {name: delay for name, delay in longest.items() if delay > 0}

    @cached_property
    def conduction_delays(self) -> dict[str, tuple[TimeConstant, ...]]:
        """Source -> the delays in ms with which edges of a flow read it."""
        found: dict[str, tuple[TimeConstant, ...]] = {}
        for edge in self.projections:
            if isinstance(edge.delay_ms, TimeConstant):
                found[edge.source] = (*found.get(edge.source, ()), edge.delay_ms)
        return found

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
        """(channel, height, width) of an input or population."""
        return self.shapes.nodes[name]

    def time_of(self, name: str, step: int) -> float:
        """How many ms after the onset of the image step 0, 1, ... of a discrete network stands for in that population.

        (step + 1) step_ms, the end of the step; or by `timing`, counted from the beginning of its window.
        """
        if name not in self.timing:
            return (step + 1) * self.step_ms
        begin, end = self.populations[name].active or (0, math.inf)
        if not begin <= step < end:
            raise WiringError(
                given=f"step {step} of {name!r}",
                expected=f"one in which it is active: from {begin:g} and before {end:g}",
                remedy="its value outside them is one that it holds",
            )
        return self.timing[name][0] + (step - begin) * self.timing[name][1]

    # ------------------------------------------------------------------ dynamics

    def initial_state(self, inputs: State) -> State:
        """What the network starts from: zeros, or what its initialiser says of the first `inputs` (batch, ...)."""
        like = next(iter(inputs.values()))
        state: State = {}
        for name in self.memories:
            for variable, shape in self.shapes.variables[name].items():
                state[_key(name, variable)] = zeros(shape, like)
        if not self.is_flow:
            for name, delay in self.step_delays.items():
                state.setdefault(name, zeros(self.shapes.nodes[name], like))
                state |= {f"{name}@{n}": zeros(self.shapes.nodes[name], like) for n in range(2, delay + 1)}
        if self.initialiser is not None:
            start = self.initialiser.sweep(Clock(1.0), self.initialiser.initial_state(inputs), inputs, next_value)
            state |= {name: value for name, value in start.items() if name in state}
        return state

    def held(self, inputs: State) -> State:
        """`inputs`, and under the name of every edge that reads one at once what it delivers.

        An image that is held is transformed once, not at every step.
        """
        edges = (edge for edge in self.projections if edge.source in inputs and edge.delay == 0)
        lasting = (edge for edge in edges if not isinstance(edge.transform, Phased))
        # torch lays out what a convolution makes of one channel as if nobody cared; sums would inherit that.
        return inputs | {edge.name: laid_out(edge.deliver(inputs[edge.source])) for edge in lasting}

    def sweep(self, clock: Clock, state: State, inputs: State, advance: Advance) -> State:
        """One step: every population once, in the derived order; `advance` says how a memory takes its next value.

        Edges of delay 0 read what this sweep has just made, others the `state` before it. Returns the value of
        every population (and what its delays still need).
        """
        values: State = dict(inputs)
        for name in self.order:
            rule = self.populations[name].rule
            if not self._is_active(name, clock):
                held = self.shapes.variables[name]
                like = next(iter(inputs.values()))
                values |= {k: state[k] if k in state else zeros(s, like) for k, s in _named(name, held).items()}
                continue
            ports = self._ports(name, clock, values, state)
            if isinstance(rule, Wire):
                values[name] = rule(**ports)
            else:
                values |= _named(name, advance(rule, self._own(name, state), ports))
        for name, delay in self.step_delays.items():
            values |= {f"{name}@{n}": state[name if n == 2 else f"{name}@{n - 1}"] for n in range(2, delay + 1)}
        return {name: value for name, value in values.items() if name not in inputs or name in self.step_delays}

    def derivative(self, clock: Clock, state: State, inputs: State) -> State:
        """d state / dt per ms of a flow, every memory read at the present time."""
        active = [name for name in self.memories if self._is_active(name, clock)]
        values = self._at_present(clock, state, inputs, [e.source for name in active for e in self.incoming[name]])
        rates: State = {}
        for name in self.memories:
            if name in active:
                ports = self._ports(name, clock, values, values)
                rates |= _named(name, _rate(self.populations[name].rule, self._own(name, state), ports))
            else:
                variables = _named(name, self.shapes.variables[name])
                rates |= {key: torch.zeros_like(state[key]) for key in variables}
        return rates

    def observe(self, clock: Clock, state: State, inputs: State, names: Sequence[str]) -> State:
        """The values of `names` (inputs included) that belong to a state; a flow's wires are computed."""
        values = inputs | state
        if not all(name in values for name in names):
            values = self._at_present(clock, self._remembering(clock, state, inputs), inputs, names)
        return {name: values[name] for name in names}

    def respond(self, wire: str, clock: Clock, values: State) -> Tensor:
        """The value of one wire, from `values` of what it reads."""
        return self.populations[wire].rule(**self._ports(wire, clock, values, values))

    def opened(self, clock: Clock, state: State, inputs: State) -> State:
        """The state from which a step starts: the past added that conduction delays read, and what is copied where a
        window opens.
        """
        state = self._remembering(clock, state, inputs)
        for name, population in self.populations.items():
            if population.copies and population.active and self._windows(clock).begins(population.active[0]):
                source = self.observe(clock, state, inputs, [population.copies])
                keys = {v: (_key(name, v), _key(population.copies, v)) for v in self.shapes.variables[name]}
                state = state | {own: (state | source)[other] for own, other in keys.values()}
        return state

    def _remembering(self, clock: Clock, state: State, inputs: State) -> State:
        delays = self.conduction_delays.items()
        steps = {name: steps_for(max(delay.largest() for delay in those), clock.dt) for name, those in delays}
        return remembered(state, inputs | state, steps) if steps else state

    def _windows(self, clock: Clock) -> Clock:
        """The clock in which activity windows are told: ms in a flow, steps in a discrete network."""
        return clock if self.is_flow else Clock(1.0, clock.step)

    def _is_active(self, name: str, clock: Clock) -> bool:
        active = self.populations[name].active
        return active is None or self._windows(clock).within(active)

    def _at_present(self, clock: Clock, state: State, inputs: State, names: Sequence[str]) -> State:
        values = inputs | state
        needed = self._upstream_wires(tuple(names))
        for name in self._wire_order:
            if name in needed:
                values[name] = self.respond(name, clock, values)
        return values

    @cached_property
    def _wire_order(self) -> tuple[str, ...]:
        """The wires in the order in which a flow evaluates them at one instant, all memories given."""
        order = self._order([edge for edge in self.projections if edge.source in self.wires])
        return tuple(name for name in order if name in self.wires)

    def _upstream_wires(self, names: tuple[str, ...]) -> set[str]:
        needed: set[str] = set()
        waiting = list(names)
        while waiting:
            name = waiting.pop()
            if name in self.wires and name not in needed:
                needed.add(name)
                waiting += [edge.source for edge in self.incoming[name]]
        return needed

    def _own(self, name: str, state: State) -> Own:
        variables = self.shapes.variables[name]
        if len(variables) == 1:
            return state[name]
        return {variable: state[_key(name, variable)] for variable in variables}

    def _ports(self, name: str, clock: Clock, fresh: State, past: State) -> dict[str, Tensor]:
        """The sums at the ports of a population: zeros where nothing arrives."""
        sums: dict[str, Tensor] = {}
        for edge in self.incoming[name]:
            value = self._read(edge, clock, fresh, past)
            if value is not None:
                port = edge.port or ""
                sums[port] = sums[port] + value if port in sums else value
        for port, shape in self.shapes.ports[name].items():
            if port not in sums:
                sums[port] = zeros(shape, next(fresh[name] for name in self.inputs))
        return sums

    def _read(self, edge: Projection, clock: Clock, fresh: State, past: State) -> Tensor | None:
        delay = edge.delay or 0
        is_open = edge.active is None or self._windows(clock).within(edge.active)
        if not is_open or edge.is_silent(clock) or self._is_absent(edge, clock):
            return None
        if edge.name in fresh:
            return fresh[edge.name]
        if isinstance(edge.delay_ms, TimeConstant):
            value = recalled(past, edge.source, edge.delay_ms(), clock, held=edge.source in self.inputs)
            if value is None and edge.before == "absent":
                return None
            value = torch.zeros_like(past[f"{edge.source}@0"]) if value is None else value
        else:
            value = fresh[edge.source] if delay == 0 else past[edge.source if delay == 1 else f"{edge.source}@{delay}"]
        return edge.deliver(value, *self._phase(edge, clock))

    def _is_absent(self, edge: Projection, clock: Clock) -> bool:
        """Whether the source of a delayed edge has not spoken yet; an initialiser speaks before the first step."""
        if self.is_flow or not edge.delay or edge.before != "absent":
            return False
        early = self.initialiser is not None and edge.source in self.initialiser.populations
        return clock.step < edge.delay - early

    def _phase(self, edge: Projection, clock: Clock) -> tuple[int, ...]:
        """(how many steps its window has been open,) for a transform that differs between steps."""
        if not isinstance(edge.transform, Phased):
            return ()
        span = self.step_ms if self.is_flow else 1.0
        return (self._windows(clock).count(edge.active[0] if edge.active else 0.0, span),)

    def situation(self, clock: Clock) -> tuple[object, ...]:
        """All that a step depends on besides tensors: what is open, silent, absent, and the phase of each transform.

        Empty for a network that does the same in every step.
        """
        windows = self._windows(clock)
        told: list[object] = []
        for population in self.populations.values():
            if population.active:
                told += [windows.within(population.active), windows.begins(population.active[0])]
        for edge in self.projections:
            told += [clock.within(edge.silent)] if edge.silent else []
            told += [windows.within(edge.active)] if edge.active else []
            told += [self._is_absent(edge, clock)] if edge.delay and not self.is_flow else []
            told += self._phase(edge, clock)
        for delays in self.conduction_delays.values():
            longest = max(steps_for(delay.largest(), clock.dt) for delay in delays)
            told.append(min(clock.step, longest + 1))
        return tuple(told)

    # ------------------------------------------------------------------ variants

    def relaxed(self, tau: Taus, step: float | None = None) -> Network:
        """The same network in continuous time: tau dh/dt = F(h, u) - h for every population with memory.

        A network of flows keeps its equations and gets other time constants. Parameters are shared either way.

        tau in ms: one number, one per population with memory in their order, or a dict by name (in which a value
        may also be a `LearnableTau` or one number per channel). A wire that some edge reads with a delay has a
        past and so becomes a memory too. `step` is how many ms one step of the discrete network stands for, in its
        windows, per-step transforms and delays of more than a step; by default tau, if that is one number.

        A delay of 0 between two memories is a statement about one step and has no meaning at an instant: the
        flow reads every memory at the present time, whatever the unrolling, and only one-stage solvers (Euler,
        ExponentialEuler), which advance population after population in the derived order, can tell unrollings
        apart. With dt = tau, Euler is the published map exactly.
        """
        return variants.relaxed(self, tau, step)

    def clamped(self, *names: str) -> Network:
        """The same network with populations held at what they are shown: they become inputs.

        Edges to them fall away; edges from them read what is shown, at once. Parameters are shared.
        """
        return variants.clamped(self, names)

    def without(self, *edges: str, during: Window | None = None) -> Network:
        """The same network with edges lesioned: by kind ("top_down"), or by name ("v2->v1").

        For good, or in the window `during=(from, to)` in ms (an edge has one window: the last given). Parameters
        are shared and keep their names, so a lesion costs nothing and trained weights still load.
        """
        return variants.without(self, edges, during)

    def rounded(self, precision: torch.dtype = torch.bfloat16) -> Network:
        """The same network whose edges compute convolutions and matrix products in bfloat16 or float16.

        Sums, rules, states and what is inside of rules stay as they are; double precision is not rounded. Parameters
        are shared. Faster for large networks where the processor has such products, and right to two or three digits.
        """
        return variants.rounded(self, precision)

    @property
    def change_times(self) -> tuple[float, ...]:
        """Times in ms at which a lesion begins or ends, and in a flow an activity window too."""
        ends = {end for edge in self.projections if edge.silent for end in edge.silent}
        if self.is_flow:
            windows = [p.active for p in self.populations.values()] + [edge.active for edge in self.projections]
            ends |= {end for window in windows for end in window or ()} - {0.0}
        return tuple(sorted(end for end in ends if math.isfinite(end)))

    # ------------------------------------------------------------------ description

    def describe(self) -> str:
        """The wiring as a table: node | rule | shape | what it reads, in the order of evaluation."""
        return describe(self)


def next_value(rule: Map | Flow, own: Own, ports: dict[str, Tensor]) -> Own:
    """How a discrete network takes its next value: as its map says."""
    return rule(own, **ports)


def _rate(rule: Rule, own: Own, ports: dict[str, Tensor]) -> Own:
    """d own / dt, per ms."""
    flow = cast(Flow, rule)
    return combine(lambda push, now: push / flow.tau.for_(now), flow(own, **ports), own)


def _key(name: str, variable: str) -> str:
    return name if variable == "value" else f"{name}.{variable}"


def _named(name: str, own: object) -> dict:
    return {_key(name, variable): value for variable, value in own.items()} if isinstance(own, dict) else {name: own}


def _bare(rule: Rule) -> Rule:
    return rule.rule if isinstance(rule, Relaxed) else rule
