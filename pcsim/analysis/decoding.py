"""Linear decoding of a population over time.

decoded = decode_over_time(run["l2"], labels)       one decoder a time step, cross-validated
decoded.accuracy                                    (time,)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn import functional

from pcsim.core.exceptions import StimulusError

Array = NDArray[np.float64]


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
