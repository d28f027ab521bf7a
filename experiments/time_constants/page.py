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
    """Return every figure, from the rows of the networks by their titles."""
    maps = {
        "state settles (ms)": {name: numbers(row["settling"]) for name, row in networks.items()},
        "answer settles (ms)": {name: numbers(row["deciding"]) for name, row in networks.items()},
        f"correct after {config.deadline:g} ms": {name: numbers(row["accuracy"]) for name, row in networks.items()},
    }
    return [
        Picture(
            "curves",
            figures.curves_by_tau(
                {name: varied(config, row) for name, row in networks.items()},
                {name: LABELS[row["curve"]] for name, row in networks.items()},
            ),
            "Median over test images. Networks with predictions: squared error of the predicted image; the others: "
            "how fast the state of both areas changes. Above, the time constant of the lower area is varied (colour) "
            "and the other is at its middle value; below, that of the upper area.",
            ("networks",),
        ),
        Picture(
            "maps",
            plots.tau_maps(maps, config.taus, config.taus, f"> {0.75 * config.until:g}"),
            "Above: until the state of both areas is for good within 5 % of the way from where it is after "
            f"{config.until:g} ms, median over images; a network that still drifts has no such time. Middle: from when "
            "on the answer is the last one, median over images. "
            f"Below: share of {config.images} test images named right after {config.deadline:g} ms, in %. Networks "
            f"were trained with {flows.TAUS[0]:g} and {flows.TAUS[1]:g} ms.",
            ("networks",),
        ),
        Picture(
            "ratio",
            figures.by_ratio(
                {name: ratios(config, row) for name, row in networks.items()},
                middle(config),
                "answer settles after (ms)",
            ),
            "The anti-diagonal of the middle maps: the product of the two time constants is held, their ratio varied.",
            ("networks",),
        ),
        Picture(
            "solvers",
            figures.accuracy_by_dt(
                {name: by_dt(config, row["by_dt"]) for name, row in networks.items()},
                {name: {s: dt / flows.TAUS[0] for s, dt in row["borders"].items()} for name, row in networks.items()},
            ),
            f"Share of {config.read_images} test images named right after {config.read:g} ms, by dt and solver. "
            "Dotted: the largest stable dt, from the eigenvalues of the Jacobian at the state that the network has "
            "come to by then (smallest of two images). Crosses: samples diverged, or pcsim refused the step. The "
            "exponential solver has no border of this kind.",
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
            "What accuracy costs: largest error of the state after 40 ms against evaluations of the right-hand side, "
            "double precision, against RK4 at dt = 1/64 ms. Rectified units have kinks, at which solvers of high "
            "order lose their order, and adaptive ones of high order many steps.",
            ("networks",),
        ),
    ]


def report(config: TimeConstants, results: dict[str, Any]) -> Report:
    """Return the page; with plotly, it has curves to explore."""
    networks = {flows.TITLES[name]: row for name, row in results["networks"].items()}
    table = Table(
        "Time constants, steps and solvers",
        (
            "network",
            f"answer settles, tau {config.taus[0]:g} ms",
            f"tau {config.taus[-1]:g} ms",
            f"correct after {config.read:g} ms (%)",
            "largest stable dt/tau: Euler",
            "RK4",
        ),
        [row_of(name, row) for name, row in networks.items()],
    )
    title = f"Time constants, dt and solvers of {counted(len(networks), 'recurrent network')}"
    points = sum(results["points"].values())
    summary = (
        f"{points} points: {', '.join(f'{count} of {name}' for name, count in results['points'].items())}. Networks "
        f"trained here on {config.recipe.images:,} digits at the centre of gaze under {config.recipe.fragments} pieces "
        f"of debris, tested under {config.fragments}. Small networks, one training of each: what they "
        "show is how to ask."
    )
    pages = [(page(config, name, row), SENTENCE) for name, row in networks.items()] if find_spec("plotly") else []
    if not pages:
        summary += ' The page has no curves to explore: pip install "pcsim[viz]" and run this again.'
    return Report(title, summary, pictures_of(config, networks), [table], pages)


SENTENCE = "Move the slider through the time constant of the lower area; lines are those of the upper area."


def numbers(rows: Any) -> NDArray:
    """Of JSON: None is NaN."""
    return np.array(rows, float)


def middle(config: TimeConstants) -> float:
    """The middle of the time constants."""
    return config.taus[len(config.taus) // 2]


def varied(config: TimeConstants, row: Mapping[str, Any]) -> dict[str, dict[float, tuple]]:
    """The curves along the middle row and column of the grid."""
    at, times, curves = len(config.taus) // 2, row["times"], numbers(row["curves"])
    return {
        "lower area": {tau: (times, curves[i, at]) for i, tau in enumerate(config.taus)},
        "upper area": {tau: (times, curves[at, i]) for i, tau in enumerate(config.taus)},
    }


def ratios(config: TimeConstants, row: Mapping[str, Any]) -> tuple[list[float], list[float]]:
    """Upper over lower time constant along the anti-diagonal, and when answers settle there."""
    taus, deciding = config.taus, numbers(row["deciding"])
    pairs = [
        (taus[j] / taus[i], deciding[i, j])
        for i in range(len(taus))
        for j in range(len(taus))
        if math.isclose(taus[i] * taus[j], middle(config) ** 2, rel_tol=1e-6)
    ]
    pairs.sort()
    return [ratio for ratio, _ in pairs], [value for _, value in pairs]


def by_dt(config: TimeConstants, found: Mapping[str, Any]) -> dict[str, tuple]:
    """Share correct against dt over the time constant of the lower area."""
    steps = np.array(sorted(config.dts)) / flows.TAUS[0]
    return {solver: (steps, numbers(shares)) for solver, shares in found.items()}


def row_of(name: str, row: Mapping[str, Any]) -> tuple[str, ...]:
    """Of the table."""
    deciding = numbers(row["deciding"])
    return (
        name,
        *(f"{value:.0f} ms" for value in (deciding[0, 0], deciding[-1, -1])),
        f"{100 * row['by_dt']['Euler'][0]:.0f}",
        *(f"{row['borders'][solver] / flows.TAUS[0]:.2f}" for solver in ("Euler", "RK4")),
    )


def page(config: TimeConstants, name: str, row: Mapping[str, Any]) -> Any:
    """Error and accuracy over time to explore."""
    curves, correct = numbers(row["curves"]), 100 * numbers(row["correct"])
    found = {
        low: {
            high: {LABELS[row["curve"]]: (row["times"], curves[i, j]), "correct (%)": (row["times"], correct[i, j])}
            for j, high in enumerate(config.taus)
        }
        for i, low in enumerate(config.taus)
    }
    return plots.explore(found, "tau of the lower area (ms)", "tau of the upper area (ms)", name)
