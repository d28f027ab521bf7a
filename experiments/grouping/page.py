"""Report page of `experiments.grouping`."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib import colormaps, pyplot
from matplotlib.figure import Figure

from pcsim import stimuli

from ..base import TEST_SEED, finite_or_nan
from ..report import Picture, Report, Table, counted
from .networks import NETWORKS
from .options import LENGTH, Grouping
from .science import FAR, LESIONS, PATHS, RECURRENT, SPREADS

RIGHT = "Correct answers for trained paths, with 95 % intervals"
COLOURS = {"hgru": "C0", "lateral": "C1", "feedforward": "0.4"}


def report(config: Grouping, results: dict[str, Any]) -> Report:
    """Build the report page."""
    accuracy = results["accuracy"]
    pictures = [
        Picture("trials", examples(), "Four trials of a scene with a path of 8 dashes, two of each class.", ()),
        Picture(
            "accuracy",
            by_length(accuracy, config),
            "Accuracy for each path. Dots: repetitions. Paths to the right of the dotted line were not trained. Right: "
            "after lesions of lateral edges.",
            ("accuracy",),
        ),
        Picture(
            "steps",
            over_steps(accuracy, config),
            "Accuracy after each step, by path in dashes (shades). The dotted line marks the steps used in training.",
            ("accuracy",),
        ),
        Picture(
            "time",
            times(results["reaction_times"]),
            "Mean time of correct answers for each path, one line per repetition. Left: area under the uncertainty. "
            "Right: time of the decision. Dashed: dots on different curves, by the path in the scene's other trials.",
            ("reaction_times",),
        ),
        Picture(
            "spread",
            spreads(results["spread"]),
            "Change of activity caused by the first dot. Left: at nodes of its own curve, by the number of dashes to "
            "the dot (shades). Right: at the last step of training, at nodes of its own and of the other curve.",
            ("spread",),
        ),
    ]
    summary = (
        f"{counted(config.repetitions, 'repetition')}, {len(config.phases)} phases of {config.training.updates:,} "
        f"updates with paths of up to {config.phases[-1]} dashes, {config.test_images:,} test trials for each path."
    )
    tables = [
        accuracy_table(results),
        estimate_table(
            results, "correlations", f"Spearman's correlation with distance. {RIGHT}", ("trials", "distance")
        ),
        estimate_table(results, "slopes", f"Coefficients of path and path^2, in steps. {RIGHT}", ("fit",)),
    ]
    return Report("Grouping two dots along a curve", summary, pictures, tables)


def accuracy_table(results: dict[str, Any]) -> Table:
    """Return the table of accuracies for trained paths, intact and lesioned."""
    rows = []
    for name in NETWORKS:
        found = results["accuracy"][name]
        for lesion in ("intact", *LESIONS.get(name, {})):
            values = found["trained"] if lesion == "intact" else found["lesions"][lesion]["trained"]
            each = ", ".join(f"{100 * value:.1f}" for value in values)
            rows.append((name, f"{results['sizes'][name]:,}", lesion, each, f"{100 * np.mean(values):.1f}"))
    return Table("Accuracy for trained paths (%)", ("network", "parameters", "lesion", "repetitions", "mean"), rows)


def estimate_table(results: dict[str, Any], part: str, caption: str, head: tuple[str, ...]) -> Table:
    """Return a table of estimates and their intervals, with one column per repetition."""
    rows = []
    for name, repetitions in results[part].items():
        for key in repetitions[0]:
            cells = [interval(each[key]) if key in each else "" for each in repetitions]
            rows.append((name, *key.split("/"), *cells))
    numbers = [f"repetition {number + 1}" for number in range(len(results[part]["hgru"]))]
    return Table(caption, ("network", "measure", *head, *numbers), rows)


def interval(estimate: list[float | None]) -> str:
    """Format an estimate with its interval."""
    mean, low, high = finite_or_nan(estimate)
    return f"{mean:.2f} [{low:.2f}, {high:.2f}]"


def examples() -> Figure:
    """Draw the trials of a scene."""
    trials = stimuli.contours(TEST_SEED, 0, 4, paths=(8,), length=LENGTH)
    figure, panels = pyplot.subplots(1, 4, figsize=(8.0, 2.4), layout="constrained")
    for panel, image, same in zip(panels.flat, trials.images[:, 0], trials.same, strict=True):
        panel.imshow(image, cmap="gray", vmin=0, vmax=255)
        panel.set(xticks=[], yticks=[], title="same" if same else "different")
    return figure


def by_length(accuracy: dict[str, Any], config: Grouping) -> Figure:
    """Plot accuracy against path length, for intact and lesioned networks."""
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9.0, 3.4), layout="constrained")
    for name in NETWORKS:
        values = 100 * np.array(accuracy[name]["by_path"])
        left.plot(PATHS, values.mean(0), color=COLOURS[name], label=name)
        left.plot(PATHS, values.T, ".", color=COLOURS[name], ms=4)
        for lesion, line in zip(LESIONS.get(name, {}), ("--", ":", "-."), strict=False):
            values = 100 * np.array(accuracy[name]["lesions"][lesion]["by_path"])
            right.plot(PATHS, values, line, color=COLOURS[name], label=f"{name}, {lesion}")
    for panel in (left, right):
        panel.axvline(config.phases[-1] + 0.5, color="0.7", ls=":")
        panel.axhline(50, color="0.7", lw=0.8)
        panel.set(xlabel="path (dashes)", ylabel="accuracy (%)", ylim=(30, 103))
        panel.legend(frameon=False, fontsize="small")
    return figure


def over_steps(accuracy: dict[str, Any], config: Grouping) -> Figure:
    """Plot accuracy over steps for groups of paths."""
    figure, panels = pyplot.subplots(1, len(RECURRENT), figsize=(9.0, 3.4), layout="constrained")
    for panel, name in zip(np.atleast_1d(panels).flat, RECURRENT, strict=True):
        curves = accuracy[name]["over_time"]
        for (label, values), shade in zip(curves.items(), np.linspace(0.2, 0.9, len(curves)), strict=True):
            mean = 100 * np.array(values)
            panel.plot(range(1, len(mean) + 1), mean, marker="o", ms=2, color=colormaps["viridis"](shade), label=label)
        panel.axvline(config.steps, color="0.7", ls=":")
        panel.set(xlabel="step", ylabel="accuracy (%)", ylim=(30, 103), title=name)
        panel.legend(frameon=False, fontsize="small", title="dashes", ncols=3, loc="lower right")
    return figure


def times(found: dict[str, Any]) -> Figure:
    """Plot mean reaction times against path length."""
    figure, panels = pyplot.subplots(1, 2, figsize=(9.0, 3.4), layout="constrained")
    labels = {"area": "area under uncertainty (steps)", "decision": "decision time (steps)"}
    for panel, (kind, what) in zip(panels.flat, labels.items(), strict=True):
        for name in RECURRENT:
            for number, repetition in enumerate(found[name]):
                label = name if number == 0 else None
                panel.plot(
                    PATHS, finite_or_nan(repetition[f"{kind}/same"]), "o-", ms=3, color=COLOURS[name], label=label
                )
                panel.plot(PATHS, finite_or_nan(repetition[f"{kind}/different"]), "--", color=COLOURS[name], alpha=0.6)
        panel.set(xlabel="path (dashes)", ylabel=what)
        panel.legend(frameon=False)
    return figure


def spreads(found: dict[str, Any]) -> Figure:
    """Plot the spread of activity over steps and over space, averaged over repetitions."""
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9.0, 3.4), layout="constrained")
    mean = {name: {key: np.array(found[name][key], float).mean(0) for key in SPREADS} for name in found}
    for distance in range(1, FAR + 1):
        curve = mean["hgru"]["own, by path"][:, distance]
        left.plot(range(1, len(curve) + 1), curve, color=colormaps["viridis"](distance / FAR), label=str(distance))
    left.set(xlabel="step", ylabel="change of activity", title="hgru")
    left.legend(frameon=False, fontsize="small", title="dashes", ncols=2)
    for name, values in mean.items():
        for key, line in (("own", "o-"), ("other", "o--")):
            share = values[key][-1] / values["own"][-1, 0]
            right.plot(range(1, FAR + 1), share[1:], line, ms=3, color=COLOURS[name], label=f"{name}, {key} curve")
    right.set(xlabel="distance in the plane (dashes)", ylabel="change / change at the dot")
    right.legend(frameon=False, fontsize="small")
    return figure
