"""Figures of `experiments.occlusion`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from pcsim.analysis import Estimate
from pcsim.plots import axes


def error_by_condition(
    estimates: Mapping[str, Mapping[str, Estimate]], chance: Mapping[str, float] | None = None, ax: Axes | None = None
) -> Axes:
    """Plot the error rate of each model (colour) in each condition, with 95 % intervals.

    estimates[model][condition] is the error rate; chance[condition], drawn in grey, is that of random guessing.
    """
    conditions = list(next(iter(estimates.values())))
    ax = ax or axes(1.5 + 1.3 * len(conditions), 4.0)
    offsets = np.linspace(-0.3, 0.3, len(estimates)) if len(estimates) > 1 else np.zeros(1)
    for offset, (model, row) in zip(offsets, estimates.items(), strict=True):
        middle = 100 * np.array([row[c].mean for c in conditions])
        ends = 100 * np.array([[row[c].mean - row[c].low, row[c].high - row[c].mean] for c in conditions]).T
        ax.errorbar(np.arange(len(conditions)) + offset, middle, ends.clip(0), fmt="o", ms=5, capsize=2, label=model)
    for place, condition in enumerate(conditions):
        if chance is not None:
            ax.hlines(100 * chance[condition], place - 0.4, place + 0.4, color="0.6", linewidth=1, zorder=0)
    ax.set_xticks(range(len(conditions)), conditions)
    ax.set(ylabel="error (%)", ylim=(-3, 103), xlim=(-0.5, len(conditions) - 0.5))
    for place in range(1, len(conditions)):
        ax.axvline(place - 0.5, color="0.9", linewidth=0.8, zorder=0)
    ax.legend(frameon=False, ncols=len(estimates), loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return ax


def accuracy_over_time(
    curves: Mapping[str, Mapping[str, ArrayLike]], chance: Mapping[str, float] | None = None
) -> Figure:
    """Plot accuracy against time step, with one panel per condition.

    curves[condition][model] has shape (time,). A feed-forward network has only one step and is drawn as a dashed line.
    """
    columns = min(3, len(curves))
    rows = -(-len(curves) // columns)
    figure = Figure(figsize=(1.0 + 2.8 * columns, 0.6 + 2.5 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
    panels = grid.ravel()
    longest = max(len(np.asarray(curve)) for models in curves.values() for curve in models.values())
    for panel in panels[len(curves) :]:
        panel.remove()
    for panel, (condition, models) in zip(panels, curves.items(), strict=False):
        for index, (model, curve) in enumerate(models.items()):
            values = 100 * np.asarray(curve)
            if len(values) == 1:
                panel.axhline(values[0], color=f"C{index}", linestyle="--", linewidth=1.2, label=model)
            else:
                panel.plot(np.arange(len(values)), values, "o-", ms=4, color=f"C{index}", label=model)
        if chance is not None:
            panel.axhline(100 * (1 - chance[condition]), color="0.7", linewidth=1, zorder=0)
        panel.set(title=condition, xlabel="time step", xticks=range(longest))
    for row in grid:
        row[0].set(ylabel="correct (%)", ylim=(0, 102))
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)
    return figure


def state_change(curves: Mapping[str, Mapping[str, ArrayLike]], trained: int | None = None) -> Figure:
    """Plot the relative change of the state per step (log scale), one panel per model, one line per condition.

    curves[model][condition], (steps,), starts with the change at step 1; `trained` marks the last step used in
    training.
    """
    figure = Figure(figsize=(1.0 + 2.8 * len(curves), 3.2), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(curves), sharey=True))
    for panel, (model, conditions) in zip(panels, curves.items(), strict=True):
        for condition, curve in conditions.items():
            values = np.asarray(curve)
            panel.plot(np.arange(1, len(values) + 1), values, "o-", ms=3.5, label=condition)
        if trained is not None:
            panel.axvline(trained, color="0.7", linestyle=":", linewidth=1)
            panel.text(
                trained,
                0.98,
                " trained up to here",
                transform=panel.get_xaxis_transform(),
                fontsize=8,
                va="top",
                color="0.4",
            )
        panel.set(title=model, xlabel="time step", yscale="log")
    panels[0].set(ylabel="relative change of the state")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)
    return figure


def guesses(images: ArrayLike, probabilities: Mapping[str, ArrayLike], targets: ArrayLike) -> Figure:
    """Plot stimuli and, below each one, the class probabilities of every network over time.

    Shapes: images (n, height, width), probabilities[model] (time, n, classes), targets (n, classes). Targets are 1 for
    each class present; red triangles mark these classes. A network with one step has one column.
    """
    images, targets = np.asarray(images), np.asarray(targets)
    count = len(images)
    rows = 1 + len(probabilities)
    figure = Figure(figsize=(0.9 + 1.15 * count, 1.3 + 1.35 * len(probabilities)), layout="constrained")
    panels = figure.subplots(rows, count, squeeze=False)
    for column in range(count):
        panels[0, column].imshow(images[column], cmap="gray", vmin=0, vmax=np.asarray(images).max())
        panels[0, column].set(xticks=[], yticks=[])
        for row, (model, value) in enumerate(probabilities.items(), 1):
            panel, shown = panels[row, column], np.asarray(value)[:, column].T
            picture = panel.imshow(shown, cmap="Greys", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
            panel.set(xticks=range(shown.shape[1]), yticks=range(shown.shape[0]) if column == 0 else [])
            panel.tick_params(labelsize=6, length=2)
            for digit in np.flatnonzero(targets[column]):
                panel.plot(-0.5, digit, ">", color="#d62728", ms=5, clip_on=False)
            if column == 0:
                panel.set_ylabel(f"{model}\ndigit", fontsize=8)
            if row == rows - 1:
                panel.set_xlabel("step", fontsize=8)
    figure.colorbar(picture, ax=panels[1:], label="probability", shrink=0.8, aspect=30)
    return figure


def lesions(costs: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Figure:
    """Plot the errors of intact and lesioned networks, costs[condition][model][lesion], with one panel per condition.

    The first lesion must be "intact".
    """
    figure = Figure(figsize=(1.2 + 3.4 * len(costs), 3.2), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(costs), sharey=True))
    kinds = list(dict.fromkeys(kind for models in costs.values() for row in models.values() for kind in row))
    for panel, (condition, models) in zip(panels, costs.items(), strict=True):
        for place, (_, row) in enumerate(models.items()):
            for offset, kind in enumerate(row):
                index = kinds.index(kind)
                height = 100 * row[kind]
                x = place + 0.2 * (offset - (len(row) - 1) / 2)
                panel.bar(x, height, 0.18, color=f"C{index}", label=kind)
                panel.text(x, height + 1, f"{height:.0f}", ha="center", fontsize=7)
        panel.set_xticks(range(len(models)), list(models))
        panel.set(title=condition)
    panels[0].set(ylabel="error (%)", ylim=(0, 108))
    handles = [panels[0].bar(0, 0, color=f"C{index}") for index in range(len(kinds))]
    figure.legend(handles, kinds, loc="outside upper center", ncols=len(kinds), frameon=False)
    return figure


def training_curves(curves: Mapping[str, Sequence[float]], every: int, ax: Axes | None = None) -> Axes:
    """Plot the loss per time step of each network against updates; each point is the mean over `every` updates."""
    ax = ax or axes()
    for name, curve in curves.items():
        ax.plot(every * np.arange(1, len(curve) + 1), curve, linewidth=1.2, label=name)
    ax.set(xlabel="update", ylabel="loss per time step")
    ax.legend(frameon=False)
    return ax
