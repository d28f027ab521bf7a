"""Checks that run when a network is built."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from torch import nn

from pcsim.connections import Phased
from pcsim.core.clock import Window
from pcsim.core.exceptions import WiringError
from pcsim.core.state import Shape
from pcsim.network.parts import Population, Projection
from pcsim.rules.base import Flow, Map, Wire
from pcsim.rules.time_constants import TimeConstant


def check_delay_ms(edge: Projection, is_flow: bool, has_memory: bool | None) -> None:
    """Raise WiringError for an invalid conduction delay; `has_memory` is None if the source is an input."""
    learned = isinstance(edge.delay_ms, nn.Module) and any(True for _ in edge.delay_ms.parameters())
    if not is_flow or edge.delay not in (None, 1):
        raise WiringError(
            given=f"edge {edge.name} with delay_ms={edge.delay_ms} and delay={edge.delay}",
            expected="a delay in ms for a flow, or a delay in steps for a discrete network",
            remedy=f"remove delay={edge.delay}"
            if is_flow
            else "pass delay=1, or make the network a flow with rules.Leaky(rule, tau)",
        )
    if has_memory is False or (has_memory is None and learned):
        raise WiringError(
            given=f"edge {edge.name} with a {'learnable ' if learned else ''}delay in ms",
            expected="a source with memory (or, for a fixed delay, an input)",
            remedy="start the edge at the population that drives its source, or wrap the rule of its source in "
            "rules.Leaky(rule, tau)",
        )


def check_taus(
    populations: Sequence[Population],
    projections: Sequence[Projection],
    variables: Mapping[str, Mapping[str, Shape]],
) -> None:
    """Raise WiringError for several delays on one edge, or for time constants that do not match the channels."""
    for name, rule in ((p.name, p.rule) for p in populations if isinstance(p.rule, Flow)):
        count = rule.tau.channels
        for variable, shape in variables[name].items():
            if count not in (None, shape[0]):
                what = (
                    f"population {name!r}" if variable == "value" else f"variable {variable!r} of population {name!r}"
                )
                raise WiringError(
                    given=f"{count} time constants for {what}, which has {shape[0]} channels",
                    expected=f"one time constant, or {shape[0]} (one per channel)",
                    remedy=f"pass tau=10.0, or a tensor of {shape[0]} values in ms",
                )
    for edge in projections:
        if isinstance(edge.delay_ms, TimeConstant) and (count := edge.delay_ms.channels) is not None:
            raise WiringError(
                given=f"edge {edge.name} with {count} delays in ms",
                expected="one delay for the edge",
                remedy="pass delay_ms=10.0, or use one projection for each delay",
            )


def check_windows(
    populations: Sequence[Population],
    projections: Sequence[Projection],
    variables: Mapping[str, Mapping[str, Shape]],
    is_flow: bool,
) -> None:
    """Raise WiringError for an invalid `starts_from`, or a window that is empty, starts too early or splits a step."""
    known = {population.name: population for population in populations}
    for edge in projections:
        _check_window(f"edge {edge.name}", edge.active, is_flow)
        for window in edge.lesioned:
            _check_window(f"lesion of edge {edge.name}", window, is_flow, begins=-math.inf)
    for name, population in known.items():
        active, source = population.active, population.starts_from
        _check_window(f"population {name!r}", active, is_flow)
        if active is not None and is_flow and isinstance(population.rule, Wire):
            raise WiringError(
                given=f"population {name!r}, a wire in a flow, with the window {active}",
                expected="no window, because a wire follows its input at all times",
                remedy="set the window on its outgoing edges, or add memory with rules.Leaky(rule, tau)",
            )
        if source is None:
            continue
        if source not in known or variables[source] != variables[name] or active is None or active[0] == 0:
            raise WiringError(
                given=f"population {name!r} that starts from {source!r} and is active in {active}",
                expected=f"a source with the variables {dict(variables[name])}, and a window that opens after 0",
                remedy="give both populations rules with the same variables and shapes, and pass active=(from, to)",
            )


def _check_window(what: str, window: Window | None, is_flow: bool, begins: float = 0.0) -> None:
    if window is None:
        return
    if not begins <= window[0] < window[1]:
        raise WiringError(
            given=f"{what} active in {window}" if begins == 0 else f"{what} during {window}",
            expected="(from, to) with 0 <= from < to" if begins == 0 else "(from, to) with from < to",
            remedy="pass a window such as (5, 10), or (5, math.inf) if it never ends",
        )
    if not is_flow and any(math.isfinite(end) and end != int(end) for end in window):
        raise WiringError(
            given=f"{what} with the window {window} in a discrete network",
            expected="whole numbers of steps",
            remedy="pass a window in steps, such as (5, 10); windows in ms require a flow, such as net.as_ode(...)",
        )


def check_names(
    inputs: Mapping[str, Shape],
    populations: Sequence[Population],
    projections: Sequence[Projection],
    readout: str | None,
) -> None:
    """Raise WiringError for invalid, duplicate or unknown names, and for projections with invalid options."""
    names = [*inputs, *(population.name for population in populations)]
    for name in names:
        if not name.isidentifier() or names.count(name) > 1:
            raise WiringError(
                given=f"population {name!r}, which occurs {names.count(name)} times in {', '.join(names)}",
                expected="a unique name of letters, digits and underscores for each population and input",
                remedy="rename it, for instance to 'v1' or 'v1_b'",
            )
    known = set(names)
    targets = known - set(inputs)
    for edge in projections:
        if edge.source not in known or edge.target not in targets:
            raise WiringError(
                given=f"edge {edge.name}",
                expected=f"a source among {', '.join(names)} and a target among {', '.join(sorted(targets))}",
                remedy="add the missing population, or rename the source or target of the edge",
            )
        _check_phases(edge)
    keys = [edge.key for edge in projections]
    if twice := [edge.name for edge in projections if keys.count(edge.key) > 1]:
        raise WiringError(
            given=f"two projections called {' and '.join(twice)}",
            expected="names that still differ when '_' replaces everything but letters, digits and underscores",
            remedy="merge their transforms, or rename one of them: Projection(..., name='second')",
        )
    if readout is not None and readout not in targets:
        raise WiringError(
            given=f"readout={readout!r}",
            expected=f"one of {', '.join(sorted(targets))}",
            remedy="pass one of these populations, or readout=None for a network without a readout",
        )


def _check_phases(edge: Projection) -> None:
    if not isinstance(edge.transform, Phased) and any(isinstance(part, Phased) for part in edge.transform.modules()):
        raise WiringError(
            given=f"edge {edge.name}: a {type(edge.transform).__name__} with a part that differs between steps",
            expected="a container that passes the step number on to its parts",
            remedy="use connections.Chain(...) instead of nn.Sequential(...)",
        )


def _is_timed(rule: Flow) -> bool:
    return isinstance(getattr(rule, "tau", None), TimeConstant)


def all_flows(populations: Sequence[Population]) -> bool:
    """Return whether the memories are flows. Raises WiringError if flows are mixed with maps or lack a tau."""
    flows = [p.name for p in populations if isinstance(p.rule, Flow)]
    maps = [p.name for p in populations if isinstance(p.rule, Map)]
    if flows and maps:
        raise WiringError(
            given=f"flows ({', '.join(flows)}) and maps ({', '.join(maps)}) in one network",
            expected="either flows or maps, but not both",
            remedy="wrap the maps in rules.Leaky(rule, tau)",
        )
    if untimed := [p.name for p in populations if isinstance(p.rule, Flow) and not _is_timed(p.rule)]:
        raise WiringError(
            given=f"flows without a time constant: {', '.join(untimed)}",
            expected="a TimeConstant in ms as rule.tau",
            remedy="set self.tau = pcsim.rules.time_constant(tau) in the rule's constructor; forward returns "
            "tau d own/dt, which the solver divides by tau",
        )
    return bool(flows)
