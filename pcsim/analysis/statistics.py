"""Means and error rates with confidence intervals, and paired tests between models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pcsim.core.checks import Count, Whole, checked
from pcsim.core.exceptions import StimulusError

Correct = NDArray[np.bool_]


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % confidence interval, from `low` to `high`."""

    mean: float
    low: float
    high: float


@checked(StimulusError)
def estimate(values: ArrayLike, draws: Count = 2_000, seed: Whole = 0) -> Estimate:
    """Return the mean of `values` (n,) with a 95 % percentile bootstrap interval; pass differences to compare pairs."""
    drawn = np.asarray(values, float)
    chosen = np.random.default_rng(seed).integers(len(drawn), size=(draws, len(drawn)))
    low, high = np.quantile(drawn[chosen].mean(1), [0.025, 0.975])
    return Estimate(float(drawn.mean()), float(low), float(high))


def spearman_brown(r: Any) -> Any:
    """Return 2 r / (1 + r), the reliability of a measurement, from the correlation r between its halves."""
    return 2.0 * r / (1.0 + r)


@checked(StimulusError)
def error_rate(correct: Correct, draws: Count = 2_000, seed: Whole = 0) -> Estimate:
    """Return the error rate of `correct` (repetitions, images) with a 95 % percentile bootstrap interval.

    Repetitions and images are both resampled, with the same images for all repetitions of a draw. The interval
    therefore covers variation over trainings and over images; with one repetition, over images only.
    """
    wrong = ~correct
    repetitions, images = wrong.shape
    generator = np.random.default_rng(seed)
    means = np.empty(draws)
    for draw in range(draws):
        rows = generator.integers(repetitions, size=repetitions)
        counts = wrong[rows].sum(0)
        means[draw] = counts[generator.integers(images, size=images)].mean() / repetitions
    low, high = np.quantile(means, [0.025, 0.975])
    return Estimate(float(wrong.mean()), float(low), float(high))


@checked(StimulusError)
def mcnemar(first: Correct, second: Correct) -> float:
    """Return the p-value of the exact two-sided McNemar test on the images that only one of two models gets right."""
    from scipy.stats import binomtest

    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    if only_first + only_second == 0:
        return 1.0
    return float(binomtest(only_first, only_first + only_second, 0.5).pvalue)


@dataclass(frozen=True)
class Comparison:
    """Two models compared on the same images: McNemar's p, and q, which is p adjusted for all pairs compared."""

    first: str
    second: str
    difference: float
    p: float
    q: float

    @property
    def significant(self) -> bool:
        """True if q < 0.05, a false discovery rate of 5 %."""
        return self.q < 0.05


@checked(StimulusError)
def compare_pairs(correct: Mapping[str, Correct]) -> list[Comparison]:
    """Compare all pairs of models by McNemar tests with p-values adjusted as in Benjamini & Hochberg 1995.

    `correct[model]` is (repetitions, images); repetition r of one model is paired with repetition r of the other.
    `difference` is the error rate of `first` minus the error rate of `second`.
    """
    from scipy.stats import false_discovery_control

    pairs = list(combinations(correct, 2))
    if not pairs:
        return []
    ps = [mcnemar(correct[a].ravel(), correct[b].ravel()) for a, b in pairs]
    qs = false_discovery_control(ps)
    return [
        Comparison(a, b, float(correct[b].mean() - correct[a].mean()), p, float(q))
        for (a, b), p, q in zip(pairs, ps, qs, strict=True)
    ]
