"""Figures and tables of `experiments.attention` on learned steering, cue timing, and kinds of spotlights."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pcsim.plots import axes

from ..report import Picture, Table
from .measures import percent
from .options import Attention
from .science import SPOTLIGHTS
from .steering import BEFORE, REGIMES, courses

SHARES = {
    "valid": "valid cue: target named",
    "both": "both digits named when cued",
    "foil named": "foil cue: foil named",
    "in the image": "foil cue: a digit in the image named",
}

ROWS = {
    "valid cues": "W trained with valid cues",
    "tuning like valid cues": "tuning, matched",
    "valid and foil cues": "W trained with both",
    "tuning like valid and foil cues": "tuning, matched",
    "mean of all cues": "both, mean of all cues",
    "no modulatory": "both, no modulatory",
    "no top-down": "both, no top-down",
    "no lateral": "both, no lateral",
}


def pictures(config: Attention, results: dict[str, Any]) -> list[Picture]:
    """Return the figures."""
    strongest = f"{config.strengths[-1]:g}"
    return [
        Picture(
            "steering",
            answers(results["steering"]["answers"]),
            "Answers after learned steering, and after tuning gains of matched strength: the strength that reaches "
            "the same accuracy for valid cues, or the last one if none does. Bars are 95 % intervals over image sets "
            "and images.",
            ("steering",),
        ),
        Picture(
            "steering_detection",
            detections(results, config.strengths),
            "Detection of the cued digit against the accuracy for valid cues. One point per set of images; the line "
            "joins tuning gains of increasing strength in both areas, starting without a cue.",
            ("steering", "detection"),
        ),
        Picture(
            "cue_times",
            cue_times(config, results["steering"]["cue_times"]),
            f"Accuracy for the target over steps, by the timing of the valid cue. Tuning gains have strength "
            f"{strongest}. Dashed: after {BEFORE} steps of grey.",
            ("steering",),
        ),
        Picture(
            "spotlights",
            spotlights(results["accuracy"], config.spotlight_strengths),
            "Accuracy in arrays with multiplicative and divisive spotlights on both areas. At the same strength, both "
            "have the same ratio of gains at the centre and far from it.",
            ("accuracy",),
        ),
    ]


def tables(config: Attention, results: dict[str, Any]) -> list[Table]:
    """Return the tables of learned steering and of spotlights."""
    steering, accuracy = results["steering"], results["accuracy"]
    rows = []
    for name, row in steering["answers"].items():
        areas = ", ".join(f"{value:.3f}" for value in row["detection"])
        rows.append((ROWS.get(name, name), *(percent(row[share]) for share in SHARES), areas))
    matched = "; ".join(
        f"{regime}: {', '.join(f'{value:.2f}' for value in steering['matched_strength'][regime])}" for regime in REGIMES
    )
    light = [
        (
            kind,
            f"{strength:g}",
            *(percent(accuracy[f"array/{kind}/{strength:g}/{cue}"]) for cue in ("valid", "invalid")),
        )
        for kind in SPOTLIGHTS
        for strength in config.spotlight_strengths
    ]
    return [
        Table(
            f"Learned steering: answers (%) and area under the ROC curve. Matched tuning strengths: {matched}",
            ("gains", *SHARES.values(), "detection, by set"),
            rows,
        ),
        Table("Spotlights on both areas: accuracy for the target (%)", ("kind", "strength", "valid", "invalid"), light),
    ]


def answers(rows: dict[str, Any]) -> Axes:
    """Plot the fraction of each kind of answer (colour) in each condition."""
    ax = axes(8.0, 4.5)
    for offset, (share, label) in zip(np.linspace(-0.24, 0.24, len(SHARES)), SHARES.items(), strict=True):
        cells = [row[share] for row in rows.values()]
        means = np.array([100 * cell["mean"] for cell in cells])
        ends = np.array([[100 * (c["mean"] - c["low"]), 100 * (c["high"] - c["mean"])] for c in cells]).T
        places = np.arange(len(rows)) + offset
        ax.errorbar(means, places, xerr=ends.clip(0), fmt="o", ms=4, capsize=2, label=label)
    ax.set_yticks(range(len(rows)), [ROWS.get(name, name) for name in rows])
    ax.invert_yaxis()
    ax.set(xlabel="trials (%)", xlim=(-3, 103))
    ax.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=2, fontsize="small")
    return ax


def detections(results: dict[str, Any], strengths: tuple[float, ...]) -> Axes:
    """Plot the area under the ROC curve against the accuracy for valid cues."""
    ax = axes(5.0, 3.8)
    accuracy, found = results["accuracy"], results["detection"]
    names = [f"blend/all/{strength:g}" for strength in strengths]
    across = [accuracy[f"{names[0]}/absent"]["mean"], *(accuracy[f"{name}/valid"]["mean"] for name in names)]
    up = [np.mean(found[names[0]]["uncued"]), *(np.mean(found[name]["cued"]) for name in names)]
    ax.plot(100 * np.array(across), up, color="0.5", marker="o", ms=4, label="tuning")
    for colour, regime in zip(("C0", "C3"), REGIMES, strict=True):
        for name, marker in ((regime, "s"), (f"tuning like {regime}", "x")):
            row = results["steering"]["answers"][name]
            where = np.full(len(row["detection"]), 100 * row["valid"]["mean"])
            label = f"W trained with {regime}" if name == regime else "tuning, matched"
            ax.plot(where, row["detection"], marker, color=colour, ms=5, label=label)
    ax.set(xlabel="accuracy with a valid cue (%)", ylabel="area under ROC curve")
    ax.legend(frameon=False, fontsize="x-small")
    return ax


def cue_times(config: Attention, curves: dict[str, list[float]]) -> Figure:
    """Plot accuracy over steps for each time course of the cue, with tuning gains and with learned steering."""
    figure, panels = pyplot.subplots(1, 2, figsize=(9.0, 4.4), sharey=True, layout="constrained")
    shades = pyplot.get_cmap("viridis")(np.linspace(0.0, 0.8, 1 + len(config.cue_delays)))
    colours = ["0.6", *shades, "C3", "0.6", "C3", shades[0]]
    for ax, kind in zip(panels, ("tuning", "steering"), strict=True):
        for (when, (_, _, grey)), colour in zip(courses(config).items(), colours, strict=True):
            values = 100 * np.array(curves[f"{kind}/{when}"])
            line = "--" if grey else "-"
            ax.plot(np.arange(len(values)) - grey, values, line, marker="o", ms=3, color=colour, label=when)
        ax.axvline(-0.5, color="0.8", lw=1, zorder=0)
        ax.set(xlabel="steps from image onset", title=kind, ylim=(-3, 103))
    panels[0].set_ylabel("accuracy (%)")
    figure.legend(*panels[0].get_legend_handles_labels(), frameon=False, loc="outside lower center", ncols=3)
    return figure


def spotlights(accuracy: dict[str, Any], strengths: tuple[float, ...]) -> Axes:
    """Plot accuracy against strength for both kinds of spotlights, with valid (solid) and invalid cues (dashed)."""
    ax = axes(5.0, 3.5)
    for kind, colour in zip(SPOTLIGHTS, ("C0", "C1"), strict=True):
        for cue, line in (("valid", "-"), ("invalid", "--")):
            values = [100 * accuracy[f"array/{kind}/{strength:g}/{cue}"]["mean"] for strength in strengths]
            ax.plot(strengths, values, line, color=colour, marker="o", ms=4, label=f"{kind}, {cue}")
    ax.set(xlabel="strength", ylabel="accuracy (%)", ylim=(-3, 103), xscale="log")
    ax.legend(frameon=False, fontsize="small")
    return ax
