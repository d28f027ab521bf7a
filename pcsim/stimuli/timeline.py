"""Timelines of stimuli: series of epochs in which the image is constant between change times."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache, partial
from typing import Annotated, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from pcsim.core.checks import Count, Finite, NonNegative, Number, Positive, Whole, checked
from pcsim.core.exceptions import StimulusError
from pcsim.stimuli.pixels import require_floating
from pcsim.stimuli.random import normal, uniform

Frame = Callable[[int], Tensor]


@dataclass(frozen=True)
class Epoch:
    """An epoch that presents `frame(k)` (batch, channel, height, width) from k * every to (k + 1) * every ms."""

    duration: float
    every: Positive
    frame: Frame


@checked(StimulusError, labels=None)
@dataclass(frozen=True)
class Timeline:
    """A series of epochs. The first frame also applies before the first epoch, and the last frame after the last epoch.

    Create timelines with `held`, `sequence`, `blank` or `noise`, and join them with `then`:

        held(images, 100.0).then(blank(50.0, like=images)).then(held(others))
    """

    epochs: Annotated[tuple[Epoch, ...], Field(min_length=1)]
    labels: Tensor | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.labels is not None:
            _check_labels(self.labels, len(self.at(0.0)))

    @property
    def duration(self) -> float:
        """Total duration in ms; infinite if the last image is presented indefinitely."""
        return math.fsum(epoch.duration for epoch in self.epochs)

    @cached_property
    def _is_still(self) -> bool:
        """True if a single image is presented throughout."""
        return len(self.epochs) == 1 and math.isinf(self.epochs[0].every)

    @cached_property
    def starts(self) -> list[float]:
        """Onset of each epoch in ms."""
        return [math.fsum(epoch.duration for epoch in self.epochs[:count]) for count in range(len(self.epochs))]

    @checked(StimulusError)
    def change_times(self, until: float) -> list[float]:
        """Return the times between 0 and `until` ms at which the stimulus may change."""
        if self._is_still:
            return []
        changes: set[float] = set(self.starts)
        for start, epoch in zip(self.starts, self.epochs, strict=True):
            end = min(until, start + epoch.duration)
            if math.isfinite(epoch.every):
                changes |= {start + k * epoch.every for k in range(math.ceil((end - start) / epoch.every))}
        return sorted(time for time in changes if 0.0 < time < until)

    @checked(StimulusError)
    def at(self, time: float) -> Tensor:
        """Return the image (batch, channel, height, width) at `time` ms; at a change time, return the new image."""
        if self._is_still:
            return self.epochs[0].frame(0)
        # Because of rounding, a time computed as step * dt may precede the change with which it should coincide.
        time = max(time, 0.0) * (1.0 + 1e-12) + 1e-12
        starts = self.starts
        position = bisect_right(starts, time) - 1
        epoch = self.epochs[position]
        into = min(time - starts[position], epoch.duration)
        last = math.ceil(epoch.duration / epoch.every * (1.0 - 1e-12)) - 1 if math.isfinite(epoch.duration) else None
        frame = int(into / epoch.every) if math.isfinite(epoch.every) else 0
        return epoch.frame(frame if last is None else max(0, min(frame, last)))

    @checked(StimulusError)
    def then(self, other: Timeline) -> Timeline:
        """Return this timeline followed by `other`. Raises StimulusError if this timeline never ends."""
        if not math.isfinite(self.duration):
            raise StimulusError(
                given="then() after an epoch that never ends",
                expected="a finite duration in ms",
                remedy="pass a duration, such as held(images, duration=100.0)",
            )
        return Timeline(self.epochs + other.epochs, self.labels if other.labels is None else other.labels)

    @checked(StimulusError)
    def mapped(self, function: Callable[[Tensor], Tensor]) -> Timeline:
        """Return this timeline with `function` applied to each image when it is presented."""
        epochs = [replace(epoch, frame=partial(_then, epoch.frame, function)) for epoch in self.epochs]
        return replace(self, epochs=tuple(epochs))

    @checked(StimulusError, labels=None)
    def with_labels(self, labels: Tensor) -> Timeline:
        """Return this timeline with `labels` (batch,) or (batch, classes), which are used to score runs.

        Raises StimulusError unless `labels` is a dense tensor of real numbers with one row per image.
        """
        return replace(self, labels=labels)


Stimulus = Timeline | Tensor | Mapping[str, Timeline | Tensor]
"""static images or a timeline, or a mapping of input names to these for a network with several inputs"""


def _then(frame: Frame, function: Callable[[Tensor], Tensor], number: int) -> Tensor:
    return function(frame(number))


@checked(StimulusError, images=None)
def held(images: Tensor, duration: Number = math.inf) -> Timeline:
    """Present `images` (batch, channel, height, width) unchanged for `duration` ms, by default indefinitely.

    Raises StimulusError unless the images have a floating-point type, which every timeline requires.
    """
    require_duration(duration)
    require_floating(images)
    return _still(images, duration)


def _still(images: Tensor, duration: float = math.inf) -> Timeline:
    return Timeline((Epoch(duration, math.inf, lambda _: images),))


@checked(StimulusError, frames=None)
def sequence(frames: Tensor, every: Positive) -> Timeline:
    """Present `frames` (time, batch, channel, height, width) sequentially, each for `every` ms."""
    require_duration(every)
    require_floating(frames)
    if frames.dim() != 5 or not len(frames):
        raise StimulusError(
            given=f"frames of shape {tuple(frames.shape)}",
            expected="(time, batch, channel, height, width) with at least one frame",
            remedy="add the missing axis with frames[:, None]",
        )
    return Timeline((Epoch(len(frames) * every, every, lambda k: frames[k]),))


@checked(StimulusError, like=None)
def blank(duration: Number, like: Tensor, level: Finite = 0.0) -> Timeline:
    """Present a uniform field of value `level` for `duration` ms, with the shape of the images `like`."""
    require_floating(like)
    return held(torch.full_like(like, level), duration)


@checked(StimulusError, images=None)
def noise(
    images: Tensor, sd: NonNegative, duration: Number, every: Positive, seed: Whole, first: Whole = 0
) -> Timeline:
    """Present `images` with Gaussian pixel noise of standard deviation `sd`, redrawn every `every` ms.

    The noise of sample i in frame k is a function of (seed, first + i, k), independent of the batch size. Raises
    StimulusError if the images do not have a floating-point type, or if `sd` or the duration is invalid.
    """
    require_duration(duration)
    require_duration(every)
    require_floating(images)
    if not (len(images) and 0 <= sd < math.inf):
        raise StimulusError(
            given=f"noise of sd={sd} on {len(images)} images",
            expected="at least one image, and a finite standard deviation of 0 or more",
            remedy="pass sd=0.2, in units of the images",
        )

    def frame(number: int) -> Tensor:
        drawn = normal(seed, f"noise frame {number}", first, len(images), images[0].numel())
        return images + sd * torch.from_numpy(drawn).to(images).view_as(images)

    return Timeline((Epoch(duration, every, frame),))


@checked(StimulusError, images=None)
def ou_noise(
    images: Tensor,
    sd: NonNegative,
    tau: Positive,
    duration: Number,
    every: Positive,
    seed: Whole,
    first: Whole = 0,
    method: Literal["exact", "euler"] = "exact",
) -> Timeline:
    """Present `images` with Ornstein-Uhlenbeck noise, tau dx/dt = -x + sqrt(2 tau) sd xi(t), held for `every` ms.

    exact  x <- rho x + sd sqrt(1 - rho^2) N(0, 1) with rho = exp(-every / tau): exact for any `every`
    euler  x <- (1 - every / tau) x + sd sqrt(2 every / tau) N(0, 1): the Euler-Maruyama method, which requires
           every < 2 tau. Its variance is sd^2 / (1 - every / (2 tau))

    The noise starts in its stationary distribution and is correlated over time, corr(lag) = exp(-lag / tau) if exact,
    but not over pixels. The noise of sample i is a function of (seed, first + i) and the frame, independent of the
    batch size. Pass `torch.zeros(...)` as the images to present only the noise, such as to an input added by
    `models.with_noise`. Source: Uhlenbeck & Ornstein 1930; Gillespie 1996 eq. 2.8 (exact). Raises StimulusError if the
    images do not have a floating-point type, for an invalid duration, or if `every` is too long for "euler".
    """
    require_duration(duration)
    require_floating(images)
    if not len(images) or (method == "euler" and every >= 2.0 * tau):
        raise StimulusError(
            given=f"Ornstein-Uhlenbeck noise with every={every:g} ms and tau={tau:g} ms on {len(images)} images",
            expected="at least one image, and for method='euler' steps shorter than 2 tau",
            remedy="pass method='exact', or a shorter `every`",
        )
    kept = math.exp(-every / tau) if method == "exact" else 1.0 - every / tau
    size = math.sqrt(1.0 - kept**2) if method == "exact" else math.sqrt(2.0 * every / tau)
    stationary = 1.0 if method == "exact" else 1.0 / math.sqrt(1.0 - 0.5 * every / tau)

    def draw(number: int) -> NDArray[np.float64]:
        return normal(seed, f"ou noise frame {number}", first, len(images), images[0].numel())

    path = _Path(lambda: stationary * draw(0), lambda number, last: kept * last + size * draw(number))

    def frame(number: int) -> Tensor:
        return images + torch.from_numpy(sd * path.at(number)).to(images).view_as(images)

    return Timeline((Epoch(duration, every, frame),))


class _Path:
    """A recursion x_n = step(n, x_{n-1}) from x_0 = start(), whose values are found again from stored ones."""

    SPACING = 64

    def __init__(
        self,
        start: Callable[[], NDArray[np.float64]],
        step: Callable[[int, NDArray[np.float64]], NDArray[np.float64]],
    ) -> None:
        self._start, self._step = start, step
        self._stored: dict[int, NDArray[np.float64]] = {}
        self._last: tuple[int, NDArray[np.float64]] | None = None

    def at(self, number: int) -> NDArray[np.float64]:
        """Return x_number."""
        known = [n for n in self._stored if n <= number]
        begin = max(known, default=-1)
        value = self._stored[begin] if known else self._start()
        begin = max(begin, 0)
        if (last := self._last) is not None and begin <= last[0] <= number:
            begin, value = last
        for n in range(begin, number + 1):
            value = self._step(n, value) if n > begin else value
            if n % self.SPACING == 0:
                self._stored[n] = value
        self._last = (number, value)
        return value


@checked(StimulusError)
def turns(
    units: Count, batch: Count, rounds: Count = 10, seed: Whole = 0, first: Whole = 0, every: Positive = 10.0
) -> Timeline:
    """Select one unit at a time in each sample, for `every` ms, as one-hot frames (batch, units).

    Each round selects all units once, in random order. This stimulus is meant for networks whose units are updated
    asynchronously. By default, `every` is one step of a discrete network. The order for sample i in round n is a
    function of (seed, first + i, n). Raises StimulusError unless `units`, `batch` and `rounds` are at least 1.
    """
    require_duration(every)
    if min(units, batch, rounds) < 1:
        raise StimulusError(
            given=f"units={units}, batch={batch} and rounds={rounds}",
            expected="values of at least 1",
            remedy="pass stimuli.turns(units=100, batch=4, rounds=5)",
        )

    @lru_cache(maxsize=1)
    def order(round_: int) -> Tensor:
        return torch.from_numpy(uniform(seed, f"turns {round_}", first, batch, units).argsort(1))

    def frame(number: int) -> Tensor:
        chosen = order(number // units)[:, number % units]
        return torch.nn.functional.one_hot(chosen, units).to(torch.get_default_dtype())

    return Timeline((Epoch(rounds * units * every, every, frame),))


def require_duration(duration: float) -> None:
    """Raise StimulusError unless `duration` (ms) is above 0."""
    if not duration > 0:
        raise StimulusError(
            given=f"a duration of {duration} ms",
            expected="a positive duration",
            remedy="pass a positive number such as 100.0, or omit the epoch",
        )


def _check_labels(labels: Tensor, count: int) -> None:
    is_kept = isinstance(labels, Tensor) and labels.layout is torch.strided and not labels.is_complex()
    if not is_kept or not labels.dim() or len(labels) != count:
        shape = getattr(labels, "shape", None)
        raise StimulusError(
            given=f"labels of type {getattr(labels, 'dtype', type(labels).__name__)}"
            + (f" and shape {tuple(shape)}" if shape is not None else "")
            + f" for {count} images",
            expected=f"a dense tensor of real numbers, ({count},) or ({count}, classes)",
            remedy="convert a NumPy array or a list with torch.as_tensor(labels), and pass one label for each image",
        )


def labels_of(stimulus: Stimulus) -> Tensor | None:
    """Return the labels of a stimulus or, for a mapping, of its labelled timelines, or None if there are no labels.

    Raises StimulusError if timelines for several inputs have different labels.
    """
    shown = stimulus.values() if isinstance(stimulus, Mapping) else (stimulus,)
    found = [line.labels for line in shown if isinstance(line, Timeline) and line.labels is not None]
    if any(not torch.equal(found[0], other) for other in found[1:]):
        raise StimulusError(
            given=f"{len(found)} timelines with different labels",
            expected="one set of labels",
            remedy="call with_labels() on one of the timelines only",
        )
    return found[0] if found else None


def as_timelines(stimulus: Stimulus, inputs: Sequence[str]) -> dict:
    """Return a timeline for each input of a network. A tensor becomes a static image for the entire run.

    Raises StimulusError unless the names match the network's inputs.
    """
    named = stimulus if isinstance(stimulus, Mapping) else {inputs[0]: stimulus} if len(inputs) == 1 else {}
    if set(named) != set(inputs):
        example = ", ".join(f"{name!r}: images" for name in inputs)
        raise StimulusError(
            given=f"stimuli for {', '.join(named) or 'one unnamed input'}",
            expected=f"one stimulus for each input: {', '.join(inputs)}",
            remedy=f"pass {{{example}}}",
        )
    for name, shown in named.items():
        if not isinstance(shown, Tensor | Timeline):
            raise StimulusError(
                given=f"a {type(shown).__name__} for input {name!r}",
                expected="a torch tensor (batch, channel, height, width) or a stimuli.Timeline",
                remedy="convert a NumPy array with torch.from_numpy(images)",
            )
    return {name: _still(shown) if isinstance(shown, Tensor) else shown for name, shown in named.items()}
