"""Linear decoding from a population over time with scikit-learn (extra `analysis`).

decoded = decode_over_time(run, key="l2", permutations=200)      cross-validated: one decoder for each time and fold
decoded.times, decoded.accuracy, decoded.p                       (time,); compare accuracy with decoded.chance
low, high = decoded.interval()                                   (time,)
across = decode_across_time(run, key="l2")                       each decoder is tested at every time
across.accuracy, across.stability                                (training time, test time), and one number
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from pcsim.analysis.arguments import Run, as_array, as_ids, as_labels, recorded
from pcsim.core.checks import Axes, Count, Labels, Positive, Whole, checked
from pcsim.core.exceptions import StimulusError, needs_extra

Array = NDArray[np.float64]
INTERCEPT = 100.0
"""scale of the bias in liblinear, which penalises the bias like a weight; at this scale the penalty is negligible"""


@dataclass(frozen=True)
class Decoded:
    """Cross-validated predictions, in which each sample is decoded by a decoder that was not fitted to it.

    probabilities  (time, n, class); for the SVM, the softmax of its margins, which preserves their order
    correct        (time, n), True if the most probable class is the label
    chance         chance level: the fraction of samples in the largest class, 1 / classes if all classes are equal
    times          (time,) in ms, if a `Run` was decoded
    p              (time,), p-values of the accuracy if `permutations` were requested
    p_corrected    (time,), corrected for the number of time points by the maximum statistic (Nichols & Holmes 2002)
    groups         (n,), the groups of the samples, if any
    """

    probabilities: Array
    correct: NDArray[np.bool_]
    chance: float = math.nan
    times: Array | None = None
    p: Array | None = None
    p_corrected: Array | None = None
    groups: NDArray[Any] | None = None

    @property
    def accuracy(self) -> Array:
        """Fraction of correctly decoded samples: (time,)."""
        return self.correct.mean(1)

    @checked(StimulusError)
    def interval(self, draws: Count = 2_000, seed: Whole = 0) -> tuple[Array, Array]:
        """Return the 95 % percentile bootstrap interval (low, high) of the accuracy, each (time,).

        Samples, or their groups, are resampled with replacement; the decoders are not fitted again.
        """
        names = np.arange(self.correct.shape[1]) if self.groups is None else self.groups
        members = names[:, None] == np.unique(names)  # (n, group)
        groups = members.shape[1]
        drawn = np.random.default_rng(seed).multinomial(groups, np.full(groups, 1 / groups), draws)
        means = (drawn @ (self.correct.astype(float) @ members).T) / (drawn @ members.sum(0))[:, None]
        low, high = np.quantile(means, [0.025, 0.975], axis=0)
        return low, high


@checked(StimulusError, groups=None)
def decode_over_time(
    features: Annotated[ArrayLike | Tensor, Axes("time, sample, ...", is_float=False)] | Run,
    labels: Labels | None = None,
    *,
    key: str | None = None,
    decoder: Literal["logistic", "svm"] = "logistic",
    penalty: Positive = 1.0,
    folds: Count = 5,
    groups: Labels | None = None,
    seed: Whole = 0,
    permutations: Whole = 0,
) -> Decoded:
    """Decode integer `labels` (n,) from `features` (time, n, ...), using a separate decoder for each time and fold.

    features  (time, n, ...), or a `pcsim.Run`, whose record `key` is decoded; `key` may be omitted if the run has only
              one record
    labels    0, 1, ...; by default, the labels of the run's stimulus
    decoder   "logistic": (multinomial) logistic regression, minimising total cross-entropy + penalty / 2 |W|^2;
              "svm": linear one-vs-rest SVM, minimising total squared hinge loss + penalty / 2 |W|^2
    penalty   1 / C in scikit-learn; biases are not penalised
    groups    (n,); samples of a group, such as an image and its occluded version, are kept in the same fold
    seed      random seed of the stratified folds and of the permutations; every sample is tested once
    permutations  number m of random permutations of the labels, each of which is decoded like the labels themselves.
              p = (b + 1) / (m + 1), where b permutations are at least as accurate (Phipson & Smyth 2010).
              Groups whose samples share a label are permuted as a whole, among groups of the same size. If the labels
              in some group differ, labels are permuted within groups

    Features are z-scored with the statistics of the training samples, in double precision; units that do not vary
    have no effect. Raises StimulusError if features are not finite, if labels or groups do not match the features, if
    a class has fewer samples than `folds` or is missing from the training samples of a fold, or if scikit-learn is not
    installed.
    """
    values, y, chance, times, together = _prepared("decode_over_time()", features, labels, key, folds, groups)
    with needs_extra("analysis", StimulusError, "decode_over_time()"):
        from threadpoolctl import threadpool_limits

        fitted = _pipeline(decoder, penalty)
    # Limited to torch's thread count, because parallel processes would otherwise compete for the cores.
    with threadpool_limits(torch.get_num_threads()):
        probabilities = _held_out(fitted, values, y, folds, seed, together)
        decoded = Decoded(probabilities, probabilities.argmax(-1) == y, chance, times, groups=together)
        if not permutations:
            return decoded
        generator = np.random.default_rng(seed)
        reached = np.empty((permutations, len(values)))
        for row in reached:
            other = _permuted(y, together, generator)
            row[:] = (_held_out(fitted, values, other, folds, seed, together).argmax(-1) == other).mean(1)
    at_least = decoded.accuracy - 1e-12
    return replace(
        decoded,
        p=((reached >= at_least).sum(0) + 1) / (permutations + 1),
        p_corrected=((reached.max(1)[:, None] >= at_least).sum(0) + 1) / (permutations + 1),
    )


@dataclass(frozen=True)
class DecodedAcross:
    """Cross-validated accuracy of decoders that were fitted at one time and tested at another.

    correct  (training time, test time, n), True if the decoded class is the label. No decoder is tested, at any time,
             on samples (or groups of samples) to which it was fitted
    chance   chance level: the fraction of samples in the largest class
    times    (time,) in ms, if a `Run` was decoded
    """

    correct: NDArray[np.bool_]
    chance: float = math.nan
    times: Array | None = None

    @property
    def accuracy(self) -> Array:
        """Fraction of correctly decoded samples: (training time, test time)."""
        return self.correct.mean(2)

    @property
    def stability(self) -> float:
        """(mean accuracy at other times - chance) / (mean accuracy at the training time - chance).

        It is 1 for a persistent code, which is the same at all times, and 0 for a dynamic code, whose decoders do not
        generalise. It is NaN for a single time, or if accuracy at the training time is not above chance.
        """
        count = len(self.correct)
        same = float(self.accuracy.diagonal().mean()) - self.chance
        if count < 2 or not same > 0:
            return math.nan
        other = float(self.accuracy[~np.eye(count, dtype=bool)].mean()) - self.chance
        return other / same


@checked(StimulusError, groups=None)
def decode_across_time(
    features: Annotated[ArrayLike | Tensor, Axes("time, sample, ...", is_float=False)] | Run,
    labels: Labels | None = None,
    *,
    key: str | None = None,
    decoder: Literal["logistic", "svm"] = "logistic",
    penalty: Positive = 1.0,
    folds: Count = 5,
    groups: Labels | None = None,
    seed: Whole = 0,
) -> DecodedAcross:
    """Decode `labels` (n,) from `features` (time, n, ...) with decoders fitted at each time and tested at all times.

    The arguments are the same as for `decode_over_time`, and the diagonal equals its result. Features are z-scored with
    the statistics of the training samples at the training time. Source: King & Dehaene 2014 (temporal generalisation).
    Raises StimulusError in the same cases as `decode_over_time`.
    """
    values, y, chance, times, together = _prepared("decode_across_time()", features, labels, key, folds, groups)
    with needs_extra("analysis", StimulusError, "decode_across_time()"):
        from threadpoolctl import threadpool_limits

        fitted = _pipeline(decoder, penalty)
    count = len(values)
    correct = np.empty((count, count, len(y)), np.bool_)
    with threadpool_limits(torch.get_num_threads()):
        for training, test in _splits(y, folds, seed, together):
            _require_classes(y[training], int(y.max()) + 1, folds)
            tested = values[:, test].reshape(count * len(test), -1)
            for time, sheet in enumerate(values):
                fitted.fit(sheet[training], y[training])
                answers = _probabilities(fitted, tested).argmax(-1).reshape(count, len(test))
                correct[time][:, test] = answers == y[test]
    return DecodedAcross(correct, chance, times)


def _prepared(
    name: str, features: Any, labels: Any, key: str | None, folds: int, groups: Any
) -> tuple[Array, NDArray[np.int64], float, Array | None, NDArray[Any] | None]:
    """Return the features (time, n, unit), labels, chance level, times and groups for the function called `name`."""
    times = None
    if isinstance(features, Run):
        record = recorded(features, key)
        times, labels = features.times_of[record], features.labels if labels is None else labels
        features = _finite_samples(features.values[record], record, name)
    if labels is None or (key is not None and times is None):
        raise StimulusError(
            given=f"{'no labels' if labels is None else 'labels'} and key={key!r}",
            expected="labels (n,), unless the run's stimulus has labels, and a key only with a run",
            remedy="pass labels=..., and pass key='l2' only with a run",
        )
    values, y, counts = _checked(features, labels, folds)
    together = None if groups is None else as_ids(groups, "groups", len(y))
    if together is not None and len(np.unique(together)) < folds:
        raise StimulusError(
            given=f"{len(np.unique(together))} groups for {folds} folds",
            expected="at least as many groups as folds",
            remedy="pass folds=2, or more groups",
        )
    return values, y, float(counts.max() / len(y)), times, together


def _checked(features: Any, labels: Any, folds: int) -> tuple[Array, NDArray[np.int64], NDArray[np.int64]]:
    """Return the features (time, n, unit), the labels and the number of samples of each class."""
    x = as_array(features, "time time_bin", "sample presentation image", more=True).astype(float)
    values = x.reshape(*x.shape[:2], -1)
    y = as_labels(labels.cpu() if isinstance(labels, Tensor) else labels)
    if not np.isfinite(values).all():
        spoiled = np.flatnonzero(~np.isfinite(values).all((0, 1))).tolist() if values.ndim == 3 else []
        raise StimulusError(
            given=f"features {values.shape} with NaN or infinite values in {len(spoiled)} units {spoiled[:5]}",
            expected="finite features",
            remedy="average over the available repetitions with np.nanmean(repetitions, 0), and leave out units "
            "without data: features[..., np.isfinite(features).all((0, 1))]",
        )
    counts = np.bincount(y) if len(y) and y.min() >= 0 else np.zeros(1, int)
    if values.ndim != 3 or len(y) != values.shape[1] or len(counts) < 2 or counts.min() < folds or folds < 2:
        raise StimulusError(
            given=f"features {values.shape}, {len(y)} labels, class counts {counts.tolist()}, {folds} folds",
            expected="features (time, n, ...), n labels 0, 1, ..., and two or more classes of at least `folds` samples",
            remedy="number the classes with np.unique(labels, return_inverse=True)[1], or pass folds=2",
        )
    return values, y, counts


def _finite_samples(values: Tensor, name: str, function: str) -> Tensor:
    """Return the values (time, n, ...). Raises StimulusError if a sample has diverged."""
    diverged = (~torch.isfinite(values.detach()).reshape(*values.shape[:2], -1).all(2)).any(0).nonzero().flatten()
    if len(diverged):
        raise StimulusError(
            given=f"run[{name!r}], in which {len(diverged)} of {values.shape[1]} samples diverged, such as sample "
            f"{int(diverged[0])}",
            expected="finite values of all samples",
            remedy=f"use a smaller dt, or leave them out: ok = run[{name!r}].isfinite().flatten(2).all(2).all(0); "
            f"{function[:-2]}(run[{name!r}][:, ok], labels[ok])",
        )
    return values


def _held_out(
    fitted: Any, values: Array, y: NDArray[np.int64], folds: int, seed: int, groups: NDArray[Any] | None
) -> Array:
    """Return the class probabilities of each sample (time, n, class) from decoders that were not fitted to it."""
    classes = int(y.max()) + 1
    probabilities = np.empty((*values.shape[:2], classes))
    for training, test in _splits(y, folds, seed, groups):
        _require_classes(y[training], classes, folds)
        for time, sheet in enumerate(values):
            fitted.fit(sheet[training], y[training])
            probabilities[time, test] = _probabilities(fitted, sheet[test])
    return probabilities


def _splits(labels: NDArray[np.int64], folds: int, seed: int, groups: NDArray[Any] | None) -> Any:
    """Return the (training, test) indices of stratified folds that keep groups together."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    kind = StratifiedKFold if groups is None else StratifiedGroupKFold
    return kind(folds, shuffle=True, random_state=seed).split(labels, labels, groups)


def _permuted(y: NDArray[np.int64], groups: NDArray[Any] | None, generator: np.random.Generator) -> NDArray[np.int64]:
    """Return permuted labels: across samples, or across whole groups if each has one label, or else within groups."""
    if groups is None:
        return generator.permutation(y)
    members = [np.flatnonzero(groups == name) for name in np.unique(groups)]
    other = y.copy()
    if any(len(np.unique(y[each])) > 1 for each in members):
        for each in members:
            other[each] = generator.permutation(y[each])
        return other
    for size in {len(each) for each in members}:
        alike = [each for each in members if len(each) == size]
        for each, label in zip(alike, generator.permutation([y[each[0]] for each in alike]), strict=True):
            other[each] = label
    return other


def _require_classes(labels: NDArray[np.int64], classes: int, folds: int) -> None:
    if len(np.unique(labels)) < classes:
        raise StimulusError(
            given=f"a fold whose training samples contain {len(np.unique(labels))} of {classes} classes",
            expected="every class in the training samples of each fold",
            remedy=f"use fewer than {folds} folds, or groups that do not contain all samples of a class",
        )


def _pipeline(decoder: str, penalty: float) -> Any:
    """Return a scikit-learn decoder that z-scores its features."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import LinearSVC

    if decoder == "logistic":
        return make_pipeline(StandardScaler(), LogisticRegression(C=1 / penalty, tol=1e-6, max_iter=2_000))
    # The primal problem converges even if the bias is hardly penalised.
    options = {"dual": False, "intercept_scaling": INTERCEPT, "tol": 1e-6, "max_iter": 10_000}
    return make_pipeline(StandardScaler(), LinearSVC(C=1 / penalty, **options))


def _probabilities(fitted: Any, values: Array) -> Array:
    """Return class probabilities (n, class); for an SVM, the softmax of its margins."""
    if hasattr(fitted, "predict_proba"):
        return fitted.predict_proba(values)
    margins = fitted.decision_function(values)
    if margins.ndim == 1:  # with two classes, there is only the margin of the second
        margins = np.stack([-margins, margins], -1)
    return torch.softmax(torch.from_numpy(margins), -1).numpy()


__all__ = ["Decoded", "DecodedAcross", "decode_across_time", "decode_over_time"]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
