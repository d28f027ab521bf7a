"""Linear decoding of a population over time, and when an image is solved (Kar et al. 2019).

    decoded = decode_over_time(run["l2"], labels)       one decoder a time step, cross-validated
    decoded.accuracy                                    (time,)
    i1 = image_d_prime(decoded.probabilities, labels)   (time, n): how well each image is told from the other classes
    solution_times(run.times, i1, thresholds)           (n,) ms, NaN where an image is never solved

I1 and solution times follow the algorithm of Brain-Score's object solution time benchmark; where that has two readings
both are here (`last`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn import functional

from pcsim.analysis.statistics import spearman_brown
from pcsim.core.exceptions import StimulusError

Array = NDArray[np.float64]
LARGEST = 5.0
"""d' beyond which Brain-Score clips"""


@dataclass(frozen=True)
class Decoded:
    """What cross-validated decoders said of samples that they were not fitted to.

    probabilities (time, n, class); of the SVM a softmax of its margins, which ranks classes as they do
    correct       (time, n)
    """

    probabilities: Array
    correct: NDArray[np.bool_]

    @property
    def accuracy(self) -> Array:
        """Share correct, (time,)."""
        return self.correct.mean(1)


def decode_over_time(
    features: ArrayLike | Tensor,
    labels: ArrayLike,
    *,
    decoder: Literal["logistic", "svm"] = "logistic",
    penalty: float = 1.0,
    folds: int = 5,
    groups: ArrayLike | None = None,
    seed: int = 0,
) -> Decoded:
    """Decode `labels` (n,), whole numbers from 0, from `features` (time, n, ...), a decoder for each time and fold.

    logistic  multinomial logistic regression,  sum of cross-entropies + penalty / 2 |W|^2
    svm       linear, one class against the rest,  sum of squared hinges + penalty / 2 |W|^2
    Biases are not penalised. Features are z-scored by their training part; folds are stratified, every sample is tested
    once; those of a group (n,) together, as an image and its occluded twin. In double precision. Raises StimulusError
    for features that are not finite, labels that do not fit, or classes smaller than `folds`.
    """
    x = torch.as_tensor(np.asarray(features) if not isinstance(features, Tensor) else features).detach().double()
    y = _whole_numbers(labels)
    x = x.flatten(2) if x.dim() > 2 else x[..., None]
    if not bool(torch.isfinite(x).all()):
        raise StimulusError(
            given=f"features {tuple(x.shape)} with NaN or infinite values",
            expected="finite ones",
            remedy="of repetitions that were not all made take np.nanmean(each, 0)",
        )
    counts = torch.bincount(y) if y.dim() == 1 and len(y) and int(y.min()) >= 0 else torch.zeros(1)
    if len(y) != x.shape[1] or len(counts) < 2 or int(counts.min()) < folds or folds < 2:
        raise StimulusError(
            given=f"features {tuple(x.shape)}, {len(y)} labels, {counts.tolist()} of each class, {folds} folds",
            expected="features (time, n, ...), n labels 0, 1, ..., two classes or more, in each as many as folds",
            remedy="number the classes without gaps, show more images, or take fewer folds",
        )
    fold = stratified_folds(y.numpy(), folds, seed, groups)
    margins = torch.empty(*x.shape[:2], len(counts), dtype=torch.float64)
    for number in range(folds):
        test, training = torch.from_numpy(fold == number), torch.from_numpy(fold != number)
        for time in range(len(x)):
            known = x[time, training]
            mean, sd = known.mean(0), known.std(0, correction=0)
            sd = torch.where(sd > 0, sd, 1.0)
            weights, bias = fit_decoder((known - mean) / sd, y[training], len(counts), decoder, penalty)
            margins[time, test] = (x[time, test] - mean) / sd @ weights + bias
    return Decoded(torch.softmax(margins, -1).numpy(), (margins.argmax(-1) == y).numpy())


def _whole_numbers(labels: ArrayLike) -> Tensor:
    known = np.asarray(labels)
    if known.dtype.kind not in "iub" or known.ndim != 1:
        raise StimulusError(
            given=f"labels {known.shape} of type {known.dtype}",
            expected="whole numbers (n,), from 0",
            remedy="names, labels = np.unique(labels, return_inverse=True)",
        )
    return torch.from_numpy(known.astype(np.int64))


def fit_decoder(
    x: Tensor, y: Tensor, classes: int, decoder: Literal["logistic", "svm"] = "logistic", penalty: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Weights (feature, class) and biases (class,) of the decoders of `decode_over_time`, by L-BFGS."""
    if decoder not in ("logistic", "svm") or not penalty > 0:
        raise StimulusError(
            given=f"decoder={decoder!r}, penalty={penalty}", expected="logistic or svm, above 0", remedy="choose these"
        )
    weights = torch.zeros(x.shape[1], classes, dtype=x.dtype, requires_grad=True)
    bias = torch.zeros(classes, dtype=x.dtype, requires_grad=True)
    signs = 2.0 * functional.one_hot(y, classes).to(x) - 1.0
    optimiser = torch.optim.LBFGS(
        [weights, bias], max_iter=500, tolerance_grad=1e-6, tolerance_change=1e-12, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        margins = x @ weights + bias
        if decoder == "logistic":
            loss = functional.cross_entropy(margins, y, reduction="sum")
        else:
            loss = functional.relu(1.0 - signs * margins).square().sum()
        loss = loss + 0.5 * penalty * weights.square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    return weights.detach(), bias.detach()


def stratified_folds(labels: NDArray, folds: int, seed: int = 0, groups: ArrayLike | None = None) -> NDArray[np.int64]:
    """The fold of each sample, (n,): each class spread evenly over folds, in an order that `seed` draws.

    Samples of one group (n,), which are of one class, share a fold.
    """
    if groups is not None:
        _, first, members = np.unique(np.asarray(groups), return_index=True, return_inverse=True)
        if (np.asarray(labels)[first][members] != labels).any():
            raise StimulusError(
                given="a group with samples of several classes", expected="one class", remedy="split the group"
            )
        return stratified_folds(np.asarray(labels)[first], folds, seed)[members]
    generator, fold = np.random.default_rng(seed), np.empty(len(labels), np.int64)
    begun = 0
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        fold[members] = (np.arange(len(members)) + begun) % folds
        begun += len(members)
    return fold


def image_d_prime(probabilities: ArrayLike, labels: ArrayLike) -> Array:
    """I1: how well each image is told from every other class, d' averaged over those, (..., n) of (..., n, class).

    p(i, c) = P(c) / (P(c) + P(truth of i));  d'(i, c) = z( 1 - p(i, c) ) - z( false alarm ), the false alarm being the
    mean of p(j, truth of i) over images j of class c. Clipped to 5; what is undefined is left out of the mean.
    Source: Kar et al. 2019 as Brain-Score has it.
    """
    from scipy.special import ndtri

    p, y = np.asarray(probabilities, float), np.asarray(labels).astype(int)
    if p.ndim < 2 or y.shape != p.shape[-2:-1] or y.min() < 0 or y.max() >= p.shape[-1]:
        raise StimulusError(
            given=f"probabilities {p.shape} and labels {y.shape}",
            expected="(..., n, class) and (n,), labels 0 to class - 1",
            remedy="pass Decoded.probabilities and the labels they were decoded from",
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
        # alarm[..., c, a]: how often images of class c are taken for a, which image i of class a is weighed against.
        d = np.clip(ndtri(1.0 - distracted) - ndtri(np.swapaxes(alarm, -1, -2)[..., y, :]), -LARGEST, LARGEST)
    d[..., np.arange(len(y)), y] = np.nan
    known = np.isfinite(d)
    count = known.sum(-1)
    return np.where(count > 0, np.where(known, d, 0.0).sum(-1) / np.maximum(count, 1), np.nan)


def solution_times(
    times: ArrayLike, i1: ArrayLike, thresholds: ArrayLike, last: Literal["record", "previous"] = "record"
) -> Array:
    """When each image reaches its threshold, interpolated, (n,) in the unit of `times`; NaN where it never does.

    times       (time,), starts of bins
    i1          (time, n)
    thresholds  (n,), or one for all: what the animal (or a reference) reaches on each image
    last        from which value before to interpolate: record, the highest so far (Brain-Score), or previous, the bin
                before

    Where no value comes before (the first bin reaches it), it is the time of that bin.
    """
    at, values = np.asarray(times, float), np.asarray(i1, float)
    wanted = np.asarray(thresholds, float)
    fits = at.ndim == 1 and values.ndim == 2 and len(values) == len(at) and wanted.shape in ((), values.shape[1:])
    if not fits or last not in ("record", "previous"):
        raise StimulusError(
            given=f"times {at.shape}, I1 {values.shape}, thresholds {wanted.shape}, last={last!r}",
            expected="(time,), (time, n), (n,) or one number, and record or previous",
            remedy="pass the times of the bins and image_d_prime of the decoded probabilities",
        )
    wanted = np.broadcast_to(wanted, values.shape[1:])
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


def rank_correlation(predicted: ArrayLike, measured: ArrayLike, ceiling: float = 1.0) -> float:
    """Spearman's correlation over images where both are defined, divided by the ceiling (0.79 in Kar et al. 2019).

    NaN where fewer than three are.
    """
    from scipy.stats import spearmanr

    first, second = np.asarray(predicted, float), np.asarray(measured, float)
    both = np.isfinite(first) & np.isfinite(second)
    return float(spearmanr(first[both], second[both]).statistic) / ceiling if both.sum() > 2 else math.nan


def control_and_challenge(
    reference: ArrayLike, model: ArrayLike, alike: float = 0.4, behind: float = 1.5
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Images on which a feed-forward model does as well as the reference, and those on which it is far behind.

    reference and model: I1 of each image, (n,). control: |difference| <= alike; challenge: reference - model >= behind.
    Source: Kar et al. 2019 (behaviour of monkeys and humans against AlexNet).
    """
    difference = np.asarray(reference, float) - np.asarray(model, float)
    return np.abs(difference) <= alike, difference >= behind


def split_half_reliability(
    first: ArrayLike, second: ArrayLike, correlate: Callable[..., float] = rank_correlation
) -> float:
    """Spearman-Brown 2 r / (1 + r) of two halves of a measurement: how reliable the whole is."""
    return float(spearman_brown(correlate(first, second)))
