"""Object solution times: the time at which decoded responses first identify each image (Kar et al. 2019).

    decoded = decode_over_time(run["l2"], labels)       `pcsim.analysis.decoding`
    i1 = image_d_prime(decoded.probabilities, labels)   (time, n), d' of each image against the other classes
    solution_times(run.times, i1, thresholds)           (n,) in ms, NaN for images that are never solved

I1 and the solution times follow Brain-Score's object solution time benchmark. `last` selects one of two possible
interpretations of the benchmark.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pcsim.analysis.arguments import as_labels, as_times
from pcsim.analysis.statistics import correlation, spearman_brown
from pcsim.core.checks import Labels, Number, checked
from pcsim.core.exceptions import StimulusError

Array = NDArray[np.float64]
LARGEST = 5.0
"""largest d'; larger values are clipped, as in Brain-Score"""


@checked(StimulusError)
def image_d_prime(probabilities: ArrayLike, labels: Labels) -> Array:
    """Return I1, the d' of each image averaged over all other classes, (..., n), from `probabilities` (..., n, class).

    p(i, c) = P(c) / (P(c) + P(truth of i));  d'(i, c) = z( 1 - p(i, c) ) - z( false alarm ), where the false alarm rate
    is the mean of p(j, truth of i) over the images j of class c. d' is clipped to +-5. Classes that have no images, or
    for which both probabilities are 0, are excluded from the average. Source: Kar et al. 2019, as implemented in
    Brain-Score. Raises StimulusError if probabilities are NaN or negative, or if the labels do not match them.
    """
    from scipy.special import ndtri

    p, y = np.asarray(probabilities, float), as_labels(labels)
    fits = p.ndim >= 2 and y.shape == p.shape[-2:-1] and len(y) and y.min() >= 0 and y.max() < p.shape[-1]
    if not fits or not (np.isfinite(p) & (p >= 0.0)).all():
        raise StimulusError(
            given=f"probabilities {p.shape}" + (" with negative values or NaN" if fits else "") + f", labels {y.shape}",
            expected="probabilities (..., n, class) of at least 0, and labels (n,) from 0 to class - 1",
            remedy="pass Decoded.probabilities and the same labels as in decode_over_time",
        )
    truth = np.take_along_axis(p, np.broadcast_to(y[:, None], (*p.shape[:-1], 1)), -1)
    with np.errstate(invalid="ignore", divide="ignore"):
        distracted = p / (p + truth)
        alarm = np.stack(
            [
                distracted[..., y == c, :].mean(-2) if (y == c).any() else np.full_like(p[..., 0, :], np.nan)
                for c in range(p.shape[-1])
            ],
            -2,
        )
        # alarm[..., c, a] is the false alarm rate for class a: how often images of class c are mistaken for it.
        d = np.clip(ndtri(1.0 - distracted) - ndtri(np.swapaxes(alarm, -1, -2)[..., y, :]), -LARGEST, LARGEST)
    d[..., np.arange(len(y)), y] = np.nan
    known = np.isfinite(d)
    count = known.sum(-1)
    return np.where(count > 0, np.where(known, d, 0.0).sum(-1) / np.maximum(count, 1), np.nan)


@checked(StimulusError)
def solution_times(
    times: ArrayLike, i1: ArrayLike, thresholds: ArrayLike, last: Literal["record", "previous"] = "record"
) -> Array:
    """Return the interpolated time at which each image's I1 reaches its threshold: (n,), NaN if it never does.

    times       (time,), starts of the time bins, in any order; the solution times have the same unit
    i1          (time, n), as returned by `image_d_prime`; bins with NaN are skipped
    thresholds  (n,), or one value for all images: the I1 of the animal (or of a reference) for each image; where
                a threshold is NaN, so is the solution time
    last        value from which to interpolate: "record", the highest so far (Brain-Score), or "previous", the value
                in the preceding bin

    If I1 reaches the threshold in the first bin, the solution time is the start of that bin. Raises StimulusError if
    the shapes do not match, or if a time is NaN or occurs twice.
    """
    at, values = np.asarray(times, float), np.asarray(i1, float)
    wanted = np.asarray(thresholds, float)
    fits = at.ndim == 1 and values.ndim == 2 and len(values) == len(at) and wanted.shape in ((), values.shape[1:])
    if not fits:
        raise StimulusError(
            given=f"times {at.shape}, I1 {values.shape}, thresholds {wanted.shape}",
            expected="times (time,), i1 (time, n), and thresholds (n,) or one number",
            remedy="call solution_times(times, image_d_prime(decoded.probabilities, labels), thresholds)",
        )
    order = np.argsort(at)
    at, values, wanted = as_times(at[order]), values[order], np.broadcast_to(wanted, values.shape[1:])
    return np.array([_solved(at, values[:, n], wanted[n], last) for n in range(values.shape[1])], np.float64)


def _solved(at: Array, x: Array, threshold: float, last: str) -> float:
    reached = np.flatnonzero(x >= threshold)
    if not len(reached):
        return math.nan
    hit = int(reached[0])
    before = np.flatnonzero(np.isfinite(x[:hit]))
    if not len(before):
        return float(at[hit])
    from_ = int(before[np.argmax(x[before])]) if last == "record" else int(before[-1])
    share = (threshold - x[from_]) / (x[hit] - x[from_]) if x[hit] > x[from_] else 1.0
    return float(at[from_] + share * (at[hit] - at[from_]))


@checked(StimulusError)
def rank_correlation(predicted: ArrayLike, measured: ArrayLike, ceiling: Number = 1.0) -> float:
    """Return Spearman's correlation over images that have both values, divided by `ceiling` (0.79 in Kar et al. 2019).

    Images that lack either value, such as those that are never solved, are left out. The result is NaN if fewer than
    three images remain, or if either value is the same for all of them. Raises StimulusError if the shapes differ, or
    if the ceiling is not above 0.
    """
    first, second = _paired(predicted, measured)
    if not ceiling > 0.0:
        raise StimulusError(given=f"ceiling={ceiling}", expected="a ceiling above 0", remedy="pass ceiling=0.79")
    both = np.isfinite(first) & np.isfinite(second)
    return correlation(first[both], second[both], "spearman") / ceiling if both.sum() > 2 else math.nan


@checked(StimulusError)
def control_and_challenge(
    reference: ArrayLike, model: ArrayLike, alike: float = 0.4, behind: float = 1.5
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return masks of the images on which a model matches the reference (control) or is much worse (challenge).

    `reference` and `model` (feed-forward) are the I1 of each image, (n,). Control images have |reference - model| <=
    alike, and challenge images have reference - model >= behind. Images with NaN are in neither mask. Source: Kar et
    al. 2019 (monkeys and humans versus AlexNet). Raises StimulusError if the shapes differ.
    """
    first, second = _paired(reference, model)
    difference = first - second
    return np.abs(difference) <= alike, difference >= behind


@checked(StimulusError)
def split_half_reliability(
    first: ArrayLike, second: ArrayLike, correlate: Callable[..., float] = rank_correlation
) -> float:
    """Return the Spearman-Brown reliability 2 r / (1 + r), where r is the correlation between two halves.

    The reliability is NaN if the correlation is NaN or -1.
    """
    return float(spearman_brown(correlate(first, second)))


def _paired(first: ArrayLike, second: ArrayLike) -> tuple[Array, Array]:
    one, other = np.asarray(first, float), np.asarray(second, float)
    if one.ndim != 1 or one.shape != other.shape:
        raise StimulusError(
            given=f"values of shapes {one.shape} and {other.shape}",
            expected="two arrays (n,) with one value for each image, NaN where undefined",
            remedy="pass values for the same images in the same order",
        )
    return one, other


__all__ = ["control_and_challenge", "image_d_prime", "rank_correlation", "solution_times", "split_half_reliability"]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
