"""Decisions from a read-out over time: which step to choose, and when the decision is made.

logits are (time, batch, class), as `training.evaluate` returns them. `first` is the first step that counts, for
networks whose read-out does not depend on the image before: `first=net.arrivals[net.readout]`.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from pcsim.core.exceptions import StimulusError

Decoder = Literal["last", "max_confidence", "threshold"]


def cumulative(logits: Tensor) -> Tensor:
    """Return the sum of the logits of steps 0..t. Source: Spoerer et al. 2020 ("cumulative readout")."""
    return logits.cumsum(0)


def entropy(logits: Tensor) -> Tensor:
    """H = -sum p log p of the softmax in nats: (time, batch)."""
    log = torch.log_softmax(logits, -1)
    return -(log.exp() * log).sum(-1)


def answer_steps(logits: Tensor, decoder: Decoder = "last", threshold: float = 0.9, first: int = 0) -> Tensor:
    """Return the step whose logits count, for each sample: (batch,).

    last            the last one
    max_confidence  the one with the largest probability of any class
    threshold       the first in which a probability reaches `threshold`, else as max_confidence

    Source: Nayebi et al. 2022, its reference code. Raises StimulusError for an unknown decoder or first step.
    """
    _check_first(logits, first)
    if decoder not in ("last", "max_confidence", "threshold"):
        raise StimulusError(
            given=f"decoder={decoder!r}",
            expected="last, max_confidence or threshold",
            remedy="write decoder='max_confidence'",
        )
    confidence = torch.softmax(logits[first:], -1).amax(-1)
    if decoder == "last":
        return torch.full_like(confidence[0], len(logits) - 1, dtype=torch.int64)
    surest = confidence.argmax(0)
    if decoder == "max_confidence":
        return first + surest
    reached = confidence >= threshold
    return first + torch.where(reached.any(0), reached.int().argmax(0), surest)


def decode(logits: Tensor, decoder: Decoder = "last", threshold: float = 0.9, first: int = 0) -> Tensor:
    """Return the logits of the step that `answer_steps` chooses: (batch, class)."""
    return logits[answer_steps(logits, decoder, threshold, first), torch.arange(logits.shape[1], device=logits.device)]


def reaction_times(logits: Tensor, threshold: float, cumulated: bool = True, first: int = 0) -> Tensor:
    """Return the first step in which the entropy of the softmax is below `threshold` (nats), else the last: (batch,).

    cumulated  use the cumulative read-out, from step `first` on. Source: Spoerer et al. 2020. Raises StimulusError for
    a first step outside of the run.
    """
    below = _entropies(logits, cumulated, first) < threshold
    return first + torch.where(below.any(0), below.int().argmax(0), len(below) - 1)


def entropy_threshold(logits: Tensor, mean_step: float, cumulated: bool = True, first: int = 0) -> float:
    """Return the threshold in nats at which the mean of `reaction_times` is nearest to `mean_step`.

    Fitting this one number to mean human reaction times makes a model's steps comparable with them. Of thresholds that
    fit equally well, one between them. Raises StimulusError for a mean that no threshold can give.
    """
    values = _entropies(logits, cumulated, first).flatten().unique()
    if not first <= mean_step <= len(logits) - 1:
        raise StimulusError(
            given=f"a mean of step {mean_step:g} for steps {first} to {len(logits) - 1}",
            expected="a mean within these steps",
            remedy="divide the mean reaction time by net.step_ms, or run the model for more steps",
        )
    candidates = torch.cat([values[:1] * 0.5, (values[1:] + values[:-1]) / 2, values[-1:] + 1.0])

    def mean(index: int) -> float:
        return float(reaction_times(logits, float(candidates[index]), cumulated, first).double().mean())

    low, high = 0, len(candidates) - 1  # the mean falls as the threshold rises
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if mean(middle) > mean_step else (low, middle)
    return float(candidates[min((low, high), key=lambda index: abs(mean(index) - mean_step))])


def _entropies(logits: Tensor, cumulated: bool, first: int) -> Tensor:
    _check_first(logits, first)
    return entropy(cumulative(logits[first:]) if cumulated else logits[first:])


def decision_times(times: ArrayLike, logits: Tensor) -> Tensor:
    """Return the time from which on the answer stays what it is at the end, in the unit of `times`: (batch,).

    The first time if the answer never changes; a time near the end means that the answer is not settled yet.
    """
    answers = logits.argmax(-1)
    other = answers != answers[-1]
    # The row after the last one with another answer.
    row = torch.where(other.any(0), len(other) - other.int().flip(0).argmax(0), torch.zeros_like(answers[0]))
    return torch.as_tensor(np.asarray(times), dtype=torch.float64, device=logits.device)[row]


def _check_first(logits: Tensor, first: int) -> None:
    if not 0 <= first < len(logits):
        raise StimulusError(
            given=f"first={first} of {len(logits)} steps",
            expected=f"a step of the run, 0 to {len(logits) - 1}",
            remedy="pass first=0, or run for more than net.arrivals[net.readout] steps",
        )
