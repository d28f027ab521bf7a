"""Curves, bars and maps of what networks did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from pcsim.analysis.statistics import Estimate
from pcsim.core.exceptions import StimulusError
from pcsim.plots.canvas import axes
from pcsim.simulation.run import Run


def error_convergence(run: Run, ax: Axes | None = None) -> Axes:
    """Mean squared prediction error against time, one line a population: median over samples, band 25 to 75 %."""
    if not run.errors:
        raise StimulusError(
            given="a run without prediction errors",
            expected="errors recorded from a network that has them",
            remedy="simulate(..., record=Record(errors='all'))",
        )
    ax = ax or axes()
    for name, value in run.errors.items():
        _banded(ax, run.times_of[f"{name}.mean_square"], value.cpu().numpy(), name)
    ax.set(xlabel="time (ms)", ylabel="mean squared prediction error", yscale="log")
    ax.legend(frameon=False)
    return ax


def activity(run: Run, keys: Sequence[str] | None = None, ax: Axes | None = None) -> Axes:
    """What was recorded against time, one line a key: median over samples, band 25 to 75 %.

    A population kept whole is shown by the root mean square over its units.
    """
    ax = ax or axes()
    for key in keys or run.keys():
        value = run[key].cpu().numpy()
        _banded(
            ax,
            run.times_of[key],
            value if value.ndim == 2 else np.sqrt((value**2).mean(tuple(range(2, value.ndim)))),
            key,
        )
    ax.set(xlabel="time (ms)", ylabel="activity (root mean square)")
    ax.legend(frameon=False)
    return ax


def _banded(ax: Axes, times: ArrayLike, values: ArrayLike, label: str) -> None:
    """Median over samples of values (time, batch), and the band between the quartiles."""
    low, middle, high = np.quantile(np.asarray(values), [0.25, 0.5, 0.75], axis=1)
    (line,) = ax.plot(times, middle, label=label)
    ax.fill_between(times, low, high, color=line.get_color(), alpha=0.2, linewidth=0)


def errors_over_cycles(errors: Mapping[str, Mapping[str, ArrayLike]], trained: int | None = None) -> Figure:
    """Relative prediction error against cycles, a panel a network, a line a layer: errors[network][error] (cycles,).

    `trained` marks the last cycle trained for; the dashed level is a prediction of nothing.
    """
    columns = min(3, len(errors))
    rows = -(-len(errors) // columns)
    figure = Figure(figsize=(1.0 + 3.2 * columns, 0.8 + 2.7 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel in panels[len(errors) :]:
        panel.remove()
    for panel, (network_name, layers) in zip(panels, errors.items(), strict=False):
        for layer, curve in layers.items():
            values = np.asarray(curve)
            panel.plot(np.arange(1, len(values) + 1), values, "o-", ms=3.5, label=layer)
        panel.axhline(1.0, color="0.6", linestyle="--", linewidth=1, zorder=0)
        if trained is not None:
            panel.axvline(trained, color="0.7", linestyle=":", linewidth=1, zorder=0)
        panel.set(yscale="log", xlabel="cycle")
        panel.set_title(network_name, fontsize=10)
        panel.legend(frameon=False, fontsize=8)
    figure.supylabel("squared error / squared activity", fontsize=10)
    return figure


# ---------------------------------------------------------------------- experiments


def error_by_condition(
    estimates: Mapping[str, Mapping[str, Estimate]], chance: Mapping[str, float] | None = None, ax: Axes | None = None
) -> Axes:
    """Error rate of every model (colour) in every condition (place), with 95 % intervals; chance as a grey tick.

    estimates[model][condition]; chance[condition] is the error of guessing.
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
    """Accuracy against time step, a panel a condition, a line a model: curves[condition][model] is (time,).

    A feed-forward network, which has one step, is a dashed level.
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


def accuracy_by_cycles(
    curves: Mapping[str, Sequence[ArrayLike]], cycles: Mapping[str, int], unit: str = "cycle"
) -> Figure:
    """Accuracy of networks trained with T cycles (left) and of each of them over its cycles (right).

    curves[network] holds one (cycles,) for each repetition, from cycle 1 on (a network without cycles has one value);
    cycles[network] is its T; `unit` is what they are called.
    """
    figure = Figure(figsize=(9.0, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for index, (name, rows) in enumerate(curves.items()):
        values, at, colour = 100 * np.asarray(rows), max(cycles[name] - 1, 0), f"C{index}"
        ends = values[:, at]
        left.plot(np.full(len(ends), index), ends, "o", ms=5, color=colour)
        left.hlines(ends.mean(), index - 0.25, index + 0.25, color=colour, linewidth=2)
        if values.shape[1] == 1:
            right.axhline(values.mean(), color=colour, linestyle="--", linewidth=1.2, label=name)
            continue
        mean = values.mean(0)
        right.plot(np.arange(1, len(mean) + 1), mean, "-", color=colour, label=name)
        right.plot(at + 1, mean[at], "o", ms=7, color=colour)
    left.set_xticks(range(len(curves)), list(curves), rotation=20, ha="right", rotation_mode="anchor")
    left.set(ylabel="correct (%)", ylim=(0, 102), title=f"at the last {unit} trained for")
    right.set(xlabel=unit, title=f"read out at every {unit}")
    right.legend(frameon=False, fontsize=8)
    return figure


def state_change(curves: Mapping[str, Mapping[str, ArrayLike]], trained: int | None = None) -> Figure:
    """Relative change of the state per step, a panel for every model, a line for every condition, log scale.

    curves[model][condition] is (steps,), from the change at step 1 on; `trained` marks the last step trained for.
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
                " trained to here",
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
    """Stimuli, and under each what every network says of it over time.

    images (n, height, width); probabilities[model] (time, n, classes); targets (n, classes), 1 at what is shown:
    a red tick beside the class. A network with one step is one column wide.
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
    """Error with and without connections, a panel a condition: costs[condition][model][lesion], "intact" first."""
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
    """Loss (mean of `every` updates, divided by the number of time steps) against updates, a line for every network."""
    ax = ax or axes()
    for name, curve in curves.items():
        ax.plot(every * np.arange(1, len(curve) + 1), curve, linewidth=1.2, label=name)
    ax.set(xlabel="update", ylabel="loss per time step")
    ax.legend(frameon=False)
    return ax


def learning_curves(curves: Mapping[str, Sequence[ArrayLike]], ax: Axes | None = None) -> Axes:
    """Error against updates, log scale: curves[rule] holds one list of (update, accuracy) for each repetition."""
    ax = ax or axes()
    for index, (name, repetitions) in enumerate(curves.items()):
        for number, repetition in enumerate(repetitions):
            update, accuracy = np.asarray(repetition).T
            label = name if number == 0 else None
            ax.plot(update, 100 * (1 - accuracy), ("-", "--")[index % 2], color=f"C{index}", linewidth=1.3, label=label)
    ax.set(xlabel="update", ylabel="error (%)", yscale="log")
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:g}"[0] in "235" else "")
    ax.legend(frameon=False)
    return ax


def alignment(curves: Sequence[tuple[ArrayLike, ArrayLike]], ax: Axes | None = None) -> Axes:
    """1 - cosine between two weight changes against the precision of the output, a line a repetition, both log."""
    ax = ax or axes()
    for precision, cosine in curves:
        ax.plot(precision, np.clip(1.0 - np.asarray(cosine), 1e-8, None), "o-", ms=4)
    ax.set(xscale="log", yscale="log", xlabel="precision of the output's error")
    ax.set(ylabel="1 - cosine with backpropagation")
    return ax


def completion(
    corruption: Sequence[float], completed: Mapping[str, ArrayLike], settled: Mapping[str, ArrayLike]
) -> Figure:
    """Share of completed patterns (left) and settling time (right) against the share of flipped units.

    completed[network] and settled[network] are (repetitions, corruption).
    """
    figure = Figure(figsize=(9.0, 3.5), layout="constrained")
    panels = figure.subplots(1, 2)
    flipped = 100 * np.asarray(corruption)
    for panel, values, factor in zip(panels, (completed, settled), (100.0, 1.0), strict=True):
        for index, (name, rows) in enumerate(values.items()):
            data = factor * np.asarray(rows)
            panel.plot(flipped, data.mean(0), "-", color=f"C{index}", label=name)
            panel.plot(flipped, data.T, "o", ms=3.5, color=f"C{index}", alpha=0.6)
        panel.set(xlabel="units flipped (%)")
    panels[0].set(ylabel="completed (%)", ylim=(-3, 103))
    panels[1].set(ylabel="settled after (sweeps, tau, steps)", ylim=(0, None))
    panels[0].legend(frameon=False)
    return figure


def capacity(loads: Sequence[float], overlap: ArrayLike, border: float = 0.138, ax: Axes | None = None) -> Axes:
    """Overlap with the stored pattern, (repetitions, loads), against patterns per unit; the border is dotted."""
    ax = ax or axes()
    data = np.asarray(overlap)
    ax.plot(loads, data.mean(0), "-", color="C0")
    ax.plot(loads, data.T, "o", ms=4, color="C0", alpha=0.6)
    ax.axvline(border, color="0.6", linestyle=":", linewidth=1)
    ax.set(xlabel="patterns per unit", ylabel="overlap after settling", ylim=(0, 1.03))
    return ax
