"""What a read-out over time says: which step to believe, and when it has made up its mind.

logits are (time, batch, class), as `training.evaluate` gives them.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from pcsim.exceptions import StimulusError

Decoder = Literal["last", "max_confidence", "threshold"]


def cumulative(logits: Tensor) -> Tensor:
    """sum of the logits of steps 0..t: evidence adds up. Source: Spoerer et al. 2020 ("cumulative readout")."""
    return logits.cumsum(0)


def entropy(logits: Tensor) -> Tensor:
    """H = -sum p log p of the softmax in nats: (time, batch)."""
    log = torch.log_softmax(logits, -1)
    return -(log.exp() * log).sum(-1)


def answer_steps(logits: Tensor, decoder: Decoder = "last", threshold: float = 0.9) -> Tensor:
    """The step whose logits count, for each sample: (batch,).

    last            the last one
    max_confidence  the one with the largest probability of any class
    threshold       the first in which a probability reaches `threshold`, else as max_confidence

    Source: Nayebi et al. 2022, its reference code. Raises StimulusError for an unknown decoder.
    """
    if decoder not in ("last", "max_confidence", "threshold"):
        raise StimulusError(
            given=f"decoder={decoder!r}", expected="last, max_confidence or threshold", remedy="choose one of these"
        )
    confidence = torch.softmax(logits, -1).amax(-1)
    if decoder == "last":
        return torch.full_like(confidence[0], len(logits) - 1, dtype=torch.int64)
    surest = confidence.argmax(0)
    if decoder == "max_confidence":
        return surest
    reached = confidence >= threshold
    return torch.where(reached.any(0), reached.int().argmax(0), surest)


def decode(logits: Tensor, decoder: Decoder = "last", threshold: float = 0.9) -> Tensor:
    """The logits of the step that `answer_steps` chooses: (batch, class)."""
    return logits[answer_steps(logits, decoder, threshold), torch.arange(logits.shape[1], device=logits.device)]


def reaction_times(logits: Tensor, threshold: float, cumulated: bool = True) -> Tensor:
    """The first step at which the entropy of the softmax falls below `threshold` (nats), else the last: (batch,).

    cumulated  of the cumulative read-out. Source: Spoerer et al. 2020.
    """
    below = entropy(cumulative(logits) if cumulated else logits) < threshold
    return torch.where(below.any(0), below.int().argmax(0), len(logits) - 1)


def entropy_threshold(logits: Tensor, mean_step: float, cumulated: bool = True) -> float:
    """The threshold in nats at which the mean of `reaction_times` is nearest to `mean_step`.

    A model's steps become comparable with people's reaction times by fitting this one number to their mean. Of
    thresholds that do equally well, one amid them.
    """
    seen = entropy(cumulative(logits) if cumulated else logits).flatten().unique()
    borders = torch.cat([seen[:1] * 0.5, (seen[1:] + seen[:-1]) / 2, seen[-1:] + 1.0])
    low, high = 0, len(borders) - 1  # the mean falls as the threshold rises
    while high - low > 1:
        middle = (low + high) // 2
        mean = reaction_times(logits, float(borders[middle]), cumulated).double().mean()
        low, high = (middle, high) if mean > mean_step else (low, middle)

    def gap(index: int) -> float:
        return abs(float(reaction_times(logits, float(borders[index]), cumulated).double().mean()) - mean_step)

    return float(borders[min((low, high), key=gap)])
