"""How well a model predicts neurons: regression to held-out images, ceilings, dissimilarity matrices.

    k = Kernel.of(features)                                  (image, ...) -> the products of images; streams
    score = predictivity(k, responses)                       responses (image, neuroid), splits as Brain-Score's
    ceiling = split_half_ceiling(repetitions)                (repetition, image, neuroid)
    normalised(score, ceiling)                               r / ceiling, (r / ceiling)^2, and neuroid by neuroid

Both regressions see features only through the products of images, X X^T, so a layer of 50,000 features takes no more
memory than one of 50, and can come in parts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from pcsim.analysis.statistics import spearman_brown
from pcsim.exceptions import StimulusError

Array = NDArray[np.float64]
RIDGE = tuple(10.0**power for power in range(-3, 7))
"""penalties that are tried, in units of the mean variance of the features' products"""
CHUNK = 4_096


@dataclass(frozen=True)
class Kernel:
    """X X^T, (image, image): `products` of images whose features are taken from the mean over all of them."""

    products: Tensor

    @classmethod
    def of(cls, features: Iterable[ArrayLike | Tensor] | ArrayLike | Tensor) -> Kernel:
        """From features (image, ...), or from parts of them (image, part) that come one after another."""
        whole = isinstance(features, Tensor | np.ndarray)
        parts = [features] if whole else cast(Iterable[ArrayLike | Tensor], features)
        products: Tensor | None = None
        for part in parts:
            x = torch.as_tensor(np.asarray(part) if not isinstance(part, Tensor) else part).detach().flatten(1)
            for columns in x.split(CHUNK, 1):
                wide = columns.double()
                # About their mean: products of numbers far from zero would lose their digits.
                wide = wide - wide.mean(0)
                products = wide @ wide.T if products is None else products.addmm_(wide, wide.T)
        if products is None or not bool(torch.isfinite(products).all()):
            raise StimulusError(
                given="features that are none, NaN or infinite",
                expected="finite features (image, ...)",
                remedy="clean them",
            )
        return cls(products)

    def __len__(self) -> int:
        return len(self.products)

    def of_images(self, chosen: NDArray[np.int64]) -> Kernel:
        """The products of some images."""
        at = torch.from_numpy(chosen)
        return Kernel(self.products[at][:, at])

    def centred(self, training: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
        """Products of training images, (n, n), and of others with them, (m, n), about the training images' mean."""
        k = self.products[training][:, training]
        across = self.products[others][:, training]
        mean, total = k.mean(0), k.mean()
        return k - mean - mean[:, None] + total, across - mean - across.mean(1, keepdim=True) + total


def pls(k: Tensor, across: Tensor, y: Tensor, components: int = 25) -> Tensor:
    """Partial least squares (PLS2, centred, not scaled) from products: predictions (m, neuroid) for other images.

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
            break  # no features are left: with fewer than there are components, the rest would be rounding
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
    """Ridge regression from products, the penalty of each neuroid by its leave-one-out error: (m, neuroid).

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


@dataclass(frozen=True)
class Predictivity:
    """r of predicted and measured responses to held-out images, for each split and neuroid, (split, neuroid)."""

    r: Array

    @property
    def score(self) -> float:
        """Median over neuroids, mean over splits."""
        return float(np.nanmedian(self.r, 1).mean())

    @property
    def error(self) -> float:
        """Standard error over splits."""
        return float(np.nanmedian(self.r, 1).std() / math.sqrt(len(self.r)))


def predictivity(
    features: Kernel | ArrayLike | Tensor,
    responses: ArrayLike,
    *,
    regression: Literal["pls", "ridge"] = "pls",
    splits: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]] | None = None,
    labels: ArrayLike | None = None,
    seed: int = 1,
) -> Predictivity:
    """How well responses (image, neuroid) to held-out images follow from `features` (image, ...).

    regression  pls: 25 components; ridge: the penalty of each neuroid chosen by leave-one-out
    splits      (training, test) indices; by default ten of 90 and 10 %, stratified by `labels` if given

    Raises StimulusError for images that do not match.
    """
    kernel, y = _kernel(features), _responses(responses)
    if len(kernel) != len(y) or regression not in REGRESSIONS:
        raise StimulusError(
            given=f"features of {len(kernel)} images, responses of {len(y)}, regression={regression!r}",
            expected="the same images in the same order; pls or ridge",
            remedy="average responses over repetitions, and give both in the order of the images",
        )
    chosen = splits or shuffled_splits(len(y), labels=labels, seed=seed)
    return Predictivity(
        np.stack([pearson(_told(kernel, y, known, held, regression), y[held].numpy()) for known, held in chosen])
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
    """Predictivity in each time bin, of responses (image, neuroid, bin) from the features (image, ...) of that bin.

    weights  each: a regression for every bin; shared: one, fitted to all bins of the training images together, so that
             responses can only follow the features in time. It takes the products of all images in all bins: no
             `Kernel`s, and (images * bins)^2 numbers

    Which step of a model belongs to which bin is yours to say: `steps_of`. Raises StimulusError for bins that do not
    match.
    """
    y = np.asarray(responses, float)
    if y.ndim != 3 or len(features) != y.shape[2] or weights not in ("each", "shared"):
        raise StimulusError(
            given=f"features of {len(features)} bins, responses {y.shape}, weights={weights!r}",
            expected="responses (image, neuroid, bin), features of as many bins; each or shared",
            remedy="choose the features of each bin by neural.steps_of",
        )
    chosen = splits or shuffled_splits(len(y), labels=labels, seed=seed)
    if weights == "each":
        bins = zip(features, np.moveaxis(y, 2, 0), strict=True)
        return [predictivity(x, part, regression=regression, splits=chosen) for x, part in bins]
    if any(isinstance(x, Kernel) for x in features):
        raise StimulusError(
            given="kernels, and weights shared over bins", expected="features", remedy="pass arrays (image, ...)"
        )
    kernel = Kernel.of(np.concatenate([np.asarray(x).reshape(len(y), -1) for x in features]))
    stacked, begins = _responses(np.concatenate(list(np.moveaxis(y, 2, 0)))), len(y) * np.arange(y.shape[2])
    found: list[list[Array]] = [[] for _ in begins]
    for training, test in chosen:
        told = _told(
            kernel, stacked, np.add.outer(begins, training).ravel(), np.add.outer(begins, test).ravel(), regression
        )
        for row, begin, part in zip(found, begins, np.split(told, len(begins)), strict=True):
            row.append(pearson(part, stacked[test + begin].numpy()))
    return [Predictivity(np.stack(row)) for row in found]


def shuffled_splits(
    count: int, splits: int = 10, test: float = 0.1, labels: ArrayLike | None = None, seed: int = 1
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """(training, test) indices, drawn anew each time; with `labels` (n,) the same share of each class is tested."""
    generator, drawn = np.random.default_rng(seed), []
    groups = np.zeros(count, int) if labels is None else np.unique(np.asarray(labels), return_inverse=True)[1]
    for _ in range(splits):
        held = []
        for group in np.unique(groups):
            members = generator.permutation(np.flatnonzero(groups == group))
            held.append(members[: max(1, round(test * len(members)))])
        tested = np.sort(np.concatenate(held))
        drawn.append((np.setdiff1d(np.arange(count), tested), tested))
    return drawn


def pearson(first: ArrayLike, second: ArrayLike) -> Array:
    """Pearson's r of each column of (n, neuroid) arrays, (neuroid,); NaN where one does not vary."""
    a, b = np.asarray(first, float), np.asarray(second, float)
    a, b = a - a.mean(0), b - b.mean(0)
    size = np.sqrt((a**2).sum(0) * (b**2).sum(0))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(size > 0, (a * b).sum(0) / size, np.nan)


def split_half_ceiling(repetitions: ArrayLike, splits: int = 10, seed: int = 1) -> Array:
    """Spearman-Brown 2 r / (1 + r) of the halves of the repetitions, for each split and neuroid, (split, neuroid).

    repetitions (repetition, image, neuroid), NaN where one was not made; their halves are drawn anew for each split,
    and images that are missing in one of them left out.
    What a perfect model's r with the mean response is expected to be is the square root of this.
    """
    x = np.asarray(repetitions, float)
    if x.ndim != 3 or len(x) < 2:
        raise StimulusError(
            given=f"repetitions {x.shape}",
            expected="(repetition, image, neuroid), two or more",
            remedy="choose one time bin, or add the axis that is missing",
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
    """A score in units of its ceiling, in the three ways that are in use.

    ratio       median r / median ceiling (Brain-Score 1)
    squared     its square, the share of the explainable variance (Brain-Score now)
    neuroids    median over neuroids of each one's r / ceiling
    """

    ratio: float
    squared: float
    neuroids: float


def normalised(score: Predictivity, ceiling: Array) -> Normalised:
    """`score` divided by a ceiling (split, neuroid) from `split_half_ceiling`."""
    ratio = score.score / float(np.nanmedian(ceiling, 1).mean())
    each = np.nanmean(score.r, 0) / np.nanmean(ceiling, 0)
    return Normalised(ratio, ratio**2, float(np.nanmedian(each)))


Metric = Literal["correlation", "euclidean"]


def dissimilarity(responses: ArrayLike | Tensor, metric: Metric = "correlation") -> Array:
    """Dissimilarity matrix of responses (image, ...): (image, image), 0 on the diagonal.

    correlation  1 - Pearson's r of the two patterns
    euclidean    squared distance, divided by the number of units
    """
    x = np.asarray(responses.detach().cpu() if isinstance(responses, Tensor) else responses, float)
    x = x.reshape(len(x), -1)
    if metric == "correlation":
        centred = x - x.mean(1, keepdims=True)
        size = np.linalg.norm(centred, axis=1, keepdims=True)
        with np.errstate(invalid="ignore", divide="ignore"):
            patterns = centred / size
        matrix = 1.0 - patterns @ patterns.T
    elif metric == "euclidean":
        squares = (x**2).sum(1)
        matrix = np.maximum(squares[:, None] + squares - 2.0 * x @ x.T, 0.0) / x.shape[1]
    else:
        raise StimulusError(given=f"metric={metric!r}", expected="correlation or euclidean", remedy="choose one")
    np.fill_diagonal(matrix, 0.0)
    return matrix


def upper(matrix: ArrayLike) -> Array:
    """The entries above the diagonal, row by row."""
    square = np.asarray(matrix, float)
    return square[np.triu_indices(len(square), 1)]


def compare(
    first: ArrayLike, second: ArrayLike, method: Literal["spearman", "pearson", "kendall"] = "spearman"
) -> float:
    """Correlation of two dissimilarity matrices over their upper triangles; kendall is tau-b."""
    from scipy import stats

    correlate = {"spearman": stats.spearmanr, "pearson": stats.pearsonr, "kendall": stats.kendalltau}
    if method not in correlate:
        raise StimulusError(given=f"method={method!r}", expected=", ".join(correlate), remedy="choose one of these")
    return float(correlate[method](upper(first), upper(second)).statistic)


def ceiling_of_matrices(matrices: ArrayLike) -> tuple[float, float]:
    """Noise ceiling (low, high) of Spearman comparisons with subjects' matrices (subject, image, image).

    high  mean correlation of each subject with the mean of all, ranks averaged (no model can do better on these)
    low   of each subject with the mean of the others. Source: Nili et al. 2014.
    """
    from scipy.stats import rankdata

    ranks = np.stack([rankdata(upper(matrix)) for matrix in np.asarray(matrices, float)])
    high = np.mean([np.corrcoef(row, ranks.mean(0))[0, 1] for row in ranks])
    others = [np.delete(ranks, number, 0).mean(0) for number in range(len(ranks))]
    low = np.mean([np.corrcoef(row, rankdata(other))[0, 1] for row, other in zip(ranks, others, strict=True)])
    return float(low), float(high)


@dataclass(frozen=True)
class BestLayer:
    """The layer that was chosen, its predictivity on other images, and of every layer what it was chosen by."""

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
    """The layer that predicts best on a `share` of the images, scored on the others: never on those it was chosen on.

    layers[name] are features (image, ...), responses (image, neuroid); `labels` (image,) are spread evenly over both.
    """
    y = np.asarray(responses, float)
    of_class = np.zeros(len(y), int) if labels is None else np.asarray(labels)
    ((other, choosing),) = shuffled_splits(len(y), 1, share, of_class, seed)

    def scored(layer: Kernel | ArrayLike | Tensor, images: NDArray[np.int64]) -> Predictivity:
        kernel, classes = _kernel(layer).of_images(images), of_class[images]
        return predictivity(kernel, y[images], regression=regression, labels=classes, seed=seed)

    chosen_by = {name: scored(layer, choosing) for name, layer in layers.items()}
    name = max(chosen_by, key=lambda layer: chosen_by[layer].score)
    return BestLayer(name, scored(layers[name], other), chosen_by)


def steps_of(times: ArrayLike, bins: Iterable[tuple[float, float]], latency: float = 0.0) -> list[NDArray[np.int64]]:
    """Rows of a model's record that fall into each bin [from, to) in ms after the latency; the nearest if none does."""
    at = np.asarray(times, float) + latency
    found = []
    for low, high in bins:
        rows = np.flatnonzero((at >= low) & (at < high))
        found.append(rows if len(rows) else np.array([int(np.argmin(np.abs(at - 0.5 * (low + high))))]))
    return found


def _mean_of_known(x: Array) -> Array:
    """Mean over the first axis of what is not NaN; NaN where nothing is."""
    known = np.isfinite(x)
    with np.errstate(invalid="ignore"):
        return np.where(known, x, 0.0).sum(0) / known.sum(0)


def _kernel(features: Kernel | ArrayLike | Tensor) -> Kernel:
    return features if isinstance(features, Kernel) else Kernel.of(features)


def _told(kernel: Kernel, y: Tensor, training: NDArray[np.int64], test: NDArray[np.int64], regression: str) -> Array:
    """What a regression to the training images says of the others, (test, neuroid)."""
    known = torch.from_numpy(training)
    k, across = kernel.centred(known, torch.from_numpy(test))
    mean = y[known].mean(0)
    return (REGRESSIONS[regression](k, across, y[known] - mean) + mean).numpy()


def _responses(responses: ArrayLike) -> Tensor:
    y = torch.from_numpy(np.asarray(responses, float))
    if y.dim() != 2 or not bool(torch.isfinite(y).all()):
        raise StimulusError(
            given=f"responses {tuple(y.shape)}" + ("" if bool(torch.isfinite(y).all()) else " with NaN"),
            expected="finite ones (image, neuroid)",
            remedy="average over repetitions; a bin of (image, neuroid, time_bin) at a time",
        )
    return y
