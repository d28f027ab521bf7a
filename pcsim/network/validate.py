"""What is refused when a network is built."""

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

KINDS = ("bottom_up", "lateral", "top_down", "prediction", "error")


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


def check_windows(
    populations: Sequence[Population],
    projections: Sequence[Projection],
    variables: Mapping[str, Mapping[str, Shape]],
    is_flow: bool,
) -> None:
    """Refuse windows that are empty, open too early or fall between steps, and starts from what does not fit."""
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
                given=f"population {name!r}, a wire of a flow, active in {active}",
                expected="no window: at every instant a wire is what it reads",
                remedy="put the window on what reads it, or make it a memory: rules.Relaxed(rule, tau)",
            )
        if source is None:
            continue
        if source not in known or variables[source] != variables[name] or active is None or active[0] == 0:
            raise WiringError(
                given=f"population {name!r} that starts from {source!r} and is active in {active}",
                expected=f"a population with the variables {dict(variables[name])}, and a window that opens after 0",
                remedy="give both populations rules with the same variables and shapes, and an active=(from, to)",
            )


def _check_window(what: str, window: Window | None, is_flow: bool, begins: float = 0.0) -> None:
    if window is None:
        return
    if not begins <= window[0] < window[1]:
        raise WiringError(
            given=f"{what} active in {window}" if begins == 0 else f"{what} during {window}",
            expected="(from, to) with 0 <= from < to",
            remedy="leave it out if it never responds; (n, math.inf) is from n on",
        )
    if not is_flow and any(math.isfinite(end) and end != int(end) for end in window):
        raise WiringError(
            given=f"{what} with the window {window} in a discrete network",
            expected="whole numbers of steps",
            remedy="count steps; in a flow, as net.as_ode(...) makes one, windows are in ms",
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
        _check_phases(edge)
        if edge.delay is not None and (not isinstance(edge.delay, int) or edge.delay < 0):
            raise WiringError(
                given=f"edge {edge.name} with delay={edge.delay!r}",
                expected="a whole number of steps >= 0",
                remedy="0 reads this step's value, 1 that of the step before",
            )
    keys = [edge.key for edge in projections]
    if twice := [edge.name for edge in projections if keys.count(edge.key) > 1]:
        raise WiringError(
            given=f"two projections called {' and '.join(twice)}",
            expected="a name of its own for each projection, that differs in letters, digits or underscores",
            remedy="merge their transforms, or write Projection(..., name='...')",
        )
    if readout is not None and readout not in targets:
        raise WiringError(
            given=f"readout={readout!r}", expected=f"one of {', '.join(sorted(targets))}", remedy="correct the name"
        )


def _check_phases(edge: Projection) -> None:
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
