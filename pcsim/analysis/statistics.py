"""Means and error rates with confidence intervals, and paired tests between models."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pcsim.analysis.arguments import as_ids, as_mask
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
    """Return the mean of `values` (n,) with a 95 % percentile bootstrap interval. For pairs, pass their differences.

    Raises StimulusError if there are no values, or if they are not finite.
    """
    drawn = np.asarray(values, float)
    if drawn.ndim != 1 or not len(drawn) or not np.isfinite(drawn).all():
        raise StimulusError(
            given=f"values {drawn.shape}, {int((~np.isfinite(drawn)).sum())} of them NaN or infinite",
            expected="at least one value, (n,), and only finite values",
            remedy="drop undefined values with values[np.isfinite(values)], and report how many are missing",
        )
    chosen = np.random.default_rng(seed).integers(len(drawn), size=(draws, len(drawn)))
    low, high = np.quantile(drawn[chosen].mean(1), [0.025, 0.975])
    return Estimate(float(drawn.mean()), float(low), float(high))


def spearman_brown(r: Any) -> Any:
    """Return 2 r / (1 + r), the reliability of a measurement, from the correlation r between its halves.

    The reliability is NaN if r = -1.
    """
    r = np.asarray(r, float)
    return 2.0 * r / np.where(r > -1.0, 1.0 + r, np.nan)


def correlation(first: ArrayLike, second: ArrayLike, method: str = "spearman") -> float:
    """Return the correlation of two arrays (n,), or NaN if either contains NaN or does not vary.

    method  "spearman", "pearson" or "kendall" (tau-b)

    Raises StimulusError for other methods.
    """
    from scipy import stats

    correlate = {"spearman": stats.spearmanr, "pearson": stats.pearsonr, "kendall": stats.kendalltau}
    if method not in correlate:
        raise StimulusError(given=f"method={method!r}", expected=", ".join(correlate), remedy="pass method='spearman'")
    one, other = np.asarray(first, float), np.asarray(second, float)
    if np.isnan([centred(one)[1], centred(other)[1]]).any():
        return math.nan
    return float(correlate[method](one, other).statistic)


@checked(StimulusError)
def rank_correlation(
    first: ArrayLike,
    second: ArrayLike,
    control: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    draws: Count = 1_000,
    seed: Whole = 0,
) -> Estimate:
    """r = (r12 - r13 r23) / sqrt( (1 - r13^2) (1 - r23^2) ), Spearman's correlation with a 95 % bootstrap interval.

    first, second  values (n,)
    control        values (n,) whose effect is removed (r13, r23: correlations with them); None for r = r12
    groups         ids (n,), such as those of scenes; all samples of a group are resampled together

    The result is NaN if an array does not vary; draws in which one does not vary are left out. Raises StimulusError for
    arrays of different lengths, fewer than three samples, or values that are not finite.
    """
    given = [np.asarray(values, float) for values in (first, second, control) if values is not None]
    sizes = {each.shape for each in given}
    if len(sizes) > 1 or given[0].ndim != 1 or len(given[0]) < 3 or not np.isfinite(given).all():
        raise StimulusError(
            given=f"arrays of shapes {[each.shape for each in given]}, with "
            f"{sum(int((~np.isfinite(each)).sum()) for each in given)} values that are NaN or infinite",
            expected="arrays of three or more finite values, (n,)",
            remedy="leave out undefined values with ok = np.isfinite(values); values[ok]",
        )
    ids = np.arange(len(given[0])) if groups is None else as_ids(groups, "groups", len(given[0]))
    samples = [np.flatnonzero(ids == each) for each in np.unique(ids)]
    chosen = np.random.default_rng(seed).integers(len(samples), size=(draws, len(samples)))
    found = []
    for row in chosen:
        rows = np.concatenate([samples[k] for k in row])
        found.append(_partial_rank([each[rows] for each in given]))
    low, high = np.nanquantile(found, [0.025, 0.975]) if np.isfinite(found).any() else (math.nan, math.nan)
    return Estimate(_partial_rank(given), float(low), float(high))


def _partial_rank(arrays: list[NDArray[np.float64]]) -> float:
    """Return Spearman's correlation of two arrays, controlling for the third if there is one."""
    from scipy.stats import rankdata

    ranks = [centred(rankdata(each)) for each in arrays]
    unit = [away / size for away, size in ranks]
    r12 = float(unit[0] @ unit[1])
    if len(unit) == 2:
        return r12
    r13, r23 = float(unit[0] @ unit[2]), float(unit[1] @ unit[2])
    rest = (1 - r13**2) * (1 - r23**2)
    return (r12 - r13 * r23) / math.sqrt(rest) if rest > 1e-12 else math.nan


def centred(values: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return values (n, ...) minus their means over the first axis, and the norms of the differences: (...).

    A norm is NaN if the values vary only by rounding, or contain NaN or infinity.
    """
    x = np.asarray(values, float)
    with np.errstate(invalid="ignore", over="ignore"):
        away = x - x.mean(0)
        size = np.sqrt((away**2).sum(0))
        return away, np.where(size > 1e-12 * np.sqrt((x**2).sum(0)), size, np.nan)


@checked(StimulusError, correct=None)
def error_rate(correct: Correct, draws: Count = 2_000, seed: Whole = 0) -> Estimate:
    """Return the error rate of `correct` (repetitions, images) with a 95 % percentile bootstrap interval.

    Repetitions and images are both resampled, with the same images for all repetitions in a draw. The interval
    therefore covers variation across training runs and images or, with one repetition, across images only. Raises
    StimulusError for other shapes, and for values other than True and False (or 1 and 0).
    """
    wrong = ~as_mask(correct, "correct")
    if wrong.ndim != 2 or not wrong.size:
        raise StimulusError(
            given=f"correct {wrong.shape}",
            expected="correct (repetitions, images)",
            remedy="pass correct[None] if there is one repetition",
        )
    repetitions, images = wrong.shape
    generator = np.random.default_rng(seed)
    means = np.empty(draws)
    for draw in range(draws):
        rows = generator.integers(repetitions, size=repetitions)
        counts = wrong[rows].sum(0)
        means[draw] = counts[generator.integers(images, size=images)].mean() / repetitions
    low, high = np.quantile(means, [0.025, 0.975])
    return Estimate(float(wrong.mean()), float(low), float(high))


@checked(StimulusError, first=None, second=None)
def mcnemar(first: Correct, second: Correct) -> float:
    """Return the p-value of the exact two-sided McNemar test on images that only one model classifies correctly.

    Raises StimulusError if the shapes differ, or for values other than True and False (or 1 and 0).
    """
    from scipy.stats import binomtest

    one, other = as_mask(first, "correct"), as_mask(second, "correct")
    if one.shape != other.shape:
        raise StimulusError(
            given=f"answers of shapes {one.shape} and {other.shape}",
            expected="answers of both models to the same images",
            remedy="test both models on the same images, in the same order",
        )
    only_first, only_second = int((one & ~other).sum()), int((other & ~one).sum())
    if only_first + only_second == 0:
        return 1.0
    return float(binomtest(only_first, only_first + only_second, 0.5).pvalue)


@dataclass(frozen=True)
class Comparison:
    """Two models compared on the same images: McNemar's p, and q, the p-value adjusted for all compared pairs."""

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
def compare_pairs(correct: Mapping[str, Any]) -> list[Comparison]:
    """Compare all pairs of models with McNemar tests, and adjust the p-values as in Benjamini & Hochberg 1995.

    `correct[model]` is (repetitions, images); repetition r of one model is paired with repetition r of the other.
    `difference` is the error rate of `first` minus the error rate of `second`. Raises the same errors as `mcnemar`.
    """
    from scipy.stats import false_discovery_control

    answers = {name: as_mask(values, name) for name, values in correct.items()}
    pairs = list(combinations(answers, 2))
    if not pairs:
        return []
    ps = [mcnemar(answers[a], answers[b]) for a, b in pairs]
    qs = false_discovery_control(ps)
    return [
        Comparison(a, b, float(answers[b].mean() - answers[a].mean()), p, float(q))
        for (a, b), p, q in zip(pairs, ps, qs, strict=True)
    ]
