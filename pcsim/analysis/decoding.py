"""Linear decoding from a population over time with scikit-learn (extra `analysis`).

decoded = decode_over_time(run["l2"], labels)       cross-validated, with one decoder for each time and fold
decoded.accuracy                                    (time,)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from pcsim.analysis.arguments import as_array, as_ids, as_labels
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
    """

    probabilities: Array
    correct: NDArray[np.bool_]

    @property
    def accuracy(self) -> Array:
        """Fraction of correctly decoded samples: (time,)."""
        return self.correct.mean(1)


@checked(StimulusError, groups=None)
def decode_over_time(
    features: Annotated[ArrayLike | Tensor, Axes("time, sample, ...", is_float=False)],
    labels: Labels,
    *,
    decoder: Literal["logistic", "svm"] = "logistic",
    penalty: Positive = 1.0,
    folds: Count = 5,
    groups: Labels | None = None,
    seed: Whole = 0,
) -> Decoded:
    """Decode integer `labels` (n,) from `features` (time, n, ...), with a separate decoder for each time and fold.

    decoder   "logistic": (multinomial) logistic regression, minimising total cross-entropy + penalty / 2 |W|^2;
              "svm": linear one-vs-rest SVM, minimising total squared hinge loss + penalty / 2 |W|^2
    penalty   1 / C in scikit-learn; biases are not penalised
    groups    (n,); samples of a group, such as an image and its occluded version, are kept in the same fold
    seed      random seed of the stratified folds; every sample is tested once

    Features are z-scored with the statistics of the training samples, in double precision; units that do not vary
    have no effect. Raises StimulusError if features are not finite, if labels or groups do not match the features, if
    a class has fewer samples than `folds` or is missing from the training samples of a fold, or if scikit-learn is not
    installed.
    """
    x = as_array(features, "time time_bin", "sample presentation image", more=True).astype(float)
    values = x.reshape(*x.shape[:2], -1)
    y = as_labels(labels)
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
    with needs_extra("analysis", StimulusError, "decode_over_time()"):
        from threadpoolctl import threadpool_limits

        fitted = _pipeline(decoder, penalty)
    probabilities = np.empty((*values.shape[:2], len(counts)))
    # Limited to torch's thread count, because parallel processes would otherwise compete for the cores.
    with threadpool_limits(torch.get_num_threads()):
        for training, test in _splits(y, folds, seed, groups):
            _require_classes(y[training], len(counts), folds)
            for time, sheet in enumerate(values):
                fitted.fit(sheet[training], y[training])
                probabilities[time, test] = _probabilities(fitted, sheet[test])
    return Decoded(probabilities, probabilities.argmax(-1) == y)


def _splits(labels: NDArray[np.int64], folds: int, seed: int, groups: ArrayLike | None) -> Any:
    """Return the (training, test) indices of stratified folds that keep groups together."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    if groups is None:
        return StratifiedKFold(folds, shuffle=True, random_state=seed).split(labels, labels)
    together = as_ids(groups, "groups", len(labels))
    if len(np.unique(together)) < folds:
        raise StimulusError(
            given=f"{len(np.unique(together))} groups for {folds} folds",
            expected="at least as many groups as folds",
            remedy="pass folds=2, or more groups",
        )
    return StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(labels, labels, together)


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
