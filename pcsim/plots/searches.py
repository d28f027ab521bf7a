"""How a search went, and what its choices were worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from pcsim.plots.canvas import axes


def search_progress(
    scores: ArrayLike,
    complete: ArrayLike,
    random: int,
    window: int = 20,
    label: str = "score",
    scale: float = 1.0,
    ax: Axes | None = None,
) -> Axes:
    """Score of every trial, the mean of the last `window` and the best so far, as in Nayebi et al. 2018 figure 3b.

    scores    (trial,), of given-up trials what they had come to, NaN where there is none
    complete  (trial,), whether a trial ran to its end; the others are hollow and count for the mean only
    random    trials that were drawn at random, left of the dotted line
    label, scale  of the scores: "correct (%)" and 100 of a share
    """
    ax = ax or axes(6.5, 3.8)
    values, whole = scale * np.asarray(scores, float), np.asarray(complete, bool)
    number, window = np.arange(len(values)), min(window, len(values))
    known = np.isfinite(values)
    ax.plot(number[known & whole], values[known & whole], "o", ms=3.5, color="C0", alpha=0.8, label="trial")
    given_up = known & ~whole
    if given_up.any():
        ax.plot(number[given_up], values[given_up], "o", ms=3.5, color="C0", mfc="none", alpha=0.8, label="given up")
    mean = [_mean(values[max(0, last + 1 - window) : last + 1]) for last in number]
    ax.plot(number, mean, color="C1", linewidth=2, label=f"mean of the last {window}")
    best = np.maximum.accumulate(np.where(known & whole, values, -np.inf))
    ax.plot(number[np.isfinite(best)], best[np.isfinite(best)], color="C3", linewidth=2, label="best so far")
    ax.axvline(random - 0.5, color="0.5", linestyle=":", linewidth=1.2)
    ax.text(random - 0.5, 1.01, "random ", transform=ax.get_xaxis_transform(), fontsize=8, ha="right", color="0.4")
    ax.text(random - 0.5, 1.01, " proposed", transform=ax.get_xaxis_transform(), fontsize=8, color="0.4")
    ax.set(xlabel="trial", ylabel=label, xlim=(-1, len(values)))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend(frameon=False, fontsize=8, ncols=4, loc="upper center", bbox_to_anchor=(0.5, -0.14))
    return ax


def choice_effects(
    effects: Mapping[str, Mapping[str, Sequence[float]]], label: str, scale: float = 1.0, ax: Axes | None = None
) -> Axes:
    """What each choice is worth: a median difference with and without it and its interval, a colour a set of trials.

    effects[set of trials][choice] is (difference, low, high); zero is grey.
    """
    choices = list(next(iter(effects.values())))
    ax = ax or axes(2.4 + 0.75 * len(choices), 3.6)
    for index, (name, found) in enumerate(effects.items()):
        middle, low, high = (scale * np.array([found[choice][part] for choice in choices], float) for part in range(3))
        at = np.arange(len(choices)) + 0.22 * (index - (len(effects) - 1) / 2)
        ax.errorbar(at, middle, [middle - low, high - middle], fmt="o", ms=5, capsize=3, color=f"C{index}", label=name)
    ax.axhline(0.0, color="0.7", linewidth=1, zorder=0)
    ax.set_xticks(range(len(choices)), choices, rotation=20)
    ax.set(ylabel=label, xlim=(-0.6, len(choices) - 0.4))
    ax.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.2))
    return ax


def _mean(values: np.ndarray) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else np.nan
