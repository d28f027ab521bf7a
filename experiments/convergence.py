"""Measure how the errors of a network converge on clean, occluded and surprising stimuli.

The experiment trains one of four networks to classify digits, and then presents test digits. It records the rate of
change of the state and, if the network defines them, the prediction error of every area, the energy, and the loss and
entropy of the readout. For each curve, the report lists the half-life, settling time and overshoot with bootstrap
intervals, and how the curve ends. A surprising stimulus is a clean digit that follows a different digit of the same
duration.

    python -m experiments.convergence                        hierarchical predictive coding, about 10 s
    python -m experiments.convergence --network pcn_global   another network, a few minutes
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass

from pcsim import Euler, Network, Record, Run, Simulator, stimuli
from pcsim.analysis import convergence, entropy
from pcsim.plots.canvas import plain_logs

from . import base, flows
from .base import OPTIONS, TEST_SEED, Count, Options, Some
from .report import Picture, Report, Table

Condition = Literal["clean", "occluded", "surprising"]
Curves = dict[str, dict[str, tuple[NDArray, NDArray]]]
"""quantity -> line -> (times in ms since stimulus onset, values (time, image))"""
ROWS = 300
ERROR, ENERGY, CHANGE = "squared prediction error", "energy", "change of the state per ms"
LOSS, ENTROPY = "cross-entropy of the readout", "entropy of the readout"


@dataclass(frozen=True, config=OPTIONS)
class Convergence(Options):
    """Options of the experiment, whose defaults depend on the preset."""

    out: Path = Path("results/convergence")
    """output folder"""
    network: flows.Name = "predictive_coding"
    """network to train and measure"""
    stimuli: Some[Condition] = ("clean", "occluded", "surprising")
    """stimulus conditions to test"""
    fragments: Annotated[int, Field(ge=0)] = 15
    """number of debris fragments covering each occluded digit"""
    taus: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = flows.TAUS
    """time constants of the lower and upper area, ms"""
    dt: Annotated[float, Field(gt=0)] = 0.5
    """Euler step, ms"""
    until: Annotated[float, Field(gt=0)] = 600.0
    """duration of each stimulus, ms"""
    share: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """settling tolerance: remaining fraction of the total change at which a curve counts as settled"""
    images: Count = 100
    """number of test images"""
    recipe: flows.Recipe = flows.Recipe()
    """training settings of the network"""


PRESETS = {
    "smoke": Convergence(
        smoke=True,
        out=Path("results/convergence-smoke"),
        until=60.0,
        images=8,
        recipe=flows.SMOKE,
    ),
    "quick": Convergence(),
    "standard": Convergence(
        out=Path("results/convergence-standard"),
        until=2_000.0,
        images=500,
        recipe=flows.STANDARD,
    ),
}


def run(config: Convergence) -> None:
    """Run the experiment, resuming interrupted training."""
    base.conduct(config, find, report)


def find(config: Convergence) -> dict[str, Any]:
    """Train the network and measure all curves in every condition."""
    base.train_all(config, fit, [()])
    sim = make_simulator(config, flows.trained(config, config.network, config.taus))
    curves = {condition: follow(config, sim, condition) for condition in config.stimuli}
    return {
        "curves": {
            condition: {
                quantity: {line: summarise(config, *curve, quantity) for line, curve in lines.items()}
                for quantity, lines in found.items()
            }
            for condition, found in curves.items()
        }
    }


def fit(config: Convergence) -> list[float]:
    """Train the network, or resume its training, and return the loss curve."""
    return flows.fit(config, config.network, config.recipe)


def make_simulator(config: Convergence, network: Network) -> Simulator:
    """Return a Simulator that records all quantities needed to measure convergence."""
    record = Record(
        states=[
            *dict.fromkeys((*flows.AREAS[config.network], flows.answers_of(network))),
            *(["energy"] if "energy" in network.populations else []),
        ],
        errors="all" if network.errors else (),
        every=max(1, round(config.until / config.dt / ROWS)),
    )
    return Simulator(network, solver=Euler(config.dt), record=record)


def follow(config: Convergence, sim: Simulator, condition: Condition) -> Curves:
    """Return the curves in one condition, starting at stimulus onset."""
    fragments = config.fragments if condition == "occluded" else 0
    shown = flows.digits(fragments, TEST_SEED + config.seed, config.images)
    line, before = stimuli.held(shown.images, config.until), 0.0
    if condition == "surprising":
        line, before = stimuli.held(shown.images.roll(1, 0), config.until).then(line), config.until
    return curves_of(sim(line), sim.network, shown, before, flows.AREAS[config.network])


def curves_of(run_: Run, network: Network, shown: flows.Digits, before: float, areas: tuple[str, ...]) -> Curves:
    """Return the curves of a run after `before` ms, with times measured from that point."""
    times, since = run_.times - before, run_.times > before
    found: Curves = {}
    if network.errors:
        found[ERROR] = {name: (times[since], value.numpy()[since]) for name, value in run_.errors.items()}
    if "energy" in run_:
        found[ENERGY] = {"all areas": (times[since], run_["energy"].flatten(1).numpy()[since])}
    found[CHANGE] = {
        area: (times[1:][since[1:]], convergence.rate_of_change(run_.times, run_[area])[since[1:]]) for area in areas
    }
    if network.readout:
        logits = run_[network.readout]
        wanted = shown.targets.argmax(1).expand(len(logits), -1)
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), wanted.flatten(), reduction="none")
        found[LOSS] = {"readout": (times[since], loss.unflatten(0, logits.shape[:2]).numpy()[since])}
        found[ENTROPY] = {"readout": (times[since], np.asarray(entropy(logits))[since])}
    return found


def summarise(config: Convergence, times: NDArray, values: NDArray, quantity: str) -> dict[str, Any]:
    """Return a curve's median and quartiles over images at each time, and measures of its convergence."""
    quartiles = np.quantile(values, (0.25, 0.75), axis=1).tolist()
    known = {"times": times.tolist(), "median": np.median(values, axis=1).tolist(), "quartiles": quartiles}
    if quantity == CHANGE:
        settled = convergence.decay_time(times, values, config.share) + times[0]
        return known | {
            "settling": base.finite_or_none(np.nanmedian(settled) if np.isfinite(settled).any() else math.nan)
        }
    summary = convergence.summary(times, values, config.share)
    mean = values.mean(1)
    fit_ = convergence.fit_rate(times, mean) if np.ptp(mean) > 0 else None
    return known | {
        "settling": base.finite_or_none(summary.settling.mean + times[0]),
        "summary": {
            name: {key: base.finite_or_none(value) for key, value in row.items()}
            for name, row in asdict(summary).items()
            if name != "endings"
        },
        "endings": dict(summary.endings),
        "rate": {key: base.finite_or_none(value) for key, value in asdict(fit_).items()} if fit_ else None,
    }


def report(config: Convergence, results: dict[str, Any]) -> Report:
    """Build the report page."""
    found = results["curves"]
    rows = [
        (condition, quantity, line, *format_curve(row))
        for condition, quantities in found.items()
        for quantity, lines in quantities.items()
        for line, row in lines.items()
    ]
    head = (
        "stimulus",
        "quantity",
        "population",
        "half-life (ms)",
        "settling time (ms)",
        "overshoot (%)",
        "rate (1/ms)",
        "end",
    )
    picture = Picture(
        "convergence",
        settling(found),
        f"Medians over {config.images} images; bands span the quartiles. Triangles mark the settling time, after "
        f"which the curve is within {100 * config.share:g} % of its total change from its final value (mean over "
        f"images that settle). The rate of change of the state settles when it drops below {100 * config.share:g} % of "
        f"its maximum (median over images). Curves without a triangle do not settle within {config.until:g} ms. A "
        "surprising digit replaces a different digit to which the network has already adapted.",
        ("curves",),
    )
    return Report(
        f"How {flows.TITLES[config.network]} converges",
        f"{config.images} centred digits, covered by {config.fragments} pieces of debris in the occluded condition. "
        f"The time constants are {config.taus[0]:g} and {config.taus[1]:g} ms, and the solver is Euler with dt = "
        f"{config.dt:g} ms. Brackets contain 95 % bootstrap intervals. The rate comes from a single exponential fitted "
        "to the mean curve, so it captures only one time scale even if the curve has several.",
        [picture],
        [Table("Convergence", head, rows)],
    )


def settling(curves: Mapping[str, Mapping[str, Mapping[str, Mapping[str, Any]]]]) -> Figure:
    """Plot curves against time and mark their settling times, with one row per quantity and one column per condition.

    curves[condition][quantity][line] contains "times", the "median" and "quartiles" over images, and "settling", the
    settling time in ms (a triangle on the median), or None if the curve does not settle.
    """
    quantities = list(next(iter(curves.values())))
    figure = Figure(figsize=(0.8 + 3.3 * len(curves), 0.6 + 2.4 * len(quantities)), layout="constrained")
    grid = figure.subplots(len(quantities), len(curves), squeeze=False, sharex=True, sharey="row")
    for (row, quantity), (column, condition) in product(enumerate(quantities), enumerate(curves)):
        panel, lines = grid[row, column], curves[condition][quantity]
        for line, found in lines.items():
            (drawn,) = panel.plot(found["times"], found["median"], label=line, linewidth=1.4)
            panel.fill_between(found["times"], *found["quartiles"], color=drawn.get_color(), alpha=0.2, linewidth=0)
            if found["settling"] is not None:
                level = np.interp(found["settling"], found["times"], found["median"])
                panel.plot(found["settling"], level, "v", ms=7, color=drawn.get_color(), markeredgecolor="k", zorder=3)
        if row == 0:
            panel.set_title(condition, fontsize=10)
        if row == len(quantities) - 1:
            panel.set_xlabel("time (ms)")
        if column == 0:
            panel.set_ylabel(quantity, fontsize=9)
            panel.legend(frameon=False, fontsize=8)
        if min(min(found["quartiles"][0]) for found in lines.values()) > 0:
            panel.set_yscale("log")
            plain_logs(panel)
    return figure


def format_curve(row: dict[str, Any]) -> tuple[str, ...]:
    """Format the half-life, settling time, overshoot, rate and endings of a curve as table cells."""
    if "summary" not in row:
        return ("-", "-" if row["settling"] is None else f"{row['settling']:.0f}", "-", "-", "-")

    def interval(name: str, factor: float = 1.0, digits: str = "3g") -> str:
        mean, low, high = (row["summary"][name][key] for key in ("mean", "low", "high"))
        return (
            "-" if mean is None else f"{factor * mean:.{digits}} [{factor * low:.{digits}}, {factor * high:.{digits}}]"
        )

    ends = ", ".join(f"{count} {name}" for name, count in row["endings"].items() if count)
    fit_ = row["rate"]
    return (
        interval("half_life"),
        interval("settling"),
        interval("overshoot", 100.0, "1f"),
        f"{fit_['rate']:.3g}" if fit_ and (fit_["low"] or 0.0) > 0 else "-",
        ends,
    )


if __name__ == "__main__":
    base.main()
