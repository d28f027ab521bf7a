"""Choices made from read-outs, and how many are correct."""

from __future__ import annotations

from torch import Tensor


def correct_choices(logits: Tensor, targets: Tensor) -> Tensor:
    """Return whether the k largest outputs are exactly the k classes shown: bool (time, n).

    logits (time, n, classes), targets (n, classes) with k ones. For k = 1 this is the usual accuracy.
    """
    return _chosen(logits, targets).eq(targets.bool()).all(-1)


def hit_rate(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the share of the k classes shown that are among the k largest outputs: (time, n)."""
    return (_chosen(logits, targets) & targets.bool()).sum(-1) / targets.sum(-1)


def accuracy_over_time(correct: Tensor) -> Tensor:
    """Return the mean over samples of `correct` (time, n): (time,)."""
    return correct.double().mean(-1)


def _chosen(logits: Tensor, targets: Tensor) -> Tensor:
    rank = logits.argsort(dim=-1, descending=True, stable=True).argsort(dim=-1)
    return rank < targets.sum(-1, keepdim=True)
