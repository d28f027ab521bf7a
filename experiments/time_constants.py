"""What do time constants do to a recurrent network, and which dt and solver does it need?

Trains four networks to name digits under debris: hierarchical predictive coding (by its local rule), PCN with global
loops, BLT and a leaky RCNN (through time). Then sweeps the time constant of each area, the ratio between areas, dt and
the solver, and draws how errors fall, when networks settle, how well they name the digit at a deadline, how large dt
may be, and what accuracy costs. The report has pages to explore, if plotly is there (pip install "pcsim[viz]").

    python -m experiments.time_constants                               about 6 minutes on 2 cores
    python -m experiments.time_constants --where slurm:partition=cpu   the sweeps as job arrays; see docs/sweeps.md
"""

from __future__ import annotations

import math
import time
import warnings
from dataclasses import field, replace
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import Tensor
from tqdm.auto import tqdm

from experiments import common, flows, time_constants_report
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
from pcsim.core import storage
from pcsim.dynamics import stability
from pcsim.solvers import FlowSolver
from pcsim.sweeps.sweep import Sweep, Table, grid
from pcsim.training import Training

FIXED: dict[str, type[FlowSolver]] = {"Euler": Euler, "Heun": Heun, "RK4": RK4, "ExponentialEuler": ExponentialEuler}
EVALUATIONS = {"Euler": 1, "Heun": 2, "RK4": 4, "ExponentialEuler": 1}
"""of the right-hand side in a step"""
ADAPTIVE = ("Dopri5", "torchdiffeq dopri8")
TOLERANCES = (1e-2, 1e-3, 1e-4, 1e-5)
FINEST = 1 / 64
"""ms, the dt of the reference: where units are rectified, adaptive solvers of high order come to it no sooner"""
PRECISE_IMAGES, BORDER_IMAGES = 4, 2
TOGETHER = 5
"""pairs of time constants in one run"""
ROWS = 200
"""times at which a settling network is looked at"""


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class TimeConstants:
    """Options of the experiment; a preset gives the defaults."""

    out: Path = Path("results/time_constants")
    """folder for everything that comes out"""
    seed: int = 0
    """of weights and images"""
    networks: tuple[flows.Name, ...] = flows.NAMES
    """networks to compare"""
    taus: tuple[Annotated[float, Field(gt=0)], ...] = (5.0, 10.0, 20.0, 40.0, 80.0)
    """ms, of the lower and of the upper area, in all combinations"""
    dt: Annotated[float, Field(gt=0)] = 1.0
    """ms, of Euler while time constants are swept"""
    until: Annotated[float, Field(gt=0)] = 400.0
    """ms that networks are given to settle"""
    deadline: Annotated[float, Field(gt=0)] = 40.0
    """ms at which accuracy is read off"""
    images: Annotated[int, Field(gt=0)] = 40
    """test images with each pair of time constants"""
    dts: tuple[Annotated[float, Field(gt=0)], ...] = (0.5, 1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 24)
    """ms, at which accuracy is measured with every solver; they must divide `read`"""
    read: Annotated[float, Field(gt=0)] = 120.0
    """ms after which it is read"""
    read_images: Annotated[int, Field(gt=0)] = 100
    """test images with each dt"""
    precise: tuple[Annotated[float, Field(gt=0)], ...] = (5.0, 2.5, 1.25, 0.625, 0.3125)
    """ms, dt of the fixed-step solvers whose errors are measured; they must divide 40 ms"""
    fragments: Annotated[int, Field(ge=0)] = 10
    """pieces of debris over each test digit"""
    recipe: flows.Recipe = flows.Recipe()
    """how the networks are trained"""
    where: str = "processes:2"
    """where the sweeps run: here, processes:4, dask:4, dask:tcp://host:8786, slurm:partition=cpu,timeout_min=60"""
    workers: Annotated[int, Field(gt=0)] = 2
    """processes of this machine that train side by side; results do not depend on it"""


QUICK = flows.Recipe(
    through_time=Training(updates=400, batch=32, learning_rate=5e-3, over_time="mean"),
    steps=15,
)
PRESETS = {
    "smoke": TimeConstants(
        out=Path("results/time_constants-smoke"),
        networks=("predictive_coding", "leaky_rcnn"),
        taus=(10.0, 20.0),
        dt=2.0,
        until=80.0,
        images=4,
        dts=(1.0, 4.0, 24.0),
        read=24.0,
        read_images=10,
        precise=(5.0, 2.5),
        recipe=flows.SMOKE,
        where="here",
        workers=1,
    ),
    "quick": TimeConstants(recipe=QUICK),
    "standard": TimeConstants(
        out=Path("results/time_constants-standard"),
        taus=(5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 40.0, 60.0, 80.0, 120.0, 160.0),
        until=1_600.0,
        images=64,
        read_images=1_000,
        recipe=flows.STANDARD,
    ),
}
PRESETS["paper"] = PRESETS["standard"]


@dataclass(frozen=True)
class Setting:
    """What a point of the sweeps depends on; `folder` says where the trained networks are."""

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
        """Test images, never seen in training."""
        return flows.digits(self.fragments, flows.TEST_SEED + self.seed, self.images)

    def trained(self) -> Network:
        """The network with its time constants."""
        return flows.trained(self.network, self.folder, (self.low, self.high))


def run(config: TimeConstants) -> None:
    """The whole experiment: train, sweep, draw, report. Resumes in its folder."""
    begun = time.perf_counter()
    common.claim(config.out, config)
    # The longest training first: two of the others fit beside it.
    order = sorted(config.networks, key=lambda name: name != "pcn_global")
    jobs = [(name, config.recipe, config.seed, config.out) for name in order]
    for job, curve in common.run_jobs(flows.fit, jobs, config.workers, "training"):
        tqdm.write(f"trained {flows.TITLES[job[0]]}: {curve[0]:.2f} -> {curve[-1]:.2f}")
    tables = {name: sweep.run(config.where) for name, sweep in sweeps(config).items()}
    results = gather(config, tables) | common.environment(torch.device("cpu"))
    results["config"] = common.recorded(config)
    results["points"] = {name: len(table) for name, table in tables.items()}
    results["wall_time_s"] = round(time.perf_counter() - begun, 1)
    storage.write_json(config.out / "results.json", results)
    time_constants_report.report(config, results)


def sweeps(config: TimeConstants) -> dict[str, Sweep]:
    """The four sweeps: over time constants, over dt and solver, of stability borders, of the solvers' errors."""
    base = Setting(
        config.recipe,
        config.networks[0],
        config.until,
        config.images,
        config.fragments,
        dt=config.dt,
        seed=config.seed,
        folder=config.out,
    )
    reading = replace(base, until=config.read, images=config.read_images)
    bounding = replace(reading, images=BORDER_IMAGES)
    precise = replace(base, until=40.0, images=PRECISE_IMAGES, steps=config.precise)
    steps = [
        point
        for name in config.networks
        for point in grid({"network": [name], "solver": fixed_for(name), "dt": config.dts})
    ]
    networks: dict[str | tuple[str, ...], Any] = {"network": config.networks}
    folder = config.out / "sweep"
    return {
        "settling": Sweep(
            settle,
            base,
            grid({**networks, "low": config.taus, "high": config.taus}),
            folder,
            together=TOGETHER,
        ),
        "solvers": Sweep(respond, reading, steps, folder),
        "borders": Sweep(border, bounding, grid({**networks, "image": range(BORDER_IMAGES)}), folder),
        "precision": Sweep(precision, precise, grid(networks), folder),
    }


def fixed_for(network: flows.Name) -> dict[str, type[FlowSolver]]:
    """The fixed-step solvers that take this network: the exponential one takes only populations that leak."""

    def takes(kind: type[FlowSolver]) -> bool:
        try:
            kind(1.0).check(flows.build(network).wiring())
        except SolverError:
            return False
        return True

    return {name: kind for name, kind in FIXED.items() if takes(kind)}


def settle(settings: list[Setting]) -> list[dict[str, Any]]:
    """Each setting's curves: error of the image or rate of change, share correct; all of a network in one run."""
    results = []
    for _, group in groupby(settings, lambda setting: setting.network):
        results += settle_together(list(group))
    return results


def settle_together(settings: list[Setting]) -> list[dict[str, Any]]:
    """Settings that differ in time constants only."""
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
        warnings.simplefilter("ignore", PcsimWarning)  # of samples that diverge: they count as not settled
        run_ = simulate(many.network, many.tile(shown.images), solver=Euler(first.dt), until=first.until, record=record)
    times, areas = run_.times, [many.split(run_[area]) for area in (low, high)]
    told = many.split(run_[answers][1:])
    named = shown.named(told)
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
            "decided": decision_times(times[1:], told[point]),
            "correct": named[point].double().mean(1),
        }
        if errors:
            found["error"] = many.split(run_.errors["e0"][1:])[point].median(1).values
        results.append(found)
    return results


def respond(setting: Setting) -> dict[str, Any]:
    """Share of digits named right with this solver and dt; NaN where samples diverge, or pcsim refuses the step."""
    network, shown = setting.trained(), setting.shown
    answers = flows.answers_of(network)
    every = round(setting.until / setting.dt)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PcsimWarning)  # of large steps and what they do: it is measured here
            solver, record = FIXED[setting.solver](setting.dt), Record(states=[answers], every=every)
            run_ = simulate(network, shown.images, solver=solver, until=setting.until, record=record)
    except SolverError as reason:
        return {"correct": math.nan, "end": f"refused: {reason}"}
    if Status.DIVERGED in run_.status:
        return {"correct": math.nan, "end": f"{run_.status.count(Status.DIVERGED)} samples diverged"}
    return {"correct": shown.named(run_[answers][-1]).double().mean(), "end": "finite"}


def border(setting: Setting) -> dict[str, Any]:
    """The largest stable dt of explicit solvers about the state at the end, on one image."""
    network, image = setting.trained().double(), setting.shown.images[setting.image][None].double()
    dynamics = stability.Dynamics(network, image)
    end = simulate(network, image, solver=Euler(1.0), until=setting.until, record=Record(every=1)).final
    values = stability.eigenvalues(dynamics, dynamics.flat(end.state), 2, "largest")
    found = {name: stability.largest_stable_dt(values, FIXED[name]) for name in ("Euler", "Heun", "RK4")}
    return {**found, "eigenvalue": float(values[0].real)}


def precision(setting: Setting) -> dict[str, Any]:
    """Of every solver, evaluations of dr/dt and largest error of the state at the end, by dt or by tolerance."""
    network, images, until = setting.trained().double(), setting.shown.images.double(), setting.until
    reference, _ = end_of(network, images, RK4(FINEST), until)
    solvers: dict[str, list[FlowSolver]] = {
        name: [kind(dt) for dt in setting.steps] for name, kind in fixed_for(setting.network).items()
    }
    solvers["Dopri5"] = [Dopri5(until, rtol=rtol, atol=rtol / 100) for rtol in TOLERANCES]
    solvers["torchdiffeq dopri8"] = [
        TorchDiffEq(until, method="dopri8", rtol=rtol, atol=rtol / 100) for rtol in TOLERANCES
    ]
    found: dict[str, Any] = {}
    for name, settings in solvers.items():
        ends = [end_of(network, images, solver, until) for solver in settings]
        fixed = [EVALUATIONS.get(name, 0) * round(until / solver.dt) for solver in settings]
        found[f"{name} evaluations"] = [work or counted for work, (_, counted) in zip(fixed, ends, strict=True)]
        found[f"{name} error"] = [float((end - reference).abs().max() / reference.abs().max()) for end, _ in ends]
    return found


def end_of(network: Network, images: Tensor, solver: FlowSolver, until: float) -> tuple[Tensor, int]:
    """The state at the end as one vector, and how often an adaptive solver asked for dr/dt."""
    counted = 0

    def count(*_: object) -> None:
        nonlocal counted
        counted += 1

    rule, *_ = network.flows.values()  # called once for each dr/dt
    watching = rule.register_forward_hook(count)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PcsimWarning)
            record = Record(states=[flows.answers_of(network)], every=max(1, round(until / solver.dt)))
            run_ = simulate(network, images, solver=solver, until=until, record=record)
    finally:
        watching.remove()
    return torch.cat([value.flatten() for value in run_.final.state.values()]), counted


def gather(config: TimeConstants, tables: dict[str, Table]) -> dict[str, Any]:
    """Every number of the figures, by network."""
    networks: dict[str, Any] = {}
    for name in config.networks:
        settling, solvers = tables["settling"].where(network=name), tables["solvers"].where(network=name)
        borders, precise = tables["borders"].where(network=name), tables["precision"].where(network=name)
        fixed, times = list(fixed_for(name)), settling.results[0]["times"]
        curve = "error" if "error" in settling.columns else "change"
        at = int(np.searchsorted(times, config.deadline + 1e-9)) - 1
        settled = np.nan_to_num(settling.over("settled", "low", "high")[:, :, 0], nan=np.inf)
        networks[name] = {
            "times": times.tolist(),
            "curve": curve,
            "curves": common.finite_or_none(settling.over(curve, "low", "high")[:, :, 0]),
            "correct": common.finite_or_none(settling.over("correct", "low", "high")[:, :, 0]),
            "settling": common.finite_or_none(np.median(settled, axis=-1)),
            "deciding": common.finite_or_none(np.median(settling.over("decided", "low", "high")[:, :, 0], axis=-1)),
            "accuracy": common.finite_or_none(settling.over("correct", "low", "high")[:, :, 0, at]),
            "by_dt": {
                solver: common.finite_or_none(solvers.where(solver=solver).over("correct", "dt")[:, 0])
                for solver in fixed
            },
            "ends": {solver: list(solvers.where(solver=solver)["end"]) for solver in fixed},
            "borders": {solver: float(np.min(borders[solver])) for solver in ("Euler", "Heun", "RK4")},
            "precision": {
                solver: {key: common.finite_or_none(precise[f"{solver} {key}"][0]) for key in ("evaluations", "error")}
                for solver in (*fixed, *ADAPTIVE)
            },
        }
    return {"networks": networks}


if __name__ == "__main__":
    common.main(run, lambda: common.parse(PRESETS, None, str(__doc__)))
