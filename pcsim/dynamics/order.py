"""Accuracy of a network's numerical integration: each solver's error as a function of dt, and its measured order.

print(pcsim.dynamics.check_order(net, images, until=100.0))
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from pcsim.core.checks import Positive, checked
from pcsim.core.exceptions import SolverError
from pcsim.network import Network
from pcsim.simulation import Record, Status, simulate
from pcsim.solvers import RK4, Euler, FlowSolver, Heun
from pcsim.stimuli.timeline import Stimulus, Timeline

FLOOR = 1e-11
"""relative error below which rounding dominates"""


@dataclass(frozen=True)
class Orders:
    """Solver errors and orders, as measured by `check_order`.

    dts       time steps in ms, each half the previous one
    errors    solver -> largest error of the final state at each dt, relative to the state's largest value; NaN if the
              run diverged
    orders    solver -> slope of log error against log dt over the last three halvings above rounding, or NaN
    halving   solver -> largest change of the final state when dt is halved, relative to the state's largest value; 0 if
              the response does not depend on dt
    """

    dts: tuple[float, ...]
    errors: Mapping[str, tuple[float, ...]]
    orders: Mapping[str, float]
    halving: Mapping[str, tuple[float, ...]]

    def __str__(self) -> str:
        head = "dt (ms)".ljust(18) + "".join(f"{dt:>10.4g}" for dt in self.dts) + "     order"
        rows = [head, "-" * len(head)]
        for name, errors in self.errors.items():
            slope = self.orders[name]
            order = "         -" if math.isnan(slope) else f"{slope:10.2f}"
            rows.append(name.ljust(18) + "".join(f"{error:10.1e}" for error in errors) + order)
        rows.append("relative error of the final state; order: slope of log error against log dt")
        return "\n".join(rows)


@checked(SolverError)
def check_order(
    network: Network,
    stimulus: Stimulus,
    *,
    until: Positive,
    dt: Positive | None = None,
    halvings: Annotated[int, Field(ge=2, le=12)] = 5,
    solvers: Sequence[type[FlowSolver]] = (Euler, Heun, RK4),
) -> Orders:
    """Measure the errors of solvers after `until` ms for dt, dt/2, ..., relative to RK4 at 1/8 of the smallest dt.

    dt  the largest step in ms; by default, the largest value that divides `until` and is at most half the smallest tau.
        If the stimulus changes, dt must divide the times at which it does

    Smooth networks show the theoretical orders (1, 2 and 4); rectified units lower them. All computations use double
    precision. Raises SolverError for a discrete network.
    """
    if not network.is_flow:
        raise SolverError(
            given=f"check_order of {network.name!r}, a discrete network",
            expected="a flow, because a discrete network's step cannot be reduced",
            remedy="pass net.as_ode(tau=20.0)",
        )
    smallest = min(rule.tau.smallest() for rule in network.flows.values())
    largest = dt or until / math.ceil(until / (0.5 * smallest) - 1e-9)
    dts = tuple(largest / 2**n for n in range(halvings + 1))
    precise, shown = copy.deepcopy(network).double(), _double(stimulus)
    # At the kinks of rectified units, an adaptive solver with a tight tolerance would take thousands of steps.
    reference = _end(precise, shown, RK4(dts[-1] / 8), until)
    if reference is None:
        raise SolverError(
            given=f"{network.name!r}, whose state diverges within {until:g} ms",
            expected="a network whose state stays finite",
            remedy=f"pass until={until / 10:g}, or scale the recurrent weights down",
        )
    size = float(reference.abs().max()) or 1.0
    errors, halving = {}, {}
    for kind in solvers:
        ends = [_end(precise, shown, kind(step), until) for step in dts]
        errors[kind.__name__] = tuple(_apart(end, reference, size) for end in ends)
        halving[kind.__name__] = tuple(_apart(a, b, size) for a, b in pairwise(ends))
    return Orders(dts, errors, {name: _slope(dts, found) for name, found in errors.items()}, halving)


def _end(network: Network, stimulus: Stimulus, solver: FlowSolver, until: float) -> Tensor | None:
    """Return the final state of all populations as one vector, or None if the run diverged."""
    run = simulate(network, stimulus, solver=solver, until=until, record=Record())
    if Status.DIVERGED in run.status:
        return None
    return torch.cat([value.flatten() for key, value in run.final.state.items() if "@" not in key])


def _apart(first: Tensor | None, second: Tensor | None, size: float) -> float:
    return math.nan if first is None or second is None else float((first - second).abs().max()) / size


def _slope(dts: Sequence[float], errors: Sequence[float]) -> float:
    usable = [(math.log(dt), math.log(error)) for dt, error in zip(dts, errors, strict=True) if error > FLOOR][-4:]
    if len(usable) < 3:
        return math.nan
    x, y = np.array(usable).T
    return float(np.polyfit(x, y, 1)[0])


def _double(stimulus: Stimulus) -> Stimulus:
    if isinstance(stimulus, Mapping):
        return {name: _double_of(shown) for name, shown in stimulus.items()}
    return _double_of(stimulus)


def _double_of(shown: Timeline | Tensor) -> Timeline | Tensor:
    return shown.mapped(Tensor.double) if isinstance(shown, Timeline) else shown.double()
