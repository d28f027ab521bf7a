"""Formatting of a network's wiring as a table."""

from __future__ import annotations

import math

from pcsim import connections
from pcsim.core.state import Shape
from pcsim.network.graph import Graph
from pcsim.network.parts import ALWAYS, Projection
from pcsim.rules.base import Flow, Map, Rule, Wire
from pcsim.rules.time_constants import TimeConstant

HEAD = ("order", "node", "kind", "shape", "incoming edges (delay in steps)")


def describe(network: Graph) -> str:
    """Return a table of nodes, rules, shapes and incoming edges in evaluation order."""
    rows = [HEAD]
    populations, incoming = network.populations, network.incoming
    rows += [("", name, "input", _by(shape), "") for name, shape in network.inputs.items()]
    for position, name in enumerate(network.order, 1):
        rule = populations[name].rule
        reads = [_edge_text(edge, network.is_flow, rule) for edge in incoming[name]] or [""]
        tau = f", tau {rule.tau.describe()} ms" if isinstance(rule, Flow) else ""
        what = f"{_kind(rule)}: {rule.describe()}{tau}{_window(populations[name].active)}"
        rows.append((str(position), name, what, _by(network.shape(name)), reads[0]))
        rows += [("", "", "", "", text) for text in reads[1:]]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    title = f"{network.name}: {'flow' if network.is_flow else 'map'}, {network.parameter_count:,} parameters"
    return "\n".join([title, lines[0], "-" * len(lines[0]), *lines[1:]])


def _kind(rule: Rule) -> str:
    return next(base.__name__.lower() for base in (Flow, Map, Wire) if isinstance(rule, base))


def _by(shape: Shape) -> str:
    return "x".join(map(str, shape))


def _edge_text(edge: Projection, is_flow: bool, rule: Rule) -> str:
    when = "" if is_flow else f" ({edge.delay})"
    if isinstance(edge.delay_ms, TimeConstant):
        when = f" ({edge.delay_ms.describe()} ms)"
    when += _window(edge.active)
    transform = connections.summary(edge.transform)
    transform += f" in {str(edge.compute_dtype).removeprefix('torch.')}" if transform and edge.compute_dtype else ""
    lesion = "  LESIONED" if edge.lesioned else ""
    if ALWAYS not in edge.lesioned:
        unit = " ms" if is_flow else ""
        lesion += "".join(f" {begin:g}..{end:g}{unit}" for begin, end in edge.lesioned)
    port = "" if edge.port == rule.ports[0] else f" to {edge.port}"
    name = "" if edge.name == f"{edge.source}->{edge.target}" else f"  [{edge.name}]"
    return f"{edge.source}{when} {edge.kind}{port}" + (f": {transform}" if transform else "") + lesion + name


def _window(active: tuple[float, float] | None) -> str:
    """Return the window as text: its start and, unless infinite, its (exclusive) end, in steps or ms."""
    if active is None:
        return ""
    return f", from {active[0]:g}" + ("" if math.isinf(active[1]) else f", before {active[1]:g}")
