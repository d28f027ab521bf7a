"""Neural predictivity of a model: regression to held-out images, and ceilings.

    k = Kernel.of(features)                                  (image, ...) -> the products of images; streams
    score = predictivity(k, responses)                       responses (image, neuroid), splits as Brain-Score's
    ceiling = split_half_ceiling(repetitions)                (repetition, image, neuroid)
    normalised(score, ceiling)                               r / ceiling, (r / ceiling)^2, and neuroid by neuroid

Both regressions use only the products of images, X X^T, so a layer of 50,000 features takes no more memory than one of
50, and can be passed in parts.
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
from pcsim.core.exceptions import StimulusError, needs_extra

Array = NDArray[np.float64]
RIDGE = tuple(10.0**power for power in range(-3, 7))
"""ridge penalties to try, in units of the mean of the kernel's diagonal"""
CHUNK = 4_096
ROUNDING = 1e-6
"""tolerance of the ends of bins, ms"""
FEWEST = 5
"""smallest number of held-out images in a split: a correlation over fewer means nothing"""


@dataclass(frozen=True)
class Kernel:
    """The kernel X X^T, (image, image): `products` of images, each feature centred over all of them."""

    products: Tensor

    @classmethod
    def of(cls, features: Iterable[ArrayLike | Tensor] | ArrayLike | Tensor) -> Kernel:
        """Compute the kernel of features (image, ...), or of an iterable of parts of them (image, part)."""
        whole = isinstance(features, Tensor | np.ndarray)
        parts = [features] if whole else cast(Iterable[ArrayLike | Tensor], features)
        products: Tensor | None = None
        for part in parts:
            x = torch.as_tensor(np.asarray(part) if not isinstance(part, Tensor) else part).detach().flatten(1)
            for columns in x.split(CHUNK, 1):
                wide = columns.double()
                # Centred, as products of numbers far from zero would lose precision.
                wide = wide - wide.mean(0)
                products = wide @ wide.T if products is None else products.addmm_(wide, wide.T)
        if products is None or not bool(torch.isfinite(products).all()):
            raise StimulusError(
                given="features that are missing, NaN or infinite",
                expected="finite features (image, ...)",
                remedy="write np.nan_to_num(features), or leave the bad images out",
            )
        return cls(products)

    def __len__(self) -> int:
        return len(self.products)

    def of_images(self, chosen: NDArray[np.int64]) -> Kernel:
        """Return the kernel of some of the images."""
        at = torch.from_numpy(chosen)
        return Kernel(self.products[at][:, at])

    def centred(self, training: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
        """Return products of training images, (n, n), and of others with them, (m, n), centred by the training mean."""
        k = self.products[training][:, training]
        across = self.products[others][:, training]
        mean, total = k.mean(0), k.mean()
        return k - mean - mean[:, None] + total, across - mean - across.mean(1, keepdim=True) + total


def pls(k: Tensor, across: Tensor, y: Tensor, components: int = 25) -> Tensor:
    """Predict responses (m, neuroid) to other images by partial least squares (PLS2, centred, not scaled).

    w = X^T Y q, q the leading eigenvector of Y^T X X^T Y;  t = X w;  X and Y are deflated by t        a component
    Y' = across U ( T^T K U )^-1 T^T Y,  U = Y q                                                      all of them

    k (n, n) and across (m, n) from `Kernel.centred`, y (n, neuroid) centred. Source: Rosipal & Trejo 2001, with the
    weights of scikit-learn's PLSRegression(scale=False).
    """
    left, rest, whole = k.clone(), y.clone(), k.diagonal().sum()
    scores, weights = [], []
    for _ in range(min(components, len(k) - 1)):
        u = rest @ torch.linalg.eigh(rest.T @ left @ rest)[1][:, -1] if y.shape[1] > 1 else rest[:, 0]
        t = left @ u
        size = t.norm()
        if not size > 1e-10 * whole * u.norm():
            break  # no features are left: further components would be rounding
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


def ridge(k: Tensor, across: Tensor, y: Tensor, penalties: Sequence[float] = RIDGE) -> Tensor:
    """Predict responses (m, neuroid) to other images by ridge regression, each penalty by its leave-one-out error.

    Y' = across ( K + lambda I )^-1 Y;  leave-one-out residual of image i: a_i / (K + lambda I)^-1_ii, a = ( ... )^-1 Y.
    lambda in units of the mean of K's diagonal.
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


@dataclass(frozen=True, repr=False)
class Predictivity:
    """r of predicted and measured responses to held-out images, for each split and neuroid, (split, neuroid).

    NaN where the responses or the predictions do not vary.
    """

    r: Array

    def __repr__(self) -> str:
        splits, neuroids = self.r.shape
        return f"Predictivity({self.score:.3f} +- {self.error:.3f}; {splits} splits, {neuroids} neuroids)"

    @property
    def score(self) -> float:
        """Median over neuroids, mean over splits."""
        return float(_medians(self.r).mean())

    @property
    def error(self) -> float:
        """Standard error over splits."""
        return float(_medians(self.r).std() / math.sqrt(len(self.r)))


def predictivity(
    features: Kernel | ArrayLike | Tensor,
    responses: ArrayLike,
    *,
    regression: Literal["pls", "ridge"] = "pls",
    splits: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]] | None = None,
    labels: ArrayLike | None = None,
    seed: int = 1,
) -> Predictivity:
    """Predict responses (image, neuroid) to held-out images from `features` (image, ...), and correlate.

    regression  pls: 25 components; ridge: the penalty of each neuroid chosen by leave-one-out
    splits      (training, test) indices; by default ten of 90 and 10 %, stratified by `labels` if given

    Raises StimulusError for images that do not match or are too few, and responses that are not finite.
    """
    kernel, y = _kernel(features), _responses(responses)
    if regression not in REGRESSIONS:
        raise StimulusError(
            given=f"regression={regression!r}", expected="pls or ridge", remedy="write regression='pls'"
        )
    if len(kernel) != len(y):
        raise StimulusError(
            given=f"features of {len(kernel)} images, responses of {len(y)}",
            expected="the same images in the same order",
            remedy="average responses over repetitions, and order features as recordings.images_of(recorded)",
        )
    chosen = _held_out(splits, len(y), labels, seed)
    return Predictivity(
        np.stack([pearson(_predicted(kernel, y, known, held, regression), y[held].numpy()) for known, held in chosen])
    )


def predictivity_over_time(
    features: Sequence[Kernel | ArrayLike | Tensor],
    responses: ArrayLike,
    *,
    weights: Literal["each", "shared"] = "each",
    regression: Literal["pls", "ridge"] = "pls",
    splits: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]] | None = None,
    labels: ArrayLike | None = None,
    seed: int = 1,
) -> list[Predictivity]:
    """Return the predictivity in each bin of responses (image, neuroid, bin) by the features (image, ...) of that bin.

    weights  each: a regression for every bin; shared: one, fitted to all bins of the training images together, so that
             responses can only follow the features in time. It needs the products of all images in all bins: features
             instead of `Kernel`s, and memory for (images * bins)^2 values

    `steps_of` maps the steps of a model to bins. Raises StimulusError for bins that do not match.
    """
    y = np.asarray(responses, float)
    if y.ndim != 3 or len(features) != y.shape[2] or weights not in ("each", "shared") or regression not in REGRESSIONS:
        raise StimulusError(
            given=f"features of {len(features)} bins, responses {y.shape}, weights={weights!r}, {regression!r}",
            expected="responses (image, neuroid, bin), features of as many bins; each or shared; pls or ridge",
            remedy="write features = [v[rows].mean(0) for rows in regression.steps_of(run.times, bins)]",
        )
    chosen = _held_out(splits, len(y), labels, seed)
    if weights == "each":
        bins = zip(features, rearrange(y, "image neuroid bin -> bin image neuroid"), strict=True)
        return [predictivity(x, part, regression=regression, splits=chosen) for x, part in bins]
    if any(isinstance(x, Kernel) for x in features):
        raise StimulusError(
            given="kernels, and weights shared over bins",
            expected="features of each bin",
            remedy="pass arrays (image, ...), or weights='each'",
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


def shuffled_splits(
    count: int, splits: int = 10, test: float = 0.1, labels: ArrayLike | None = None, seed: int = 1
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Return (training, test) indices, drawn anew for each split; with `labels` (n,) stratified by class.

    By scikit-learn's (Stratified)ShuffleSplit (extra `analysis`).
    """
    with needs_extra("analysis", StimulusError, "splits of images"):
        from sklearn.model_selection import ShuffleSplit, StratifiedShuffleSplit

    kind, classes = (ShuffleSplit, None) if labels is None else (StratifiedShuffleSplit, np.asarray(labels))
    drawn = kind(splits, test_size=test, random_state=seed).split(np.zeros(count), classes)
    return [(np.sort(training), np.sort(held_out)) for training, held_out in drawn]


def pearson(first: ArrayLike, second: ArrayLike) -> Array:
    """Return Pearson's r of each column of (n, neuroid) arrays, (neuroid,); NaN where one does not vary."""
    (a, a_size), (b, b_size) = _about_mean(first), _about_mean(second)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (a * b).sum(0) / (a_size * b_size)


def _about_mean(values: ArrayLike) -> tuple[Array, Array]:
    """Return centred columns and their lengths, NaN for those that vary by rounding only."""
    x = np.asarray(values, float)
    away = x - x.mean(0)
    size = np.sqrt((away**2).sum(0))
    return away, np.where(size > 1e-12 * np.sqrt((x**2).sum(0)), size, np.nan)


def split_half_ceiling(repetitions: ArrayLike, splits: int = 10, seed: int = 1) -> Array:
    """Return the Spearman-Brown reliability 2 r / (1 + r) of halves of the repetitions, (split, neuroid).

    repetitions (repetition, image, neuroid), NaN if missing; halves are drawn anew for each split, and images that are
    missing in one of them left out.
    The square root of this is the r that a perfect model is expected to have with the mean response.
    """
    x = np.asarray(repetitions, float)
    if x.ndim != 3 or len(x) < 2:
        raise StimulusError(
            given=f"repetitions {x.shape}",
            expected="(repetition, image, neuroid), two or more",
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
    """A score in units of its ceiling, by the three usual definitions.

    These are the values of benchmarks, not shares of what can be reached: a perfect model has r = sqrt(ceiling), so its
    ratio is 1 / sqrt(ceiling), above 1. With the square root of the ceiling a perfect model has ratio 1.

    ratio       median r / median ceiling (Brain-Score 1)
    squared     its square, the share of the explainable variance (Brain-Score now)
    neuroids    median over neuroids of each one's r / ceiling
    """

    ratio: float
    squared: float
    neuroids: float


def normalised(score: Predictivity, ceiling: Array) -> Normalised:
    """Divide `score` by a ceiling (split, neuroid) of `split_half_ceiling`. Raises StimulusError for other neuroids."""
    limit = np.asarray(ceiling, float)
    if not isinstance(score, Predictivity) or limit.ndim != 2 or limit.shape[1] != score.r.shape[1]:
        raise StimulusError(
            given=f"{score!r} and a ceiling {limit.shape}",
            expected="one Predictivity and the ceiling (split, neuroid) of the same neuroids",
            remedy="divide several bins one at a time: normalised(scores[0], ceilings[0])",
        )
    ratio = score.score / float(_medians(limit).mean())
    each = _mean_of_known(score.r) / _mean_of_known(limit)
    return Normalised(ratio, ratio**2, float(_medians(each[None])[0]))


@dataclass(frozen=True)
class BestLayer:
    """The chosen layer, its predictivity on held-out images, and that of every layer on the images used to choose."""

    name: str
    score: Predictivity
    chosen_by: dict[str, Predictivity]


def best_layer(
    layers: Mapping[str, Kernel | ArrayLike | Tensor],
    responses: ArrayLike,
    *,
    share: float = 0.5,
    regression: Literal["pls", "ridge"] = "pls",
    labels: ArrayLike | None = None,
    seed: int = 1,
) -> BestLayer:
    """Choose the layer that predicts best on a `share` of the images, and score it on the other images only.

    layers[name] are features (image, ...), responses (image, neuroid); `labels` (image,) stratify both parts.
    Raises StimulusError for images that do not match, or are too few to be split twice.
    """
    y = np.asarray(responses, float)
    kernels = {name: _kernel(layer) for name, layer in layers.items()} if isinstance(layers, Mapping) else {}
    if not kernels or any(len(kernel) != len(y) for kernel in kernels.values()):
        raise StimulusError(
            given=f"layers of {', '.join(str(len(kernel)) for kernel in kernels.values())} images, responses {y.shape}",
            expected="{name: features of the same images, in the same order}",
            remedy="put the images of each layer in the order of the responses: recordings.images_of(recorded)",
        )
    of_class = np.zeros(len(y), int) if labels is None else np.asarray(labels)
    ((other, choosing),) = shuffled_splits(len(y), 1, share, of_class, seed)

    def scored(kernel: Kernel, images: NDArray[np.int64]) -> Predictivity:
        chosen, classes = kernel.of_images(images), of_class[images]
        return predictivity(chosen, y[images], regression=regression, labels=classes, seed=seed)

    chosen_by = {name: scored(kernel, choosing) for name, kernel in kernels.items()}
    # A layer that predicts the same for all images has no score.
    name = max(chosen_by, key=lambda layer: np.nan_to_num(chosen_by[layer].score, nan=-1.0))
    return BestLayer(name, scored(kernels[name], other), chosen_by)


def steps_of(times: ArrayLike, bins: Iterable[tuple[float, float]], latency: float = 0.0) -> list[NDArray[np.int64]]:
    """Return the rows of a model's record in each bin (from, to] in ms, after adding `latency` to the model's times.

    times  ends of steps, as `run.times`: a bin has the steps that end in it or, if steps are longer than bins, the one
           that contains its middle

    Raises StimulusError for a bin before the first step of the model or after its last.
    """
    ends = np.asarray(times, float) + latency
    if ends.ndim != 1 or not len(ends) or (np.diff(ends) <= 0).any():
        raise StimulusError(given=f"times {ends}", expected="(time,), increasing", remedy="pass run.times")
    begin = ends[0] - (ends[1] - ends[0] if len(ends) > 1 else ends[0] - latency)
    found = []
    for low, high in bins:
        # Times are sums of steps: 30 ms may be 30.000000000000004.
        rows = np.flatnonzero((ends > low + ROUNDING) & (ends <= high + ROUNDING))
        middle = 0.5 * (low + high)
        if not len(rows) and begin < middle <= ends[-1]:
            rows = np.array([int(np.searchsorted(ends, middle))])
        if not len(rows):
            raise StimulusError(
                given=f"the bin from {low:g} to {high:g} ms",
                expected=f"bins after {begin:g} and up to {ends[-1]:g} ms, which is when the model ran",
                remedy=f"run until {high - latency:g} ms, or leave the bin out; a discrete step takes net.step_ms",
            )
        found.append(rows)
    return found


def _held_out(
    splits: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]] | None,
    count: int,
    labels: ArrayLike | None,
    seed: int,
) -> Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    chosen = splits or shuffled_splits(count, labels=labels, seed=seed)
    fewest = min(len(held) for _, held in chosen)
    if fewest < FEWEST:
        raise StimulusError(
            given=f"{count} images, of which a split holds out {fewest}",
            expected=f"at least {FEWEST}",
            remedy="show more images; or hold out more of them: splits=regression.shuffled_splits(n, test=0.3)",
        )
    return chosen


def _medians(x: Array) -> Array:
    """Return the median over the second axis without NaN, or NaN if nothing is left."""
    known = [row[np.isfinite(row)] for row in x]
    return np.array([np.median(row) if len(row) else np.nan for row in known])


def _mean_of_known(x: Array) -> Array:
    """Return the mean over the first axis without NaN, or NaN if nothing is left."""
    known = np.isfinite(x)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(known, x, 0.0).sum(0) / known.sum(0)


def _kernel(features: Kernel | ArrayLike | Tensor) -> Kernel:
    return features if isinstance(features, Kernel) else Kernel.of(features)


def _predicted(
    kernel: Kernel, y: Tensor, training: NDArray[np.int64], test: NDArray[np.int64], regression: str
) -> Array:
    """Return the predictions of a regression to the training images for the test images, (test, neuroid)."""
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
            remedy="write np.nanmean(repetitions, 0) to average, and responses[..., 0] for the first time bin",
        )
    return y
