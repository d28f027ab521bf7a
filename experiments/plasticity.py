"""Test whether a three-factor rule shifts orientation preferences towards the rewarded stimulus.

Orientation-tuned rate units see gratings, and one orientation is followed by a reward. Their input weights learn from
the reward prediction error and an eligibility trace, while the norm of each unit's weights is held constant. The
controls receive no reward, or rewards at the same rate on random trials. In a fourth condition, the expected reward
is not subtracted. The report shows the shifts of preferred orientations, and how they decrease with reward delay.

    python -m experiments.plasticity                     three repetitions, about 20 s on 2 cores
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from pcsim import Euler, Network, Population, Projection, Record, Simulator, stimuli
from pcsim.analysis.statistics import estimate
from pcsim.plots import axes
from pcsim.rules import leaky_rate
from pcsim.training import local

from . import base
from .base import OPTIONS, Count, Repeated
from .report import Picture, Report, Table, counted

CONDITIONS = ("rewarded", "shuffled reward", "no reward", "rewarded, no baseline")
DT, TAU = 10.0, 20.0
"""Euler step and time constant of the units, ms"""
NEAR = 45.0
"""distance from the rewarded orientation within which the units' preferences are analysed, degrees"""
PHASES = 8
Numbers = NDArray[np.float64]


@dataclass(frozen=True, config=OPTIONS)
class Plasticity(Repeated):
    """Options of the experiment, whose defaults depend on the preset."""

    out: Path = Path("results/plasticity")
    """output folder"""
    repetitions: Count = 3
    """number of repetitions, each with different units, stimuli and rewarded orientation"""
    units: Count = 36
    """number of orientation-tuned units"""
    size: Count = 12
    """height and width of the gratings in pixels"""
    trials: Count = 300
    """number of trials in each condition, run in batches"""
    batch: Count = 10
    """number of trials per update"""
    orientations: Annotated[int, Field(ge=4)] = 12
    """number of orientations, one of which is rewarded"""
    rate: Annotated[float, Field(gt=0)] = 0.02
    """learning rate of the three-factor rule"""
    presented: Annotated[float, Field(gt=0, multiple_of=DT)] = 100.0
    """duration of a grating, ms"""
    delay: Annotated[float, Field(ge=0, multiple_of=DT)] = 50.0
    """time from the end of the grating to the reward, ms"""
    delays: tuple[Annotated[float, Field(ge=0, multiple_of=DT)], ...] = (0.0, 50.0, 100.0, 200.0)
    """reward delays in the second figure, ms"""
    tau_eligibility: Annotated[float, Field(gt=0)] = 100.0
    """time constant of the eligibility trace, ms"""


PRESETS = {
    "smoke": Plasticity(
        smoke=True,
        out=Path("results/plasticity-smoke"),
        repetitions=2,
        units=18,
        size=8,
        trials=150,
        delays=(0.0, 200.0),
        workers=1,
    ),
    "quick": Plasticity(),
    "standard": Plasticity(out=Path("results/plasticity-standard"), repetitions=10, trials=1_200, rate=0.005),
}


def run(config: Plasticity) -> None:
    """Run the experiment, skipping conditions that are already in the output folder."""
    base.conduct(config, find, report)


def find(config: Plasticity) -> dict[str, Any]:
    """Train all conditions; return the tuning before and after learning, and the shifts."""
    jobs = [(config, condition, config.delay, seed) for condition in CONDITIONS for seed in config.seeds]
    jobs += [(config, "rewarded", delay, seed) for delay in config.delays for seed in config.seeds]
    unique = list(dict.fromkeys(jobs))
    found = {job[1:]: row for job, row in base.run_jobs(outcome, unique, config.workers, "trials")}
    return {
        "conditions": {c: [found[c, config.delay, seed] for seed in config.seeds] for c in CONDITIONS},
        "delays": {f"{d:g}": [found["rewarded", d, seed]["shift"] for seed in config.seeds] for d in config.delays},
    }


# ---------------------------------------------------------------------- network and stimuli


def gratings(orientation: Tensor, phase: Tensor, size: int) -> Tensor:
    """Return sinusoidal gratings (n, 1, size, size) from -1 to 1, three cycles per image; orientation is in degrees."""
    ticks = torch.linspace(-0.5, 0.5, size)
    angle = torch.deg2rad(orientation)[:, None, None]
    across = ticks[None, :, None] * torch.cos(angle) + ticks[None, None, :] * torch.sin(angle)
    return torch.sin(2 * math.pi * 3.0 * across + phase[:, None, None])[:, None]


def build(config: Plasticity, seed: int) -> Network:
    """Build leaky units with noisy Gabor weights of all orientations."""
    generator = torch.Generator().manual_seed(seed)
    angles = torch.arange(config.units) * 180.0 / config.units
    phases = 2 * math.pi * torch.rand(config.units, generator=generator)
    ticks = torch.linspace(-0.5, 0.5, config.size)
    window = torch.exp(-(ticks[:, None] ** 2 + ticks[None, :] ** 2) / (2 * 0.2**2))
    gabors = (gratings(angles, phases, config.size) * window).flatten(1)
    gabors = gabors / gabors.norm(dim=1, keepdim=True)
    noise = torch.randn(gabors.shape, generator=generator) / math.sqrt(gabors.shape[1])
    layer = nn.Linear(config.size**2, config.units, bias=False)
    with torch.no_grad():
        layer.weight.copy_(0.2 * (gabors + 0.3 * noise))
    edge = Projection("image", "v1", nn.Sequential(nn.Flatten(), layer))
    shape = (1, config.size, config.size)
    return Network({"image": shape}, [Population("v1", leaky_rate(config.units, TAU, bias=False))], [edge])


def tuning(config: Plasticity, network: Network) -> Numbers:
    """Return responses (unit, orientation) at the end of gratings, in steps of 5 degrees and averaged over phases."""
    angles = torch.arange(0.0, 180.0, 5.0)
    phases = torch.arange(PHASES) * 2 * math.pi / PHASES
    shown = gratings(angles.repeat_interleave(PHASES), phases.repeat(len(angles)), config.size)
    sim = Simulator(network, solver=Euler(DT), record=Record(states=["v1"], at=[config.presented]))
    found = sim(shown, until=config.presented)["v1"][-1].reshape(len(angles), PHASES, -1)
    return found.mean(1).T.double().numpy()


def preferred(curves: Numbers) -> Numbers:
    """Return the preferred orientation in degrees (vector mean) of each tuning curve (unit, orientation)."""
    angles = np.deg2rad(2 * 5.0 * np.arange(curves.shape[1]))
    return np.rad2deg(np.angle((curves * np.exp(1j * angles)).sum(1))) / 2 % 180.0


def apart(first: Any, second: Any) -> Numbers:
    """Return the orientation difference, first - second, in degrees, from -90 to 90."""
    return (np.asarray(first, float) - second + 90.0) % 180.0 - 90.0


# ---------------------------------------------------------------------- learning


def outcome(config: Plasticity, condition: str, delay: float, seed: int) -> dict[str, Any]:
    """Return the result of one condition, loading it from the output folder if it has been saved."""
    path = base.kept(config, "learned", condition, f"{delay:g}", seed, suffix="json")
    return base.once(path, lambda: _learned(config, condition, delay, seed))


def _learned(config: Plasticity, condition: str, delay: float, seed: int) -> dict[str, Any]:
    network = build(config, seed)
    baseline: Any = 0.0 if condition == "rewarded, no baseline" else "running"
    rule = local.ThreeFactor(config.rate, math.exp(-DT / config.tau_eligibility), baseline, tau_reward=20.0)
    plasticity = local.Plasticity(network, {"image->v1": rule})
    sim = Simulator(network, solver=Euler(DT), record=plasticity.record())
    rng = np.random.default_rng(seed)
    rewarded = int(rng.integers(config.orientations))
    before = tuning(config, network)
    (weight,) = network.parameters()
    lengths = weight.detach().norm(dim=1, keepdim=True)
    for _ in range(config.trials // config.batch):
        chosen = rng.integers(config.orientations, size=config.batch)
        phases = torch.as_tensor(2 * np.pi * rng.random(config.batch), dtype=torch.float32)
        shown = gratings(torch.as_tensor(chosen * 180.0 / config.orientations).float(), phases, config.size)
        reward = (chosen == rewarded).astype(float)
        shuffled = (rng.random(config.batch) < 1.0 / config.orientations).astype(float)
        reward = {"no reward": 0.0 * reward, "shuffled reward": shuffled}.get(condition, reward)
        trial = stimuli.held(shown, config.presented)
        if delay:
            trial = trial.then(stimuli.blank(delay, like=shown))
        run = sim(trial, until=config.presented + delay)
        plasticity.follow(run, reward=torch.as_tensor(reward, dtype=torch.float32))
        with torch.no_grad():  # synaptic scaling: without it, the weights of rewarded units grow exponentially
            weight.mul_(lengths / weight.norm(dim=1, keepdim=True))
    after, target = tuning(config, network), rewarded * 180.0 / config.orientations
    return {
        "rewarded": target,
        "before": preferred(before).tolist(),
        "after": preferred(after).tolist(),
        "response_before": before.tolist(),
        "response_after": after.tolist(),
        "shift": shift(before, after, target),
        "near": near_share(after, target) - near_share(before, target),
        "gain": gain(before, after, target),
    }


def shift(before: Numbers, after: Numbers, target: float) -> float:
    """Return the mean shift towards the target, in degrees, of units with preferences less than 45 degrees from it.

    Units within 5 degrees of the target are excluded, because they can hardly move towards it.
    """
    first, last = np.abs(apart(preferred(before), target)), np.abs(apart(preferred(after), target))
    chosen = (first > 5.0) & (first < NEAR)
    return float((first - last)[chosen].mean())


def near_share(curves: Numbers, target: float) -> float:
    """Return the fraction of units that prefer orientations within 15 degrees of the target."""
    return float((np.abs(apart(preferred(curves), target)) < 15.0).mean())


def gain(before: Numbers, after: Numbers, target: float) -> float:
    """Return the population response to the target after learning, relative to that before learning."""
    column = round(target / 5.0) % before.shape[1]
    return float(after[:, column].sum() / before[:, column].sum())


# ---------------------------------------------------------------------- report


def report(config: Plasticity, results: dict[str, Any]) -> Report:
    """Build the report page."""
    rows = []
    for condition, found in results["conditions"].items():
        shifts = [row["shift"] for row in found]
        mean, near = estimate(shifts), 100 * np.mean([row["near"] for row in found])
        interval = f"{mean.mean:.2f} [{mean.low:.2f}, {mean.high:.2f}]"
        ratio = f"{np.mean([row['gain'] for row in found]):.2f}"
        rows.append((condition, ", ".join(f"{shift:.2f}" for shift in shifts), interval, f"{near:+.1f}", ratio))
    head = ("condition", "shift of each repetition (deg)", "mean [95 %]", "near the target (points)", "response ratio")
    pictures = [
        Picture(
            "shifts",
            shift_curves(results["conditions"]),
            "Shift towards the rewarded orientation against the initial distance of a unit's preference from it. "
            "Grey points are units of all repetitions; lines are means in bins of 10 degrees.",
            ("conditions",),
        ),
        Picture(
            "delays",
            delay_curve(results["delays"], config.tau_eligibility),
            "Mean shift against the delay of the reward. Points are repetitions; the dashed line is the decay of the "
            "eligibility trace, scaled to the shift without delay.",
            ("delays",),
        ),
    ]
    return Report(
        "Reward shifts tuning under a three-factor rule",
        f"{config.units} units, {config.orientations} orientations, {config.trials:,} trials, "
        f"reward {config.delay:g} ms after the grating, {counted(config.repetitions, 'repetition')}.",
        pictures,
        [Table("Shift of the preferred orientation towards the rewarded one", head, rows)],
    )


def shift_curves(conditions: dict[str, list[dict[str, Any]]]) -> Figure:
    """Plot each unit's shift against its initial distance from the rewarded orientation, one panel per condition."""
    count = len(conditions)
    figure, places = pyplot.subplots(1, count, figsize=(2.6 * count, 2.8), sharey=True, layout="constrained")
    edges = np.arange(0.0, 91.0, 10.0)
    for ax, (condition, found) in zip(np.ravel(places), conditions.items(), strict=True):
        first = np.concatenate([np.abs(apart(row["before"], row["rewarded"])) for row in found])
        last = np.concatenate([np.abs(apart(row["after"], row["rewarded"])) for row in found])
        ax.plot(first, first - last, ".", color="0.7", ms=3)
        bins = np.digitize(first, edges) - 1
        filled = [b for b in range(len(edges) - 1) if (bins == b).any()]
        ax.plot(edges[filled] + 5.0, [(first - last)[bins == b].mean() for b in filled], "o-", color="C0", ms=3)
        ax.axhline(0.0, color="0.4", linewidth=0.8)
        ax.set(title=condition, xlabel="initial distance (deg)")
    np.ravel(places)[0].set_ylabel("shift towards the target (deg)")
    return figure


def delay_curve(delays: dict[str, Sequence[float]], tau: float) -> Axes:
    """Plot the shift of each repetition against the delay of the reward, with the decay of the trace."""
    ax = axes()
    times = np.array([float(delay) for delay in delays])
    shifts = np.array(list(delays.values()))
    ax.plot(times, shifts, ".", color="0.6")
    ax.plot(times, shifts.mean(1), "o-", color="C0", label="mean shift")
    fine = np.linspace(times.min(), times.max(), 100)
    decay = shifts.mean(1)[0] * np.exp(-(fine - times[0]) / tau)
    ax.plot(fine, decay, "--", color="0.4", label="decay of the eligibility trace")
    ax.set(xlabel="delay of the reward (ms)", ylabel="shift towards the target (deg)")
    ax.legend()
    return ax


if __name__ == "__main__":
    base.main()
