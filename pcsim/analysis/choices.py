"""Choices derived from readouts, and their accuracy."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from pcsim.analysis.arguments import as_mask
from pcsim.core.checks import Axes, checked
from pcsim.core.exceptions import StimulusError

Logits = Annotated[Tensor, Axes("time, sample, class")]


@checked(StimulusError)
def correct_choices(logits: Logits, targets: Tensor) -> Tensor:
    """Return True where the k largest outputs are exactly the k target classes: (time, n).

    `logits` are (time, n, classes), and `targets` (n, classes) contain k ones and zeros elsewhere. For k = 1, the mean
    is the accuracy. Logits that contain NaN, as in a sample that diverged, never count as correct. Raises StimulusError
    if the targets do not match the shape of the logits, or contain other values.
    """
    wanted = _wanted(logits, targets)
    return (_chosen(logits, wanted) == wanted).all(-1) & ~logits.isnan().any(-1)


@checked(StimulusError)
def hit_rate(logits: Logits, targets: Tensor) -> Tensor:
    """Return the fraction of the k target classes that are among the k largest outputs: (time, n).

    The fraction is NaN if the logits contain NaN. The arguments and errors are the same as for `correct_choices`.
    """
    wanted = _wanted(logits, targets)
    rate = (_chosen(logits, wanted) & wanted).sum(-1) / wanted.sum(-1)
    return rate.masked_fill(logits.isnan().any(-1), torch.nan)


@checked(StimulusError)
def accuracy_over_time(correct: Annotated[Tensor, Axes("time, sample", is_float=False)]) -> Tensor:
    """Return the mean of the Boolean array `correct` (time, n) over samples: (time,)."""
    return torch.from_numpy(as_mask(correct, "correct")).double().mean(-1).to(correct.device)


def _chosen(logits: Tensor, wanted: Tensor) -> Tensor:
    rank = logits.argsort(dim=-1, descending=True, stable=True).argsort(dim=-1)
    return rank < wanted.sum(-1, keepdim=True)


def _wanted(logits: Tensor, targets: Tensor) -> Tensor:
    wanted = targets == 1
    if logits.shape[-2:] != targets.shape or not (wanted | (targets == 0)).all() or not wanted.any(-1).all():
        raise StimulusError(
            given=f"logits {tuple(logits.shape)} and targets {tuple(targets.shape)}",
            expected="logits (time, n, classes) and targets (n, classes), with ones for each sample's classes "
            "(at least one) and zeros elsewhere",
            remedy="pass torch.nn.functional.one_hot(labels, classes)",
        )
    return wanted
