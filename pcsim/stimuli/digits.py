"""Digit debris and digit clutter (Spoerer, McClure & Kriegeskorte 2017): grey-scale images of 32x32 pixels.

Debris   one digit covered by n fragments, which are 6- to 9-pixel-wide crops of other digits, pasted sequentially
Clutter  k different digits drawn on top of one another, all of which are targets

Every image is a function of (seed, index). The rules and constants are those of the authors' generator. The images
match the authors' in their statistics (mean, sd, occluded fraction) but not pixel by pixel, because the font differs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor

from pcsim.core.checks import Count, Whole, checked
from pcsim.core.exceptions import StimulusError
from pcsim.stimuli.glyphs import CANVAS, GREY, SIZE, Glyphs, Templates, box_average, place, rendered
from pcsim.stimuli.pixels import as_pixels
from pcsim.stimuli.random import integers, normal, uniform
from pcsim.stimuli.timeline import Timeline, still

# Largest offsets of a digit from the image centre, as fractions of the image size. The reference adds 0.076 to y
# because its glyph box is not centred. The glyphs used here are centred.
SPREAD_X, SPREAD_Y = 0.29, 0.19
FRAGMENT_SIDES = (6, 9)
CHUNK = 500


@dataclass(frozen=True)
class Condition:
    """A stimulus condition: the number of digits, the number of fragments, and the sd of the Gaussian pixel noise.

    `spread` scales the published range of offsets from the centre; with spread=0, every digit is centred.
    """

    digits: int = 1
    fragments: int = 0
    noise: float = 0.0
    spread: float = 1.0


CONDITIONS: dict[str, Condition] = {
    "clean": Condition(),
    "debris-light": Condition(fragments=10),
    "debris-moderate": Condition(fragments=30),
    "debris-heavy": Condition(fragments=50),
    "clutter-light": Condition(digits=3),
    "clutter-moderate": Condition(digits=4),
    "clutter-heavy": Condition(digits=5),
    "noise": Condition(noise=0.2),
}


@checked(StimulusError)
@dataclass(frozen=True, repr=False)
class Scenes:
    """A batch of n images and their contents.

    images      (n, 1, 32, 32), uint8, or float32 with white as 1 if noise was added
    identities  (n, digits), the digits in drawing order, with the topmost digit last
    visible     (n, digits), visible fraction of each digit's silhouette
    covered     (n,), fraction of the image covered by fragments
    """

    images: NDArray[np.uint8] | NDArray[np.float32]
    identities: NDArray[np.int64]
    visible: NDArray[np.float64]
    covered: NDArray[np.float64]

    def __repr__(self) -> str:
        return f"Scenes({len(self.images)} images of {self.identities.shape[1]} digit(s))"

    def pixels(self) -> Tensor:
        """Return the images as float32 (n, 1, 32, 32), where black is 0 and white is 1."""
        return as_pixels(torch.from_numpy(self.images))

    def targets(self) -> Tensor:
        """Return float32 targets (n, 10): 1 for digits in the image and 0 for all others."""
        return torch.zeros(len(self.images), 10).scatter_(1, torch.from_numpy(self.identities), 1.0)


@checked(StimulusError)
def scenes(condition: Condition | str, seed: Whole, first: Whole, count: Count, glyphs: Glyphs | None = None) -> Scenes:
    """Draw `count` scenes of a condition, starting at index `first`; `glyphs` defaults to rendered digits.

    Raises StimulusError if the condition is unknown or cannot be drawn.
    """
    condition = _named_condition(condition)
    source = glyphs or rendered()
    parts = [_chunk(condition, seed, start, size, source) for start, size in _chunks(first, count)]
    return Scenes(*(np.concatenate(field) for field in zip(*(vars(part).values() for part in parts), strict=True)))


def _named_condition(condition: Condition | str) -> Condition:
    """Return the condition, looked up by name if necessary, after checking its values."""
    if isinstance(condition, str):
        if condition not in CONDITIONS:
            raise StimulusError(
                given=f"condition {condition!r}",
                expected=f"one of {', '.join(CONDITIONS)}",
                remedy="pass condition='debris-light' or stimuli.Condition(fragments=10)",
            )
        condition = CONDITIONS[condition]
    if (
        not 1 <= condition.digits <= 10
        or condition.fragments < 0
        or not 0 <= condition.noise < math.inf
        or not 0 <= condition.spread <= 1
    ):
        raise StimulusError(
            given=f"{condition}",
            expected="1 to 10 digits (all different), fragments >= 0, noise >= 0 and 0 <= spread <= 1",
            remedy="pass, for example, stimuli.Condition(digits=3, fragments=10, noise=0.1, spread=1.0)",
        )
    return condition


@checked(StimulusError)
def digit_debris(fragments: int = 10, seed: Whole = 0, batch: Count = 64, glyphs: Glyphs | None = None) -> Timeline:
    """Build a static stimulus of `batch` digits, each occluded by `fragments` fragments, with `labels` (batch,)."""
    shown = scenes(Condition(fragments=fragments), seed, 0, batch, glyphs)
    line = still(shown.pixels(), source="digit_debris", fragments=fragments, seed=seed)
    return line.with_labels(torch.from_numpy(shown.identities[:, 0]))


@checked(StimulusError)
def digit_clutter(digits: int = 3, seed: Whole = 0, batch: Count = 64, glyphs: Glyphs | None = None) -> Timeline:
    """Build a static stimulus of `batch` images of `digits` overlapping digits, with multi-hot `labels` (batch, 10)."""
    shown = scenes(Condition(digits=digits), seed, 0, batch, glyphs)
    line = still(shown.pixels(), source="digit_clutter", digits=digits, seed=seed)
    return line.with_labels(shown.targets())


def _chunks(first: int, count: int) -> Iterator[tuple[int, int]]:
    for start in range(first, first + count, CHUNK):
        yield start, min(CHUNK, first + count - start)


def _chunk(condition: Condition, seed: int, first: int, count: int, glyphs: Glyphs) -> Scenes:
    canvas, identities, visible, silhouettes = _digits(condition, seed, first, count, glyphs)
    images = box_average(canvas)
    covered = np.zeros(count)
    if condition.fragments:
        images, debris = _debris(images, condition.fragments, seed, first, glyphs.templates)
        target = box_average(silhouettes) >= 127 / 255
        visible = ((target & ~debris).sum((1, 2)) / target.sum((1, 2)))[:, None]
        covered = debris.mean((1, 2))
    shown = np.rint(images).astype(np.uint8)[:, None]
    if not condition.noise:
        return Scenes(shown, identities, visible, covered)
    drawn = normal(seed, "noise", first, count, SIZE * SIZE).reshape(shown.shape)
    return Scenes((shown / 255 + condition.noise * drawn).astype(np.float32), identities, visible, covered)


def _digits(condition: Condition, seed: int, first: int, count: int, glyphs: Glyphs) -> tuple:
    """Return canvases of `digits` digits each, the identities and visible fractions, and the topmost silhouette."""
    digits, spread = condition.digits, condition.spread
    drawn = uniform(seed, "digits", first, count, 10 + 3 * digits)
    identities = np.argsort(drawn[:, :10], axis=1)[:, :digits]
    place_x, place_y, exemplar = rearrange(drawn[:, 10:], "n (what digit) -> what n digit", what=3)
    x = np.trunc(CANVAS * spread * SPREAD_X * (2 * place_x - 1)).astype(int) + CANVAS // 2
    y = np.trunc(CANVAS * spread * SPREAD_Y * (2 * place_y - 1)).astype(int) + CANVAS // 2
    members = [glyphs.of_class(digit) for digit in range(10)]
    ids = np.array(
        [
            [members[d][int(u * len(members[d]))] for d, u in zip(*row, strict=True)]
            for row in zip(identities, exemplar, strict=True)
        ]
    )
    patches = iter(glyphs.glyphs(ids.ravel()))
    canvas = np.full((count, CANVAS, CANVAS), GREY, np.float32)
    silhouettes = np.zeros((count, CANVAS, CANVAS), np.float32)
    visible = np.ones((count, digits))
    for row in range(count):
        covers = np.zeros((digits, CANVAS, CANVAS), np.bool_) if digits > 1 else silhouettes[None, row]
        for order in range(digits):
            place(next(patches), y[row, order], x[row, order], canvas[row], covers[order])
        if digits > 1:
            above = np.logical_or.accumulate(covers[::-1])[::-1]
            for order in range(digits - 1):
                visible[row, order] = (covers[order] & ~above[order + 1]).sum() / covers[order].sum()
            silhouettes[row] = covers[-1]
    return canvas, identities, visible, silhouettes


def _debris(images: NDArray, fragments: int, seed: int, first: int, templates: Templates) -> tuple[NDArray, NDArray]:
    """Paste `fragments` fragments over the images, and return the images and the mask of the fragments.

    As in the reference, a fragment replaces its entire square, so it erases earlier fragments even where its own crop
    is background. The covered fraction therefore saturates near the fraction of a crop that a digit covers on average.
    """
    count = len(images)
    low, high = FRAGMENT_SIDES
    drawn = uniform(seed, "debris", first, count, 6 * fragments)
    drawn = rearrange(drawn, "n (fragment what) -> fragment what n", what=6)
    grey, debris = np.zeros_like(images), np.zeros(images.shape, np.bool_)
    reach = np.arange(high)
    for choose, size, crop_y, crop_x, paste_y, paste_x in drawn:
        which = integers(choose, len(templates.height))
        side = low + integers(size, high - low + 1)
        # As in the reference, neither a crop nor a fragment ever touches the last row or column.
        from_y = integers(crop_y, np.maximum(templates.height[which] - side, 1))
        from_x = integers(crop_x, np.maximum(templates.width[which] - side, 1))
        to_y, to_x = integers(paste_y, SIZE - side), integers(paste_x, SIZE - side)
        crop = which[:, None, None], (from_y[:, None] + reach)[:, :, None], (from_x[:, None] + reach)[:, None, :]
        goal = np.arange(count)[:, None, None], (to_y[:, None] + reach)[:, :, None], (to_x[:, None] + reach)[:, None, :]
        square = (reach < side[:, None])[:, :, None] & (reach < side[:, None])[:, None, :]
        window = tuple(index[square] for index in np.broadcast_arrays(*goal))
        debris[window] = templates.mask[crop][square]
        grey[window] = templates.grey[crop][square]
    return np.where(debris, grey, images), debris
