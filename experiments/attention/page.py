"""Report page of `experiments.attention`."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from pcsim.plots import axes

from ..report import Picture, Report, Table, counted
from . import steering_page
from .measures import AREAS, percent
from .options import Attention
from .science import GOALS, LESIONS, PLACES


def report(config: Attention, results: dict[str, Any]) -> Report:
    """Build the report page."""
    strongest = f"{config.strengths[-1]:g}"
    accuracy = results["accuracy"]
    pictures = [
        Picture(
            f"{task}s",
            by_cue(accuracy, task, strongest, (*cues, "absent")),
            f"Accuracy for the target in {task}s after a gain of strength {strongest} in each area, by cue. Bars are "
            "95 % intervals over image sets and images.",
            ("accuracy",),
        )
        for task, cues in (("blend", GOALS), ("array", PLACES))
    ]
    pictures += [
        Picture(
            "time_course",
            over_time(results["accuracy_over_time"], strongest),
            "Accuracy for the target at each step, with a gain in all areas.",
            ("accuracy_over_time",),
        ),
        Picture(
            "lesions",
            lesions(accuracy, strongest),
            "Accuracy in blends with a valid cue and with no cue, after lesions.",
            ("accuracy",),
        ),
        Picture(
            "detection",
            detections(results["detection"], config.strengths),
            "Area under the ROC curve for detecting the cued digit: digits in the image versus digits that are not. "
            "Grey: the same digits without a cue. A gain that only favours an answer would not change it.",
            ("detection",),
        ),
    ]
    pictures += steering_page.pictures(config, results)
    summary = (
        f"{config.model} with the weights that ship with pcsim, "
        f"{counted(config.repetitions, 'set')} of {config.images:,} blends and {config.images:,} arrays."
    )
    tables = [cue_table(accuracy, strongest), *steering_page.tables(config, results)]
    return Report("Attention: cues to digits and places", summary, pictures, tables)


def cue_table(accuracy: dict[str, Any], strength: str) -> Table:
    """Return the table of accuracies, with a row per task and area and a column per cue."""
    cues = (*GOALS, "absent")
    rows = []
    for task in ("blend", "array"):
        for area in AREAS:
            cells = [accuracy.get(f"{task}/{area}/{strength}/{cue}") for cue in cues]
            rows.append((task, area, *(percent(cell) if cell else "" for cell in cells)))
    return Table(
        f"Accuracy for the target (%), strength {strength}, with 95 % intervals", ("task", "area", *cues), rows
    )


def by_cue(accuracy: dict[str, Any], task: str, strength: str, cues: tuple[str, ...]) -> Axes:
    """Plot the accuracy in each area (colour) for each cue."""
    ax = axes(6.0, 3.5)
    for offset, area in zip(np.linspace(-0.2, 0.2, len(AREAS)), AREAS, strict=True):
        cells = [accuracy[f"{task}/{area}/{strength}/{cue}"] for cue in cues]
        errorbars(ax, np.arange(len(cues)) + offset, cells, area)
    ax.set_xticks(range(len(cues)), cues)
    ax.set(xlabel="cue", ylabel="accuracy (%)", ylim=(-3, 103))
    ax.legend(frameon=False, title="gain in")
    return ax


def errorbars(ax: Axes, places: Any, cells: list[dict[str, float]], label: str) -> None:
    """Plot estimates in percent with their intervals."""
    means = np.array([100 * cell["mean"] for cell in cells])
    ends = np.array([[100 * (c["mean"] - c["low"]), 100 * (c["high"] - c["mean"])] for c in cells]).T
    ax.errorbar(places, means, ends.clip(0), fmt="o", ms=5, capsize=2, label=label)


def over_time(curves: dict[str, list[float]], strength: str) -> Axes:
    """Plot accuracy over steps in blends (solid) and arrays (dashed)."""
    ax = axes(5.0, 3.5)
    for task, line in (("blend", "-"), ("array", "--")):
        for cue, colour in zip(("valid", "absent", "invalid"), ("C0", "0.5", "C3"), strict=True):
            values = 100 * np.array(curves[f"{task}/all/{strength}/{cue}"])
            ax.plot(range(len(values)), values, line, color=colour, marker="o", ms=3, label=f"{task}, {cue}")
    ax.set(xlabel="step", ylabel="accuracy (%)", ylim=(-3, 103))
    ax.legend(frameon=False, fontsize="small")
    return ax


def lesions(accuracy: dict[str, Any], strength: str) -> Axes:
    """Plot the accuracy with a valid cue and with no cue, for intact and lesioned networks."""
    names = [name for name in LESIONS if f"lesion/{name}/valid" in accuracy]
    ax = axes(6.0, 3.5)
    for offset, cue in ((-0.1, "valid"), (0.1, "absent")):
        keys = [f"blend/all/{strength}/{cue}", *(f"lesion/{name}/{cue}" for name in names)]
        errorbars(ax, np.arange(len(keys)) + offset, [accuracy[key] for key in keys], cue)
    ax.set_xticks(range(1 + len(names)), ["intact", *names])
    ax.set(ylabel="accuracy (%)", ylim=(-3, 103))
    ax.legend(frameon=False, title="cue")
    return ax


def detections(found: dict[str, dict[str, list[float]]], strengths: tuple[float, ...]) -> Axes:
    """Plot the area under the ROC curve against strength, for gains in each area."""
    ax = axes(5.0, 3.5)
    for area in AREAS:
        values = [np.mean(found[f"blend/{area}/{strength:g}"]["cued"]) for strength in strengths]
        ax.plot(strengths, values, marker="o", ms=4, label=area)
    ax.axhline(float(np.mean(next(iter(found.values()))["uncued"])), color="0.6", zorder=0)
    ax.set(xlabel="strength", ylabel="area under ROC curve")
    ax.legend(frameon=False, title="gain in")
    return ax
