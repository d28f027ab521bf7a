"""The same network otherwise: in continuous time, clamped, lesioned, rounded. Parameters are shared."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pcsim.connections import Phased
from pcsim.core.exceptions import WiringError
from pcsim.network.parts import Population, Projection, Window
from pcsim.rules.base import with_tau
from pcsim.rules.time_constants import TimeConstant

if TYPE_CHECKING:
    from pcsim.network.graph import Network

Taus = float | Sequence[float] | Mapping[str, float | Tensor | TimeConstant]
"""ms: one for all, one for each memory in their order, or by name"""


def relaxed(network: Network, tau: Taus, step: float | None) -> Network:
    """See `Network.relaxed`."""
    remembered = [n for n in network.populations if n in network.memories or n in network.step_delays]
    taus = _tau_by_name(tau, remembered)
    if network.is_flow:
        return rebuilt(network, [_relaxed(network, p, taus, 1.0) for p in network.populations.values()])
    scale = step or tau
    if any(isinstance(edge.transform, Phased) for edge in network.projections):
        _in_ms("the transforms that differ between steps", (0.0, 1.0), scale)
    return rebuilt(
        network,
        [_relaxed(network, p, taus, scale) for p in network.populations.values()],
        [_timed(edge, edge.source in network.inputs, scale) for edge in network.projections],
        step_ms=scale if isinstance(scale, int | float) else network.step_ms,
        name=f"relaxed {network.name}",
    )


def clamped(network: Network, names: Sequence[str]) -> Network:
    """See `Network.clamped`."""
    if unknown := [name for name in names if name not in network.populations]:
        raise WiringError(
            given=f"a clamp of {', '.join(unknown)}",
            expected=f"populations of {network.name!r}: {', '.join(network.populations)}",
            remedy="choose from these",
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


def without(network: Network, edges: Sequence[str], during: Window | None) -> Network:
    """See `Network.without`."""
    window = (-math.inf, math.inf) if during is None else (float(during[0]), float(during[1]))
    if not window[0] < window[1]:
        raise WiringError(
            given=f"a lesion during {window}", expected="(from, to) with from < to, ms", remedy="swap the ends"
        )
    wanted = {edge.replace(" ", "") for edge in edges}
    known = {edge.kind for edge in network.projections} | {edge.name for edge in network.projections}
    if not wanted or wanted - known:
        raise WiringError(
            given=f"a lesion of {', '.join(sorted(wanted - known or wanted)) or 'nothing'!r}",
            expected=f"kinds or edges of {network.name!r}: {', '.join(sorted(known))}",
            remedy="choose from these; net.describe() lists them",
        )
    return with_edges(
        network, [replace(e, silent=window) if {e.kind, e.name} & wanted else e for e in network.projections]
    )


def rounded(network: Network, precision: torch.dtype) -> Network:
    """See `Network.rounded`."""
    if precision not in (torch.bfloat16, torch.float16):
        raise WiringError(
            given=f"rounded({precision})",
            expected="torch.bfloat16 or torch.float16",
            remedy="choose one of these; for double precision write net.double()",
        )
    return with_edges(network, [replace(edge, precision=precision) for edge in network.projections])


def with_edges(network: Network, edges: Sequence[Projection]) -> Network:
    """The network with other edges between the same populations, of the same transforms under the same names."""
    other = copy(network)
    other._modules = dict(network._modules)
    other.projections = tuple(edges)
    other.incoming = {n: tuple(e for e in edges if e.target == n) for n in network.populations}
    return other


def rebuilt(
    network: Network,
    populations: Sequence[Population],
    projections: Sequence[Projection] | None = None,
    **changes: Any,
) -> Network:
    """A network of these parts that is otherwise the same, but for `changes` of its arguments."""
    same = ("inputs", "readout", "steps", "step_ms", "timing", "name", "initialiser")
    options = {name: getattr(network, name) for name in same} | changes
    edges = network.projections if projections is None else projections
    return type(network)(options.pop("inputs"), populations, edges, **options).train(network.training)


def _relaxed(network: Network, population: Population, taus: Mapping[str, Any], step: object) -> Population:
    """With a time constant where it remembers; a wire is at every instant what it reads, and needs no window."""
    name, active = population.name, population.active
    if name not in taus:
        return replace(population, active=None)
    window = _in_ms(name, active, step) if active else None
    return replace(population, rule=with_tau(population.rule, taus[name]), shape=network.shape(name), active=window)


def _tau_by_name(tau: Taus, names: Sequence[str]) -> Mapping[str, float | Tensor | TimeConstant]:
    """One time constant for each of `names`, from a number, a sequence in their order, or a dict."""
    if isinstance(tau, Mapping):
        given, taus = set(tau), dict(tau)
    elif isinstance(tau, Sequence):
        given, taus = set(names) if len(tau) == len(names) else set(), dict(zip(names, tau, strict=False))
    else:
        given, taus = set(names), dict.fromkeys(names, tau)
    if given != set(names):
        raise WiringError(
            given=f"time constants {tau}",
            expected=f"one for each of {', '.join(names)}",
            remedy="give one number for all, a sequence in that order, or a dict by name",
        )
    return taus


def _in_ms(name: str, window: tuple[float, float], step: object) -> tuple[float, float]:
    """A window in steps as one in ms, a step standing for `step` ms."""
    if not isinstance(step, int | float):
        raise WiringError(
            given=f"a relaxed network with several time constants and steps to be counted by {name!r}",
            expected="how many ms a step of the discrete network stands for",
            remedy="write relaxed(tau=..., step=10.0)",
        )
    return window[0] * step, window[1] * step


def _timed(edge: Projection, from_input: bool, step: object) -> Projection:
    """The edge in a flow: windows in ms, and the steps beyond the first by which it reads late as a delay in ms."""
    late = (edge.delay or 0) - (not from_input)
    if edge.active is not None:
        edge = replace(edge, active=_in_ms(edge.name, edge.active, step))
    if late < 1:
        return edge
    return replace(edge, delay=None, delay_ms=_in_ms(edge.name, (0.0, late), step)[1])
