"""Figures of `experiments.object_solution_time`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from pcsim.plots.curves import COLOURS


def solution_times(
    found: Mapping[str, Mapping[str, Mapping[str, ArrayLike]]],
    means: Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]],
) -> Figure:
    """Plot solution times (one dot per image), means and intervals, with one panel per network and one pair per lesion.

    found[network][lesion][condition] has shape (image,), in ms, and is NaN for images that are never solved. If
    solution times are undefined, found[network][lesion] is {}. `means` has the same keys and contains (mean, low,
    high).
    """
    widths = [max(1, len(lesions)) for lesions in found.values()]
    figure = Figure(figsize=(1.0 + 1.5 * sum(widths), 3.9), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(found), width_ratios=widths))
    generator = np.random.default_rng(0)
    for panel, (network, lesions) in zip(panels, found.items(), strict=True):
        for place, (lesion, conditions) in enumerate(lesions.items()):
            for side, (condition, values) in enumerate(conditions.items()):
                times = np.asarray(values, float)
                at, colour, known = place + 0.4 * (side - 0.5), COLOURS.get(condition, f"C{side}"), np.isfinite(times)
                drawn = at + generator.uniform(-0.13, 0.13, known.sum())
                panel.plot(drawn, times[known], ".", ms=3, color=colour, alpha=0.35, zorder=1)
                middle, low, high = means[network][lesion][condition]
                bar = [[middle - low], [high - middle]]
                label = condition if place == 0 else None
                panel.errorbar(
                    at, middle, bar, fmt="D", ms=5, capsize=4, color=colour, mec="k", ecolor="k", label=label
                )
                share = f"{100 * known.mean():.0f} %"
                panel.text(
                    at, 1.01, share, transform=panel.get_xaxis_transform(), ha="center", fontsize=7, color="0.35"
                )
            if not conditions:
                panel.text(place, 0.5, "undefined:\nno change\nover time", ha="center", va="center", fontsize=8)
        panel.set_xticks(range(len(lesions)), [name.replace(" ", "\n", 1) for name in lesions], fontsize=8)
        panel.set(xlim=(-0.6, len(lesions) - 0.4))
        panel.set_title(network, fontsize=10, pad=14)
        if not any(lesions.values()):
            panel.set(yticks=[], ylim=(0, 1))
    panels[0].set_ylabel("object solution time (ms)")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return figure


def similarities(
    values: Mapping[str, Mapping[str, Mapping[str, float]]],
    references: Mapping[str, Mapping[str, float]],
    ceilings: Mapping[str, tuple[float, float]],
) -> Figure:
    """Plot the rank correlation of each area's dissimilarities with those of IT, with one panel per brain.

    values[brain][area][training state] are drawn as bars, references[brain] as labelled lines, and ceilings[brain] as
    a band.
    """
    figure = Figure(figsize=(1.2 + 4.6 * len(values), 3.6), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(values), sharey=True))
    for panel, (brain, areas) in zip(panels, values.items(), strict=True):
        states = list(next(iter(areas.values())))
        for index, state in enumerate(states):
            at = np.arange(len(areas)) + 0.38 * (index - (len(states) - 1) / 2)
            panel.bar(at, [row[state] for row in areas.values()], 0.36, color=("0.75", "C0")[index % 2], label=state)
        for name, value in references[brain].items():
            panel.axhline(value, color="C3", linestyle="--", linewidth=1.2)
            panel.text(1.01, value, name, transform=panel.get_yaxis_transform(), fontsize=8, color="C3", va="center")
        if brain in ceilings:
            panel.axhspan(*ceilings[brain], color="C2", alpha=0.15, linewidth=0, label="noise ceiling")
        panel.axhline(0.0, color="0.3", linewidth=0.8)
        panel.set_xticks(range(len(areas)), list(areas), rotation=45, ha="right", fontsize=8)
        panel.set_title(f"{brain} IT", fontsize=10)
        panel.legend(frameon=False, fontsize=8, loc="upper left")
    panels[0].set_ylabel("Spearman's correlation")
    return figure
