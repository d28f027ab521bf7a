"""Neural predictivity: regression from model features to responses to held-out images, and noise ceilings.

    k = Kernel.of(features)                                  features (image, ...), all together or in parts
    score = predictivity(k, responses)                       responses (image, neuroid), splits as in Brain-Score
    ceiling = split_half_ceiling(repetitions)                (repetition, image, neuroid)
    normalised(score, ceiling)                               r / ceiling, (r / ceiling)^2, and the median over neuroids

Both regressions use only the kernel X X^T between images, so a layer with 50,000 features takes no more memory than one
with 50, and features can be passed in parts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
import torch
from einops import rearrange
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from pcsim.analysis.statistics import spearman_brown
from pcsim.core.checks import Count, Labels, Whole, checked
from pcsim.core.exceptions import StimulusError, needs_extra

Array = NDArray[np.float64]
RIDGE = tuple(10.0**power for power in range(-3, 7))
"""ridge penalties to try, relative to the mean of the kernel's diagonal"""
CHUNK = 4_096
ROUNDING = 1e-6
"""rounding tolerance at the edges of bins, in ms"""
FEWEST = 5
"""smallest number of held-out images in a split; a correlation over fewer images is meaningless"""


@checked(StimulusError)
@dataclass(frozen=True)
class Kernel:
    """The kernel X X^T of features X centred over images. `products` are its entries, (image, image)."""

    products: Tensor

    @classmethod
    def of(cls, features: Iterable[ArrayLike | Tensor] | ArrayLike | Tensor) -> Kernel:
        """Compute the kernel of features (image, ...), or of an iterable of feature blocks (image, block)."""
        whole = isinstance(features, Tensor | np.ndarray)
        parts = [features] if whole else cast(Iterable[ArrayLike | Tensor], features)
        products: Tensor | None = None
        for part in parts:
            x = torch.as_tensor(np.asarray(part) if not isinstance(part, Tensor) else part).detach().flatten(1)
            for columns in x.split(CHUNK, 1):
                wide = columns.double()
                # Features are centred, because products of numbers far from zero lose precision.
                wide = wide - wide.mean(0)
                products = wide @ wide.T if products is None else products.addmm_(wide, wide.T)
        if products is None or not bool(torch.isfinite(products).all()):
            raise StimulusError(
                given="features that are missing, NaN or infinite",
                expected="finite features (image, ...)",
                remedy="pass np.nan_to_num(features), or leave out the affected images",
            )
        return cls(products)

    def __len__(self) -> int:
        return len(self.products)

    def of_images(self, chosen: NDArray[np.int64]) -> Kernel:
        """Return the kernel of the images with the indices `chosen`."""
        at = torch.from_numpy(chosen)
        return Kernel(self.products[at][:, at])

    def centred(self, training: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
        """Return the training kernel (n, n) and the other-by-training kernel (m, n), centred by the training mean."""
        k = self.products[training][:, training]
        across = self.products[others][:, training]
        mean, total = k.mean(0), k.mean()
        return k - mean - mean[:, None] + total, across - mean - across.mean(1, keepdim=True) + total


@checked(StimulusError)
def pls(k: Tensor, across: Tensor, y: Tensor, components: Count = 25) -> Tensor:
    """Predict responses (m, neuroid) to other images by partial least squares (PLS2, centred but not scaled).

    w = X^T Y q, q the leading eigenvector of Y^T X X^T Y;  t = X w;  X and Y are deflated by t     for each component
    Y' = across U ( T^T K U )^-1 T^T Y,  U = Y q                                                   for the prediction

    `k` (n, n) and `across` (m, n) come from `Kernel.centred`; `y` (n, neuroid) is centred. Source: Rosipal & Trejo
    2001, with weights as in scikit-learn's PLSRegression(scale=False).
    """
    left, rest, whole = k.clone(), y.clone(), k.diagonal().sum()
    scores, weights = [], []
    for _ in range(min(components, len(k) - 1)):
        u = rest @ torch.linalg.eigh(rest.T @ left @ rest)[1][:, -1] if y.shape[1] > 1 else rest[:, 0]
        t = left @ u
        size = t.norm()
        if not size > 1e-10 * whole * u.norm():
            break  # no variance is left, and further components would be rounding errors
        t = t / size
        scores.append(t)
        weights.append(u)
        left = left - torch.outer(t, t @ left)
        left = left - torch.outer(left @ t, t)
        rest = rest - torch.outer(t, t @ rest)
    if not scores:
        return torch.zeros(len(across), y.shape[1], dtype=y.dtype)
    t, u = torch.stack(scores, 1), torch.stack(weights, 1)
    return across @ u @ torch.linalg.solve(t.T @ k @ u, t.T @ y)


@checked(StimulusError)
def ridge(k: Tensor, across: Tensor, y: Tensor, penalties: Sequence[float] = RIDGE) -> Tensor:
    """Predict responses (m, neuroid) to other images by ridge regression, with a leave-one-out penalty per neuroid.

    Y' = across A,  A = ( K + lambda I )^-1 Y,  leave-one-out residual of image i: A_i / (K + lambda I)^-1_ii
    `penalties` are values of lambda relative to the mean of K's diagonal.
    """
    values, vectors = torch.linalg.eigh(k)
    turned, unit = vectors.T @ y, k.diagonal().mean()
    best = torch.full((y.shape[1],), math.inf, dtype=y.dtype)
    dual = torch.zeros_like(y)
    for penalty in penalties:
        inverse = 1.0 / (values.clamp_min(0.0) + penalty * unit)
        a = vectors @ (inverse[:, None] * turned)
        loo = (a / (vectors.square() @ inverse)[:, None]).square().mean(0)
        better = loo < best
        best, dual = torch.where(better, loo, best), torch.where(better, a, dual)
    return across @ dual


REGRESSIONS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {"pls": pls, "ridge": ridge}


@checked(StimulusError)
@dataclass(frozen=True, repr=False)
class Predictivity:
    """Pearson's r between predicted and measured responses to held-out images: `r` (split, neuroid).

    r is NaN where the responses or the predictions do not vary.
    """

    r: Array

    def __repr__(self) -> str:
        splits, neuroids = self.r.shape
        return f"Predictivity({self.score:.3f} +- {self.error:.3f}; {splits} splits, {neuroids} neuroids)"

    @property
    def score(self) -> float:
        """Median of r over neuroids, averaged over splits."""
        return float(_medians(self.r).mean())

    @property
    def error(self) -> float:
        """Standard error of the score over splits."""
        return float(_medians(self.r).std() / math.sqrt(len(self.r)))


@checked(StimulusError)
def predictivity(
    features: Kernel | ArrayLike | Tensor,
    responses: ArrayLike,
    *,
    regression: Literal["pls", "ridge"] = "pls",
    splits: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]] | None = None,
    labels: Labels | None = None,
    seed: Whole = 1,
) -> Predictivity:
    """Correlate responses (image, neuroid) to held-out images with predictions from `features` (image, ...).

    regression  "pls" with 25 components, or "ridge" with a leave-one-out penalty for each neuroid
    splits      (training, test) indices; by default ten random splits into 90 and 10 %, stratified by `labels` if given

    Raises StimulusError if the images do not match or are too few, or if responses are not finite.
    """
    kernel, y = _kernel(features), _responses(responses)
    if regression not in REGRESSIONS:
        raise StimulusError(given=f"regression={regression!r}", expected="pls or ridge", remedy="pass regression='pls'")
    if len(kernel) != len(y):
        raise StimulusError(
            given=f"features of {len(kernel)} images and responses to {len(y)}",
            expected="the same images in the same order",
            remedy="average responses over repetitions, and order the features as in recordings.images_of(recorded)",
        )
    chosen = _held_out(splits, len(y), labels, seed)
    return Predictivity(
        np.stack([pearson(_predicted(kernel, y, known, held, regression), y[held].numpy()) for known, held in chosen])
    )


@checked(StimulusError)
def predictivity_over_time(
    features: Sequence[Kernel | ArrayLike | Tensor],
    responses: ArrayLike,
    *,
    weights: Literal["each", "shared"] = "each",
    regression: Literal["pls", "ridge"] = "pls",
    splits: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]] | None = None,
    labels: Labels | None = None,
    seed: Whole = 1,
) -> list[Predictivity]:
    """Return the predictivity in each bin of responses (image, neuroid, bin) from features (image, ...) of that bin.

    weights  "each" fits a separate regression for every bin. "shared" fits one regression to all bins of the training
             images together, so predictions change over time only if the features do. It requires features instead of
             `Kernel`s, and memory for (images * bins)^2 values

    `steps_of` assigns a model's steps to bins. Raises StimulusError if the numbers of bins differ.
    """
    y = np.asarray(responses, float)
    if y.ndim != 3 or len(features) != y.shape[2] or weights not in ("each", "shared") or regression not in REGRESSIONS:
        raise StimulusError(
            given=f"{len(features)} bins of features, responses {y.shape}, weights={weights!r}, {regression=}",
            expected="responses (image, neuroid, bin), features for as many bins, weights='each' or 'shared', "
            "regression='pls' or 'ridge'",
            remedy="pass [values[rows].mean(0) for rows in regression.steps_of(run.times, bins)] as features",
        )
    chosen = _held_out(splits, len(y), labels, seed)
    if weights == "each":
        bins = zip(features, rearrange(y, "image neuroid bin -> bin image neuroid"), strict=True)
        return [predictivity(x, part, regression=regression, splits=chosen) for x, part in bins]
    if any(isinstance(x, Kernel) for x in features):
        raise StimulusError(
            given="kernels with weights='shared'",
            expected="features for each bin",
            remedy="pass feature arrays (image, ...), or use weights='each'",
        )
    kernel = Kernel.of(np.concatenate([np.asarray(x).reshape(len(y), -1) for x in features]))
    stacked = _responses(rearrange(y, "image neuroid bin -> (bin image) neuroid"))
    begins = len(y) * np.arange(y.shape[2])
    found: list[list[Array]] = [[] for _ in begins]
    for training, test in chosen:
        predicted = _predicted(
            kernel, stacked, np.add.outer(begins, training).ravel(), np.add.outer(begins, test).ravel(), regression
        )
        for row, begin, part in zip(found, begins, np.split(predicted, len(begins)), strict=True):
            row.append(pearson(part, stacked[test + begin].numpy()))
    return [Predictivity(np.stack(row)) for row in found]


@checked(StimulusError)
def shuffled_splits(
    count: Count, splits: Count = 10, test: float = 0.1, labels: Labels | None = None, seed: Whole = 1
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Return (training, test) indices, redrawn for each split and stratified by class if `labels` (n,) are given.

    Uses scikit-learn's ShuffleSplit or StratifiedShuffleSplit (extra `analysis`).
    """
    with needs_extra("analysis", StimulusError, "random splits of images"):
        from sklearn.model_selection import ShuffleSplit, StratifiedShuffleSplit

    kind, classes = (ShuffleSplit, None) if labels is None else (StratifiedShuffleSplit, np.asarray(labels))
    drawn = kind(splits, test_size=test, random_state=seed).split(np.zeros(count), classes)
    return [(np.sort(training), np.sort(held_out)) for training, held_out in drawn]


@checked(StimulusError)
def pearson(first: ArrayLike, second: ArrayLike) -> Array:
    """Return Pearson's r between the columns of two (n, neuroid) arrays: (neuroid,), NaN where a column is constant."""
    (a, a_size), (b, b_size) = _about_mean(first), _about_mean(second)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (a * b).sum(0) / (a_size * b_size)


def _about_mean(values: ArrayLike) -> tuple[Array, Array]:
    """Return the centred columns and their norms, which are NaN for columns that vary only by rounding."""
    x = np.asarray(values, float)
    away = x - x.mean(0)
    size = np.sqrt((away**2).sum(0))
    return away, np.where(size > 1e-12 * np.sqrt((x**2).sum(0)), size, np.nan)


@checked(StimulusError)
def split_half_ceiling(repetitions: ArrayLike, splits: Count = 10, seed: Whole = 1) -> Array:
    """Return the Spearman-Brown reliability 2 r / (1 + r), with r the correlation between halves: (split, neuroid).

    `repetitions` (repetition, image, neuroid) contain NaN where a repetition is missing. Halves are redrawn for each
    split, and images missing from either half are left out. The square root of the reliability is the expected r
    between a perfect model and the mean response.
    """
    x = np.asarray(repetitions, float)
    if x.ndim != 3 or len(x) < 2:
        raise StimulusError(
            given=f"repetitions {x.shape}",
            expected="(repetition, image, neuroid) with two or more repetitions",
            remedy="pass a single time bin, repetitions[..., 0], with at least two repetitions",
        )
    generator, found = np.random.default_rng(seed), []
    for _ in range(splits):
        order, half = generator.permutation(len(x)), len(x) // 2
        first, second = (_mean_of_known(x[part]) for part in (order[:half], order[half : 2 * half]))
        both = np.isfinite(first).all(1) & np.isfinite(second).all(1)
        found.append(spearman_brown(pearson(first[both], second[both])))
    return np.stack(found)


@dataclass(frozen=True)
class Normalised:
    """A score relative to its ceiling, by the three common definitions.

    These are benchmark values, not fractions of the best possible score. A perfect model has r = sqrt(ceiling), so its
    ratio is 1 / sqrt(ceiling), which is above 1. Dividing r by sqrt(ceiling) instead would give 1.

    ratio       median r / median ceiling (Brain-Score 1)
    squared     square of the ratio, the fraction of explainable variance (current Brain-Score)
    neuroids    median over neuroids of each neuroid's r / ceiling
    """

    ratio: float
    squared: float
    neuroids: float


@checked(StimulusError)
def normalised(score: Predictivity, ceiling: Array) -> Normalised:
    """Divide `score` by a `split_half_ceiling` (split, neuroid). Raises StimulusError if the neuroids differ."""
    limit = np.asarray(ceiling, float)
    if not isinstance(score, Predictivity) or limit.ndim != 2 or limit.shape[1] != score.r.shape[1]:
        raise StimulusError(
            given=f"{score!r} and a ceiling of shape {limit.shape}",
            expected="a single Predictivity and the ceiling (split, neuroid) of the same neuroids",
            remedy="normalise time bins one at a time, as in normalised(scores[0], ceilings[0])",
        )
    ratio = score.score / float(_medians(limit).mean())
    each = _mean_of_known(score.r) / _mean_of_known(limit)
    return Normalised(ratio, ratio**2, float(_medians(each[None])[0]))


@dataclass(frozen=True)
class BestLayer:
    """The chosen layer, its score on held-out images, and all layers' scores on the images used to choose it."""

    name: str
    score: Predictivity
    chosen_by: dict[str, Predictivity]


@checked(StimulusError)
def best_layer(
    layers: Mapping[str, Kernel | ArrayLike | Tensor],
    responses: ArrayLike,
    *,
    share: float = 0.5,
    regression: Literal["pls", "ridge"] = "pls",
    labels: Labels | None = None,
    seed: Whole = 1,
) -> BestLayer:
    """Choose the layer that predicts best on a `share` of the images, and score it on the remaining images.

    `layers` maps names to features (image, ...), and `responses` are (image, neuroid). Both parts are stratified by
    `labels` (image,). Raises StimulusError if the images do not match or are too few to be split twice.
    """
    y = np.asarray(responses, float)
    kernels = {name: _kernel(layer) for name, layer in layers.items()} if isinstance(layers, Mapping) else {}
    if not kernels or any(len(kernel) != len(y) for kernel in kernels.values()):
        raise StimulusError(
            given=f"layers of {', '.join(str(len(kernel)) for kernel in kernels.values())} images, responses {y.shape}",
            expected="a mapping of layer names to features of the same images, in the same order",
            remedy="order the images of each layer as in recordings.images_of(recorded)",
        )
    of_class = np.zeros(len(y), int) if labels is None else np.asarray(labels)
    ((other, choosing),) = shuffled_splits(len(y), 1, share, of_class, seed)

    def scored(kernel: Kernel, images: NDArray[np.int64]) -> Predictivity:
        chosen, classes = kernel.of_images(images), of_class[images]
        return predictivity(chosen, y[images], regression=regression, labels=classes, seed=seed)

    chosen_by = {name: scored(kernel, choosing) for name, kernel in kernels.items()}
    # A layer with the same prediction for all images has a score of NaN.
    name = max(chosen_by, key=lambda layer: np.nan_to_num(chosen_by[layer].score, nan=-1.0))
    return BestLayer(name, scored(kernels[name], other), chosen_by)


@checked(StimulusError)
def steps_of(times: ArrayLike, bins: Iterable[tuple[float, float]], latency: float = 0.0) -> list[NDArray[np.int64]]:
    """Return the rows of a model's record in each bin (from, to] in ms, after adding `latency` to the model's times.

    times  ends of the steps, such as `run.times`; a bin contains the steps that end in it or, if there are none, the
           step that contains the middle of the bin

    Raises StimulusError for a bin before the model's first step or after its last.
    """
    ends = np.asarray(times, float) + latency
    if ends.ndim != 1 or not len(ends) or (np.diff(ends) <= 0).any():
        raise StimulusError(given=f"times {ends}", expected="increasing times (time,)", remedy="pass run.times")
    begin = ends[0] - (ends[1] - ends[0] if len(ends) > 1 else ends[0] - latency)
    found = []
    for low, high in bins:
        # Times are sums of steps, so 30 ms may be stored as 30.000000000000004.
        rows = np.flatnonzero((ends > low + ROUNDING) & (ends <= high + ROUNDING))
        middle = 0.5 * (low + high)
        if not len(rows) and begin < middle <= ends[-1]:
            rows = np.array([int(np.searchsorted(ends, middle))])
        if not len(rows):
            raise StimulusError(
                given=f"the bin from {low:g} to {high:g} ms",
                expected=f"bins after {begin:g} and up to {ends[-1]:g} ms, the time span of the run",
                remedy=f"run until {high - latency:g} ms (a discrete step lasts net.step_ms), or leave the bin out",
            )
        found.append(rows)
    return found


def _held_out(
    splits: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]] | None,
    count: int,
    labels: Labels | None,
    seed: int,
) -> Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    chosen = splits or shuffled_splits(count, labels=labels, seed=seed)
    fewest = min(len(held) for _, held in chosen)
    if fewest < FEWEST:
        raise StimulusError(
            given=f"a split that holds out {fewest} of {count} images",
            expected=f"at least {FEWEST} held-out images",
            remedy="use more images, or hold out more with splits=regression.shuffled_splits(n, test=0.3)",
        )
    return chosen


def _medians(x: Array) -> Array:
    """Return the median over the second axis, ignoring NaN; NaN if there are no other values."""
    known = [row[np.isfinite(row)] for row in x]
    return np.array([np.median(row) if len(row) else np.nan for row in known])


def _mean_of_known(x: Array) -> Array:
    """Return the mean over the first axis, ignoring NaN; NaN if there are no other values."""
    known = np.isfinite(x)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(known, x, 0.0).sum(0) / known.sum(0)


def _kernel(features: Kernel | ArrayLike | Tensor) -> Kernel:
    return features if isinstance(features, Kernel) else Kernel.of(features)


def _predicted(
    kernel: Kernel, y: Tensor, training: NDArray[np.int64], test: NDArray[np.int64], regression: str
) -> Array:
    """Fit a regression to the training images and return its predictions for the test images: (test, neuroid)."""
    known = torch.from_numpy(training)
    k, across = kernel.centred(known, torch.from_numpy(test))
    mean = y[known].mean(0)
    return (REGRESSIONS[regression](k, across, y[known] - mean) + mean).numpy()


def _responses(responses: ArrayLike) -> Tensor:
    y = torch.from_numpy(np.asarray(responses, float))
    if y.dim() != 2 or not bool(torch.isfinite(y).all()):
        raise StimulusError(
            given=f"responses {tuple(y.shape)}" + ("" if bool(torch.isfinite(y).all()) else " with NaN"),
            expected="finite responses (image, neuroid)",
            remedy="average with np.nanmean(repetitions, 0), and select the first time bin with responses[..., 0]",
        )
    return y
