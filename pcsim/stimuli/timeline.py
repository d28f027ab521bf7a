"""Timelines of stimuli: series of epochs in which the image is constant between change times."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache, partial
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from pcsim.core.checks import Count, Finite, NonNegative, Number, Positive, Whole, checked
from pcsim.core.exceptions import StimulusError
from pcsim.stimuli.pixels import require_floating
from pcsim.stimuli.random import normal, uniform

Frame = Callable[[int], Tensor]


@dataclass(frozen=True, eq=False)
class Epoch:
    """An epoch that presents `frame(k)` (batch, channel, height, width) from k * every to (k + 1) * every ms.

    duration  in ms; a tensor (batch,) gives each sample its own duration, and 0 skips the epoch
    name      a label for plots and tables, such as "fixation"
    kind      the function that created the epoch, such as "noise"; its settings are in `settings`
    """

    duration: float | Tensor
    every: Positive
    frame: Frame
    name: str = "frames"
    kind: str = "frames"
    settings: Mapping[str, Any] = field(default_factory=dict)
    known_shape: tuple[int, ...] | None = None

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Shape of a frame, (batch, channel, height, width)."""
        return self.known_shape or tuple(self.frame(0).shape)


@checked(StimulusError, labels=None)
@dataclass(frozen=True, repr=False)
class Timeline:
    """A series of epochs. The first frame also applies before the first epoch, and the last frame after the last epoch.

    Create timelines with `held`, `sequence`, `blank`, `noise` or `presented`, and join them with `then`:

        blank(50.0, like=images, name="fixation").then(held(images, 100.0)).then(blank(math.inf, like=images))

    The durations can differ between samples, so that each image has its own onset and offset.
    """

    epochs: Annotated[tuple[Epoch, ...], Field(min_length=1)]
    labels: Tensor | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        for epoch in self.epochs:
            if isinstance(epoch.duration, Tensor):
                _require_duration(epoch.duration, epoch.shape[0])
        if self.labels is not None:
            _check_labels(self.labels, self.epochs[0].shape[0])

    def __repr__(self) -> str:
        length = f"{self.duration:g} ms" if math.isfinite(self.duration) else "without end"
        lines = [f"Timeline of {len(self.epochs)} epoch{'s' * (len(self.epochs) > 1)}, {length}"]
        for epoch, facts in zip(self.epochs, self.described(), strict=True):
            end = "..." if facts["to"] is None else f"{facts['to']:g}"
            settings = ", ".join(f"{key} {value}" for key, value in epoch.settings.items())
            every = f"every {epoch.every:g} ms" if math.isfinite(epoch.every) else ""
            name = epoch.name if epoch.name == epoch.kind else f"{epoch.name} ({epoch.kind})"
            parts = (name, "x".join(map(str, epoch.shape)), every, settings)
            each = "  [differs between samples]" if "onsets" in facts else ""
            lines.append(f"  {facts['from']:g} to {end} ms: {', '.join(filter(None, parts))}{each}")
        return "\n".join(lines)

    @property
    def duration(self) -> float:
        """Total duration in ms of the longest sample; infinite if the last image is presented indefinitely."""
        return max(math.fsum(row) for row in self._durations)

    @property
    def first_end(self) -> float:
        """Total duration in ms of the shortest sample; equals `duration` if all samples are alike."""
        return min(math.fsum(row) for row in self._durations)

    @cached_property
    def _durations(self) -> list[tuple[float, ...]]:
        """The durations of all epochs: a single row, or one row for each sample if samples differ."""
        given = [e.duration.tolist() if isinstance(e.duration, Tensor) else e.duration for e in self.epochs]
        rows = max((len(each) for each in given if isinstance(each, list)), default=1)
        return [tuple(each[row] if isinstance(each, list) else each for each in given) for row in range(rows)]

    @cached_property
    def _onsets(self) -> list[tuple[float, ...]]:
        """The onsets of all epochs, with the same rows as the durations."""
        return [tuple(math.fsum(row[:count]) for count in range(len(row))) for row in self._durations]

    @cached_property
    def _is_still(self) -> bool:
        """True if a single image is presented throughout."""
        return len(self.epochs) == 1 and math.isinf(self.epochs[0].every)

    @property
    def starts(self) -> list[float]:
        """Earliest onset of each epoch over all samples, in ms."""
        return [min(onsets) for onsets in zip(*self._onsets, strict=True)]

    @checked(StimulusError)
    def described(self, until: float = math.inf, since: float = 0.0) -> list[dict[str, Any]]:
        """Return the epochs of a run from `since` to `until` ms as dicts of JSON types.

        The keys are "from" and "to" (in ms; None if the epoch never ends), "name", "kind" and the settings. If samples
        differ, "from" and "to" span all samples, and "onsets" and "offsets" contain one value per sample.
        """
        found = []
        for number, epoch in enumerate(self.epochs):
            onsets = [row[number] for row in self._onsets]
            offsets = [onset + row[number] for onset, row in zip(onsets, self._durations, strict=True)]
            if number == len(self.epochs) - 1:  # the last frame stays on
                offsets = [max(offset, until) if math.isfinite(until) else offset for offset in offsets]
            begin, end = max(min(onsets), since), min(max(offsets), until)
            if not begin < end:
                continue
            facts: dict[str, Any] = {"from": begin, "to": end if math.isfinite(end) else None}
            facts |= {"name": epoch.name, "kind": epoch.kind}
            if math.isfinite(epoch.every):
                facts["every"] = epoch.every
            facts |= epoch.settings
            if len(set(onsets)) > 1 or len(set(offsets)) > 1:
                ends = [min(offset, until) for offset in offsets]
                facts["onsets"] = onsets
                facts["offsets"] = [each if math.isfinite(each) else None for each in ends]
            found.append(facts)
        return found

    @checked(StimulusError)
    def change_times(self, until: float) -> list[float]:
        """Return the times between 0 and `until` ms at which the stimulus may change in any sample."""
        if self._is_still:
            return []
        changes: set[float] = set()
        for onsets, durations in zip(self._onsets, self._durations, strict=True):
            changes |= set(onsets)
            for start, duration, epoch in zip(onsets, durations, self.epochs, strict=True):
                end = min(until, start + duration)
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
        rows = zip(self._onsets, self._durations, strict=True)
        moments = [self._moment(time, onsets, durations) for onsets, durations in rows]
        first, *others = dict.fromkeys(moments)
        image = self._frame(first)
        for other in others:
            chosen = torch.tensor([moment == other for moment in moments], device=image.device)
            image = torch.where(chosen.reshape(-1, *(1,) * (image.dim() - 1)), self._frame(other), image)
        return image

    def _frame(self, moment: tuple[int, int]) -> Tensor:
        return self.epochs[moment[0]].frame(moment[1])

    def _moment(self, time: float, onsets: Sequence[float], durations: Sequence[float]) -> tuple[int, int]:
        """Return the index of the epoch at a given time, and of the frame within it."""
        position = bisect_right(onsets, time) - 1
        while position and not durations[position]:  # the last epochs may be skipped
            position -= 1
        epoch, duration = self.epochs[position], durations[position]
        if math.isinf(epoch.every):
            return position, 0
        into = min(time - onsets[position], duration)
        last = math.ceil(duration / epoch.every * (1.0 - 1e-12)) - 1 if math.isfinite(duration) else None
        frame = int(into / epoch.every)
        return position, frame if last is None else max(0, min(frame, last))

    @checked(StimulusError)
    def then(self, other: Timeline) -> Timeline:
        """Return this timeline followed by `other`.

        Raises StimulusError if this timeline never ends, or if the two differ in the shape or number of images.
        """
        if not math.isfinite(self.duration):
            raise StimulusError(
                given="then() after an epoch that never ends",
                expected="a finite duration in ms",
                remedy="pass a duration, such as held(images, duration=100.0)",
            )
        own, theirs = self.epochs[-1].shape, other.epochs[0].shape
        if own != theirs:
            is_batch = own[1:] == theirs[1:]
            raise StimulusError(
                given=f"images of shape {own} ({self.epochs[-1].name!r}), then {theirs} ({other.epochs[0].name!r})",
                expected="the same (batch, channel, height, width) throughout a timeline",
                remedy="pass as many images in each epoch; images.expand(batch, -1, -1, -1) repeats a single image"
                if is_batch
                else "resize the images to the same size, and build blanks with blank(50.0, like=images)",
            )
        return Timeline(self.epochs + other.epochs, self.labels if other.labels is None else other.labels)

    @checked(StimulusError)
    def mapped(self, function: Callable[[Tensor], Tensor]) -> Timeline:
        """Return this timeline with `function` applied to each image when it is presented."""
        return replace(
            self,
            epochs=tuple(
                replace(epoch, frame=partial(_then, epoch.frame, function), known_shape=None) for epoch in self.epochs
            ),
        )

    @checked(StimulusError)
    def samples(self, indices: Sequence[int]) -> Timeline:
        """Return the timeline and labels of the samples in `indices`, in that order."""
        chosen = torch.tensor(indices)

        def of(values: Tensor) -> Tensor:
            return values[chosen.to(values.device)]

        epochs = [
            replace(
                epoch,
                duration=of(epoch.duration) if isinstance(epoch.duration, Tensor) else epoch.duration,
                frame=partial(_then, epoch.frame, of),
                known_shape=(len(indices), *epoch.shape[1:]),
            )
            for epoch in self.epochs
        ]
        return Timeline(tuple(epochs), None if self.labels is None else of(self.labels))

    @checked(StimulusError, labels=None)
    def with_labels(self, labels: Tensor) -> Timeline:
        """Return this timeline with `labels` (batch,) or (batch, classes), which are used to score runs.

        Raises StimulusError unless `labels` is a dense tensor of real numbers with one row per image.
        """
        return replace(self, labels=labels)


Stimulus = Timeline | Tensor | Mapping[str, Timeline | Tensor]
"""static images, a timeline or, for a network with several inputs, a mapping of input names to these"""


def _then(frame: Frame, function: Callable[[Tensor], Tensor], number: int) -> Tensor:
    return function(frame(number))


@checked(StimulusError, images=None)
def held(images: Tensor, duration: Number | Tensor = math.inf, *, name: str = "image") -> Timeline:
    """Present `images` (batch, channel, height, width) unchanged for `duration` ms, by default indefinitely.

    duration  one number, or a tensor (batch,) with a duration for each image

    Every timeline requires floating-point images. Raises StimulusError for others.
    """
    require_floating(images)
    _require_duration(duration, len(images))
    return still(images, duration, name)


def still(
    images: Tensor, duration: float | Tensor = math.inf, name: str = "image", kind: str = "held", **settings: Any
) -> Timeline:
    """Return a timeline of one static epoch, whose `settings` appear in the metadata of runs."""
    duration = duration.double() if isinstance(duration, Tensor) else duration
    return Timeline((Epoch(duration, math.inf, lambda _: images, name, kind, settings, tuple(images.shape)),))


@checked(StimulusError, frames=None)
def sequence(frames: Tensor, every: Positive, *, name: str = "frames") -> Timeline:
    """Present `frames` one after another, each for `every` ms.

    frames  images (time, batch, channel, height, width) or vectors (time, batch, n)
    """
    require_floating(frames)
    if frames.dim() not in (3, 5) or not len(frames):
        raise StimulusError(
            given=f"frames of shape {tuple(frames.shape)}",
            expected="(time, batch, channel, height, width) or (time, batch, n), with at least one frame",
            remedy="pass frames[:, None] for a single sample, or frames[:, :, None] if the images have no channel axis",
        )
    count = len(frames)
    return Timeline((Epoch(count * every, every, lambda k: frames[k], name, "sequence", {}, tuple(frames.shape[1:])),))


@checked(StimulusError, like=None)
def blank(duration: Number | Tensor, like: Tensor, level: Finite = 0.0, *, name: str = "blank") -> Timeline:
    """Present a uniform field of value `level` for `duration` ms, with the shape of the images `like`.

    duration  one number, or a tensor (batch,) with a duration for each sample; 0 skips the field for that sample
    """
    require_floating(like)
    _require_duration(duration, len(like))
    return still(torch.full_like(like, level), duration, name, "blank", level=level)


@checked(StimulusError, images=None)
def noise(
    images: Tensor,
    sd: NonNegative,
    duration: Number | Tensor,
    every: Positive,
    seed: Whole,
    first: Whole = 0,
    *,
    name: str = "noise",
) -> Timeline:
    """Present `images` with Gaussian pixel noise of standard deviation `sd`, redrawn every `every` ms.

    The noise of sample i in frame k is a function of (seed, first + i, k), independent of the batch size. `duration` is
    one number, or a tensor (batch,) with a duration for each image. Raises StimulusError if the images are not
    floating-point, or if `sd` or the duration is invalid.
    """
    require_floating(images)
    _require_duration(duration, len(images))
    if not len(images):
        raise StimulusError(
            given="noise on 0 images", expected="at least one image", remedy="pass images of shape (batch, ...)"
        )

    def frame(number: int) -> Tensor:
        drawn = normal(seed, f"noise frame {number}", first, len(images), images[0].numel())
        return images + sd * torch.from_numpy(drawn).to(images).view_as(images)

    settings = {"sd": sd, "seed": seed, "first": first}
    lasts = duration.double() if isinstance(duration, Tensor) else duration
    return Timeline((Epoch(lasts, every, frame, name, "noise", settings, tuple(images.shape)),))


@checked(StimulusError, images=None)
def presented(
    images: Tensor,
    duration: Number | Tensor,
    *,
    onset: NonNegative | Tensor = 0.0,
    contrast: Finite | Tensor = 1.0,
    background: Finite = 0.0,
    name: str = "image",
) -> Timeline:
    """x(t) = b + contrast (image - b) for onset <= t < onset + duration, and the uniform field b otherwise.

    `duration`, `onset` (both in ms) and `contrast` are numbers, or tensors (batch,) with a value for each image; b is
    the pixel value `background`. The timeline continues with the uniform field indefinitely.

        presented(images, 100.0, onset=torch.tensor([20.0, 50.0]), contrast=torch.tensor([0.2, 1.0]), background=0.5)
    """
    require_floating(images)
    _require_duration(duration, len(images))
    each = torch.as_tensor(contrast)
    if each.dim():
        _check_each(each, len(images), "contrasts")
    factor = each.to(images).reshape(-1, *(1,) * (images.dim() - 1))
    faded = torch.where(factor == 1.0, images, background + factor * (images - background))
    line = still(faded, duration, name, "presented", background=background, contrast=each.tolist())
    if math.isfinite(line.duration):
        line = line.then(blank(math.inf, images, background))
    if isinstance(onset, Tensor):
        _check_each(onset, len(images), "onsets in ms", is_time=True)
    return blank(onset, images, background).then(line) if torch.as_tensor(onset).any() else line


@checked(StimulusError)
def turns(
    units: Count,
    batch: Count,
    rounds: Count = 10,
    seed: Whole = 0,
    first: Whole = 0,
    every: Positive = 10.0,
    *,
    name: str = "turns",
) -> Timeline:
    """Present one-hot frames (batch, units), each of which selects one unit per sample, for `every` ms.

    Each round selects all units once, in random order. This stimulus is meant for networks whose units are updated
    asynchronously. By default, `every` is one step of a discrete network. The order for sample i in round n is a
    function of (seed, first + i, n). Raises StimulusError unless `units`, `batch` and `rounds` are at least 1.
    """

    @lru_cache(maxsize=1)
    def order(round_: int) -> Tensor:
        return torch.from_numpy(uniform(seed, f"turns {round_}", first, batch, units).argsort(1))

    def frame(number: int) -> Tensor:
        chosen = order(number // units)[:, number % units]
        return torch.nn.functional.one_hot(chosen, units).to(torch.get_default_dtype())

    settings = {"rounds": rounds, "seed": seed, "first": first}
    return Timeline((Epoch(rounds * units * every, every, frame, name, "turns", settings, (batch, units)),))


def _require_duration(duration: float | Tensor, batch: int = 0) -> None:
    """Raise StimulusError unless `duration` (ms) is above 0, or a tensor (batch,) of durations that are not all 0."""
    if isinstance(duration, Tensor):
        _check_each(duration, batch, "durations in ms", is_time=True)
        duration = float(duration.max())
    if not duration > 0:
        raise StimulusError(
            given=f"a duration of {duration} ms",
            expected="a positive duration",
            remedy="pass a positive number such as 100.0, or omit the epoch",
        )


def _check_each(values: Tensor, batch: int, what: str, is_time: bool = False) -> None:
    """Raise StimulusError unless `values` (batch,) are finite numbers and, if they are times, not negative."""
    fits = values.shape == (batch,) and not values.is_complex() and values.dtype != torch.bool
    if not fits or not bool(((values >= 0) if is_time else torch.isfinite(values)).all()):
        raise StimulusError(
            given=f"{what} of shape {tuple(values.shape)}: {' '.join(str(values.tolist()).split())[:60]}",
            expected=f"one number, or a tensor ({batch},) with {'a time of 0 or more' if is_time else 'a number'} "
            "for each image",
            remedy=f"pass torch.full(({batch},), {100.0 if is_time else 1.0})",
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
    """Return the labels of a stimulus (for a mapping, those of its labelled timelines), or None if there are none.

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
        example = ", ".join(f"{name!r}: {'images' if 'image' in name else name}" for name in inputs)
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
    return {name: still(shown) if isinstance(shown, Tensor) else shown for name, shown in named.items()}
