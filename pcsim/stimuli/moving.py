"""Moving digits that bounce off the image borders (Srivastava, Mansimov & Salakhutdinov 2015, arXiv 1502.04681).

    x(t+1) = x(t) + v;   at a border, x is clipped and v changes sign;   overlapping digits are merged by the maximum

Every clip is a function of (seed, index).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from einops import rearrange, reduce
from numpy.typing import NDArray

from pcsim.core.checks import Count, Number, Whole, checked
from pcsim.core.exceptions import StimulusError
from pcsim.stimuli.film import Film
from pcsim.stimuli.glyphs import GREY, Glyphs, rendered
from pcsim.stimuli.random import uniform

SIDES = (28, 14, 7)
INK = 128


@checked(StimulusError)
@dataclass(frozen=True, repr=False)
class Moving:
    """A batch of n clips and their contents.

    frames      (n, time, 1, size, size), uint8, white on black
    identities  (n, digits), the digits in each clip
    corners     (n, time, digits, 2), row and column of the upper-left corner of each digit's square, in pixels
    visible     (n, time, digits), fraction of each digit's ink that is not covered by a bar
    """

    frames: NDArray[np.uint8]
    identities: NDArray[np.int64]
    corners: NDArray[np.float64]
    visible: NDArray[np.float64]

    def __repr__(self) -> str:
        count, length = self.frames.shape[:2]
        return f"Moving({count} clips of {length} frames, {self.identities.shape[1]} digit(s))"


@checked(StimulusError)
@dataclass(frozen=True)
class MovingDigits:
    """A generator of clips of moving digits.

    digits  number of digits, usually 1 to 3, in frames of size x size pixels
    side    side length of the square around a digit: 28 as in MNIST, or 14 or 7 for smaller digits
    speed   range of speeds in pixels per frame; speed and direction are drawn uniformly
    bars    number of vertical grey bars that occlude the digits; they are `width` pixels wide and `size / bars` apart
    rate    frames per second (not specified in the publication)
    """

    digits: int = 2
    size: int = 64
    side: int = 28
    speed: tuple[Number, Number] = (3.0, 5.0)
    bars: int = 0
    width: int = 8
    rate: float = 10.0

    def __post_init__(self) -> None:
        slow, fast = self.speed
        room = self.size - self.side
        bars_fit = self.bars >= 0 and self.width > 0 and self.bars * self.width < self.size
        if self.digits < 1 or self.side not in SIDES or room < 1 or not 0 <= slow <= fast <= room or not bars_fit:
            raise StimulusError(
                given=f"{self}",
                expected=f"digits >= 1, side in {SIDES}, 0 <= slow <= fast <= size - side and 0 <= bars * width < size",
                remedy="use the published settings, MovingDigits(), or for example MovingDigits(side=14, bars=2)",
            )

    @checked(StimulusError)
    def draw(self, seed: Whole, first: Whole, count: Count, length: Count, glyphs: Glyphs | None = None) -> Moving:
        """Draw `count` clips of `length` frames starting at index `first`; `glyphs` defaults to rendered digits."""
        source = glyphs or rendered()
        drawn = uniform(seed, "moving digits", first, count, 6 * self.digits + 1)
        chosen, exemplar, angle, pace, *start = rearrange(drawn[:, :-1], "n (what digit) -> what n digit", what=6)
        corners = self._corners(np.stack(start, -1), angle, pace, length)
        identities = (10 * chosen).astype(np.int64)
        members = [source.of_class(digit) for digit in range(10)]
        ids = [members[d][int(u * len(members[d]))] for d, u in zip(identities.flat, exemplar.flat, strict=True)]
        patches = self._shrunk(source.patches(np.array(ids)))
        patches = rearrange(patches, "(n digit) y x -> n digit y x", digit=self.digits)
        covered = self._covered(drawn[:, -1])
        frames = np.zeros((count, length, 1, self.size, self.size), np.uint8)
        visible = np.ones((count, length, self.digits))
        for n, t, d in np.ndindex(count, length, self.digits):
            y, x = corners[n, t, d].astype(int)
            place = frames[n, t, 0, y : y + self.side, x : x + self.side]
            np.maximum(place, patches[n, d], out=place)
            ink = patches[n, d] >= INK
            visible[n, t, d] = 1.0 - (ink & covered[n, x : x + self.side]).sum() / ink.sum()
        frames[np.broadcast_to(covered[:, None, None, None], frames.shape)] = int(GREY)
        return Moving(frames, identities, corners, visible)

    @checked(StimulusError)
    def film(self, seed: Whole, first: Whole, count: Count, length: Count, glyphs: Glyphs | None = None) -> Film:
        """Draw clips with `draw`, and return them as a `Film`."""
        return Film(tuple(self.draw(seed, first, count, length, glyphs).frames), self.rate, "moving digits")

    def _shrunk(self, patches: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Downsample the patches to `side` x `side` by averaging blocks of pixels."""
        fold = patches.shape[-1] // self.side
        means = reduce(patches.astype(float), "n (y a) (x b) -> n y x", "mean", a=fold, b=fold)
        return np.rint(means).astype(np.uint8)

    def _corners(self, start: NDArray, angle: NDArray, pace: NDArray, length: int) -> NDArray:
        room = float(self.size - self.side)
        step = self.speed[0] + pace * (self.speed[1] - self.speed[0])
        velocity = step[..., None] * np.stack([np.sin(2 * math.pi * angle), np.cos(2 * math.pi * angle)], -1)
        place, places = room * start, []
        for _ in range(length):
            places.append(place)
            place = place + velocity
            velocity = np.where((place <= 0) | (place >= room), -velocity, velocity)
            place = place.clip(0, room)
        return np.stack(places, 1)

    def _covered(self, phase: NDArray) -> NDArray[np.bool_]:
        """Return the mask of the columns that are covered by bars: (n, size)."""
        covered = np.zeros((len(phase), self.size), np.bool_)
        for row, shift in zip(covered, phase, strict=True):
            for bar in range(self.bars):
                left = int((shift + bar) * self.size / self.bars)
                row[left : left + self.width] = True
        return covered
