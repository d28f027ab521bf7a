"""Trials of short-term memory tasks: the times at which items are presented and answers are due.

delayed_match     sample, delay with or without distractors, test      is the test item the sample?
n_back            a series of items                                    is it the item presented n items earlier?
change_detection  several items, delay, the same places again          has an item changed?
serial_order      items of varying duration                            in which order were they presented?

Every trial is a function of (seed, index).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Annotated

import numpy as np
import torch
from einops import rearrange
from numpy.typing import ArrayLike, NDArray
from pydantic import Field
from torch import Tensor

from pcsim.core.checks import Count, Finite, NonNegative, Positive, Whole, checked
from pcsim.core.exceptions import StimulusError
from pcsim.stimuli.cued import CLASSES, digit_arrays
from pcsim.stimuli.glyphs import Glyphs
from pcsim.stimuli.pixels import require_floating
from pcsim.stimuli.random import integers, uniform
from pcsim.stimuli.timeline import Timeline, blank, still

MOST_ORDERS = 5_040
"""maximum number of orders: that of 7 items"""
Items = Annotated[int, Field(ge=2)]


@checked(StimulusError)
@dataclass(frozen=True, repr=False)
class Trials:
    """A batch of n trials of a memory task. Each trial is a series of epochs.

    names      names of the epochs, such as ("sample", "delay", "test")
    durations  (n, epoch) in ms
    items      (n, epoch, place), the number of the item at each place, or -1 for none
    answers    (n, epoch), the answer that is due during an epoch, or -1 for none
    kinds      number of different items
    classes    number of different answers

    Each trial has at least one answer.
    """

    names: tuple[str, ...]
    durations: NDArray[np.float64]
    items: NDArray[np.int64]
    answers: NDArray[np.int64]
    kinds: Count
    classes: Count

    def __repr__(self) -> str:
        epochs = ", ".join(dict.fromkeys(self.names))
        return f"Trials({len(self.items)} trials with {len(self.names)} epochs: {epochs})"

    @property
    def duration(self) -> float:
        """Duration of the longest trial in ms."""
        return max(math.fsum(row) for row in self.durations.tolist())

    def labels(self) -> Tensor:
        """Return the last answer of each trial, (n,)."""
        last = self.answers.shape[1] - 1 - (self.answers >= 0)[:, ::-1].argmax(1)
        return torch.from_numpy(self.answers[np.arange(len(last)), last])

    @checked(StimulusError)
    def timeline(self, items: Tensor | None = None, background: Finite | None = None) -> Timeline:
        """Return the stimulus, labelled with the last answer of each trial.

        items       (kinds, unit) or (kinds, channel, height, width), the pattern of each item; by default one-hot
                    vectors. The vectors of several places are concatenated, and images are placed side by side
        background  value between items, at empty places and after the trial. It is 0 by default for vectors, and
                    required for images, because a delay whose brightness differs from their background would itself
                    be a stimulus

        Raises StimulusError for patterns of the wrong shape, and for images without a background.

            trials.timeline(digits, background=float(digits[0, 0, 0, 0]))
        """
        patterns = torch.eye(self.kinds) if items is None else items
        require_floating(patterns)
        if patterns.dim() not in (2, 4) or len(patterns) != self.kinds:
            raise StimulusError(
                given=f"patterns of shape {tuple(patterns.shape)} for {self.kinds} items",
                expected=f"({self.kinds}, unit) or ({self.kinds}, channel, height, width)",
                remedy=f"pass stimuli.digit_items()[:{self.kinds}], or omit the patterns for one-hot vectors",
            )
        if background is None and patterns.dim() == 4:
            raise StimulusError(
                given="images without a background",
                expected="the grey level between items, at empty places and after the trial",
                remedy="pass background=float(images[0, 0, 0, 0]), the value around the first item",
            )
        level = background or 0.0
        known = torch.cat([torch.full_like(patterns[:1], level), patterns])
        line: Timeline | None = None
        for number, name in enumerate(self.names):
            shown = known[torch.from_numpy(self.items[:, number] + 1).to(known.device)]
            frame = rearrange(shown, "n p c h w -> n c h (p w)" if patterns.dim() == 4 else "n p u -> n (p u)")
            lengths = self.durations[:, number]
            same = bool((lengths == lengths[0]).all())
            epoch = still(frame, float(lengths[0]) if same else torch.from_numpy(lengths), name)
            line = epoch if line is None else line.then(epoch)
        return line.then(blank(math.inf, frame, level, name="end")).with_labels(self.labels())  # type: ignore[union-attr]

    @checked(StimulusError)
    def targets(self, times: ArrayLike) -> Tensor:
        """Return the answer that is due at each time of a run, or -1 for none: (time, n).

        times  in ms, such as `run.times`. A record at time t is assigned to the epoch presented just before t
        """
        at = np.asarray(times, float)
        if at.ndim != 1:
            raise StimulusError(
                given=f"times of shape {at.shape}", expected="times in ms, (time,)", remedy="pass run.times"
            )
        ends = np.cumsum(self.durations, axis=1)
        late = at[:, None, None] * (1.0 - 1e-12) - 1e-9 > ends  # rounding in times such as step * dt
        epoch = late.sum(2)  # (time, n)
        answers = np.concatenate([self.answers, np.full((len(self.answers), 1), -1)], axis=1)
        found = np.where(at[:, None] > 0, answers[np.arange(len(answers)), epoch], -1)
        return torch.from_numpy(found)

    @checked(StimulusError)
    def span(self, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the onset of the first epoch called `name` and the end of the last one, in ms: (n,), (n,).

        Raises StimulusError for an unknown name.
        """
        if name not in self.names:
            raise StimulusError(
                given=f"epoch {name!r}",
                expected=f"one of {', '.join(dict.fromkeys(self.names))}",
                remedy=f"call trials.span({self.names[0]!r})",
            )
        ends = np.cumsum(self.durations, axis=1)
        first, last = self.names.index(name), len(self.names) - 1 - self.names[::-1].index(name)
        return ends[:, first] - self.durations[:, first], ends[:, last]


@checked(StimulusError)
def digit_items(count: Annotated[int, Field(ge=1, le=CLASSES)] = CLASSES, *, glyphs: Glyphs | None = None) -> Tensor:
    """Return images of the digits 0, 1, ..., float32 (count, 1, 32, 32), as patterns for `Trials.timeline`.

    The digits are black and white on a grey background; every corner pixel has the background value.
    """
    array = digit_arrays(0, 0, 1, rows=1, columns=CLASSES, cell=32, glyphs=glyphs)
    digits = rearrange(array.pixels(), "1 c h (d w) -> d c h w", d=CLASSES)
    return digits[torch.from_numpy(array.identities[0].argsort())][:count].contiguous()


@checked(StimulusError)
def delayed_match(
    seed: Whole,
    first: Whole,
    count: Count,
    *,
    items: Items = 8,
    sample: Positive = 100.0,
    delay: Positive = 500.0,
    test: Positive = 100.0,
    distractors: Whole = 0,
    distractor: Positive = 100.0,
    step: Positive = 10.0,
) -> Trials:
    """Draw trials of delayed match to sample. During the test, the answer is 1 if the item is the sample, else 0.

    first        index of the first trial
    items        number of different items
    sample, delay, test, distractor  durations in ms; the delay includes the distractors
    distractors  number of items at equal intervals in the delay, all different from each other, the sample and the test
    step         the intervals before distractors are multiples of this time in ms, usually the solver's dt

    Source: Miller, Erickson & Desimone 1996. Raises StimulusError if the distractors leave fewer than 2 other items, or
    do not fit into the delay with an interval of one step before and after each.
    """
    needed = distractors * (distractor + step) + step
    if distractors and (distractors > items - 2 or needed > delay):
        raise StimulusError(
            given=f"{distractors} distractors of {distractor:g} ms, {items} items and a delay of {delay:g} ms",
            expected="distractors that leave time in the delay, and at least 2 items that are not distractors",
            remedy=f"pass delay={max(delay, needed):g}, items={max(items, distractors + 2)}",
        )
    drawn = uniform(seed, "delayed match", first, count, 3 + items)
    shown = integers(drawn[:, 0], items)
    is_match = drawn[:, 1] < 0.5
    tested = np.where(is_match, shown, _other(shown, drawn[:, 2], items))
    order, rows = drawn[:, 3:].copy(), np.arange(count)
    order[rows, shown] = order[rows, tested] = 2.0  # after all others
    others = order.argsort(1)[:, :distractors]
    none = np.full(count, -1)
    gap = (delay - distractors * distractor) / (distractors + 1)
    gap = step * math.floor(gap / step + 1e-9) if distractors else gap
    epochs = [("sample", sample, shown)]
    for other in others.T:
        epochs += [("delay", gap, none), ("distractor", distractor, other)]
    epochs.append(("delay", delay - distractors * (gap + distractor), none))
    return _single_place([*epochs, ("test", test, tested)], {"test": is_match.astype(np.int64)}, items, 2)


@checked(StimulusError)
def n_back(
    seed: Whole,
    first: Whole,
    count: Count,
    *,
    n: Count = 2,
    items: Items = 8,
    length: Count = 8,
    item: Positive = 100.0,
    gap: Positive = 100.0,
) -> Trials:
    """Draw sequences of items. From item n + 1 on, the answer is 1 if an item equals that n positions earlier, else 0.

    first      index of the first series
    items      number of different items
    length     number of items in a series; from item n + 1 on, each is a match with probability 0.5
    item, gap  duration of each item and of the interval that follows, in ms; answers are due during both

    Source: Kirchner 1958. Raises StimulusError for a series without an answer.
    """
    if length <= n:
        raise StimulusError(
            given=f"n={n} and {length} items in a series",
            expected="more than n items",
            remedy=f"pass length={n + 6}",
        )
    drawn = uniform(seed, "n-back", first, count, 2 * length)
    shown, answers = np.empty((count, length), np.int64), np.full((count, length), -1)
    for k in range(length):
        chance, other = drawn[:, 2 * k], drawn[:, 2 * k + 1]
        if k < n:
            shown[:, k] = integers(other, items)
            continue
        answers[:, k] = chance < 0.5
        shown[:, k] = np.where(chance < 0.5, shown[:, k - n], _other(shown[:, k - n], other, items))
    with_gaps = np.stack([shown, np.full_like(shown, -1)], axis=2).reshape(count, 2 * length, 1)
    durations = np.tile([item, gap], (count, length))
    return Trials(("item", "gap") * length, durations, with_gaps, answers.repeat(2, axis=1), items, 2)


@checked(StimulusError)
def change_detection(
    seed: Whole,
    first: Whole,
    count: Count,
    *,
    places: Count = 4,
    shown: Count = 2,
    items: Items = 8,
    sample: Positive = 100.0,
    delay: Positive = 500.0,
    test: Positive = 100.0,
) -> Trials:
    """Draw displays of several items, repeated after a delay. The answer is 1 if one item has changed.

    first   index of the first trial
    places  number of places, of which `shown` contain an item; the others stay empty
    items   number of different items; a display may contain an item twice
    sample, delay, test  durations in ms

    Source: Luck & Vogel 1997. Raises StimulusError for more items than places.
    """
    if shown > places:
        raise StimulusError(
            given=f"{shown} items in {places} places", expected="at most one item per place", remedy=f"pass {places=}"
        )
    drawn = uniform(seed, "change detection", first, count, 2 * places + 3)
    rows = np.arange(count)
    filled = drawn[:, :places].argsort(1).argsort(1) < shown
    before = np.where(filled, integers(drawn[:, places : 2 * places], items), -1)
    changes = drawn[:, -3] < 0.5
    place = drawn[:, :places].argsort(1)[rows, integers(drawn[:, -2], shown)]
    after = before.copy()
    changed = _other(before[rows, place], drawn[:, -1], items)
    after[rows, place] = np.where(changes, changed, before[rows, place])
    none = np.full(count, -1)
    return Trials(
        ("sample", "delay", "test"),
        np.tile([sample, delay, test], (count, 1)),
        np.stack([before, np.full_like(before, -1), after], axis=1),
        np.stack([none, none, changes.astype(np.int64)], axis=1),
        items,
        2,
    )


@checked(StimulusError)
def serial_order(
    seed: Whole,
    first: Whole,
    count: Count,
    *,
    items: Items = 4,
    length: Count = 3,
    element: Positive = 60.0,
    stretch: Annotated[Sequence[Positive], Field(min_length=1)] = (1.0, 2.0),
    gap: NonNegative = 0.0,
    answer: Positive = 100.0,
) -> Trials:
    """Draw series of different items whose durations vary, like "sleep" and "sleeeep". The answer is their order.

    Orders are numbered as in `itertools.permutations(range(items), length)`. Durations are independent of the order.

    first    index of the first series
    items    number of different items
    length   number of items in a series
    element  duration of an item in ms, multiplied by a factor drawn from `stretch` for each item
    gap      duration of the interval after each item, in ms
    answer   duration of the epoch after the last item in which the answer is due, in ms

    Raises StimulusError if a series is longer than the number of items, or if there are too many orders.
    """
    orders = math.perm(items, length)
    if not 2 <= orders <= MOST_ORDERS:
        raise StimulusError(
            given=f"series of {length} out of {items} items, with {orders} orders",
            expected=f"2 to {MOST_ORDERS:,} orders, and at least as many items as elements",
            remedy="pass items=4, length=3",
        )
    drawn = uniform(seed, "serial order", first, count, 1 + length)
    order = integers(drawn[:, 0], orders)
    shown = np.array(list(permutations(range(items), length)))[order]
    factors = np.asarray(stretch, float)[integers(drawn[:, 1:], len(stretch))]
    none = np.full(count, -1)
    epochs: list[tuple[str, float | NDArray[np.float64], NDArray[np.int64]]] = []
    for k in range(length):
        epochs.append(("element", element * factors[:, k], shown[:, k]))
        if gap:
            epochs.append(("gap", gap, none))
    return _single_place([*epochs, ("answer", answer, none)], {"answer": order}, items, orders)


def _other(item: NDArray[np.int64], drawn: NDArray[np.float64], items: int) -> NDArray[np.int64]:
    """Return an item other than `item`, drawn uniformly from the rest."""
    return (item + 1 + integers(drawn, items - 1)) % items


def _single_place(
    epochs: Sequence[tuple[str, float | NDArray[np.float64], NDArray[np.int64]]],
    answers: dict[str, NDArray[np.int64]],
    kinds: int,
    classes: int,
) -> Trials:
    """Build trials with a single place from the (name, duration, item) of each epoch and the answers by epoch."""
    names, durations, shown = zip(*epochs, strict=True)
    none = np.full_like(shown[0], -1)
    return Trials(
        names,
        np.stack([np.broadcast_to(np.asarray(each, float), none.shape) for each in durations], axis=1),
        np.stack(shown, axis=1)[:, :, None],
        np.stack([answers.get(name, none) for name in names], axis=1),
        kinds,
        classes,
    )
