"""Neural predictivity: regression from model features to responses to held-out images, and noise ceilings.

    k = Kernel.of(features)                                  features (image, ...), in one array or in blocks
    score = predictivity(k, responses)                       responses (image, neuroid), splits as in Brain-Score
    ceiling = split_half_ceiling(repetitions)                (repetition, image, neuroid)
    normalised(score, ceiling)                               r / ceiling, (r / ceiling)^2, and the median over neuroids

NaN in the responses marks a missing value. A neuroid without data for some images is scored on its other images, and
neuroids with data for the same images (as in one session) are fitted together. The score is NaN for a neuroid that has
no data, does not vary, or has responses to fewer than five of the compared images. A warning lists these neuroids, and
medians and means ignore them.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import torch
from einops import rearrange
from numpy.typing import ArrayLike, NDArray
from pydantic import Field
from torch import Tensor

from pcsim.analysis.arguments import as_array, as_ids, as_times, is_after
from pcsim.analysis.statistics import centred, spearman_brown
from pcsim.brain.kernels import Kernel, pls, ridge
from pcsim.core.checks import Axes, Count, Labels, Number, Share, Whole, checked
from pcsim.core.exceptions import PcsimWarning, StimulusError, needs_extra

Array = NDArray[np.float64]
FEWEST = 5
"""minimum number of images for a correlation"""
Splits = Sequence[tuple[NDArray[Any], NDArray[Any]]]


REGRESSIONS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {"pls": pls, "ridge": ridge}

Bins = Annotated[Iterable[tuple[Number, Number]], Field(examples=["[(70.0, 80.0), (80.0, 90.0)]"])]
Responses = Annotated[ArrayLike, Axes("image, neuroid", is_float=False)]


@checked(StimulusError)
@dataclass(frozen=True, repr=False)
class Predictivity:
    """Pearson's r between predicted and measured responses to held-out images: `r` (split, neuroid).

    r is NaN if the responses or the predictions do not vary, or if a neuroid has responses to fewer than five of the
    held-out images.
    """

    r: Array

    def __repr__(self) -> str:
        splits, neuroids = self.r.shape
        return f"Predictivity({self.score:.3f} +- {self.error:.3f}; {splits} splits, {neuroids} neuroids)"

    @property
    def score(self) -> float:
        """Median of r over neuroids, ignoring NaN, averaged over splits."""
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
    splits: Splits | None = None,
    labels: Labels | None = None,
    seed: Whole = 1,
) -> Predictivity:
    """Correlate responses (image, neuroid) to held-out images with predictions from `features` (image, ...).

    regression  "pls" with 25 components, or "ridge" with a leave-one-out penalty for each neuroid
    splits      (training, test) indices or masks. The default is ten random splits into 90 % and 10 %, stratified by
                `labels` if given

    NaN marks missing responses (see the module's docstring). Raises StimulusError if the images do not match, if
    there are too few, if training and test images overlap, or if no neuroid has responses.
    """
    kernel, y = _kernel(features), _responses(as_array(responses, "image presentation", "neuroid"))
    if len(kernel) != len(y):
        raise _other_images([len(kernel)], len(y))
    chosen = _held_out(splits, len(y), labels, seed)
    r = [_known_pearson(_predicted(kernel, y, known, held, regression), y[held]) for known, held in chosen]
    return Predictivity(_named(np.stack(r), "r"))


@checked(StimulusError)
def predictivity_over_time(
    features: Sequence[Kernel | ArrayLike | Tensor],
    responses: ArrayLike,
    *,
    weights: Literal["each", "shared"] = "each",
    regression: Literal["pls", "ridge"] = "pls",
    splits: Splits | None = None,
    labels: Labels | None = None,
    seed: Whole = 1,
) -> list[Predictivity]:
    """Return the predictivity in each bin of responses (image, neuroid, bin), given that bin's features (image, ...).

    weights  "each" fits a separate regression for every bin. "shared" fits one regression to the training images in
             all bins, so predictions change over time only if the features do. It requires features rather than
             `Kernel`s, and memory for (images * bins)^2 values

    `steps_of` assigns a model's steps to bins. Raises the same errors as `predictivity`, and StimulusError if the
    numbers of bins differ.
    """
    y = as_array(responses, "image presentation", "neuroid", "time_bin bin").astype(float)
    if y.ndim != 3 or len(features) != y.shape[2]:
        raise StimulusError(
            given=f"{len(features)} bins of features, responses {y.shape}",
            expected="responses (image, neuroid, bin), and features for the same number of bins",
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
    blocks = [np.atleast_1d(as_array(x, "image presentation sample", more=True)) for x in features]
    if any(len(block) != len(y) for block in blocks):
        raise _other_images([len(block) for block in blocks], len(y))
    shapes = {block.shape[1:] for block in blocks}
    if len(shapes) > 1 or any(0 in shape for shape in shapes):
        raise StimulusError(
            given=f"features of shape (image, ...) with ... = {', '.join(map(str, shapes))}, and weights='shared'",
            expected="the same features in all bins, at least one",
            remedy="pass the features of one area for every bin, or use weights='each'",
        )
    kernel = Kernel.of(np.concatenate([block.reshape(len(y), -1) for block in blocks]))
    stacked = _responses(rearrange(y, "image neuroid bin -> (bin image) neuroid"))
    begins = len(y) * np.arange(y.shape[2])
    found: list[list[Array]] = [[] for _ in begins]
    for training, test in chosen:
        predicted = _predicted(
            kernel, stacked, np.add.outer(begins, training).ravel(), np.add.outer(begins, test).ravel(), regression
        )
        for row, begin, part in zip(found, begins, np.split(predicted, len(begins)), strict=True):
            row.append(_known_pearson(part, stacked[test + begin]))
    return [Predictivity(_named(np.stack(row), "r")) for row in found]


@checked(StimulusError)
def shuffled_splits(
    count: Count, splits: Count = 10, test: Share = 0.1, labels: Labels | None = None, seed: Whole = 1
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Return (training, test) indices, redrawn for each split and stratified by class if `labels` (n,) are given.

    Uses scikit-learn's ShuffleSplit or StratifiedShuffleSplit (`analysis` extra). Raises StimulusError if labels are
    missing, if their number is wrong, or if scikit-learn cannot split the images.
    """
    with needs_extra("analysis", StimulusError, "random splits of images"):
        from sklearn.model_selection import ShuffleSplit, StratifiedShuffleSplit

    kind, classes = (
        (ShuffleSplit, None) if labels is None else (StratifiedShuffleSplit, as_ids(labels, "labels", count))
    )
    try:
        drawn = list(kind(splits, test_size=test, random_state=seed).split(np.zeros(count), classes))
    except ValueError as reason:
        raise StimulusError(
            given=f"{count} images, splits={splits}, test={test}: {reason}",
            expected="enough images (of each class, if labels are given) for both parts of a split",
            remedy="use more images, another fraction such as test=0.3, or labels=None",
        ) from reason
    return [(np.sort(training), np.sort(held_out)) for training, held_out in drawn]


@checked(StimulusError)
def pearson(first: ArrayLike, second: ArrayLike) -> Array:
    """Return Pearson's r between corresponding columns of two (n, neuroid) arrays: (neuroid,).

    r is NaN for columns that are constant or contain NaN; other columns are not affected. Raises StimulusError for
    arrays of different shapes.
    """
    one, other = np.asarray(first, float), np.asarray(second, float)
    if one.shape != other.shape or not one.ndim:
        raise StimulusError(
            given=f"arrays of shapes {one.shape} and {other.shape}",
            expected="two arrays (n, neuroid) of the same shape",
            remedy="pass responses of the same neuroids to the same images",
        )
    (a, a_size), (b, b_size) = centred(one), centred(other)
    with np.errstate(invalid="ignore"):
        return (a * b).sum(0) / (a_size * b_size)


def _known_pearson(first: Array, second: ArrayLike) -> Array:
    """Return r between columns over the rows in which neither is NaN, or NaN for fewer than `FEWEST` such rows."""
    pair = np.stack([first, np.asarray(second)])
    both = ~np.isnan(pair).any(0)
    # Replacing missing values with the mean of the others changes neither the mean nor the sums of deviations.
    means = _mean_of_known(np.where(both, pair, np.nan).swapaxes(0, 1))
    r = pearson(*np.where(both, pair, means[:, None]))
    return np.where(both.sum(0) >= FEWEST, r, np.nan)


def _named(values: Array, name: str) -> Array:
    """Warn about columns of `values` (split, neuroid) that contain NaN, unless all do, and return `values`."""
    undefined = np.flatnonzero(np.isnan(values).any(0))
    if 0 < len(undefined) < values.shape[1]:
        more = f" and {len(undefined) - 10} more" if len(undefined) > 10 else ""
        warnings.warn(
            f"{name} is NaN, at least in some splits, for {len(undefined)} of {values.shape[1]} neuroids: "
            f"{', '.join(map(str, undefined[:10]))}{more}. They do not vary, or have responses to fewer than "
            f"{FEWEST} of the compared images. Medians and means over neuroids ignore them.",
            PcsimWarning,
            stacklevel=3,
        )
    return values


@checked(StimulusError)
def split_half_ceiling(repetitions: ArrayLike, splits: Count = 10, seed: Whole = 1) -> Array:
    """Return the Spearman-Brown reliability 2 r / (1 + r), where r is the correlation between halves: (split, neuroid).

    `repetitions` (repetition, image, neuroid) contain NaN for missing repetitions. Halves are redrawn for each split.
    For each neuroid, both halves contain the same number of repetitions of each image, and images with fewer than two
    repetitions are left out. The reliability is NaN if fewer than five images remain, or if the neuroid does not vary.
    The square root of the reliability is the expected r between a perfect model and the mean response. Raises
    StimulusError for infinite values, or if no neuroid has five images with two repetitions.
    """
    x = as_array(repetitions, "repetition", "image presentation", "neuroid").astype(float)
    known = ~np.isnan(x)
    count = known.sum(0)
    if x.ndim != 3 or len(x) < 2 or np.isinf(x).any() or not ((count >= 2).sum(0) >= FEWEST).any():
        raise StimulusError(
            given=f"repetitions {x.shape}"
            + (", with infinite values" if np.isinf(x).any() else f", at most {count.max(initial=0)} for an image"),
            expected=f"finite values or NaN (repetition, image, neuroid), and 2 or more repetitions of {FEWEST} images",
            remedy="pass a single time bin, repetitions[..., 0], and recordings in which images were repeated",
        )
    generator, found, half = np.random.default_rng(seed), [], count // 2
    for _ in range(splits):
        order = generator.permutation(len(x))
        turn = np.where(known[order], known[order].cumsum(0), len(x) + 1)
        parts = turn <= half, (half < turn) & (turn <= 2 * half)
        first, second = (_mean_of_known(np.where(part, x[order], np.nan)) for part in parts)
        found.append(spearman_brown(_known_pearson(first, second)))
    return _named(np.stack(found), "the ceiling")


@dataclass(frozen=True)
class Normalised:
    """A score relative to its ceiling, under the three common definitions.

    These are benchmark values, not fractions of the best possible score. A perfect model has r = sqrt(ceiling), so its
    ratio is 1 / sqrt(ceiling), which is above 1. Dividing r by sqrt(ceiling) instead would give 1.

    ratio       median r / median ceiling (Brain-Score 1)
    squared     square of the ratio (current Brain-Score), in which the sign is lost
    neuroids    median over neuroids of each neuroid's r / ceiling

    All three use only neuroids with both an r and a ceiling. A ratio is NaN unless its ceiling is above 0, and
    `neuroids` ignores NaN.
    """

    ratio: float
    squared: float
    neuroids: float


@checked(StimulusError)
def normalised(score: Predictivity, ceiling: Array) -> Normalised:
    """Divide `score` by a `split_half_ceiling` (split, neuroid). Raises StimulusError if the neuroids differ."""
    limit = np.asarray(ceiling, float)
    if limit.ndim != 2 or limit.shape[1] != score.r.shape[1]:
        raise StimulusError(
            given=f"{score!r} and a ceiling of shape {limit.shape}",
            expected="a single Predictivity and the ceiling (split, neuroid) of the same neuroids",
            remedy="normalise time bins one at a time, as in normalised(scores[0], ceilings[0])",
        )
    known = np.isfinite(score.r).any(0) & np.isfinite(limit).any(0)
    r, limit = score.r[:, known], limit[:, known]
    middle, each = _medians(limit).mean(), _mean_of_known(limit)
    ratio = Predictivity(r).score / (float(middle) if middle > 0 else math.nan)
    ratios = _mean_of_known(r) / np.where(each > 0, each, np.nan)
    return Normalised(ratio, ratio**2, float(_medians(ratios[None])[0]))


@dataclass(frozen=True)
class BestLayer:
    """The chosen layer, its score on held-out images, and all layers' scores on the images used to choose it."""

    name: str
    score: Predictivity
    chosen_by: dict[str, Predictivity]


@checked(StimulusError)
def best_layer(
    layers: Mapping[str, Kernel | ArrayLike | Tensor],
    responses: Responses,
    *,
    share: Share = 0.5,
    regression: Literal["pls", "ridge"] = "pls",
    labels: Labels | None = None,
    seed: Whole = 1,
) -> BestLayer:
    """Choose the layer that predicts best on a fraction `share` of the images, and score it on the remaining images.

    `layers` maps names to features (image, ...) of the same images as `responses` (image, neuroid). Both parts are
    stratified by `labels` (image,). Raises StimulusError if the images do not match, or if there are too few to split
    twice.
    """
    y = as_array(responses, "image presentation", "neuroid").astype(float)
    kernels = {name: _kernel(layer) for name, layer in layers.items()} if isinstance(layers, Mapping) else {}
    if not kernels or any(len(kernel) != len(y) for kernel in kernels.values()):
        raise StimulusError(
            given=f"layers of {', '.join(str(len(kernel)) for kernel in kernels.values())} images, responses {y.shape}",
            expected="a mapping of layer names to features of the same images, in the same order",
            remedy="order the images of each layer as in recordings.images_of(recorded)",
        )
    of_class = np.zeros(len(y), int) if labels is None else as_ids(labels, "labels", len(y))
    ((other, choosing),) = shuffled_splits(len(y), 1, share, of_class, seed)

    def scored(kernel: Kernel, images: NDArray[np.int64]) -> Predictivity:
        chosen, classes = kernel.of_images(images), of_class[images]
        return predictivity(chosen, y[images], regression=regression, labels=classes, seed=seed)

    chosen_by = {name: scored(kernel, choosing) for name, kernel in kernels.items()}
    # The score of a layer with the same prediction for all images is NaN.
    if all(math.isnan(row.score) for row in chosen_by.values()):
        raise StimulusError(
            given=f"layers {', '.join(chosen_by)}, whose scores are all NaN",
            expected="a layer whose predictions vary between images",
            remedy="pass features recorded after response onset, and neuroids whose responses vary",
        )
    name = max(chosen_by, key=lambda layer: np.nan_to_num(chosen_by[layer].score, nan=-1.0))
    return BestLayer(name, scored(kernels[name], other), chosen_by)


@checked(StimulusError)
def steps_of(times: ArrayLike, bins: Bins, latency: Number = 0.0) -> list[NDArray[np.int64]]:
    """Return the rows of a model's record in each bin (from, to] in ms, after adding `latency` to the model's times.

    times  ends of the steps, such as `run.times`; a bin contains the steps that end in it or, if there are none, the
           step that contains the middle of the bin
    bins   in any order; they may overlap, and their ends may differ from the times by rounding (`arguments.ROUNDING`)

    Raises StimulusError if times are out of order, or if a bin is empty, reversed, before the model's first step or
    after its last step.
    """
    ends = as_times(np.asarray(times, float) + latency)
    begin = ends[0] - (ends[1] - ends[0] if len(ends) > 1 else ends[0] - latency)
    edges = np.asarray(list(bins), float)
    if edges.ndim != 2 or edges.shape[1] != 2 or not is_after(edges[:, 1], edges[:, 0]).all():
        raise StimulusError(
            given=f"bins {edges.tolist()}",
            expected="bins (from, to) in ms with from < to",
            remedy="pass [(70.0, 80.0), (80.0, 90.0)]",
        )
    found = []
    for low, high in edges:
        rows = np.flatnonzero(is_after(ends, low) & ~is_after(ends, high))
        middle = 0.5 * (low + high)
        if not len(rows) and is_after(middle, begin) and not is_after(middle, ends[-1]):
            rows = np.flatnonzero(~is_after(middle, ends))[:1]
        if not len(rows):
            raise StimulusError(
                given=f"the bin from {low:g} to {high:g} ms",
                expected=f"bins after {begin:g} and up to {ends[-1]:g} ms, the time span of the run",
                remedy=f"run until {high - latency:g} ms (a discrete step lasts net.step_ms), or leave the bin out",
            )
        found.append(rows)
    return found


def _held_out(splits: Splits | None, count: int, labels: ArrayLike | None, seed: int) -> Splits:
    """Return the splits as indices. Raises StimulusError for too few images, or for images used twice in a split."""
    chosen = shuffled_splits(count, labels=labels, seed=seed) if splits is None else list(splits)
    every = np.arange(count)
    try:
        parts = [(every[np.asarray(training)], every[np.asarray(held)]) for training, held in chosen]
    except (IndexError, TypeError, ValueError) as reason:
        raise StimulusError(
            given=f"splits that do not match {count} images ({reason})",
            expected="(training, test) indices or masks of the images for each split",
            remedy="pass splits=regression.shuffled_splits(n)",
        ) from reason
    fewest = min((len(held) for _, held in parts), default=0)
    if fewest < FEWEST:
        raise StimulusError(
            given=f"a split that holds out {fewest} of {count} images",
            expected=f"at least {FEWEST} held-out images",
            remedy="use more images, or hold out more with splits=regression.shuffled_splits(n, test=0.3)",
        )
    if any(len(np.unique(np.concatenate(split))) < sum(map(len, split)) for split in parts):
        raise StimulusError(
            given="a split in which an image is both held out and trained on, or occurs twice",
            expected="(training, test) indices, or boolean masks, with no image in common",
            remedy="pass splits=regression.shuffled_splits(n), or convert masks with mask.astype(bool)",
        )
    return parts


def _other_images(features: Sequence[int], responses: int) -> StimulusError:
    return StimulusError(
        given=f"features of {', '.join(map(str, features))} images and responses to {responses}",
        expected="the same images in the same order",
        remedy="average responses over repetitions, and order the features as in recordings.images_of(recorded)",
    )


def _medians(x: Array) -> Array:
    """Return the median over the second axis, ignoring NaN, or NaN if there are no other values."""
    known = [row[np.isfinite(row)] for row in x]
    return np.array([np.median(row) if len(row) else np.nan for row in known])


def _mean_of_known(x: Array) -> Array:
    """Return the mean over the first axis, ignoring NaN, or NaN if there are no other values."""
    known = np.isfinite(x)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(known, x, 0.0).sum(0) / known.sum(0)


def _kernel(features: Kernel | ArrayLike | Tensor) -> Kernel:
    return features if isinstance(features, Kernel) else Kernel.of(features)


def _predicted(
    kernel: Kernel, y: Tensor, training: NDArray[np.int64], test: NDArray[np.int64], regression: str
) -> Array:
    """Fit a regression to the training images and return its predictions for the test images: (test, neuroid).

    Neuroids with responses to the same training images are fitted together. Predictions for neuroids without responses
    are NaN.
    """
    found = np.full((len(test), y.shape[1]), np.nan)
    patterns, of_neuroid = np.unique(~y[training].isnan().numpy(), axis=1, return_inverse=True)
    for number, has_response in enumerate(patterns.T):
        if not has_response.any():
            continue
        together = np.flatnonzero(of_neuroid.ravel() == number)
        shown = torch.from_numpy(training[has_response])
        k, across = kernel.centred(shown, torch.from_numpy(test))
        responses = y[shown][:, together]
        mean = responses.mean(0)
        found[:, together] = (REGRESSIONS[regression](k, across, responses - mean) + mean).numpy()
    return found


def _responses(responses: ArrayLike) -> Tensor:
    y = torch.from_numpy(np.asarray(responses, float))
    if y.dim() != 2 or bool(y.isinf().any()) or not y.numel() or bool(y.isnan().all()):
        raise StimulusError(
            given=f"responses {tuple(y.shape)}"
            + ("" if bool(torch.isfinite(y).all()) else " with NaN or infinite values"),
            expected="responses (image, neuroid), finite or, if missing, NaN",
            remedy="average with np.nanmean(repetitions, 0), and select the first time bin with responses[..., 0]",
        )
    return y


__all__ = [
    "REGRESSIONS",
    "BestLayer",
    "Normalised",
    "Predictivity",
    "best_layer",
    "normalised",
    "pearson",
    "predictivity",
    "predictivity_over_time",
    "shuffled_splits",
    "split_half_ceiling",
    "steps_of",
]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
