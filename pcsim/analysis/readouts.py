"""What a read-out over time says: which step to believe, and when it has made up its mind.

logits are (time, batch, class), as `training.evaluate` gives them. `first` is the first step that counts, for networks
whose read-out is blind before: `first=net.arrivals[net.readout]`.
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
    """sum of the logits of steps 0..t: evidence adds up. Source: Spoerer et al. 2020 ("cumulative readout")."""
    return logits.cumsum(0)


def entropy(logits: Tensor) -> Tensor:
    """H = -sum p log p of the softmax in nats: (time, batch)."""
    log = torch.log_softmax(logits, -1)
    return -(log.exp() * log).sum(-1)


def answer_steps(logits: Tensor, decoder: Decoder = "last", threshold: float = 0.9, first: int = 0) -> Tensor:
    """The step whose logits count, for each sample: (batch,).

    last            the last one
    max_confidence  the one with the largest probability of any class
    threshold       the first in which a probability reaches `threshold`, else as max_confidence

    Source: Nayebi et al. 2022, its reference code. Raises StimulusError for an unknown decoder or first step.
    """
    _check_first(logits, first)
    if decoder not in ("last", "max_confidence", "threshold"):
        raise StimulusError(
            given=f"decoder={decoder!r}", expected="last, max_confidence or threshold", remedy="choose one of these"
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
    """The logits of the step that `answer_steps` chooses: (batch, class)."""
    return logits[answer_steps(logits, decoder, threshold, first), torch.arange(logits.shape[1], device=logits.device)]


def reaction_times(logits: Tensor, threshold: float, cumulated: bool = True, first: int = 0) -> Tensor:
    """The first step at which the entropy of the softmax falls below `threshold` (nats), else the last: (batch,).

    cumulated  of the cumulative read-out, from step `first` on. Source: Spoerer et al. 2020. Raises StimulusError for a
    first step that there is not.
    """
    below = _entropies(logits, cumulated, first) < threshold
    return first + torch.where(below.any(0), below.int().argmax(0), len(below) - 1)


def entropy_threshold(logits: Tensor, mean_step: float, cumulated: bool = True, first: int = 0) -> float:
    """The threshold in nats at which the mean of `reaction_times` is nearest to `mean_step`.

    A model's steps become comparable with people's reaction times by fitting this one number to their mean. Of
    thresholds that do equally well, one amid them. Raises StimulusError for a mean that no threshold can give.
    """
    seen = _entropies(logits, cumulated, first).flatten().unique()
    if not first <= mean_step <= len(logits) - 1:
        raise StimulusError(
            given=f"a mean of step {mean_step:g} for steps {first} to {len(logits) - 1}",
            expected="a mean within them",
            remedy="map the mean reaction time onto the steps of the model (net.step_ms), or run it longer",
        )
    borders = torch.cat([seen[:1] * 0.5, (seen[1:] + seen[:-1]) / 2, seen[-1:] + 1.0])

    def mean(index: int) -> float:
        return float(reaction_times(logits, float(borders[index]), cumulated, first).double().mean())

    low, high = 0, len(borders) - 1  # the mean falls as the threshold rises
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if mean(middle) > mean_step else (low, middle)
    return float(borders[min((low, high), key=lambda index: abs(mean(index) - mean_step))])


def _entropies(logits: Tensor, cumulated: bool, first: int) -> Tensor:
    _check_first(logits, first)
    return entropy(cumulative(logits[first:]) if cumulated else logits[first:])


def decision_times(times: ArrayLike, logits: Tensor) -> Tensor:
    """From when on the answer is what it is at the end, in the unit of `times`: (batch,).

    The time of the first row where the answer never changes; late ones say that nothing was decided yet.
    """
    answers = logits.argmax(-1)
    other = answers != answers[-1]
    # The row after the last one that says something else.
    row = torch.where(other.any(0), len(other) - other.int().flip(0).argmax(0), torch.zeros_like(answers[0]))
    return torch.as_tensor(np.asarray(times), dtype=torch.float64, device=logits.device)[row]


def _check_first(logits: Tensor, first: int) -> None:
    if not 0 <= first < len(logits):
        raise StimulusError(
            given=f"first={first} of {len(logits)} steps",
            expected="a step of the run",
            remedy="run longer: before net.arrivals[net.readout] the read-out cannot know the image",
        )
