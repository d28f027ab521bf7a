"""Choices derived from readouts, and their accuracy."""

from __future__ import annotations

from torch import Tensor

from pcsim.core.checks import checked
from pcsim.core.exceptions import StimulusError


@checked(StimulusError)
def correct_choices(logits: Tensor, targets: Tensor) -> Tensor:
    """Return True where the k largest outputs are exactly the k target classes: (time, n).

    `logits` are (time, n, classes), and `targets` (n, classes) contain k ones. For k = 1, the mean is the accuracy.
    """
    return _chosen(logits, targets).eq(targets.bool()).all(-1)


@checked(StimulusError)
def hit_rate(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the fraction of the k target classes that are among the k largest outputs: (time, n)."""
    return (_chosen(logits, targets) & targets.bool()).sum(-1) / targets.sum(-1)


@checked(StimulusError)
def accuracy_over_time(correct: Tensor) -> Tensor:
    """Return the mean of `correct` (time, n) over samples: (time,)."""
    return correct.double().mean(-1)


def _chosen(logits: Tensor, targets: Tensor) -> Tensor:
    rank = logits.argsort(dim=-1, descending=True, stable=True).argsort(dim=-1)
    return rank < targets.sum(-1, keepdim=True)
