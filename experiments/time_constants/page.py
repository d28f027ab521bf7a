"""Figures, table and report page of `experiments.time_constants`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcsim import plots

from .. import flows
from ..report import Picture, Report, Table, counted
from . import figures
from .options import TimeConstants

LABELS = {"error": "squared prediction error (image)", "change": "change of the state per ms (norm)"}


def pictures_of(config: TimeConstants, networks: Mapping[str, Any]) -> list[Picture]:
    """Return all figures; `networks` contains the results keyed by network title."""
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
            "Median over test images of the squared image prediction error (networks with predictions) or of the rate "
            "of change of the state of both areas (other networks). Colours show the time constant of the lower area "
            "(top) or the upper area (bottom); the other area has the middle time constant.",
            ("networks",),
        ),
        Picture(
            "maps",
            plots.tau_maps(maps, config.taus, config.taus, f"> {0.75 * config.until:g}"),
            "Top: settling time, after which the distance of both areas from their state at "
            f"{config.until:g} ms stays below 5 % of its maximum (median over images). It is undefined if the network "
            "still drifts. Middle: time after which the answer no longer changes (median over images). Bottom: "
            f"accuracy in % on {config.images} test images after {config.deadline:g} ms. In training, time constants "
            f"are {flows.TAUS[0]:g} and {flows.TAUS[1]:g} ms.",
            ("networks",),
        ),
        Picture(
            "ratio",
            figures.by_ratio(
                {name: ratios(config, row) for name, row in networks.items()},
                middle_tau(config),
                "answer settles after (ms)",
            ),
            "Anti-diagonal of the middle maps, along which the ratio of time constants varies at a constant product.",
            ("networks",),
        ),
        Picture(
            "solvers",
            figures.accuracy_by_dt(
                {name: by_dt(config, row["by_dt"]) for name, row in networks.items()},
                {name: {s: dt / flows.TAUS[0] for s, dt in row["borders"].items()} for name, row in networks.items()},
            ),
            f"Accuracy on {config.read_images} test images after {config.read:g} ms, by dt and solver. Dotted lines: "
            "stability limit (largest stable dt), computed from the eigenvalues of the Jacobian at the final state "
            "(minimum over two images). Crosses: samples diverged, or pcsim refused the step. The exponential solver "
            "has no stability limit.",
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
            "Numerical error against cost: largest state error after 40 ms against the number of right-hand-side "
            "evaluations, in float64. The reference is RK4 with dt = 1/64 ms. Because rectified units have "
            "kinks, high-order solvers lose their order of accuracy, and adaptive solvers take many steps.",
            ("networks",),
        ),
    ]


def report(config: TimeConstants, results: dict[str, Any]) -> Report:
    """Build the report page, with interactive curves if plotly is installed."""
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
        f"are trained on {config.recipe.images:,} centred digits under {config.recipe.fragments} pieces of debris and "
        f"tested under {config.fragments}. The networks are small and trained only once, so the results demonstrate "
        "the method but do not support claims about these models."
    )
    pages = [(page(config, name, row), SENTENCE) for name, row in networks.items()] if find_spec("plotly") else []
    if not pages:
        summary += (
            ' To add interactive curves, install plotly (pip install "pcsim[viz]") and run the same command again.'
        )
    return Report(title, summary, pictures_of(config, networks), [table], pages)


SENTENCE = "The slider sets the time constant of the lower area. Each line is for one time constant of the upper area."


def as_array(rows: Any) -> NDArray:
    """Convert numbers loaded from JSON to an array, with NaN in place of None."""
    return np.array(rows, float)


def middle_tau(config: TimeConstants) -> float:
    """Return the middle time constant of the sweep."""
    return config.taus[len(config.taus) // 2]


def middle_curves(config: TimeConstants, row: Mapping[str, Any]) -> dict[str, dict[float, tuple]]:
    """Return the curves in the middle row and column of the grid of time constants."""
    at, times, curves = len(config.taus) // 2, row["times"], as_array(row["curves"])
    return {
        "lower area": {tau: (times, curves[i, at]) for i, tau in enumerate(config.taus)},
        "upper area": {tau: (times, curves[at, i]) for i, tau in enumerate(config.taus)},
    }


def ratios(config: TimeConstants, row: Mapping[str, Any]) -> tuple[list[float], list[float]]:
    """Return the ratio of upper to lower time constant along the anti-diagonal, and the settling time of the answer."""
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
    """Return (dt / time constant of the lower area, accuracy) for each solver."""
    steps = np.array(sorted(config.dts)) / flows.TAUS[0]
    return {solver: (steps, as_array(shares)) for solver, shares in found.items()}


def table_row(name: str, row: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the table row of a network."""
    deciding = as_array(row["deciding"])
    return (
        name,
        *(f"{value:.0f} ms" for value in (deciding[0, 0], deciding[-1, -1])),
        f"{100 * row['by_dt']['Euler'][0]:.0f}",
        *(f"{row['borders'][solver] / flows.TAUS[0]:.2f}" for solver in ("Euler", "RK4")),
    )


def page(config: TimeConstants, name: str, row: Mapping[str, Any]) -> Any:
    """Return an interactive figure of the error (or state change) and accuracy over time."""
    curves, correct = as_array(row["curves"]), 100 * as_array(row["correct"])
    found = {
        low: {
            high: {LABELS[row["curve"]]: (row["times"], curves[i, j]), "correct (%)": (row["times"], correct[i, j])}
            for j, high in enumerate(config.taus)
        }
        for i, low in enumerate(config.taus)
    }
    return plots.explore(found, "tau of the lower area (ms)", "tau of the upper area (ms)", name)
