"""One step of a network as a list of tensor operations that keeps edge gates and time constants as inputs.

    (state, rows) = step(weights, images, gates, taus, state)

The step comes from the network's plan, traced once with all edges open. Each edge delivers where(gate, f(x), 0), so
closing a gate gives the same result as `net.without(edge)`. The time constants of flows are read at every step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from pcsim.connections import Phased
from pcsim.core.exceptions import WiringError
from pcsim.core.state import State
from pcsim.network import Network
from pcsim.network.variants import with_edges
from pcsim.network.wiring import Wiring
from pcsim.rules.time_constants import TimeConstant
from pcsim.simulation.frozen import Places, frozen
from pcsim.simulation.plan import Plan
from pcsim.simulation.program import (
    RECORDED,
    Trace,
    UntraceableError,
    callable_of,
    deduplicate,
    inputs_of,
    split,
)
from pcsim.simulation.regime import Regime, regime_of
from pcsim.simulation.start import Beginning, spoken_before
from pcsim.solvers.base import Solver

GATE, TAU, SHOWN, STATE = "gate ", "tau ", "shown ", "state "
"""prefixes of the names of inputs: edges, time constants, images and memories"""
Instead = Mapping[Any, Callable[..., Any]]


@dataclass(frozen=True)
class Lowered:
    """A graph of operations with placeholders for `constants` and the inputs `takes`, and with the outputs `gives`."""

    graph: fx.Graph
    constants: tuple[Tensor, ...]
    takes: tuple[str, ...]
    gives: tuple[str, ...]


@dataclass(frozen=True)
class Steps:
    """A network that is ready to be written in another language.

    start   the state before the first step, from the images
    step    the state after a step, and the recorded values
    taus    population -> its time constants in ms, one or one per channel
    closed  edge -> the intervals [begin, end) of steps in which the edge delivers nothing in the intact network
    """

    start: Lowered
    step: Lowered
    taus: dict[str, list[float]]
    closed: dict[str, list[tuple[int, int]]]


class _Gated(nn.Module):
    """y = f(x) if the gate is open, and 0 otherwise."""

    gate: Tensor

    def __init__(self, transform: nn.Module) -> None:
        super().__init__()
        self.transform = transform
        self.register_buffer("gate", torch.tensor(True), persistent=False)

    def forward(self, value: Tensor) -> Tensor:
        return torch.where(self.gate, self.transform(value), 0.0)


class _Call(nn.Module):
    """A wrapper that calls a function, so that functional_call can replace the tensors of the network."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, function: Callable[[], State]) -> State:
        return function()


def lower(net: Network, solver: Solver, steps: int, wanted: Sequence[str], image: Tensor, instead: Instead) -> Steps:
    """Lower `net` with `solver` for a batch of one image; each row contains the values of `wanted`.

    instead  operator -> a function whose operations are recorded in its place

    Raises WiringError if the steps of the network differ in more than their active edges, or if a module cannot be
    traced.
    """
    own = frozen(net).eval()
    _require_plain(own, solver)
    solver.check(own.wiring())
    taus = {name: _values(rule.tau) for name, rule in own.wiring().flows.items()}
    closed = _closed(own.wiring(), solver, steps)
    live = own.as_ode(dict(taus)) if taus else own
    live = with_edges(live, [replace(edge, transform=_Gated(edge.transform), lesioned=()) for edge in live.projections])
    wiring = live.wiring()
    names = {f"network.transforms.{edge.key}.gate": GATE + edge.name for edge in wiring.projections}
    names |= {path: TAU + name for name in taus if (path := _path_of(live, wiring.flows[name].tau))}
    tensors = {f"network.{path}": value for path, value in Places(live).now().items()}
    shown = {SHOWN + name: image for name in wiring.inputs}
    beginning = Beginning(wiring, solver.step_ms(wiring))
    with torch.no_grad():
        state = {STATE + key: value for key, value in beginning.state(dict.fromkeys(wiring.inputs, image)).items()}
    plan = Plan(wiring, Regime(), solver, wanted)
    call = _Call(live)

    def starting(fixed: State, moving: State) -> State:
        def run() -> State:
            return {STATE + key: value for key, value in beginning.state(_under(SHOWN, moving)).items()}

        return torch.func.functional_call(call, fixed, (run,), tie_weights=False)

    def stepping(fixed: State, moving: State) -> State:
        def run() -> State:
            precomputed, before = plan.precompute(_under(SHOWN, moving)), _under(STATE, moving)
            if wiring.is_flow:
                after = plan.step(precomputed, before)
                values = plan.observe(precomputed, after)
            else:
                after, values = plan.step_and_observe(precomputed, before)
            return {STATE + k: v for k, v in after.items()} | {RECORDED + k: v for k, v in values.items()}

        given = fixed | {path: moving[name] for path, name in names.items()}
        return torch.func.functional_call(call, given, (run,), tie_weights=False)

    weights = {path: value for path, value in tensors.items() if path not in names}
    switches = {name: tensors[path] for path, name in names.items()}
    start = traced(starting, weights, shown, instead, net.name)
    step = traced(stepping, weights, shown | switches | state, instead, net.name)
    return Steps(start, step, taus, closed)


def traced(function: Any, fixed: State, moving: State, instead: Instead, name: str) -> Lowered:
    """Trace a function; values that depend only on the `fixed` tensors are computed here and become constants."""
    try:
        trace = Trace(function, fixed, moving, instead)
    except UntraceableError as reason:
        raise WiringError(
            given=f"{name!r}, a step of which cannot be traced: {str(reason).splitlines()[0]}",
            expected="modules whose tensor operations do not depend on the values",
            remedy="replace branches on values with torch.where, and calls to .item() with tensors",
        ) from reason
    graph = fx.Graph()
    held = inputs_of(graph, (trace,))
    made = trace.onto(graph, held | trace.placeholders(graph, trace.moving))
    graph.output(tuple(made.values()))
    deduplicate(graph)
    before, body = split(graph, set(held.values()))
    known = fixed | trace.constants
    with torch.no_grad():
        constants = callable_of(before)(*(known[name] for name in held))
    return Lowered(body, tuple(constants), trace.moving, trace.results)


def _under(prefix: str, values: State) -> State:
    return {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}


def _values(tau: TimeConstant) -> list[float]:
    value = tau()
    return value.detach().reshape(-1).tolist() if isinstance(value, Tensor) else [float(value)]


def _path_of(net: Network, tau: nn.Module) -> str:
    """Return the path of the buffer that contains the values of a time constant."""
    return next(f"network.{path}.per_channel" for path, module in net.named_modules() if module is tau)


def _closed(network: Wiring, solver: Solver, steps: int) -> dict[str, list[tuple[int, int]]]:
    """Return the intervals of steps in which edges deliver nothing: before a delay has passed, and during lesions."""
    spoken, dt = spoken_before(network), solver.step_ms(network)
    shut = [regime_of(network, step, dt, spoken).shut for step in range(steps)]
    shut = [frozenset(), *shut, frozenset()]  # no edge is closed before the first step or after the last
    found: dict[str, list[tuple[int, int]]] = {}
    for name in sorted(frozenset().union(*shut)):
        ends = [step for step in range(steps + 1) if (name in shut[step]) != (name in shut[step + 1])]
        found[name] = list(zip(ends[::2], ends[1::2], strict=True))
    return found


def _require_plain(net: Network, solver: Solver) -> None:
    """Raise WiringError for parts whose computations change from step to step, and for dtypes other than float32."""
    parts = [f"an active window of {p.name!r}" for p in net.populations.values() if p.active]
    for edge in net.projections:
        if isinstance(edge.transform, Phased):
            parts.append(f"a transform of edge {edge.name} that differs between steps")
        if edge.delay_ms is not None:
            parts.append(f"a conduction delay of edge {edge.name}")
        if edge.compute_dtype is not None:
            parts.append(f"autocast of edge {edge.name}")
    if not solver.is_traceable:
        parts.append(f"{type(solver).__name__}, whose steps depend on computed values")
    if others := {str(p.dtype) for p in net.parameters()} - {"torch.float32"}:
        parts.append(f"parameters of type {', '.join(sorted(others))}")
    if parts:
        raise WiringError(
            given=f"a page of {net.name!r} with {', '.join(parts[:3])}" + (", ..." if len(parts) > 3 else ""),
            expected="float32 and steps that all consist of the same operations, apart from edges that open or close",
            remedy="export a model without these, such as blt, predictive_coding or leaky_rcnn, with Euler or RK4",
        )
