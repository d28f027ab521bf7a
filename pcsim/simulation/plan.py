"""A plan: the computations of a network in one step of one regime, as a flat list of nodes.

    plan = Plan(network, regime, solver, wanted)    built once for each regime
    precomputed = plan.precompute(inputs)           computed again only if the inputs change
    state = plan.step(precomputed, state)           a pure function that preserves keys, shapes and types

Unused wires are omitted. The source of every value is determined when the list is built, so that `evaluate` is a single
loop over the list.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from pcsim.core.exceptions import RecordError
from pcsim.core.state import Shape, State, laid_out, variable_key, zeros
from pcsim.network.order import evaluation_order
from pcsim.network.parts import Projection
from pcsim.network.wiring import Wiring
from pcsim.rules.base import Flow, Leaky, Map, Rule, Wire
from pcsim.rules.time_constants import TimeConstant
from pcsim.simulation.layers import Layers
from pcsim.simulation.node import Deliver, Node, Read
from pcsim.simulation.past import FRESH, PAST, PRECOMPUTED, past_lengths, recall, remembered_wires
from pcsim.simulation.regime import Regime
from pcsim.solvers.base import Solver

_NO_CHANGE = nullcontext()


class Plan:
    """The computations of `network` in one step of `regime` under `solver`.

    wanted  populations, "population.variable" and "population.gate" to return from `step_and_observe` and `observe`
    amp     compute type of edges without a `compute_dtype`, from an enclosing torch.autocast
    layers  cache of module functions, which plans can share
    """

    def __init__(
        self,
        network: Wiring,
        regime: Regime,
        solver: Solver,
        wanted: Sequence[str] = (),
        amp: torch.dtype | None = None,
        layers: Layers | None = None,
    ) -> None:
        self._layers = layers or Layers()
        self.network, self.regime, self.solver, self.wanted, self._amp = network, regime, solver, tuple(wanted), amp
        self._device = network.device
        self.is_tried = False
        self._populations, self._incoming = network.populations, network.incoming
        self._constant = {edge.name: edge for edge in network.projections if self._is_precomputed(edge)}
        self._zeros: dict[str, Shape] = {}
        self._taus: dict[str, tuple[TimeConstant, Shape]] = {}
        active = [name for name in network.memories if name not in regime.resting]
        self.flow_keys = tuple(key for name in active for key in self._variables(name).values())
        self._carry = self._carried_from()
        self._sources = {name: self._populations[name].starts_from or "" for name in sorted(regime.opening)}
        self._opening: list[Node] = []
        if network.is_flow:
            self._opening = self._present([source for source in self._sources.values() if source in network.wires])
            self._observed = self._present(self.wanted)
        # Build all lists before the first step, so that `precompute` knows all the values they need.
        self._rates = {fraction: self._lowered_rates(fraction) for fraction in solver.fractions}
        if solver.is_one_stage:
            self._unrecorded = self._step_nodes(())
        if not network.is_flow:
            self._full = self._step_nodes(self.wanted)

    # ------------------------------------------------------------------ running

    def in_own_types(self) -> AbstractContextManager[object]:
        """Return a context that disables an enclosing torch.autocast, because edges apply its type themselves."""
        is_ambient = torch.is_autocast_enabled(self._device)
        return torch.autocast(self._device, enabled=False) if is_ambient else _NO_CHANGE

    def precompute(self, inputs: State, known: State | None = None) -> State:
        """Return `inputs` and all values that depend only on them and on the parameters and buffers of the network.

        A static image is thus transformed once instead of at every step, and time constants are evaluated once. `known`
        contains values already precomputed from the same inputs by another plan of this network.
        """
        precomputed, known = dict(inputs), known or {}
        like = next(iter(inputs.values()))
        for name, edge in self._constant.items():
            # The output of a convolution with one channel has an ambiguous layout, which sums inherit.
            precomputed[name] = known[name] if name in known else laid_out(self._deliver(edge)(inputs[edge.source]))
        for key, shape in self._zeros.items():
            precomputed[key] = known[key] if key in known else zeros(shape, like)
        for key, (tau, shape) in self._taus.items():
            precomputed[key] = known[key] if key in known else self._ratio(tau, like.new_empty((len(like), *shape)))
        return precomputed

    def _ratio(self, tau: TimeConstant, like: Tensor) -> Any:
        """Return the time constant, or the ratio of a one-stage solver, reshaped to broadcast against `like`."""
        value = tau.for_(like)
        return self.solver.ratio(value) if self.solver.is_one_stage else value

    def evaluate(self, nodes: list[Node], precomputed: State, state: State, known: State | None = None) -> State:
        """Evaluate a list of nodes and return the values by key. The values of `known` wires are not recomputed."""
        fresh: State = dict(known) if known else {}
        tables = (fresh, state, precomputed)
        for node in nodes:
            ports: dict[str, Any] = {}
            if node.single is not None:
                for port, table, key, deliver in node.single:
                    value: Any = tables[table] if key is None else tables[table][key]
                    ports[port] = value if deliver is None else deliver(value)
            else:
                for port, reads in node.ports:
                    total = None
                    for table, key, deliver in reads:
                        value = tables[table] if key is None else tables[table][key]
                        if deliver is not None:
                            value = deliver(value)
                        total = value if total is None else total + value
                    ports[port] = total
            if node.reads_own:
                variables = node.variables
                own = state[node.name] if len(variables) == 1 else {v: state[key] for v, key in variables.items()}
                if node.gates is not None:
                    fresh |= {f"{node.name}.{gate}": value for gate, value in node.gates(own, **ports).items()}
                if node.respond is None:
                    continue
                made = node.respond(own, **ports)
            elif node.respond is not None:
                made = node.respond(**ports)
                if node.gates is not None:
                    fresh |= {f"{node.name}.{gate}": value for gate, value in node.gates(None, **ports).items()}
            update = node.update
            if isinstance(made, dict):
                for variable, key in node.variables.items():
                    value = made[variable]
                    fresh[key] = (
                        value if update is None else update(state[key], value, precomputed[node.ratios[variable]])
                    )
            else:
                fresh[node.name] = (
                    made if update is None else update(state[node.name], made, precomputed[node.ratios["value"]])
                )
        return fresh

    def step(self, precomputed: State, state: State) -> State:
        """Return the state one step later."""
        return self.stepper()(precomputed, state)

    def stepper(self) -> Callable[[State, State], State]:
        """Return the function (precomputed, state) -> state. It is not stored, to avoid a reference cycle."""
        step = self._step_once if self.solver.is_one_stage else partial(self.solver.step, self)
        return partial(self._after_opening, step) if self._sources else step

    def _step_once(self, precomputed: State, state: State) -> State:
        return self.complete(precomputed, state, self.evaluate(self._unrecorded, precomputed, state))

    def step_and_observe(self, precomputed: State, state: State) -> tuple[State, State]:
        """Return the state after a step of a discrete network, and the values of `wanted` that the step computed."""
        if self._sources:
            state = self._opened(precomputed, state)
        fresh = self.evaluate(self._full, precomputed, state)
        after = self.complete(precomputed, state, fresh)
        return after, self._chosen(fresh, after, precomputed)

    def observe(self, precomputed: State, state: State) -> State:
        """Return the values of `wanted` for a state of a flow."""
        fresh = self.evaluate(self._observed, precomputed, state)
        return self._chosen(fresh, state, precomputed)

    def _chosen(self, *tables: State) -> State:
        """Return the values of `wanted`, each from the first table that contains it."""
        found = {}
        for name in self.wanted:
            for table in tables:
                if name in table:
                    found[name] = table[name]
                    break
            else:
                raise RecordError(
                    given=f"a record of {name!r} in a step outside the window of {name.split('.')[0]!r}",
                    expected="steps in which the population is active; its gates are not computed in other steps",
                    remedy="pass Record(at=[...]) with times inside the window",
                )
        return found

    def respond(self, wire: str, precomputed: State, values: State) -> Tensor:
        """Return the value of a `wanted` wire of a flow, given the `values` of its inputs."""
        return self.evaluate([node for node in self._observed if node.name == wire], precomputed, values, values)[wire]

    def complete(self, precomputed: State, state: State, after: State) -> State:
        """Build the state after a step from the newly computed values `after`, and shift the stored past values."""
        tables = (after, state, precomputed)
        return {key: tables[table][source] for key, table, source in self._carry}

    def _after_opening(self, step: Callable[[State, State], State], precomputed: State, state: State) -> State:
        return step(precomputed, self._opened(precomputed, state))

    def _opened(self, precomputed: State, state: State) -> State:
        """Return the state after setting the starting values of populations whose window opens at this step."""
        wires = self.evaluate(self._opening, precomputed, state)
        opened = dict(state)
        for name, source in self._sources.items():
            for variable, key in self._variables(name).items():
                other = variable_key(source, variable)
                opened[key] = wires[other] if other in wires else state[other]
        return opened

    def begin_step(self, state: State) -> State:
        """Return the state from which the stages of a step start, including the values that delayed edges need."""
        return state | {f"{name}@0": state[name] for name in self.network.conduction_delays if name in state}

    def rates(self, fraction: float = 0.0) -> list[Node]:
        """Return the nodes that compute d/dt of every variable of a flow at a fraction of the step."""
        return self._rates[fraction]

    # ------------------------------------------------------------------ lowering

    def _variables(self, name: str) -> dict[str, str]:
        return {variable: variable_key(name, variable) for variable in self.network.shapes.variables[name]}

    def _carried_from(self) -> list[tuple[str, int, str]]:
        """Return (key, table, key in the table) for every tensor in the state after a step."""
        network = self.network
        moved = () if network.is_flow else remembered_wires(network)
        resting = self.regime.resting
        carry = [
            (key, PAST if name in resting else FRESH, key)
            for name in (*network.memories, *moved)
            for key in self._variables(name).values()
        ]
        step_ms = self.solver.step_ms(network)
        for name, count in past_lengths(network, step_ms).items():
            first = (PRECOMPUTED, name) if name in network.inputs else (PAST, name)
            carry += [(f"{name}@{n}", *(first if n == 1 else (PAST, f"{name}@{n - 1}"))) for n in range(1, count + 1)]
        return carry

    def _lowered_rates(self, fraction: float) -> list[Node]:
        active = [name for name in self.network.memories if name not in self.regime.resting]
        nodes = self._present([edge.source for name in active for edge in self._incoming[name]], fraction)
        return nodes + [self._memory(name, fraction, _push, asks_target=False) for name in active]

    def _step_nodes(self, wanted: Sequence[str]) -> list[Node]:
        """Return the nodes of one step in evaluation order: all memories, and the wires that are used."""
        network = self.network
        needed = self._upstream(
            [
                *(name for name in network.memories if name not in self.regime.resting),
                *(name.split(".")[0] for name in wanted),
                *(() if network.is_flow else remembered_wires(network)),
            ],
            lambda edge: edge.delay == 0,
        )
        nodes = []
        for name in network.order:
            rule = self._populations[name].rule
            if name in self.regime.resting or name not in needed:
                continue
            if isinstance(rule, Wire):
                nodes.append(self._wire(name, None))
            else:
                nodes.append(self._memory(name, None, self.solver.update(rule), asks_target=True))
            gates = [w.partition(".")[2] for w in wanted if w.startswith(f"{name}.")]
            if set(gates) & set(rule.gates):
                nodes[-1].gates = rule.gate_values
        return nodes

    def _present(self, names: Sequence[str], fraction: float = 0.0) -> list[Node]:
        """Return the nodes that compute the wires and gates in `names` at one instant of a flow, given its memories."""
        network = self.network
        own = [name for name in names if name in network.wires]
        gated = {name.split(".")[0] for name in names if name.split(".")[0] in network.populations and "." in name}
        gated = {n for n in gated if any(f"{n}.{gate}" in names for gate in self._populations[n].rule.gates)}
        if not own and not gated:
            return []
        needed = self._upstream([*own, *gated], lambda edge: edge.source in network.wires)
        of_wires = (edge for edge in network.projections if edge.source in network.wires)
        order = evaluation_order(list(network.populations), of_wires)
        nodes = [self._wire(name, fraction) for name in order if name in needed and name in network.wires]
        for node in nodes:
            if node.name in gated:
                node.gates = self._populations[node.name].rule.gate_values
        for name in sorted(gated - set(network.wires)):
            node = self._memory(name, fraction, None, asks_target=False)
            node.respond, node.gates = None, self._populations[name].rule.gate_values
            nodes.append(node)
        return nodes

    def _upstream(self, names: Sequence[str], follows: Callable[[Projection], bool]) -> set[str]:
        """Return `names` and all populations on which they depend in the same step."""
        found: set[str] = set()
        waiting = [name for name in names if name in self._populations]
        while waiting:
            name = waiting.pop()
            if name not in found and name not in self.regime.resting:
                found.add(name)
                sources = (edge.source for edge in self._incoming[name] if follows(edge) and self._is_open(edge))
                waiting += [source for source in sources if source in self._populations]
        return found

    def _is_open(self, edge: Projection) -> bool:
        return edge.name not in self.regime.shut

    def _wire(self, name: str, fraction: float | None) -> Node:
        rule = self._populations[name].rule
        respond = self._layers.function(rule, f"the rule of {name!r}")
        return Node(name, self._ports(name, fraction), respond, {"value": name}, False)

    def _memory(
        self,
        name: str,
        fraction: float | None,
        update: Callable[[Tensor, Tensor, Any], Tensor] | None,
        asks_target: bool,
    ) -> Node:
        rule: Rule = self._populations[name].rule
        variables = self._variables(name)
        ratios = {}
        if update is not None and isinstance(rule, Flow):
            for variable, key in variables.items():
                ratios[variable] = f"tau {key}"
                self._taus[f"tau {key}"] = (rule.tau, self.network.shapes.variables[name][variable])
        reads_own = True
        if asks_target and isinstance(rule, Leaky):
            # The target of the leaky rule, which a subclass may override.
            is_plain = type(rule) is Leaky
            respond = self._layers.function(rule.rule, f"the rule of {name!r}") if is_plain else rule.target
            reads_own = not is_plain or isinstance(rule.rule, Map)
        else:
            respond = self._layers.function(rule, f"the rule of {name!r}")
        return Node(name, self._ports(name, fraction), respond, variables, reads_own, update, ratios=ratios)

    def _ports(self, name: str, fraction: float | None) -> list[tuple[str, list[Read]]]:
        """Return the inputs of each port, or zeros if it has none; `fraction` is None for steps in evaluation order."""
        sums: dict[str, list[Read]] = {}
        for edge in self._incoming[name]:
            if self._is_open(edge) and (read := self._read(edge, fraction)) is not None:
                sums.setdefault(edge.port or "", []).append(read)
        for port, shape in self.network.shapes.ports[name].items():
            if port not in sums:
                key = f"nothing at {name}.{port}"
                self._zeros[key] = shape
                sums[port] = [(PRECOMPUTED, key, None)]
        return list(sums.items())

    def _read(self, edge: Projection, fraction: float | None) -> Read | None:
        source, delay = edge.source, edge.delay or 0
        deliver = self._deliver(edge)
        if isinstance(edge.delay_ms, TimeConstant):
            left = dict(self.regime.waiting).get(edge.name, 0.0)
            return recall(self.network, edge, self.solver.step_ms(self.network), fraction or 0.0, left, deliver)
        if source in self.network.inputs:
            if delay:
                return PAST, f"{source}@{delay}", deliver
            return (PRECOMPUTED, edge.name, None) if edge.name in self._constant else (PRECOMPUTED, source, deliver)
        is_nothing = type(edge.transform) is nn.Identity and self._layers.nature(edge.transform).is_constant
        plain = None if is_nothing else deliver
        if delay > 1:
            return PAST, f"{source}@{delay - 1}", plain
        is_past = delay == 1 if fraction is None else source in self.network.memories
        if fraction is None and source in self.regime.resting:
            is_past = True
        return PAST if is_past else FRESH, source, plain

    def _is_precomputed(self, edge: Projection) -> bool:
        """Return whether an edge delivers the same value at every step: an undelayed input with a pure transform."""
        at_once = edge.source in self.network.inputs and edge.delay == 0 and self._is_open(edge)
        phased = edge.name in dict(self.regime.phases)
        return at_once and not phased and self._layers.nature(edge.transform).is_constant

    def _deliver(self, edge: Projection) -> Deliver:
        """Return the transform of an edge as a function of the source's value."""
        return self._layers.delivery(edge, dict(self.regime.phases).get(edge.name), self._amp)


def _push(_own: Tensor, push: Tensor, tau: Any) -> Tensor:
    """Return the rate of change per ms."""
    return cast(Tensor, push / tau)
