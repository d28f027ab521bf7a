"""Decisions from a readout over time: the step to decode, and the time of the decision.

`logits` are (time, batch, class), as returned by `training.evaluate`; `log_alpha` is a Dirichlet readout of the same
shape. `first` is the first step to use. If the readout does not depend on the image in the first steps, pass
`first=net.arrivals[net.readout]`. If logits contain NaN, as in samples that diverged, functions that return steps raise
StimulusError; all others return NaN.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from pcsim.analysis.arguments import as_times
from pcsim.core.checks import Axes, Positive, Whole, checked
from pcsim.core.exceptions import StimulusError, warn

Logits = Annotated[Tensor, Axes("time, ..., class")]
Runs = Annotated[Tensor, Axes("time, sample, class")]
Decoder = Literal["last", "max_confidence", "threshold"]


@checked(StimulusError)
def cumulative(logits: Logits) -> Tensor:
    """Return the cumulative sum of the logits over steps 0..t. Source: Spoerer et al. 2020 ("cumulative readout")."""
    return logits.cumsum(0)


@checked(StimulusError)
def entropy(logits: Logits) -> Tensor:
    """H = -sum p log p, the entropy of the softmax in nats: (time, batch)."""
    log = torch.log_softmax(logits, -1)
    return -(log.exp() * log).sum(-1)


@checked(StimulusError)
def answer_steps(logits: Runs, decoder: Decoder = "last", threshold: float = 0.9, first: Whole = 0) -> Tensor:
    """Return the step whose logits determine the answer, for each sample: (batch,).

    last            the last step
    max_confidence  the step with the highest probability of any class
    threshold       the first step in which a probability reaches `threshold`, or else the step of max_confidence

    Source: reference code of Nayebi et al. 2022. Raises StimulusError for an unknown decoder, an invalid first
    step, or NaN.
    """
    _require_known(logits, first, threshold)
    confidence = torch.softmax(logits[first:], -1).amax(-1)
    if decoder == "last":
        return torch.full_like(confidence[0], len(logits) - 1, dtype=torch.int64)
    surest = confidence.argmax(0)
    if decoder == "max_confidence":
        return first + surest
    reached = confidence >= threshold
    return first + torch.where(reached.any(0), reached.int().argmax(0), surest)


@checked(StimulusError)
def decode(logits: Runs, decoder: Decoder = "last", threshold: float = 0.9, first: Whole = 0) -> Tensor:
    """Return the logits of the step that `answer_steps` selects: (batch, class)."""
    return logits[answer_steps(logits, decoder, threshold, first), torch.arange(logits.shape[1], device=logits.device)]


@checked(StimulusError)
def reaction_times(logits: Runs, threshold: float, cumulated: bool = True, first: Whole = 0) -> Tensor:
    """Return the first step in which the softmax entropy is below `threshold` nats, or else the last step: (batch,).

    cumulated  use the cumulative readout, starting at step `first`

    Source: Spoerer et al. 2020. Raises StimulusError for a first step outside the run, or for NaN.
    """
    _require_known(logits, first, threshold)
    below = _entropies(logits, cumulated, first) < threshold
    return first + torch.where(below.any(0), below.int().argmax(0), len(below) - 1)


@checked(StimulusError)
def entropy_threshold(logits: Runs, mean_step: float, cumulated: bool = True, first: Whole = 0) -> float:
    """Return the threshold in nats at which the mean of `reaction_times` is closest to `mean_step`.

    Fitting this single value to the mean human reaction time makes a model's steps comparable with human data. If a
    range of thresholds fits equally well, the result lies within it. Raises StimulusError if `mean_step` is outside
    the run, or for NaN.
    """
    _require_known(logits, first)
    values = _entropies(logits, cumulated, first).flatten().unique()
    if not first <= mean_step <= len(logits) - 1:
        raise StimulusError(
            given=f"a mean of step {mean_step:g} for steps {first} to {len(logits) - 1}",
            expected="a mean within the range of steps",
            remedy="divide the mean reaction time by net.step_ms, or run the model for more steps",
        )
    candidates = torch.cat([values[:1] * 0.5, (values[1:] + values[:-1]) / 2, values[-1:] + 1.0])

    def mean(index: int) -> float:
        return float(reaction_times(logits, float(candidates[index]), cumulated, first).double().mean())

    low, high = 0, len(candidates) - 1  # the mean decreases as the threshold increases
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if mean(middle) > mean_step else (low, middle)
    return float(candidates[min((low, high), key=lambda index: abs(mean(index) - mean_step))])


def _entropies(logits: Logits, cumulated: bool, first: int) -> Tensor:
    return entropy(cumulative(logits[first:]) if cumulated else logits[first:])


@checked(StimulusError)
def decision_times(times: ArrayLike, logits: Runs) -> Tensor:
    """Return the time after which the answer no longer changes, in the unit of `times`: (batch,).

    If the answer never changes, this is the first time. A time near the end means that the answer may not be final. The
    time is NaN for samples whose logits contain NaN. Raises StimulusError unless there is one time per row of logits,
    in increasing order.
    """
    at = torch.from_numpy(as_times(times, len(logits))).to(logits.device)
    answers = logits.argmax(-1)
    other = answers != answers[-1]
    # The answer becomes final in the row after the last row with a different answer.
    row = torch.where(other.any(0), len(other) - other.int().flip(0).argmax(0), torch.zeros_like(answers[0]))
    return at[row].masked_fill(logits.isnan().any(-1).any(0), torch.nan)


@checked(StimulusError)
def evidential_uncertainty(log_alpha: Logits) -> Tensor:
    """u = K / sum alpha, the epistemic uncertainty of a Dirichlet distribution over K classes: (time, batch).

    log_alpha  logarithm of the concentrations alpha >= 1, the readout of `models.with_evidence`

    Without evidence, all alpha are 1 and u is 1. Source: Sensoy et al. 2018 eq. 1. Raises StimulusError if any alpha is
    below 1.
    """
    if (log_alpha < -1e-6).any():
        raise StimulusError(
            given=f"log_alpha with a minimum of {float(log_alpha[~log_alpha.isnan()].min()):g}",
            expected="the logarithm of concentrations, which are at least 1",
            remedy="pass run['evidence'] of models.with_evidence(net), not logits",
        )
    return log_alpha.shape[-1] / log_alpha.exp().sum(-1)


@checked(StimulusError)
def uncertainty_area(times: ArrayLike, log_alpha: Runs) -> Tensor:
    """xi = integral of u(t) dt, the area under `evidential_uncertainty` by the trapezoidal rule: (batch,).

    The unit is that of `times`. A network that becomes certain later has a larger area, which serves as its reaction
    time. Source: Goetschalckx et al. 2023. Raises StimulusError unless there is one time per row, in increasing order.
    """
    at = torch.from_numpy(as_times(times, len(log_alpha))).to(log_alpha.device)
    return torch.trapezoid(evidential_uncertainty(log_alpha).to(at), at, dim=0)


@checked(StimulusError)
def bound_crossings(times: ArrayLike, evidence: Runs, bound: Positive) -> tuple[Tensor, Tensor]:
    """Return the decision time of each sample, in the unit of `times`, and the chosen accumulator: (batch,), (batch,).

    The decision is made when one of the accumulators `evidence` (time, sample, choice), such as `run["decision"]`,
    first reaches `bound`; if several do so in the same row, the largest is chosen. The time is interpolated between
    this row and the previous one. A decision in the first row is assigned the time of this row, and a warning is issued
    unless it is 0; `Record(initial=True)` adds the row at 0. A single accumulator (a drift-diffusion process) has two
    bounds: choice 0 is made at `bound`, and choice 1 at -bound. Without a decision, the time is NaN and the choice -1.
    Source: Ratcliff 1978; Usher & McClelland 2001. Raises StimulusError unless there is one time per row of evidence,
    in increasing order.
    """
    at = torch.from_numpy(as_times(times, len(evidence))).to(evidence.device)
    units = torch.cat([evidence, -evidence], -1) if evidence.shape[-1] == 1 else evidence
    highest = units.amax(-1)  # NaN, as in a sample that diverged, never reaches the bound
    reached = highest >= bound
    row = reached.int().argmax(0)
    sample = torch.arange(evidence.shape[1], device=evidence.device)
    choice = units[row, sample].argmax(-1)
    early = int(reached[0].sum())
    if early and at[0] > 0:
        warn(
            f"{early} of {len(sample)} decisions were made by the first row, so their times are only known to be at "
            f"most {float(at[0]):g}. Pass Record(..., initial=True), which adds the row at 0."
        )
    before = (row - 1).clamp(min=0)
    low, high = units[before, sample, choice].to(at), units[row, sample, choice].to(at)
    share = torch.where(high > low, (bound - low) / (high - low), 1.0).clamp(0.0, 1.0)
    time = at[before] + share * (at[row] - at[before])
    never = ~reached.any(0)
    return time.masked_fill(never, torch.nan), choice.masked_fill(never, -1)


def _require_known(logits: Logits, first: int, threshold: float = 0.0) -> None:
    """Raise StimulusError for a first step outside the run, a NaN threshold, or samples with NaN."""
    if not 0 <= first < len(logits):
        raise StimulusError(
            given=f"first={first} for {len(logits)} steps",
            expected=f"a step of the run, from 0 to {len(logits) - 1}",
            remedy="pass first=0, or run for more than net.arrivals[net.readout] steps",
        )
    unknown = logits[first:].isnan().any(-1).any(0)
    if unknown.any() or threshold != threshold:
        which = unknown.nonzero().flatten().tolist()
        raise StimulusError(
            given=f"threshold={threshold}, and logits with NaN in {len(which)} of {len(unknown)} samples {which[:5]}",
            expected="a threshold that is not NaN, and logits of samples that did not diverge",
            remedy="drop these samples with logits[:, ~logits.isnan().any(-1).any(0)], and report their count",
        )
