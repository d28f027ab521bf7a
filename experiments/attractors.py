"""Measure how well and how fast attractor networks complete corrupted patterns, and how many patterns they store.

Three Hopfield networks (binary with asynchronous updates, graded, and modern) start from stored patterns in which a
fraction of the units is flipped. The experiment measures how often patterns are completed, and how long the networks
take to settle, as a function of this fraction. For the binary network, it also measures the final overlap as a function
of the load. The storage limit is near 0.138 patterns per unit.

    python -m experiments.attractors                     100 units, 7 patterns, about 10 s
    python -m experiments.attractors --preset standard   three repetitions of 500 units
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from pcsim import Euler, Iterate, Record, Simulator, models, stimuli
from pcsim.plots import axes
from pcsim.solvers import Solver

from . import base
from .base import OPTIONS, Count, Repeated, Some
from .report import Picture, Report, Table, counted

KINDS = ("binary", "graded", "modern")
TAU, DT = 10.0, 1.0
"""time constant and Euler step of the graded network, ms"""
SWEEPS, GRADED_MS, MODERN_STEPS = 12, 400.0, 10


@dataclass(frozen=True, config=OPTIONS)
class Attractors(Repeated):
    """Options of the experiment, whose defaults depend on the preset. Each repetition draws new patterns and cues."""

    out: Path = Path("results/attractors")
    """output folder"""
    units: Annotated[int, Field(gt=1)] = 100
    """number of units in each network"""
    patterns: Count = 7
    """number of stored patterns in the runs that vary the corruption"""
    corruption: Some[Annotated[float, Field(ge=0, le=1)]] = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4)
    """fractions of the units that are flipped in the cues"""
    loads: Some[Annotated[float, Field(gt=0)]] = (0.02, 0.05, 0.08, 0.1, 0.12, 0.14, 0.16, 0.2, 0.25)
    """loads of the binary network, in patterns per unit; in these runs, the cues are not corrupted"""
    cues: Count = 100
    """number of cues at each corruption level; they cycle through the patterns"""


PRESETS = {
    "smoke": Attractors(
        smoke=True,
        out=Path("results/attractors-smoke"),
        units=40,
        patterns=3,
        corruption=(0.1, 0.3),
        loads=(0.05, 0.2),
        cues=12,
    ),
    "quick": Attractors(),
    "standard": Attractors(out=Path("results/attractors-standard"), units=500, patterns=35, repetitions=3),
    "large": Attractors(out=Path("results/attractors-large"), units=1_000, patterns=70, repetitions=10),
}


def run(config: Attractors) -> None:
    """Run the experiment, skipping repetitions whose results are already in the output folder."""
    base.conduct(config, find, report)


def find(config: Attractors) -> dict[str, Any]:
    """Run all repetitions and return their results."""
    jobs = [(config, seed) for seed in config.seeds]
    found = {job[1]: row for job, row in base.run_jobs(measure, jobs, config.workers, "completing")}
    return {"repetitions": [found[seed] for seed in config.seeds]}


def measure(config: Attractors, seed: int) -> dict[str, Any]:
    """Return the results of one repetition, loading them if they have already been saved."""
    return base.once(base.kept(config, "repetitions", seed, suffix="json"), lambda: _measured(config, seed))


def _measured(config: Attractors, seed: int) -> dict[str, Any]:
    patterns = models.random_patterns(config.patterns, config.units, seed)
    sims = {kind: make_simulator(kind, patterns) for kind in KINDS}
    rows: dict[str, Any] = {kind: [] for kind in KINDS}
    for share in config.corruption:
        cues, wanted = corrupt(patterns, config.cues, share, seed)
        for kind, sim in sims.items():
            rows[kind].append(complete(kind, sim, cues, wanted, seed))
    overlaps = []
    for load in config.loads:
        stored = models.random_patterns(max(1, round(load * config.units)), config.units, seed + 10_000)
        cues, wanted = corrupt(stored, min(config.cues, len(stored)), 0.0, seed)
        overlaps.append(complete("binary", make_simulator("binary", stored), cues, wanted, seed)["overlap"])
    return rows | {"load_overlap": overlaps}


def corrupt(patterns: Tensor, count: int, share: float, seed: int) -> tuple[Tensor, Tensor]:
    """Return (cues, original patterns), each (count, units), with round(share * units) units flipped in each cue."""
    wanted = patterns[torch.arange(count) % len(patterns)]
    order = torch.rand(wanted.shape, generator=torch.Generator().manual_seed(seed + 1)).argsort(1)
    flipped = order < round(share * patterns.shape[1])
    return torch.where(flipped, -wanted, wanted), wanted


def make_simulator(kind: str, patterns: Tensor) -> Simulator:
    """Build a network that stores the patterns, and return a Simulator that records its state and energy."""
    solver: Solver = Euler(dt=DT) if kind == "graded" else Iterate()
    if kind == "binary":
        net = models.hopfield(patterns)
    elif kind == "graded":
        net = models.hopfield_continuous(patterns, tau=TAU)
    else:
        net = models.hopfield_modern(patterns, beta=1.0)
    every = max(1, patterns.shape[1] // 10) if kind == "binary" else 1
    return Simulator(net, solver=solver, record=Record(states=[net.readout or "", "energy"], every=every))


def complete(kind: str, sim: Simulator, cues: Tensor, wanted: Tensor, seed: int) -> dict[str, Any]:
    """Run a network from the cues; return the fraction completed, the overlap, median settling time and energy curve.

    completed  fraction of cues for which every unit ends with the same sign as in the pattern
    settled    median time after which the state stays within 1 % (in norm) of its final value, in rounds, time
               constants or steps; a lower bound if at least half of the cues are unsettled
    unsettled  fraction of cues whose state was still changing in the last tenth of the run
    """
    given, steps, unit = setting(kind, cues, seed)
    run_ = sim(given, steps=steps)
    states, every = run_[sim.network.readout or ""], sim.records[0].every
    end = torch.where(states[-1] < 0, -1.0, 1.0)
    change = (states - states[-1]).norm(dim=2) > 0.01 * states[-1].norm(dim=1)
    moving = torch.cat([(cues - states[-1]).norm(dim=1)[None] > 0.01 * states[-1].norm(dim=1), change])
    last = moving.int().flip(0).argmax(0)
    settled = torch.where(moving.any(0), len(moving) - last, torch.zeros_like(last)).double() * every / unit
    return {
        "completed": (end == wanted).all(1).double().mean().item(),
        "overlap": (end * wanted).mean(1).double().mean().item(),
        "settled": settled.median().item(),
        "unsettled": change[-1 - max(1, len(change) // 10) :].any(0).double().mean().item(),
        "energy": run_["energy"][:, :, 0].mean(1).tolist(),
        "rises": float(run_["energy"].diff(dim=0).max()),
    }


def setting(kind: str, cues: Tensor, seed: int) -> tuple[dict[str, Tensor | stimuli.Timeline], int, float]:
    """Return the stimuli, the number of steps, and the number of steps per unit of settling time."""
    count, units = cues.shape
    if kind == "binary":
        return {"cue": cues, "turn": stimuli.turns(units, count, SWEEPS, seed)}, SWEEPS * units, units
    if kind == "graded":
        return {"cue": 0.5 * cues}, round(GRADED_MS / DT), TAU / DT
    return {"cue": cues}, MODERN_STEPS, 1.0


def report(config: Attractors, results: dict[str, Any]) -> Report:
    """Build the report page."""
    rows = results["repetitions"]
    completed = {kind: [[at["completed"] for at in row[kind]] for row in rows] for kind in KINDS}
    settled = {kind: [[at["settled"] for at in row[kind]] for row in rows] for kind in KINDS}
    overlap = [row["load_overlap"] for row in rows]
    pictures = [
        Picture(
            "completion",
            completion(config.corruption, completed, settled),
            "Left: fraction of cues from which the network recovers every unit of the pattern. Right: median settling "
            "time in rounds, in which each unit is updated once (binary), time constants (graded) or steps (modern). "
            "Lines show means over repetitions; dots show individual repetitions. Times with > in the table are lower "
            "bounds: at least half of the cues were still changing in the last tenth of the run.",
            ("repetitions",),
        ),
        Picture(
            "capacity",
            capacity(config.loads, overlap),
            "Overlap of the final state with the stored pattern that served as the cue, as a function of the load. The "
            "dotted line marks the limit for very large networks, 0.138 patterns per unit (Amit, Gutfreund & "
            "Sompolinsky 1985).",
            ("repetitions",),
        ),
    ]
    lines = [
        (
            f"{100 * share:.0f} %",
            *(f"{100 * np.mean([row[i] for row in completed[kind]]):.1f}" for kind in KINDS),
            *(settling([row[kind][i] for row in rows]) for kind in KINDS),
        )
        for i, share in enumerate(config.corruption)
    ]
    head = ("flipped", *(f"{kind}, completed (%)" for kind in KINDS), *(f"{kind}, settled" for kind in KINDS))
    return Report(
        "Attractor networks: pattern completion and settling time versus corruption",
        f"{config.units} units, {config.patterns} patterns, {config.cues} cues per corruption level, "
        f"{counted(config.repetitions, 'repetition')}. Hopfield 1982, 1984; Ramsauer et al. 2020.",
        pictures,
        [Table("Completion and settling time (binary: rounds; graded: time constants; modern: steps)", head, lines)],
    )


def settling(repetitions: Sequence[Mapping[str, float]]) -> str:
    """Format the settling time, averaged over repetitions, with > if at least half of the cues are unsettled."""
    bound = "> " if any(row["unsettled"] >= 0.5 for row in repetitions) else ""
    return f"{bound}{np.mean([row['settled'] for row in repetitions]):.1f}"


def completion(
    corruption: Sequence[float], completed: Mapping[str, ArrayLike], settled: Mapping[str, ArrayLike]
) -> Figure:
    """Plot the fraction of completed patterns (left) and the settling time (right) against the corruption level.

    completed[network] and settled[network] have shape (repetitions, corruption levels).
    """
    figure = Figure(figsize=(9.0, 3.5), layout="constrained")
    panels = figure.subplots(1, 2)
    flipped = 100 * np.asarray(corruption)
    for panel, values, factor in zip(panels, (completed, settled), (100.0, 1.0), strict=True):
        for index, (name, rows) in enumerate(values.items()):
            data = factor * np.asarray(rows)
            panel.plot(flipped, data.mean(0), "-", color=f"C{index}", label=name)
            panel.plot(flipped, data.T, "o", ms=3.5, color=f"C{index}", alpha=0.6)
        panel.set(xlabel="units flipped (%)")
    panels[0].set(ylabel="completed (%)", ylim=(-3, 103))
    panels[1].set(ylabel="settling time (rounds, tau, steps)", ylim=(0, None))
    panels[0].legend(frameon=False)
    return figure


def capacity(loads: Sequence[float], overlap: ArrayLike, border: float = 0.138, ax: Axes | None = None) -> Axes:
    """Plot the overlap with the stored pattern, (repetitions, loads), against the load, and mark the limit `border`."""
    ax = ax or axes()
    data = np.asarray(overlap)
    ax.plot(loads, data.mean(0), "-", color="C0")
    ax.plot(loads, data.T, "o", ms=4, color="C0", alpha=0.6)
    ax.axvline(border, color="0.6", linestyle=":", linewidth=1)
    ax.set(xlabel="patterns per unit", ylabel="overlap after settling", ylim=(0, 1.03))
    return ax


if __name__ == "__main__":
    base.main()
