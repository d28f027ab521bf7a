"""Linear decoding of a population over time, by scikit-learn (extra `analysis`).

decoded = decode_over_time(run["l2"], labels)       one decoder for each time and fold, cross-validated
decoded.accuracy                                    (time,)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from pcsim.core.exceptions import StimulusError, needs_extra

Array = NDArray[np.float64]
INTERCEPT = 100.0
"""factor of the bias in liblinear, which penalises it with the weights: this large, hardly at all"""


@dataclass(frozen=True)
class Decoded:
    """Predictions of cross-validated decoders for samples that they were not fitted to.

    probabilities  (time, n, class); for the SVM a softmax of its margins, which keeps their order
    correct        (time, n)
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

    decoder   "logistic": (multinomial) logistic regression, sum of cross-entropies + penalty / 2 |W|^2;
              "svm": linear, one class against the rest, sum of squared hinges + penalty / 2 |W|^2
    penalty   1 / C of scikit-learn; biases are not penalised
    groups    (n,): samples of a group are in one fold, such as an image and its occluded version
    seed      seed of the folds, which are stratified; every sample is tested once

    Features are z-scored by the training samples, in double precision. Raises StimulusError for features that are not
    finite, labels that do not fit, classes smaller than `folds`, or if scikit-learn is missing.
    """
    x = torch.as_tensor(np.asarray(features) if not isinstance(features, Tensor) else features).detach().double()
    values = (x.flatten(2) if x.dim() > 2 else x[..., None]).cpu().numpy()
    y = _whole_numbers(labels)
    if not np.isfinite(values).all():
        raise StimulusError(
            given=f"features {values.shape} with NaN or infinite values",
            expected="finite features",
            remedy="average over missing repetitions with np.nanmean(repetitions, 0)",
        )
    counts = np.bincount(y) if len(y) and y.min() >= 0 else np.zeros(1, int)
    if len(y) != values.shape[1] or len(counts) < 2 or counts.min() < folds or folds < 2:
        raise StimulusError(
            given=f"features {values.shape}, {len(y)} labels, {counts.tolist()} of each class, {folds} folds",
            expected="features (time, n, ...), n labels 0, 1, ..., two classes or more of at least `folds` samples",
            remedy="number the classes by np.unique(labels, return_inverse=True)[1], or pass folds=2",
        )
    with needs_extra("analysis", StimulusError, "decode_over_time()"):
        from threadpoolctl import threadpool_limits

        fitted = _pipeline(decoder, penalty)
    probabilities = np.empty((*values.shape[:2], len(counts)))
    # On as many threads as torch has: processes side by side would else fight for the cores.
    with threadpool_limits(torch.get_num_threads()):
        for training, test in _splits(y, folds, seed, groups):
            for time, sheet in enumerate(values):
                fitted.fit(sheet[training], y[training])
                probabilities[time, test] = _probabilities(fitted, sheet[test])
    return Decoded(probabilities, probabilities.argmax(-1) == y)


def _splits(labels: NDArray[np.int64], folds: int, seed: int, groups: ArrayLike | None) -> Any:
    """Return the (training, test) indices of stratified folds that keep groups together."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    if groups is None:
        return StratifiedKFold(folds, shuffle=True, random_state=seed).split(labels, labels)
    return StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(labels, labels, np.asarray(groups))


def _pipeline(decoder: str, penalty: float) -> Any:
    """Return a decoder of scikit-learn with z-scored features."""
    if decoder not in ("logistic", "svm") or not penalty > 0:
        raise StimulusError(
            given=f"decoder={decoder!r}, penalty={penalty}",
            expected='decoder "logistic" or "svm", and a penalty above 0',
            remedy='write decoder="logistic", penalty=1.0',
        )
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import LinearSVC

    if decoder == "logistic":
        return make_pipeline(StandardScaler(), LogisticRegression(C=1 / penalty, tol=1e-6, max_iter=2_000))
    # The primal problem converges even with a bias that is hardly penalised.
    options = {"dual": False, "intercept_scaling": INTERCEPT, "tol": 1e-6, "max_iter": 10_000}
    return make_pipeline(StandardScaler(), LinearSVC(C=1 / penalty, **options))


def _probabilities(fitted: Any, values: Array) -> Array:
    """Return (n, class): the probabilities of logistic regression, or a softmax of an SVM's margins."""
    if hasattr(fitted, "predict_proba"):
        return fitted.predict_proba(values)
    margins = fitted.decision_function(values)
    if margins.ndim == 1:  # of two classes, the margin of the second
        margins = np.stack([-margins, margins], -1)
    return torch.softmax(torch.from_numpy(margins), -1).numpy()


def _whole_numbers(labels: ArrayLike) -> NDArray[np.int64]:
    known = np.asarray(labels)
    if known.dtype.kind not in "iub" or known.ndim != 1:
        raise StimulusError(
            given=f"labels {known.shape} of type {known.dtype}",
            expected="whole numbers (n,), from 0",
            remedy="write names, labels = np.unique(labels, return_inverse=True)",
        )
    return known.astype(np.int64)
