"""Measurements at each point of the sweeps of `experiments.time_constants`."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pcsim import (
    RK4,
    Dopri5,
    Euler,
    ExponentialEuler,
    Heun,
    Network,
    PcsimWarning,
    Record,
    SolverError,
    Status,
    TorchDiffEq,
    batched,
    simulate,
)
from pcsim.analysis import convergence, decision_times
from pcsim.dynamics import stability
from pcsim.solvers import FlowSolver

from .. import flows
from ..base import TEST_SEED, Options

FIXED: dict[str, type[FlowSolver]] = {"Euler": Euler, "Heun": Heun, "RK4": RK4, "ExponentialEuler": ExponentialEuler}
EVALUATIONS = {"Euler": 1, "Heun": 2, "RK4": 4, "ExponentialEuler": 1}
"""number of right-hand-side evaluations per step"""
TOLERANCES = (1e-2, 1e-3, 1e-4, 1e-5)
FINEST = 1 / 64
"""dt of the reference solution, ms; for rectified units, adaptive high-order solvers would not be more efficient"""
ROWS = 200
"""number of recorded times in the measurements of settling"""


@dataclass(frozen=True)
class Setting:
    """A point in the sweeps. `folder` contains the trained networks."""

    recipe: flows.Recipe
    network: flows.Name
    until: float
    images: int
    fragments: int
    low: float = flows.TAUS[0]
    high: float = flows.TAUS[1]
    solver: str = "Euler"
    dt: float = 1.0
    image: int = 0
    steps: tuple[float, ...] = ()
    seed: int = 0
    folder: Path = field(default=Path(), compare=False)

    @property
    def shown(self) -> flows.Digits:
        """Test images, which are not used in training."""
        return flows.digits(self.fragments, TEST_SEED + self.seed, self.images)

    def trained(self) -> Network:
        """Return the trained network with these time constants."""
        return flows.trained(Options(out=self.folder), self.network, (self.low, self.high))


def fixed_solvers(network: flows.Name) -> dict[str, type[FlowSolver]]:
    """Return the fixed-step solvers that support this network; ExponentialEuler requires leaky populations."""

    def takes(kind: type[FlowSolver]) -> bool:
        try:
            kind(1.0).check(flows.build(network).wiring())
        except SolverError:
            return False
        return True

    return {name: kind for name, kind in FIXED.items() if takes(kind)}


def settle(settings: list[Setting]) -> list[dict[str, Any]]:
    """Return the curves and settling times of each setting, using one run per network."""
    results = []
    for _, group in groupby(settings, lambda setting: setting.network):
        results += settle_together(list(group))
    return results


def settle_together(settings: list[Setting]) -> list[dict[str, Any]]:
    """Run settings that differ only in their time constants as one batch; return their curves and settling times."""
    first = settings[0]
    low, high = flows.AREAS[first.network]
    shown, network = first.shown, first.trained()
    taus = {low: [setting.low for setting in settings], high: [setting.high for setting in settings]}
    many = batched(network, taus=taus, batch=first.images)
    answers, errors = flows.answers_of(network), ["e0"] if network.errors else []
    record = Record(
        states=[*dict.fromkeys((low, high, answers))],
        errors=errors,
        every=max(1, round(first.until / first.dt / ROWS)),
        initial=True,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PcsimWarning)  # about diverging samples, which are treated as not settled
        run_ = simulate(many.network, many.tile(shown.images), solver=Euler(first.dt), until=first.until, record=record)
    times, areas = run_.times, [many.split(run_[area]) for area in (low, high)]
    outputs = many.split(run_[answers][1:])
    correct = shown.is_correct(outputs)
    results = []
    for point in range(len(settings)):
        states = [area[point] for area in areas]
        change, away = convergence.rate_of_change(times, *states), convergence.distance_from_end(*states)
        finite, settled = np.isfinite(away).all(0), np.full(away.shape[1], math.nan)
        settled[finite] = convergence.decay_time(times, away[:, finite])
        found = {
            "times": times[1:],
            "change": np.median(change, axis=1),
            "settled": settled,
            "decided": decision_times(times[1:], outputs[point]),
            "correct": correct[point].double().mean(1),
        }
        if errors:
            found["error"] = many.split(run_.errors["e0"][1:])[point].median(1).values
        results.append(found)
    return results


def respond(setting: Setting) -> dict[str, Any]:
    """Return the accuracy with this solver and dt, or NaN if samples diverge or pcsim rejects the step."""
    network, shown = setting.trained(), setting.shown
    answers = flows.answers_of(network)
    every = round(setting.until / setting.dt)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PcsimWarning)  # about large steps, which are tested here on purpose
            solver, record = FIXED[setting.solver](setting.dt), Record(states=[answers], every=every)
            run_ = simulate(network, shown.images, solver=solver, until=setting.until, record=record)
    except SolverError as reason:
        return {"correct": math.nan, "end": f"refused: {reason}"}
    if Status.DIVERGED in run_.status:
        return {"correct": math.nan, "end": f"{run_.status.count(Status.DIVERGED)} samples diverged"}
    return {"correct": shown.is_correct(run_[answers][-1]).double().mean(), "end": "finite"}


def border(setting: Setting) -> dict[str, Any]:
    """Return the stability limit (largest stable dt) of each explicit solver at the final state for one image."""
    network, image = setting.trained().double(), setting.shown.images[setting.image][None].double()
    dynamics = stability.Dynamics(network, image)
    end = simulate(network, image, solver=Euler(1.0), until=setting.until, record=Record(every=1)).final
    values = stability.eigenvalues(dynamics, dynamics.flat(end.state), 2, "largest")
    found = {name: stability.largest_stable_dt(values, FIXED[name]) for name in ("Euler", "Heun", "RK4")}
    return {**found, "eigenvalue": float(values[0].real)}


def precision(setting: Setting) -> dict[str, Any]:
    """Return the number of dr/dt evaluations and the largest final error of each solver for each dt or tolerance."""
    network, images, until = setting.trained().double(), setting.shown.images.double(), setting.until
    reference, _ = final_state(network, images, RK4(FINEST), until)
    solvers: dict[str, list[FlowSolver]] = {
        name: [kind(dt) for dt in setting.steps] for name, kind in fixed_solvers(setting.network).items()
    }
    solvers["Dopri5"] = [Dopri5(until, rtol=rtol, atol=rtol / 100) for rtol in TOLERANCES]
    solvers["torchdiffeq dopri8"] = [
        TorchDiffEq(until, method="dopri8", rtol=rtol, atol=rtol / 100) for rtol in TOLERANCES
    ]
    found: dict[str, Any] = {}
    for name, settings in solvers.items():
        ends = [final_state(network, images, solver, until) for solver in settings]
        fixed = [EVALUATIONS.get(name, 0) * round(until / solver.dt) for solver in settings]
        found[f"{name} evaluations"] = [work or counted for work, (_, counted) in zip(fixed, ends, strict=True)]
        found[f"{name} error"] = [float((end - reference).abs().max() / reference.abs().max()) for end, _ in ends]
    return found


def final_state(network: Network, images: Tensor, solver: FlowSolver, until: float) -> tuple[Tensor, int]:
    """Return the final state as one vector, and the number of dr/dt evaluations."""
    counted = 0

    def count(*_: object) -> None:
        nonlocal counted
        counted += 1

    rule, *_ = network.flows.values()  # called once per evaluation of dr/dt
    watching = rule.register_forward_hook(count)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PcsimWarning)
            record = Record(states=[flows.answers_of(network)], every=max(1, round(until / solver.dt)))
            run_ = simulate(network, images, solver=solver, until=until, record=record)
    finally:
        watching.remove()
    return torch.cat([value.flatten() for value in run_.final.state.values()]), counted
