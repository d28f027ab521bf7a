"""Variants of a network that share its parameters: in continuous time, clamped, lesioned or with autocast."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from pcsim.connections import Phased
from pcsim.core.clock import Window
from pcsim.core.exceptions import WiringError
from pcsim.network.graph import Graph
from pcsim.network.parts import ALWAYS, Population, Projection
from pcsim.rules.base import with_tau
from pcsim.rules.time_constants import TimeConstant

Net = TypeVar("Net", bound=Graph)
DEFAULT = "default"
Taus = float | Sequence[float] | Mapping[str, float | Sequence[float] | Tensor | TimeConstant]
"""Time constants in ms: one for all memories, a sequence with one per memory, or a dict by name or "default"."""


def as_ode(network: Net, tau: Taus, step_ms: float | None) -> Net:
    """Return the network in continuous time; see `Network.as_ode`."""
    waiting = {*network.step_delays}
    remembered = [name for name in network.populations if name in network.memories or name in waiting]
    taus = _tau_by_name(tau, remembered, may_keep=network.is_flow)
    if network.is_flow:
        changed = [_with_tau(network, p, taus, 1.0) if p.name in taus else p for p in network.populations.values()]
        return rebuilt(network, changed)
    scale = step_ms or tau
    if any(isinstance(edge.transform, Phased) for edge in network.projections):
        _in_ms("the transforms that differ between steps", (0.0, 1.0), scale)
    return rebuilt(
        network,
        [_with_tau(network, p, taus, scale) for p in network.populations.values()],
        [_timed(edge, edge.source in network.inputs, scale) for edge in network.projections],
        steps=None,  # the duration of an ODE is specified in ms with until=...
        step_ms=scale if isinstance(scale, int | float) else network.step_ms,
        name=f"{network.name} as an ODE",
    )


def clamped(network: Net, names: Sequence[str]) -> Net:
    """Return the network with the named populations as inputs; see `Network.clamped`."""
    if unknown := [name for name in names if name not in network.populations]:
        raise WiringError(
            given=f"clamped populations {', '.join(unknown)}",
            expected=f"populations of {network.name!r}: {', '.join(network.populations)}",
            remedy=f"call net.clamped({next(iter(network.populations), 'r0')!r}); net.describe() lists all names",
        )
    return rebuilt(
        network,
        [replace(p, shape=network.shape(p.name)) for p in network.populations.values() if p.name not in names],
        [
            replace(e, delay=0) if e.source in names and e.delay_ms is None else e
            for e in network.projections
            if e.target not in names
        ],
        inputs=network.inputs | {name: network.shape(name) for name in names},
        readout=None if network.readout in names else network.readout,
    )


def without(network: Net, edges: Sequence[str], during: Window | None) -> Net:
    """Return the network with edges lesioned; see `Network.without`."""
    unit = "ms" if network.is_flow else "steps"
    window = ALWAYS if during is None else (float(during[0]), float(during[1]))
    if not window[0] < window[1]:
        raise WiringError(
            given=f"a lesion during {window}",
            expected=f"(from, to) with from < to, in {unit}",
            remedy="swap the two ends, as in during=(50, 100)",
        )
    if not network.is_flow and any(math.isfinite(end) and end != int(end) for end in window):
        raise WiringError(
            given=f"a lesion of {network.name!r} during {window}",
            expected="whole numbers of steps, because the network is discrete",
            remedy="pass steps, such as during=(5, 10); lesions in ms require a flow, such as net.as_ode(...)",
        )
    wanted = {edge.replace(" ", "") for edge in edges}
    known = {edge.kind for edge in network.projections} | {edge.name for edge in network.projections}
    if not wanted or wanted - known:
        raise WiringError(
            given=f"a lesion of {', '.join(sorted(wanted - known or wanted)) or 'nothing'!r}",
            expected=f"kinds or edges of {network.name!r}: {', '.join(sorted(known))}",
            remedy="choose from these; feedback is 'top_down', or 'prediction' in predictive coding",
        )
    return with_edges(
        network,
        [replace(e, lesioned=(*e.lesioned, window)) if {e.kind, e.name} & wanted else e for e in network.projections],
    )


def autocast(network: Net, dtype: torch.dtype) -> Net:
    """Return the network with edges computed in `dtype`; see `Network.autocast`."""
    if dtype not in (torch.bfloat16, torch.float16):
        raise WiringError(
            given=f"autocast({dtype})",
            expected="torch.bfloat16 or torch.float16",
            remedy="call net.autocast(torch.bfloat16), or net.double() for double precision",
        )
    return with_edges(network, [replace(edge, compute_dtype=dtype) for edge in network.projections])


def with_edges(network: Net, edges: Sequence[Projection]) -> Net:
    """Return the network with its edges replaced by `edges`, which have the same names, sources and targets."""
    other = copy(network)
    other._modules = dict(network._modules)
    other._edges = {edge.key: edge for edge in edges}
    other.transforms = torch.nn.ModuleDict({key: edge.transform for key, edge in other._edges.items()})
    return other


def rebuilt(
    network: Net,
    populations: Sequence[Population],
    projections: Sequence[Projection] | None = None,
    **changes: Any,
) -> Net:
    """Build a network from these parts; all other arguments are taken from `network` unless given in `changes`."""
    same = ("inputs", "readout", "steps", "step_ms", "timing", "name", "initialiser")
    options = {name: getattr(network, name) for name in same} | changes
    edges = network.projections if projections is None else projections
    return type(network)(options.pop("inputs"), populations, edges, **options).train(network.training)


def current(network: Net) -> Net:
    """Return the network or, if any modules have been replaced since it was built, a rebuilt and checked network."""
    return network if network.is_as_built else rebuilt(network, tuple(network.populations.values()))


def _with_tau(network: Graph, population: Population, taus: Mapping[str, Any], step_ms: object) -> Population:
    """Give a memory its time constant, and remove the window of a wire, because wires always follow their input."""
    name, active = population.name, population.active
    if name not in taus:
        return replace(population, active=None)
    window = _in_ms(name, active, step_ms) if active else None
    return replace(population, rule=with_tau(population.rule, taus[name]), shape=network.shape(name), active=window)


def _tau_by_name(
    tau: Taus, names: Sequence[str], may_keep: bool
) -> Mapping[str, float | Sequence[float] | Tensor | TimeConstant]:
    """Return the time constants by name, from a number, a sequence in the order of `names`, or a dict.

    If `may_keep`, names without an entry in a dict are left out; otherwise, all need an entry or a "default".
    """
    if not isinstance(tau, Mapping | Sequence):
        return dict.fromkeys(names, tau)
    if isinstance(tau, Sequence):
        if len(tau) != len(names):
            raise WiringError(
                given=f"{len(tau)} time constants, {tau}",
                expected=f"one for each of {', '.join(names)}",
                remedy="pass tau=10.0 for all of them, a sequence in that order, or a dict by name",
            )
        return dict(zip(names, tau, strict=True))
    is_default = DEFAULT in tau and DEFAULT not in names
    unknown = [name for name in tau if name not in names and not (is_default and name == DEFAULT)]
    missing = [name for name in names if name not in tau]
    if unknown or not tau or (missing and not is_default and not may_keep):
        first = next((name for name in names if name in tau), names[0])
        raise WiringError(
            given=f"time constants for {', '.join(tau) or 'no population'}"
            + (f", but not for {', '.join(missing)}" if missing and not unknown else ""),
            expected=f"{'some' if may_keep else 'all'} of {', '.join(names)}, or {DEFAULT!r} for the others",
            remedy=f"pass tau={{{first!r}: 10.0, {DEFAULT!r}: 20.0}}",
        )
    return {name: tau[name] if name in tau else tau[DEFAULT] for name in names if name in tau or is_default}


def _in_ms(name: str, window: Window, step_ms: object) -> Window:
    """Convert a window from steps to ms."""
    if not isinstance(step_ms, int | float):
        raise WiringError(
            given=f"several time constants without step_ms, which is required by {name}",
            expected="the time in ms that one step of the discrete network represents",
            remedy="call as_ode(tau=..., step_ms=10.0)",
        )
    return window[0] * step_ms, window[1] * step_ms


def _timed(edge: Projection, from_input: bool, step_ms: object) -> Projection:
    """Convert an edge's windows to ms, and its delay beyond the first step to a conduction delay."""
    late = (edge.delay or 0) - (not from_input)
    if edge.active is not None:
        edge = replace(edge, active=_in_ms(edge.name, edge.active, step_ms))
    lesions = tuple(w if w == ALWAYS else _in_ms(edge.name, w, step_ms) for w in edge.lesioned)
    edge = replace(edge, lesioned=lesions)
    if late < 1:
        return edge
    return replace(edge, delay=None, delay_ms=_in_ms(edge.name, (0.0, late), step_ms)[1])
