"""From populations and projections to an order of evaluation and a shape for every node: pure functions."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TypeVar

import torch
from torch import nn
from torch.func import functional_call

from pcsim.connections import Phased
from pcsim.core.exceptions import PcsimError, WiringError
from pcsim.network.parts import Population, Projection
from pcsim.rules.base import Flow, Map, Rule
from pcsim.rules.time_constants import TimeConstant
from pcsim.core.state import Shape

Node = TypeVar("Node", bound=Hashable)
KINDS = ("bottom_up", "lateral", "top_down", "prediction", "error")


def topological_order(nodes: Sequence[Node], before: Mapping[Node, Sequence[Node]]) -> tuple[Node, ...]:
    """Every node after those `before` it, ties in the given order. Raises WiringError with the cycle, if any."""
    order: dict[Node, None] = {}
    for start in nodes:
        path: list[Node] = [start]
        while path:
            node = path[-1]
            waiting = next((other for other in before.get(node, ()) if other not in order), None)
            if waiting is None:
                order[path.pop()] = None
            elif waiting in path:
                cycle = path[path.index(waiting) :]
                _refuse_cycle([*reversed(cycle), cycle[-1]])
            else:
                path.append(waiting)
            while path and path[-1] in order:
                path.pop()
    return tuple(order)


def _refuse_cycle(cycle: Sequence[object]) -> None:
    raise WiringError(
        given=f"a cycle of zero delay: {' -> '.join(map(str, cycle))}",
        expected="at least one edge of every cycle to read an earlier step",
        remedy="set delay=1 on the edge that should read the step before (usually the lateral or top-down one)",
    )


def transformed_shape(transform: nn.Module, shape: Shape) -> Shape:
    """Shape of `transform` applied to an activity of `shape`, found on the meta device: nothing is computed."""
    held = {name: tensor.to("meta") for name, tensor in chain(transform.named_parameters(), transform.named_buffers())}
    # Two samples: batch norm in training mode refuses a single value per channel.
    given = torch.empty((2, *shape), device="meta", dtype=next((t.dtype for t in held.values()), None))
    with torch.no_grad():
        return tuple(functional_call(transform, held, (given,)).shape[1:])


@dataclass(frozen=True)
class Shapes:
    """Shape of every node, of every further variable of a rule, and of every input port."""

    nodes: dict[str, Shape]
    variables: dict[str, dict[str, Shape]]
    ports: dict[str, dict[str, Shape]]


def infer_shapes(
    inputs: Mapping[str, Shape],
    rules: Mapping[str, Rule],
    declared: Mapping[str, Shape],
    projections: Sequence[Projection],
) -> Shapes:
    """Follow the edges from the inputs and declared shapes until every node has one, then check every edge.

    Raises WiringError naming the edge and both shapes where two disagree, or the populations nothing reaches.
    """
    found = Shapes(dict(inputs) | dict(declared), {}, {name: {} for name in rules})
    arriving: dict[str, Shape] = {}
    progress = True
    while progress:
        progress = False
        for edge in projections:
            if edge.name in arriving or edge.source not in found.nodes:
                continue
            arriving[edge.name] = _arrival(edge, found.nodes[edge.source])
            _agree(found.ports[edge.target], edge, arriving[edge.name])
            progress = True
        for name, rule in rules.items():
            if name in found.nodes or not found.ports[name]:
                continue
            found.nodes[name] = _respond(name, rule, found.ports[name])["value"]
            progress = True
            break  # edges that this one feeds come before guesses from other edges
    if missing := [name for name in rules if name not in found.nodes]:
        raise WiringError(
            given=f"no shape for {', '.join(missing)}",
            expected="every population to be reached from an input, or to declare its shape",
            remedy=f"connect it, or write Population({missing[0]!r}, rule, shape=(channel, height, width))",
        )
    for name, rule in rules.items():
        for port in rule.ports:
            found.ports[name].setdefault(port, found.nodes[name])
        variables = _respond(name, rule, found.ports[name])
        if variables["value"] != found.nodes[name]:
            raise WiringError(
                given=f"population {name!r} declared as {found.nodes[name]}, its inputs make {variables['value']}",
                expected="the same shape",
                remedy="correct the declared shape or the transforms of its incoming projections",
            )
        found.variables[name] = variables
    return found


def _arrival(edge: Projection, shape: Shape) -> Shape:
    try:
        return transformed_shape(edge.transform, shape)
    except (RuntimeError, ValueError, IndexError, TypeError) as reason:
        raise WiringError(
            given=f"edge {edge.name}: {edge.source!r} has shape {shape}, and its transform refuses it ({reason})",
            expected="a transform that takes the shape of its source",
            remedy=f"change the transform of {edge.name} (input channels, kernel) or the shape of {edge.source!r}",
        ) from reason


def _agree(ports: dict[str, Shape], edge: Projection, shape: Shape) -> None:
    expected = ports.setdefault(edge.port or "", shape)
    if shape == expected:
        return
    raise WiringError(
        given=f"edge {edge.name} delivers shape {shape} to {edge.target!r}",
        expected=f"shape {expected}, as the other projections to its port {edge.port!r} deliver",
        remedy=_how_to_fit(shape, expected),
    )


def _how_to_fit(shape: Shape, expected: Shape) -> str:
    advice = []
    if len(shape) != len(expected):
        return "end the transform in the same number of axes"
    if shape[0] != expected[0]:
        advice.append(f"give the transform {expected[0]} output channels")
    if shape[1:] != expected[1:] and len(shape) == 3:
        if expected[1] > shape[1]:
            factor = expected[1] / shape[1]
            advice.append(f"enlarge it, for instance by connections.up_conv(..., stride={factor:g})")
        else:
            advice.append(f"shrink it, for instance by connections.pool({shape[1] / expected[1]:g})")
    return " and ".join(advice)


def _respond(name: str, rule: Rule, ports: Mapping[str, Shape]) -> dict[str, Shape]:
    try:
        return rule.shapes(ports)
    except PcsimError as reason:
        raise WiringError(
            given=f"population {name!r} with {reason.given}", expected=reason.expected, remedy=reason.remedy
        ) from reason


def arrivals(
    inputs: Sequence[str],
    populations: Mapping[str, Population],
    projections: Sequence[Projection],
    is_flow: bool,
    early: Sequence[str] = (),
) -> dict[str, float]:
    """When an onset of the inputs first reaches each population, by the shortest path of delays (Bellman-Ford).

    In steps, or for a flow in ms; windows of edges and populations hold it up. Those named `early` have it before
    the first step.
    """
    reached = dict.fromkeys(populations, math.inf) | dict.fromkeys(inputs, 0.0) | dict.fromkeys(early, -1.0 + is_flow)
    edges = [edge for edge in projections if edge.silent != (-math.inf, math.inf)]
    for _ in range(len(populations) + 1):
        for edge in edges:
            steps = 0.0 if is_flow else edge.delay or 0
            delay = edge.delay_ms.smallest() if isinstance(edge.delay_ms, TimeConstant) else steps
            at = _within(edge.active, reached[edge.source] + delay)
            reached[edge.target] = min(reached[edge.target], _within(populations[edge.target].active, at))
        for name, population in populations.items():
            if population.copies and population.active and reached[population.copies] < population.active[0]:
                reached[name] = min(reached[name], population.active[0])
    kind = float if is_flow else int
    return {name: kind(max(reached[name], 0)) if reached[name] < math.inf else math.inf for name in populations}


def _within(window: tuple[float, float] | None, at: float) -> float:
    """The first time from `at` on that lies in the window; never, if it is over."""
    if window is None:
        return at
    return max(at, window[0]) if at < window[1] else math.inf


def check_delay_ms(edge: Projection, is_flow: bool, has_memory: bool | None) -> None:
    """Refuse a conduction delay that nothing can read; `has_memory` is None where the source is an input."""
    learned = isinstance(edge.delay_ms, nn.Module) and any(True for _ in edge.delay_ms.parameters())
    if not is_flow or edge.delay not in (None, 1):
        raise WiringError(
            given=f"edge {edge.name} with delay_ms={edge.delay_ms} and delay={edge.delay}",
            expected="a delay in ms in a flow, or a delay in steps in a discrete network",
            remedy="leave the other one out" if is_flow else "write delay=1, or make the network a flow",
        )
    if has_memory is False or (has_memory is None and learned):
        raise WiringError(
            given=f"edge {edge.name} with a {'learnable ' if learned else ''}delay in ms",
            expected="a source with memory (or, for a fixed delay, an input)",
            remedy="read the population that it is computed from, or relax it: rules.Relaxed(rule, tau)",
        )


def check_windows(populations: Sequence[Population], variables: Mapping[str, Mapping[str, Shape]]) -> None:
    """Refuse activity windows that are empty or open too early, and copies of what does not fit."""
    known = {population.name: population for population in populations}
    for name, population in known.items():
        active, copies = population.active, population.copies
        if active is not None and not 0 <= active[0] < active[1]:
            raise WiringError(
                given=f"population {name!r} active in {active}",
                expected="(from, to) with 0 <= from < to",
                remedy="leave the population out if it never responds",
            )
        if copies is None:
            continue
        if copies not in known or variables[copies] != variables[name] or active is None or active[0] == 0:
            raise WiringError(
                given=f"population {name!r} that copies {copies!r} and is active in {active}",
                expected=f"a population with the variables {dict(variables[name])}, and a window that opens after 0",
                remedy="give both populations rules with the same variables and shapes, and an active=(from, to)",
            )


def check_names(
    inputs: Mapping[str, Shape],
    populations: Sequence[Population],
    projections: Sequence[Projection],
    readout: str | None,
) -> None:
    """Refuse names that are odd, doubled or unknown, and projections that say what nothing understands."""
    names = [*inputs, *(population.name for population in populations)]
    for name in names:
        if not name.isidentifier() or names.count(name) > 1:
            raise WiringError(
                given=f"population {name!r}, {names.count(name)} times among {', '.join(names)}",
                expected="names of letters, digits and underscores, each used once (inputs included)",
                remedy="rename it",
            )
    known = set(names)
    targets = known - set(inputs)
    for edge in projections:
        if edge.source not in known or edge.target not in targets:
            raise WiringError(
                given=f"edge {edge.name}",
                expected=f"a source among {', '.join(names)} and a target among {', '.join(sorted(targets))}",
                remedy="correct the name, or add the population",
            )
        if edge.kind not in KINDS or edge.before not in ("absent", "zeros"):
            raise WiringError(
                given=f"edge {edge.name} with kind={edge.kind!r}, before={edge.before!r}",
                expected=f"a kind among {', '.join(KINDS)}; before 'absent' or 'zeros'",
                remedy="correct the projection",
            )
        _check_window(edge)
        if edge.delay is not None and (not isinstance(edge.delay, int) or edge.delay < 0):
            raise WiringError(
                given=f"edge {edge.name} with delay={edge.delay!r}",
                expected="a whole number of steps >= 0",
                remedy="0 reads this step's value, 1 that of the step before",
            )
    labels = [edge.name for edge in projections]
    if twice := {label for label in labels if labels.count(label) > 1}:
        raise WiringError(
            given=f"two projections called {', '.join(sorted(twice))}",
            expected="a name of its own for each projection",
            remedy="merge their transforms, or write Projection(..., name='...')",
        )
    if readout is not None and readout not in targets:
        raise WiringError(
            given=f"readout={readout!r}", expected=f"one of {', '.join(sorted(targets))}", remedy="correct the name"
        )


def _check_window(edge: Projection) -> None:
    if edge.active is not None and not 0 <= edge.active[0] < edge.active[1]:
        raise WiringError(
            given=f"edge {edge.name} active in {edge.active}",
            expected="(from, to) with 0 <= from < to",
            remedy="leave the edge out if it never delivers; (n, math.inf) for one that delivers from step n on",
        )
    if not isinstance(edge.transform, Phased) and any(isinstance(part, Phased) for part in edge.transform.modules()):
        raise WiringError(
            given=f"edge {edge.name}: a {type(edge.transform).__name__} around a transform that differs between steps",
            expected="one that passes the step on",
            remedy="write connections.Chain(...) instead of nn.Sequential(...)",
        )


def _is_timed(rule: Flow) -> bool:
    return isinstance(getattr(rule, "tau", None), TimeConstant)


def all_flows(populations: Sequence[Population]) -> bool:
    """Whether the memories are flows. Raises WiringError where they are of both kinds, or have no time constant."""
    flows = [p.name for p in populations if isinstance(p.rule, Flow)]
    maps = [p.name for p in populations if isinstance(p.rule, Map)]
    if flows and maps:
        raise WiringError(
            given=f"flows ({', '.join(flows)}) and maps ({', '.join(maps)}) in one network",
            expected="all memories of one kind",
            remedy="wrap the maps in rules.Relaxed(rule, tau)",
        )
    if untimed := [p.name for p in populations if isinstance(p.rule, Flow) and not _is_timed(p.rule)]:
        raise WiringError(
            given=f"flows without a time constant: {', '.join(untimed)}",
            expected="rule.tau, a TimeConstant in ms",
            remedy="write self.tau = time_constant(tau) in the rule's constructor, and divide by self.tau.for_(own)",
        )
    return bool(flows)
