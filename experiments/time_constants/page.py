"""Figures, page and table of `experiments.time_constants`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments import flows
from experiments.report import Picture, Report, Table, counted
from experiments.time_constants import figures
from experiments.time_constants.options import TimeConstants
from pcsim import plots

LABELS = {"error": "squared prediction error (image)", "change": "change of the state per ms (norm)"}


def pictures_of(config: TimeConstants, networks: Mapping[str, Any]) -> list[Picture]:
    """Return all figures, from the results of the networks by title."""
    maps = {
        "state settles (ms)": {name: as_array(row["settling"]) for name, row in networks.items()},
        "answer settles (ms)": {name: as_array(row["deciding"]) for name, row in networks.items()},
        f"correct after {config.deadline:g} ms": {name: as_array(row["accuracy"]) for name, row in networks.items()},
    }
    return [
        Picture(
            "curves",
            figures.curves_by_tau(
                {name: middle_curves(config, row) for name, row in networks.items()},
                {name: LABELS[row["curve"]] for name, row in networks.items()},
            ),
            "Median over test images. Networks with predictions: squared error of the predicted image; the others: "
            "rate of change of the state of both areas. Top: the time constant of the lower area varies (colour), the "
            "other has its middle value; bottom: that of the upper area varies.",
            ("networks",),
        ),
        Picture(
            "maps",
            plots.tau_maps(maps, config.taus, config.taus, f"> {0.75 * config.until:g}"),
            "Top: time after which the distance of the state of both areas from that at "
            f"{config.until:g} ms stays below 5 % of its maximum, median over images; a network that still drifts has "
            "no such time. Middle: time after which the answer no longer changes, median over images. Bottom: accuracy "
            f"on {config.images} test images after {config.deadline:g} ms, in %. Networks are trained with "
            f"{flows.TAUS[0]:g} and {flows.TAUS[1]:g} ms.",
            ("networks",),
        ),
        Picture(
            "ratio",
            figures.by_ratio(
                {name: ratios(config, row) for name, row in networks.items()},
                middle_tau(config),
                "answer settles after (ms)",
            ),
            "Anti-diagonal of the middle maps: the ratio of the two time constants varies at a constant product.",
            ("networks",),
        ),
        Picture(
            "solvers",
            figures.accuracy_by_dt(
                {name: by_dt(config, row["by_dt"]) for name, row in networks.items()},
                {name: {s: dt / flows.TAUS[0] for s, dt in row["borders"].items()} for name, row in networks.items()},
            ),
            f"Accuracy on {config.read_images} test images after {config.read:g} ms, by dt and solver. Dotted: "
            "stability limit, the largest stable dt, from the eigenvalues of the Jacobian at the state at that time "
            "(smaller of two images). Crosses: samples diverged, or pcsim refused the step. The exponential solver has "
            "no such limit.",
            ("networks",),
        ),
        Picture(
            "precision",
            figures.work_precision(
                {
                    name: {s: (row["evaluations"], row["error"]) for s, row in found["precision"].items()}
                    for name, found in networks.items()
                }
            ),
            "Cost of numerical precision: largest error of the state after 40 ms against evaluations of the right-hand "
            "side, in double precision; the reference is RK4 at dt = 1/64 ms. Rectified units have kinks, at which "
            "high-order solvers lose their order and adaptive ones take many steps.",
            ("networks",),
        ),
    ]


def report(config: TimeConstants, results: dict[str, Any]) -> Report:
    """Return the report page; with plotly, it has interactive curves."""
    networks = {flows.TITLES[name]: row for name, row in results["networks"].items()}
    table = Table(
        "Time constants, steps and solvers",
        (
            "network",
            f"answer settles, tau {config.taus[0]:g} ms",
            f"answer settles, tau {config.taus[-1]:g} ms",
            f"correct after {config.read:g} ms (%)",
            "largest stable dt/tau, Euler",
            "largest stable dt/tau, RK4",
        ),
        [table_row(name, row) for name, row in networks.items()],
    )
    title = f"Time constants, dt and solvers of {counted(len(networks), 'recurrent network')}"
    points = sum(results["points"].values())
    summary = (
        f"{points} points: {', '.join(f'{count} of {name}' for name, count in results['points'].items())}. Networks "
        f"are trained on {config.recipe.images:,} centred digits under {config.recipe.fragments} pieces of debris, and "
        f"tested under {config.fragments}. They are small and trained once: the results show how to use the method, "
        "and are no claims about these models."
    )
    pages = [(page(config, name, row), SENTENCE) for name, row in networks.items()] if find_spec("plotly") else []
    if not pages:
        summary += ' Interactive curves need plotly: pip install "pcsim[viz]", and run the same command again.'
    return Report(title, summary, pictures_of(config, networks), [table], pages)


SENTENCE = "The slider sets the time constant of the lower area; each line is one time constant of the upper area."


def as_array(rows: Any) -> NDArray:
    """Return numbers from JSON as an array; None becomes NaN."""
    return np.array(rows, float)


def middle_tau(config: TimeConstants) -> float:
    """Return the median time constant."""
    return config.taus[len(config.taus) // 2]


def middle_curves(config: TimeConstants, row: Mapping[str, Any]) -> dict[str, dict[float, tuple]]:
    """Return the curves along the middle row and column of the grid."""
    at, times, curves = len(config.taus) // 2, row["times"], as_array(row["curves"])
    return {
        "lower area": {tau: (times, curves[i, at]) for i, tau in enumerate(config.taus)},
        "upper area": {tau: (times, curves[at, i]) for i, tau in enumerate(config.taus)},
    }


def ratios(config: TimeConstants, row: Mapping[str, Any]) -> tuple[list[float], list[float]]:
    """Return upper over lower time constant along the anti-diagonal, and when answers settle there."""
    taus, deciding = config.taus, as_array(row["deciding"])
    pairs = [
        (taus[j] / taus[i], deciding[i, j])
        for i in range(len(taus))
        for j in range(len(taus))
        if math.isclose(taus[i] * taus[j], middle_tau(config) ** 2, rel_tol=1e-6)
    ]
    pairs.sort()
    return [ratio for ratio, _ in pairs], [value for _, value in pairs]


def by_dt(config: TimeConstants, found: Mapping[str, Any]) -> dict[str, tuple]:
    """Return each solver's (dt over the time constant of the lower area, share correct)."""
    steps = np.array(sorted(config.dts)) / flows.TAUS[0]
    return {solver: (steps, as_array(shares)) for solver, shares in found.items()}


def table_row(name: str, row: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the row of a network in the table."""
    deciding = as_array(row["deciding"])
    return (
        name,
        *(f"{value:.0f} ms" for value in (deciding[0, 0], deciding[-1, -1])),
        f"{100 * row['by_dt']['Euler'][0]:.0f}",
        *(f"{row['borders'][solver] / flows.TAUS[0]:.2f}" for solver in ("Euler", "RK4")),
    )


def page(config: TimeConstants, name: str, row: Mapping[str, Any]) -> Any:
    """Return an interactive figure of error and accuracy over time."""
    curves, correct = as_array(row["curves"]), 100 * as_array(row["correct"])
    found = {
        low: {
            high: {LABELS[row["curve"]]: (row["times"], curves[i, j]), "correct (%)": (row["times"], correct[i, j])}
            for j, high in enumerate(config.taus)
        }
        for i, low in enumerate(config.taus)
    }
    return plots.explore(found, "tau of the lower area (ms)", "tau of the upper area (ms)", name)
