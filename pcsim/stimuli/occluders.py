"""Occluders in front of images: a bar or blocks that cover a fraction of the pixels, and a moving bar."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcsim.core.checks import Count, Finite, Positive, Share, Whole, checked
from pcsim.core.exceptions import StimulusError
from pcsim.stimuli.pixels import require_floating
from pcsim.stimuli.random import integers, uniform
from pcsim.stimuli.timeline import Epoch, Timeline

BLOCKS_PER_SIDE = 8


@checked(StimulusError, images=None)
def occluded(
    images: Tensor,
    share: Share,
    pattern: Literal["bar", "blocks"] = "bar",
    level: Finite = 0.5,
    seed: Whole = 0,
    first: Whole = 0,
) -> Tensor:
    """Return copies of `images` (batch, channel, height, width) with a fraction `share` of their pixels set to `level`.

    bar     one vertical bar at a random position; its width is share * image width, rounded to whole pixels
    blocks  squares whose side is 1/8 of the shorter image side, at random positions without overlap, until at least the
            fraction `share` of the pixels is covered (with at most one square more than necessary)

    The occluder of sample i is a function of (seed, first + i), independent of the batch size, and covers all channels.
    Raises StimulusError if the images are not floating-point, or if a bar would be narrower than a pixel.

        stimuli.occluded(images, 0.3, "blocks", seed=1)
    """
    _require_images(images)
    count, _, height, width = images.shape
    if pattern == "bar":
        covered = _bars(share, count, width, seed, first)[:, None, :]
    else:
        covered = _blocks(share, count, height, width, seed, first)
    hidden = torch.from_numpy(covered).to(images.device)[:, None]
    return torch.where(hidden, torch.full_like(images, level), images)


@checked(StimulusError, images=None)
def moving_bar(
    images: Tensor, width: Count, every: Positive, level: Finite = 0.5, *, name: str = "moving_bar"
) -> Timeline:
    """Present `images` (batch, channel, height, W) behind a vertical bar that moves to the right, pixel by pixel.

    In frame k = 0, 1, ..., from k * every to (k + 1) * every ms, the bar covers columns k - width + 1 to k. It enters
    the image from the left in frame 0 and is fully outside it in the last frame, k = W + width - 1.

    width  width of the bar in pixels
    every  time per frame, in ms
    level  pixel value of the bar

        stimuli.moving_bar(images, width=8, every=10.0)
    """
    _require_images(images)
    columns = images.shape[-1]

    def frame(number: int) -> Tensor:
        shown = images.clone()
        shown[..., max(0, number - width + 1) : number + 1] = level
        return shown

    settings = {"width": width, "level": level}
    duration = (columns + width) * every
    return Timeline((Epoch(duration, every, frame, name, "moving_bar", settings, tuple(images.shape)),))


def _bars(share: float, count: int, width: int, seed: int, first: int) -> NDArray[np.bool_]:
    """Return the columns that the bars cover, (count, width)."""
    wide = round(share * width)
    if share and not wide:
        raise StimulusError(
            given=f"share={share:g} of images that are {width} pixels wide",
            expected="a bar of at least one pixel, or share=0",
            remedy=f"pass share={1 / width:.2g}, or pattern='blocks'",
        )
    left = integers(uniform(seed, "occluding bar", first, count, 1), width - wide + 1)
    column = np.arange(width)
    return (left <= column) & (column < left + wide)


def _blocks(share: float, count: int, height: int, width: int, seed: int, first: int) -> NDArray[np.bool_]:
    """Return the pixels covered by blocks, (count, height, width). Blocks at the right and bottom edges are cropped."""
    side = max(1, round(min(height, width) / BLOCKS_PER_SIDE))
    rows, columns = math.ceil(height / side), math.ceil(width / side)
    number = np.arange(height)[:, None] // side * columns + np.arange(width) // side  # block of each pixel
    area = np.bincount(number.ravel())
    order = uniform(seed, "occluding blocks", first, count, rows * columns).argsort(1)
    before = area[order].cumsum(1) - area[order]  # pixels covered before a block is drawn
    chosen = np.zeros(order.shape, np.bool_)
    np.put_along_axis(chosen, order, before < share * height * width * (1.0 - 1e-12), axis=1)
    return chosen[:, number]


def _require_images(images: Tensor) -> None:
    require_floating(images)
    if images.dim() != 4 or not images.numel():
        raise StimulusError(
            given=f"images of shape {tuple(images.shape)}",
            expected="(batch, channel, height, width) with at least one image",
            remedy="add the missing axis: images[:, None] for grey images (batch, height, width)",
        )
