"""Report page of `experiments.routing`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pcsim import Network, plots

from ..report import Picture, Report, Table, counted
from .learning import NETWORKS, build
from .options import Routing
from .science import OPENINGS, SWITCH
from .tasks import KEYS, TASKS
from .traffic import AREAS, TIMES

WIDEST = 6.0
"""line width, in points, of an edge that delivers the full drive"""
CONDITIONS = {
    "two_streams": (
        *("intact", "wrong cue", "half cue", "absent cue", "no modulatory", "no ventral route", "no dorsal route"),
        "no top-down",
    ),
    "shifter": (
        *("intact", "wrong cue", "half cue", "absent cue", "no modulatory", "own route cut", "another route cut"),
    ),
}


def report(config: Routing, results: dict[str, Any]) -> Report:
    """Build the report page."""
    pictures = [
        Picture(
            "routes",
            streams(results["traffic"]["two_streams"]),
            "What each edge carries under each cue. Line widths show the drive, relative to the cue under which it is "
            "larger, and how well digit and place are decoded from the edge with noise. Means over repetitions.",
            ("traffic",),
        ),
        Picture(
            "shifter",
            windows(results["traffic"]["shifter"]),
            "Drive on each edge of the shifter for two cued places, relative to the place for which it is largest.",
            ("traffic",),
        ),
        Picture(
            "areas",
            areas(results["areas"]["two_streams"]),
            "Decoded information over time from image onset (ODE, tau = 10 ms), from chance (0) to perfect (1).",
            ("areas",),
        ),
        Picture(
            "openings",
            openings(results["accuracy"]),
            "Accuracy with imposed gates: the wanted route opens while the other is closed, or the unwanted route "
            "opens while the wanted one is open. Bars are 95 % intervals over repetitions and images.",
            ("accuracy",),
        ),
        Picture(
            "switches",
            switches(results["switches"]),
            f"Answers to the new (solid) and the old cue (dashed) after the cue changes {SWITCH:g} ms after image "
            "onset, by the time constant of the control. Grey: tau ln 2.",
            ("switches",),
        ),
        Picture(
            "late",
            late(results["accuracy"], config),
            "Accuracy against the onset of the cue after the end of the image, by the time constant of the first area, "
            "which keeps the image.",
            ("accuracy",),
        ),
    ]
    summary = f"{counted(config.repetitions, 'repetition')}, {config.updates:,} updates, pixel noise {config.noise:g}."
    tables = [conditions(results["accuracy"], name) for name in NETWORKS]
    return Report("Routing by gates", summary, pictures, [*tables, gates(results["gates"])])


def percent(cell: dict[str, float]) -> str:
    """Format an estimate in percent, with its interval."""
    return f"{100 * cell['mean']:.1f} [{100 * cell['low']:.1f}, {100 * cell['high']:.1f}]"


def conditions(accuracy: dict[str, Any], name: str) -> Table:
    """Return the table of accuracies of one network, with a row per condition."""
    found = accuracy[name]
    columns = [] if name == "shifter" else [*TASKS]
    rows = []
    for condition in CONDITIONS[name.partition(",")[0]]:
        cells = [found[f"{prefix}{condition}"] for prefix in ("", *(f"{task}/" for task in columns), "other/")]
        rows.append((condition, *map(percent, cells)))
    other = "digit at another place" if name == "shifter" else "answer to the other task"
    return Table(f"{name}: answers (%) with 95 % intervals", ("condition", "correct", *columns, other), rows)


def gates(found: dict[str, list[list[list[float]]]]) -> Table:
    """Return the table of learned gates, with a row per repetition."""
    rows = []
    for name in NETWORKS[:2]:
        for number, matrix in enumerate(found[name]):
            rows.append((name, str(number), *(f"{gate:.2f}" for row in matrix for gate in row)))
    head = ("network", "repetition", *(f"{stream}, cue {task}" for task in TASKS for stream in ("ventral", "dorsal")))
    return Table("Gates learned for each cue", head, rows)


# ---------------------------------------------------------------------- diagrams


def carried(found: list[dict[str, Any]], cue: int, what: str) -> dict[str, float]:
    """Return what each edge carries under a cue, averaged over repetitions."""
    edges = found[0][str(cue)]
    return {edge: float(np.mean([rows[str(cue)][edge][what] for rows in found])) for edge in edges}


def drawn(network: Network, shares: dict[str, float], ax: Axes, title: str) -> None:
    """Draw a network with line widths given as fractions of `WIDEST`."""
    widths = {edge: WIDEST * min(value, 1.5) for edge, value in shares.items()}
    plots.network(network, shapes=False, legend=False, widths=widths, ax=ax)
    ax.set_title(title)


def streams(found: list[dict[str, Any]]) -> Figure:
    """Draw the two streams under both cues: drive, digit and place."""
    network = build("two_streams")
    figure, places = pyplot.subplots(2, 3, figsize=(13.0, 8.0), layout="constrained")
    for row, task in zip(places, TASKS, strict=True):
        for ax, what in zip(row, ("drive", "digit", "place"), strict=True):
            shares = carried(found, TASKS.index(task), what)
            drawn(network, shares, ax, f'cue "{task}": {what}')
    return figure


def windows(found: list[dict[str, Any]]) -> Figure:
    """Draw the shifter with cues to the first and the last place."""
    figure, places = pyplot.subplots(2, 1, figsize=(12.0, 8.5), layout="constrained")
    for ax, cue in zip(places, (0, KEYS - 1), strict=True):
        drawn(build("shifter"), carried(found, cue, "drive"), ax, f"cue to place {cue + 1}")
    return figure


# ---------------------------------------------------------------------- curves


def areas(found: list[dict[str, Any]]) -> Figure:
    """Plot the information in each area over time, with a panel for each cue and label."""
    figure, places = pyplot.subplots(2, 2, figsize=(8.0, 5.5), sharex=True, sharey=True, layout="constrained")
    for row, label in zip(places, ("digit", "place"), strict=True):
        for ax, task in zip(row, TASKS, strict=True):
            for number, area in enumerate(AREAS):
                values = np.mean([each[f"{task}/{label}"][area] for each in found], axis=0)
                ax.plot(TIMES, values, marker="o", ms=3, color=f"C{number}", label=area)
            ax.set(title=f'{label}, cue "{task}"', ylim=(-0.05, 1.05))
    for ax in places[1]:
        ax.set_xlabel("time (ms)")
    for ax in places[:, 0]:
        ax.set_ylabel("information")
    places[0, 1].legend(frameon=False, fontsize="small")
    return figure


def openings(accuracy: dict[str, Any]) -> Figure:
    """Plot the accuracy against the opening of the wanted and the unwanted route."""
    figure, places = pyplot.subplots(1, 2, figsize=(8.0, 3.3), sharey=True, layout="constrained")
    for ax, kind in zip(places, ("wanted", "unwanted"), strict=True):
        for name in NETWORKS:
            cells = [accuracy[name][f"{kind}/{share:g}"] for share in OPENINGS]
            means = 100 * np.array([cell["mean"] for cell in cells])
            ends = 100 * np.array([[c["mean"] - c["low"], c["high"] - c["mean"]] for c in cells]).T
            ax.errorbar(OPENINGS, means, ends.clip(0), marker="o", ms=4, capsize=2, label=name)
        ax.set(xlabel=f"gate of the {kind} route", ylim=(-3, 103))
    places[0].set_ylabel("accuracy (%)")
    places[0].legend(frameon=False, fontsize="small")
    return figure


def switches(found: dict[str, list[dict[str, Any]]]) -> Figure:
    """Plot the answers after the cue changes."""
    names = [name for name in NETWORKS if found[name]]
    figure, places = pyplot.subplots(
        1, len(names), figsize=(8.5, 3.3), sharey=True, layout="constrained", squeeze=False
    )
    for ax, name in zip(places[0], names, strict=True):
        for number, tau in enumerate(found[name][0]):
            rows = [each[tau] for each in found[name]]
            times = np.array(rows[0]["times"])
            seen = times > -60
            for key, line, label in (("new", "-", f"tau {tau} ms"), ("old", "--", None)):
                values = 100 * np.mean([row[key] for row in rows], axis=0)
                ax.plot(times[seen], values[seen], line, color=f"C{number}", label=label)
            ax.axvline(float(tau) * math.log(2), color="0.8", zorder=0)
        ax.set(title=name, xlabel="time after the switch (ms)", ylim=(-3, 103))
        ax.legend(frameon=False, fontsize="small")
    places[0, 0].set_ylabel("answers (%)")
    return figure


def late(accuracy: dict[str, Any], config: Routing) -> Figure:
    """Plot the accuracy against the onset of the cue."""
    names = [name for name in NETWORKS if any(key.startswith("late/") for key in accuracy[name])]
    figure, places = pyplot.subplots(
        1, len(names), figsize=(8.5, 3.3), sharey=True, layout="constrained", squeeze=False
    )
    for ax, name in zip(places[0], names, strict=True):
        ax.axvline(0.0, color="0.8", zorder=0)
        for store in config.stores:
            means = [100 * accuracy[name][f"late/{store:g}/{onset:g}"]["mean"] for onset in config.onsets]
            ax.plot(config.onsets, means, marker="o", ms=4, label=f"store {store:g} ms")
        ax.axhline(100.0 / (10 if name == "shifter" else KEYS), color="0.6", linestyle=":")
        ax.set(title=name, xlabel="onset of the cue after the image (ms)", ylim=(-3, 103))
        ax.legend(frameon=False, fontsize="small")
    places[0, 0].set_ylabel("accuracy (%)")
    return figure
