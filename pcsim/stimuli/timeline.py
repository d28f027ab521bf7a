"""Stimuli in time: a timeline of epochs in ms, constant between its change times."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache, partial

import torch
from torch import Tensor

from pcsim.core.exceptions import StimulusError
from pcsim.stimuli.random import normal, uniform

Frame = Callable[[int], Tensor]


@dataclass(frozen=True)
class Epoch:
    """An epoch that shows `frame(k)`, (batch, channel, height, width), from k * every to (k + 1) * every ms."""

    duration: float
    every: float
    frame: Frame


@dataclass(frozen=True)
class Timeline:
    """Epochs one after another. The first frame also holds before the first epoch, the last one after the last.

    Make one with `held`, `sequence`, `blank` or `noise`, join them with `then`:

        held(images, 100.0).then(blank(50.0, like=images)).then(held(others))
    """

    epochs: tuple[Epoch, ...]
    labels: Tensor | None = field(default=None, compare=False)

    @property
    def duration(self) -> float:
        """Total length in ms; infinite if the last image is held for ever."""
        return math.fsum(epoch.duration for epoch in self.epochs)

    @cached_property
    def _is_still(self) -> bool:
        """True if a single image is shown for ever."""
        return len(self.epochs) == 1 and math.isinf(self.epochs[0].every)

    @cached_property
    def starts(self) -> list[float]:
        """Onset of every epoch, ms."""
        return [math.fsum(epoch.duration for epoch in self.epochs[:count]) for count in range(len(self.epochs))]

    def change_times(self, until: float) -> list[float]:
        """Return the times in ms in (0, until) at which the stimulus may change."""
        if self._is_still:
            return []
        changes: set[float] = set(self.starts)
        for start, epoch in zip(self.starts, self.epochs, strict=True):
            end = min(until, start + epoch.duration)
            if math.isfinite(epoch.every):
                changes |= {start + k * epoch.every for k in range(math.ceil((end - start) / epoch.every))}
        return sorted(time for time in changes if 0.0 < time < until)

    def at(self, time: float) -> Tensor:
        """Return the image at `time` ms (at a change: the new one), (batch, channel, height, width)."""
        if self._is_still:
            return self.epochs[0].frame(0)
        # A time that is a step count times dt may fall one rounding short of the change it lands on.
        time = max(time, 0.0) * (1.0 + 1e-12) + 1e-12
        starts = self.starts
        position = bisect_right(starts, time) - 1
        epoch = self.epochs[position]
        into = min(time - starts[position], epoch.duration)
        last = math.ceil(epoch.duration / epoch.every * (1.0 - 1e-12)) - 1 if math.isfinite(epoch.duration) else None
        frame = int(into / epoch.every) if math.isfinite(epoch.every) else 0
        return epoch.frame(frame if last is None else max(0, min(frame, last)))

    def then(self, other: Timeline) -> Timeline:
        """Return this timeline followed by `other`. Raises StimulusError if this one never ends."""
        if not math.isfinite(self.duration):
            raise StimulusError(
                given="then() after an epoch that never ends",
                expected="a duration in ms",
                remedy="write held(images, duration=100.0)",
            )
        return Timeline(self.epochs + other.epochs, self.labels if other.labels is None else other.labels)

    def mapped(self, function: Callable[[Tensor], Tensor]) -> Timeline:
        """Return this timeline with `function` applied to each image when it is shown."""
        epochs = [replace(epoch, frame=partial(_then, epoch.frame, function)) for epoch in self.epochs]
        return replace(self, epochs=tuple(epochs))

    def with_labels(self, labels: Tensor) -> Timeline:
        """Return this timeline with labels, (batch,) or (batch, classes), for scoring its runs."""
        return replace(self, labels=labels)


Stimulus = Timeline | Tensor | Mapping[str, Timeline | Tensor]
"""a stimulus: images held for ever or a timeline, by input name if there are several inputs"""


def _then(frame: Frame, function: Callable[[Tensor], Tensor], number: int) -> Tensor:
    return function(frame(number))


def held(images: Tensor, duration: float = math.inf) -> Timeline:
    """Show `images` (batch, channel, height, width) unchanged for `duration` ms (for ever by default)."""
    _check_duration(duration)
    return Timeline((Epoch(duration, math.inf, lambda _: images),))


def sequence(frames: Tensor, every: float) -> Timeline:
    """Show `frames` (time, batch, channel, height, width) one after another, each for `every` ms."""
    _check_duration(every)
    if frames.dim() != 5:
        raise StimulusError(
            given=f"frames of shape {tuple(frames.shape)}",
            expected="(time, batch, channel, height, width)",
            remedy="add the missing axis with frames[:, None]",
        )
    return Timeline((Epoch(len(frames) * every, every, lambda k: frames[k]),))


def blank(duration: float, like: Tensor, level: float = 0.0) -> Timeline:
    """Show a uniform field of `level` for `duration` ms, in the shape of the images `like`."""
    return held(torch.full_like(like, level), duration)


def noise(images: Tensor, sd: float, duration: float, every: float, seed: int, first: int = 0) -> Timeline:
    """Show `images` plus Gaussian pixel noise of `sd`, drawn anew every `every` ms.

    The noise of sample i in frame k is a function of (seed, first + i, k), whatever the batch.
    """
    _check_duration(every)

    def frame(number: int) -> Tensor:
        drawn = normal(seed, f"noise frame {number}", first, len(images), images[0].numel())
        return images + sd * torch.from_numpy(drawn).to(images).view_as(images)

    return Timeline((Epoch(duration, every, frame),))


def turns(units: int, batch: int, rounds: int = 10, seed: int = 0, first: int = 0, every: float = 10.0) -> Timeline:
    """Select one unit of each sample for `every` ms, one-hot (batch, units): all in random order, `rounds` times.

    For networks whose units are updated asynchronously; the default `every` is one step of a discrete network. The
    order of sample i in round n is a function of (seed, first + i, n).
    """
    _check_duration(every)

    @lru_cache(maxsize=1)
    def order(round_: int) -> Tensor:
        return torch.from_numpy(uniform(seed, f"turns {round_}", first, batch, units).argsort(1))

    def frame(number: int) -> Tensor:
        chosen = order(number // units)[:, number % units]
        return torch.nn.functional.one_hot(chosen, units).to(torch.get_default_dtype())

    return Timeline((Epoch(rounds * units * every, every, frame),))


def _check_duration(duration: float) -> None:
    if not duration > 0:
        raise StimulusError(
            given=f"a duration of {duration} ms",
            expected="a positive time",
            remedy="pass 100.0, or leave the epoch out",
        )


def as_timelines(stimulus: Stimulus, inputs: Sequence[str]) -> dict:
    """Return one timeline for each input of a network; a tensor is a static image shown for the whole run.

    Raises StimulusError unless the names are those of the inputs.
    """
    named = stimulus if isinstance(stimulus, Mapping) else {inputs[0]: stimulus} if len(inputs) == 1 else {}
    if set(named) != set(inputs):
        example = ", ".join(f"{name!r}: images" for name in inputs)
        raise StimulusError(
            given=f"stimuli for {', '.join(named) or 'one unnamed input'}",
            expected=f"one for each input: {', '.join(inputs)}",
            remedy=f"write {{{example}}}",
        )
    for name, shown in named.items():
        if not isinstance(shown, Tensor | Timeline):
            raise StimulusError(
                given=f"a {type(shown).__name__} for input {name!r}",
                expected="a torch tensor (batch, channel, height, width) or a stimuli.Timeline",
                remedy="write torch.from_numpy(images) for a NumPy array",
            )
    return {name: held(shown) if isinstance(shown, Tensor) else shown for name, shown in named.items()}
