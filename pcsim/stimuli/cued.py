"""Images with several digits, one of which is the target, and cues to the target or its location.

Arrays   rows x columns of different digits, side by side
Blends   different digits on top of one another, averaged as if transparent

Every image, with its target and cues, is a function of (seed, index).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor

from pcsim.core.checks import Count, Positive, Share, Whole, checked
from pcsim.core.exceptions import StimulusError
from pcsim.stimuli.digits import SPREAD_X, SPREAD_Y
from pcsim.stimuli.glyphs import CANVAS, GREY, SIZE, Glyphs, box_average, place, rendered
from pcsim.stimuli.pixels import as_pixels
from pcsim.stimuli.random import integers, uniform

CLASSES = 10
Cue = Literal["valid", "invalid", "neutral", "foil", "absent"]


@checked(StimulusError)
@dataclass(frozen=True, repr=False)
class Cued:
    """A batch of n images of several digits, with one target each.

    images      (n, 1, height, width), uint8
    identities  (n, digits), all different; those of an array are in reading order
    target      (n,), index of the target among the identities
    centres     (digits, 2), row and column of each place's centre in pixels for arrays; empty for blends

    Cues to the target are "valid". Cues to another digit of the image, the next one in `identities`, are "invalid", and
    cues to a digit that is not in the image are "foil". A "neutral" cue is the mean of the cues to all digits or
    places. An "absent" cue is zero.
    """

    images: NDArray[np.uint8]
    identities: NDArray[np.int64]
    target: NDArray[np.int64]
    centres: NDArray[np.float64]

    def __repr__(self) -> str:
        return f"Cued({len(self.images)} images of {self.identities.shape[1]} digits)"

    def pixels(self) -> Tensor:
        """Return the images as float32 (n, 1, height, width), where black is 0 and white is 1."""
        return as_pixels(torch.from_numpy(self.images))

    def labels(self, cue: Literal["valid", "invalid", "foil"] = "valid") -> Tensor:
        """Return the digit to which a cue refers, (n,), by default that of the target."""
        rows = np.arange(len(self.target))
        if cue == "foil":
            others = np.ones((len(rows), CLASSES), np.bool_)
            others[rows[:, None], self.identities] = False
            after = (self.identities[rows, self.target][:, None] + np.arange(CLASSES)) % CLASSES
            return torch.from_numpy(after[rows, others[rows[:, None], after].argmax(1)])
        return torch.from_numpy(self.identities[rows, self._index(cue)])

    @checked(StimulusError)
    def goals(self, cue: Cue) -> Tensor:
        """Return cues to a digit, (n, 10): 1 for the digit, 0.1 for all digits if neutral, and 0 if absent."""
        if cue == "neutral" or cue == "absent":
            return torch.full((len(self.target), CLASSES), 1.0 / CLASSES if cue == "neutral" else 0.0)
        return torch.nn.functional.one_hot(self.labels(cue), CLASSES).float()

    @checked(StimulusError)
    def spotlights(self, cue: Literal["valid", "invalid", "neutral", "absent"], sd: Positive = 8.0) -> Tensor:
        """Return cues to a place, (n, 1, height, width): Gaussians with a peak of 1 and a given sd in pixels.

        Raises StimulusError for blends, whose digits are in the same place.
        """
        if not len(self.centres):
            raise StimulusError(
                given=f"a {cue} cue to a place for blends of digits",
                expected="an array, whose digits are in different places",
                remedy="pass the goals(...) of the blends, or use stimuli.digit_arrays",
            )
        masks = spotlight(torch.from_numpy(self.centres), self.images.shape[2:], sd)
        if cue in ("neutral", "absent"):
            return (masks.mean(0, keepdim=True) * (cue == "neutral")).repeat(len(self.target), 1, 1, 1)
        return masks[torch.from_numpy(self._index(cue))]

    def _index(self, cue: str) -> NDArray[np.int64]:
        return (self.target + (cue == "invalid")) % self.identities.shape[1]


@checked(StimulusError)
def spotlight(centres: Tensor, size: tuple[Count, Count], sd: Positive = 8.0) -> Tensor:
    """exp(-d^2 / (2 sd^2)), with the distance d in pixels to each centre (n, 2): (n, 1, height, width), float32.

    centres  row and column in pixels; (0, 0) is the centre of the first pixel
    size     height and width of the image

    Raises StimulusError for centres of the wrong shape.
    """
    if centres.dim() != 2 or centres.shape[1] != 2:
        raise StimulusError(
            given=f"centres of shape {tuple(centres.shape)}",
            expected="a row and a column for each spotlight, (n, 2)",
            remedy="pass torch.tensor([[8.0, 24.0]]) for one spotlight",
        )
    rows, columns = torch.meshgrid(*(torch.arange(float(length)) for length in size), indexing="ij")
    y, x = centres.float()[:, :, None, None].unbind(1)
    return torch.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2.0 * sd**2))[:, None]


@checked(StimulusError)
def digit_arrays(
    seed: Whole,
    first: Whole,
    count: Count,
    *,
    rows: Count = 2,
    columns: Count = 2,
    cell: Count = 24,
    glyphs: Glyphs | None = None,
) -> Cued:
    """Draw arrays of different digits, (n, 1, rows * cell, columns * cell), with the target in a random place.

    first  index of the first image
    cell   height and width of each place in pixels, 20 to 32; digits are about 20 pixels high and centred

    Raises StimulusError for fewer than 2 or more than 10 places, or for a `cell` outside 20 to 32.
    """
    digits = rows * columns
    if not 2 <= digits <= CLASSES or not 20 <= cell <= SIZE:
        raise StimulusError(
            given=f"an array of {rows} x {columns} places of {cell} pixels",
            expected=f"2 to {CLASSES} places of 20 to {SIZE} pixels",
            remedy="pass rows=2, columns=2, cell=24",
        )
    singles, identities, target = _singles(seed, "array", first, count, digits, 0.0, glyphs)
    start = (SIZE - cell) // 2
    cells = singles[:, :, start : start + cell, start : start + cell]
    images = rearrange(cells, "n (r c) h w -> n 1 (r h) (c w)", r=rows)
    places = np.stack(np.divmod(np.arange(digits), columns), axis=1)
    return Cued(np.rint(images).astype(np.uint8), identities, target, places * cell + (cell - 1) / 2)


@checked(StimulusError)
def digit_blends(
    seed: Whole,
    first: Whole,
    count: Count,
    *,
    digits: Count = 2,
    spread: Share = 0.5,
    glyphs: Glyphs | None = None,
) -> Cued:
    """Draw images (n, 1, 32, 32), each the average of `digits` digits, one of which is the target.

    first   index of the first image
    spread  scales the offsets of the digits from the centre, see `Condition`

    Raises StimulusError for fewer than 2 or more than 10 digits.
    """
    if not 2 <= digits <= CLASSES:
        raise StimulusError(
            given=f"blends of {digits} digits", expected=f"2 to {CLASSES} different digits", remedy="pass digits=2"
        )
    singles, identities, target = _singles(seed, "blend", first, count, digits, spread, glyphs)
    images = singles.mean(1, keepdims=True)
    return Cued(np.rint(images).astype(np.uint8), identities, target, np.zeros((0, 2)))


def _singles(
    seed: int, purpose: str, first: int, count: int, digits: int, spread: float, glyphs: Glyphs | None
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """Return images of single digits (count, digits, 32, 32), their identities, and the index of the target."""
    source = glyphs or rendered()
    drawn = uniform(seed, purpose, first, count, CLASSES + 1 + 3 * digits)
    identities = np.argsort(drawn[:, :CLASSES], axis=1)[:, :digits]
    target = integers(drawn[:, CLASSES], digits)
    place_x, place_y, exemplar = rearrange(drawn[:, CLASSES + 1 :], "n (what digit) -> what n digit", what=3)
    x = np.trunc(CANVAS * spread * SPREAD_X * (2 * place_x - 1)).astype(int) + CANVAS // 2
    y = np.trunc(CANVAS * spread * SPREAD_Y * (2 * place_y - 1)).astype(int) + CANVAS // 2
    members = [source.of_class(digit) for digit in range(CLASSES)]
    kinds, shares = identities.ravel(), exemplar.ravel()
    ids = np.array([members[k][int(u * len(members[k]))] for k, u in zip(kinds, shares, strict=True)])
    canvas = np.full((count * digits, CANVAS, CANVAS), GREY, np.float32)
    for n, patch in enumerate(source.glyphs(ids)):
        place(patch, y.flat[n], x.flat[n], canvas[n])
    return box_average(canvas).reshape(count, digits, SIZE, SIZE), identities, target
