"""Digit glyphs, rendered from a font that ships with Matplotlib or taken from MNIST.

A glyph is a black face with a white outline, drawn on a canvas with SUPER x SUPER samples per pixel of the 32x32
image. It is stored as two layers, one that multiplies the canvas and one that is added to it:

    painted = through * canvas + added,    through = (1 - outline)(1 - face),  added = WHITE outline (1 - face)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from pcsim.core.checks import Axes, checked
from pcsim.core.exceptions import StimulusError
from pcsim.stimuli.mnist import load_mnist

SIZE, SUPER = 32, 4
CANVAS = SIZE * SUPER
GREY, WHITE = 119.0, 255.0
# Width of the white outline around the face, in canvas samples.
OUTLINE = 3.0
# Settings that match DejaVu Sans Bold to the height, width and weight of the reference's Helvetica Bold (20 x 14
# pixels with its outline): font size on a 512-pixel page, horizontal stretch, canvas samples eroded from every edge.
FONT_PIXELS, STRETCH, THINNING = 408, 0.88, 1.4

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Glyph:
    """Layers of a digit on a patch (height, width) of the canvas: transmitted fraction, added value and silhouette."""

    through: Array
    added: Array
    silhouette: NDArray[np.bool_]


@dataclass(frozen=True)
class Templates:
    """Cropped digits at image resolution: `grey` and `mask` are (n, side, side), and `height` and `width` are (n,)."""

    grey: Array
    mask: NDArray[np.bool_]
    height: NDArray[np.int64]
    width: NDArray[np.int64]


Ids = Annotated[NDArray[np.int64], Axes("glyph", is_float=False)]


class Glyphs(ABC):
    """A set of n digit glyphs; `labels` (n,) contains the digit of each glyph."""

    labels: NDArray[np.int64]
    pool = 2_000

    @abstractmethod
    def faces(self, ids: NDArray[np.int64]) -> Array:
        """Return the centred black faces as the covered fraction of each canvas sample: (len(ids), height, width)."""

    @abstractmethod
    def patches(self, ids: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the digits in white on black, as in MNIST: (len(ids), 28, 28)."""

    def glyphs(self, ids: NDArray[np.int64]) -> list[Glyph]:
        """Return the layers of each glyph in `ids`, including faces and outlines."""
        faces = self.faces(ids)
        reach = int(np.ceil(OUTLINE))
        faces = np.pad(faces, ((0, 0), (reach, reach), (reach, reach)))
        outlines = _dilate(faces, OUTLINE)
        through, added = (1 - outlines) * (1 - faces), WHITE * outlines * (1 - faces)
        return [Glyph(t, a, o >= 0.5) for t, a, o in zip(through, added, outlines, strict=True)]

    @checked(StimulusError)
    def of_class(self, digit: int) -> NDArray[np.int64]:
        """Return the ids of all glyphs of one digit."""
        return np.flatnonzero(self.labels == digit)

    def _known(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return `ids`. Raises StimulusError for a glyph that does not exist."""
        if not 0 <= ids.min() <= ids.max() < len(self.labels):
            raise StimulusError(
                given=f"glyphs {ids.min()} to {ids.max()}",
                expected=f"ids from 0 to {len(self.labels) - 1}",
                remedy="pass ids such as glyphs.of_class(3)",
            )
        return ids

    @cached_property
    def templates(self) -> Templates:
        """The first `pool` glyphs at image resolution, from which fragments are cut."""
        ids = np.arange(min(len(self.labels), self.pool))
        side = 40
        grey = np.zeros((len(ids), side, side), np.float32)
        mask = np.zeros((len(ids), side, side), np.bool_)
        sizes = np.zeros((2, len(ids)), np.int64)
        for row, glyph in enumerate(self.glyphs(ids)):
            canvas = np.full((CANVAS, CANVAS), GREY, np.float32)
            cover = np.zeros((CANVAS, CANVAS), np.float32)
            place(glyph, CANVAS // 2, CANVAS // 2, canvas, cover)
            small, shape = box_average(np.stack([canvas, cover]))
            inside = shape >= 127 / 255
            rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
            box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
            height, width = inside[box].shape
            grey[row, :height, :width], mask[row, :height, :width] = small[box], inside[box]
            sizes[:, row] = height, width
        return Templates(grey, mask, sizes[0], sizes[1])


class RenderedGlyphs(Glyphs):
    """The ten digits rendered in DejaVu Sans Bold."""

    def __init__(self) -> None:
        self.labels = np.arange(10)
        self._faces = _render()

    @checked(StimulusError)
    def faces(self, ids: Ids) -> Array:
        """Return the rendered faces: (len(ids), height, width)."""
        return self._faces[self._known(ids)]

    @checked(StimulusError)
    def patches(self, ids: Ids) -> NDArray[np.uint8]:
        """Return the rendered digits in white on black: (len(ids), 28, 28)."""
        return self._patches[self._known(ids)]

    @cached_property
    def _patches(self) -> NDArray[np.uint8]:
        height, width = self._faces.shape[1:]
        page = np.zeros((10, CANVAS, CANVAS), np.float32)
        page[:, (CANVAS - height) // 2 :, (CANVAS - width) // 2 :][:, :height, :width] = self._faces
        return np.rint(WHITE * box_average(page)[:, 2:-2, 2:-2]).astype(np.uint8)

    @cached_property
    def _glyphs(self) -> list[Glyph]:
        return super().glyphs(self.labels)

    @checked(StimulusError)
    def glyphs(self, ids: Ids) -> list[Glyph]:
        """Return the layers of each glyph in `ids`, which are computed once and cached."""
        return [self._glyphs[i] for i in self._known(ids)]


@checked(StimulusError)
class HandwrittenGlyphs(Glyphs):
    """MNIST digits, scaled to the height of the rendered digits. `split` and `folder` are as in `load_mnist`."""

    def __init__(self, split: str, folder: Path | str | None = None) -> None:
        images, labels = load_mnist(split, folder)
        self.images, self.labels = images, labels.astype(np.int64)

    @checked(StimulusError)
    def patches(self, ids: Ids) -> NDArray[np.uint8]:
        """Return the original MNIST images: (len(ids), 28, 28)."""
        return self.images[self._known(ids)]

    @checked(StimulusError)
    def faces(self, ids: Ids) -> Array:
        """Return the digits with sharpened edges, scaled from MNIST's 20-pixel box to 18.75 image pixels."""
        small = torch.from_numpy(self.images[self._known(ids), None].astype(np.float32) / 255)
        side = round(28 * 3.75)
        large = functional.interpolate(small, (side, side), mode="bilinear", align_corners=False)
        return ((large - 0.5) * 3 + 0.5).clamp(0, 1)[:, 0].numpy()


@lru_cache(maxsize=4)
def rendered() -> RenderedGlyphs:
    """Return the rendered digits, which are created on first use and cached."""
    return RenderedGlyphs()


def _render() -> Array:
    import matplotlib
    from PIL import Image, ImageDraw, ImageFont

    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans-Bold.ttf"
    font = ImageFont.truetype(str(path), FONT_PIXELS)
    faces = []
    for digit in range(10):
        page = Image.new("L", (512, 512), 0)
        ImageDraw.Draw(page).text((256, 256), str(digit), fill=255, font=font, anchor="mm")
        narrow = page.resize((round(CANVAS * STRETCH), CANVAS), Image.Resampling.BOX)
        faces.append(np.asarray(narrow, np.float32) / 255)
    return (1 - _dilate(1 - np.stack(faces), THINNING)).astype(np.float32)


def _dilate(faces: NDArray[np.floating], radius: float) -> Array:
    """Return the maximum over a disk around each sample; the edge of the disk is smoothed over one sample."""
    reach = int(np.ceil(radius))
    padded = np.pad(faces, ((0, 0), (reach, reach), (reach, reach)))
    height, width = faces.shape[1:]
    result = np.zeros_like(faces)
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            weight = np.float32(np.clip(radius + 0.5 - np.hypot(dy, dx), 0.0, 1.0))
            if weight > 0:
                shifted = padded[:, reach + dy : reach + dy + height, reach + dx : reach + dx + width]
                np.maximum(result, weight * shifted, out=result)
    return result


def place(glyph: Glyph, y: int, x: int, canvas: Array, *covers: Array) -> None:
    """Paint `glyph` centred at canvas sample (y, x), and set each of `covers` to 1 within the glyph's silhouette."""
    height, width = glyph.through.shape
    top, left = y - height // 2, x - width // 2
    rows = slice(max(top, 0), min(top + height, CANVAS))
    columns = slice(max(left, 0), min(left + width, CANVAS))
    part = slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left)
    patch = canvas[rows, columns]
    patch *= glyph.through[part]
    patch += glyph.added[part]
    for cover in covers:
        cover[rows, columns][glyph.silhouette[part]] = 1


def box_average(canvas: Array) -> Array:
    """Downsample (n, CANVAS, CANVAS) to (n, SIZE, SIZE) by averaging blocks of SUPER x SUPER samples."""
    return functional.avg_pool2d(torch.from_numpy(canvas)[:, None], SUPER)[:, 0].numpy()
