"""Pixels: 8-bit values, or floating-point values from 0 (black) to 1 (white)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from pcsim.core.checks import Finite, checked
from pcsim.core.exceptions import StimulusError

LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""luminance weights of red, green and blue, ITU-R BT.601"""
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""mean and standard deviation of red, green and blue in ImageNet, with which most published weights were trained"""
Statistics = Annotated[Sequence[Finite], Field(min_length=1)]


@checked(StimulusError)
def normalise(images: Tensor, mean: Statistics = IMAGENET[0], std: Statistics = IMAGENET[1]) -> Tensor:
    """Return (x - mean) / std for each channel of images (..., channel, height, width), 8-bit or from 0 to 1.

    mean, std  one value for each channel; by default those of ImageNet
    Raises StimulusError if the images are on another scale, for example because they are already normalised.

        net(stimuli.normalise(images))
    """
    if images.is_floating_point() and images.numel() and -10 <= images.min() < 0 < images.max() <= 10:
        raise StimulusError(
            given=f"images with values from {float(images.min()):g} to {float(images.max()):g}",
            expected="8-bit pixels, or finite floating-point values from 0 (black) to 1 (white)",
            remedy="pass the images unchanged if they are already normalised, as they seem to be; "
            "pass (images + 1) / 2 if black is -1",
        )
    require_pixels(images, "images")
    centre, scale = _per_channel(images, mean, std)
    return (as_pixels(images) - centre) / scale


@checked(StimulusError)
def denormalise(images: Tensor, mean: Statistics = IMAGENET[0], std: Statistics = IMAGENET[1]) -> Tensor:
    """Return std x + mean for each channel, the inverse of `normalise`, useful for plots."""
    if not images.is_floating_point():
        raise StimulusError(
            given=f"images of type {images.dtype}",
            expected="normalised floating-point images",
            remedy="pass the images that stimuli.normalise returned",
        )
    centre, scale = _per_channel(images, mean, std)
    return images * scale + centre


def _per_channel(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> tuple[Tensor, Tensor]:
    channels = images.shape[-3] if images.dim() >= 3 else 0
    if not channels == len(mean) == len(std) or min(std) <= 0:
        grey = ", or repeat grey images with images.expand(-1, 3, -1, -1)" if channels == 1 and len(mean) == 3 else ""
        raise StimulusError(
            given=f"images of shape {tuple(images.shape)} with mean={tuple(mean)} and std={tuple(std)}",
            expected="images (..., channel, height, width), and a mean and a positive std for each channel",
            remedy=f"pass mean=[...] and std=[...] with {max(channels, 1)} values each{grey}",
        )
    dtype = images.dtype if images.is_floating_point() else torch.float32
    centre, scale = (torch.tensor(values, dtype=dtype, device=images.device) for values in (mean, std))
    return centre[:, None, None], scale[:, None, None]


def as_pixels(images: Tensor) -> Tensor:
    """Return 8-bit images as float32 in [0, 1], and all other images unchanged."""
    return images.float() / 255 if images.dtype == torch.uint8 else images


def require_pixels(values: Tensor | NDArray[Any], what: str = "frames") -> None:
    """Raise StimulusError unless `values` are 8-bit, or finite floating-point values from 0 to 1."""
    kind = getattr(values.dtype, "name", str(values.dtype)).removeprefix("torch.")
    given, remedy = f"{what} of type {kind} and shape {tuple(values.shape)}", "pass at least one frame"
    is_valid = 0 not in values.shape
    if is_valid and kind.startswith(("float", "bfloat")):
        plain = values.detach() if isinstance(values, Tensor) else values
        low, high = float(plain.min()), float(plain.max())
        is_valid = low >= 0 and high <= 1  # false for NaN
        span = f"values from {low:g} to {high:g}" if math.isfinite(low + high) else "NaN or infinite values"
        given, remedy = f"{what} of type {kind} with {span}", _remedy(low, high)
    elif is_valid:
        is_valid, remedy = kind == "uint8", f"{_remedy(0, 255)}, or pass frames.to(torch.uint8) if they are 8-bit"
    if not is_valid:
        expected = "8-bit pixels, or finite floating-point values from 0 (black) to 1 (white)"
        raise StimulusError(given=given, expected=expected, remedy=remedy)


def _remedy(low: float, high: float) -> str:
    if not math.isfinite(low + high):
        return "leave out the invalid frames, or replace their values with torch.nan_to_num(frames)"
    if low < 0 and high <= 1:
        return "pass (frames + 1) / 2 if black is -1, or frames.clip(0, 1)"
    return "divide the frames by the full scale: frames / 255, or frames / 4095 for a 12-bit camera"


def require_floating(images: Tensor) -> None:
    """Raise StimulusError unless `images` is a floating-point tensor, the type that networks require."""
    if not isinstance(images, Tensor) or not images.is_floating_point() or not images.dim():
        kind = (
            f"{images.dtype} and shape {tuple(images.shape)}" if isinstance(images, Tensor) else type(images).__name__
        )
        raise StimulusError(
            given=f"images of type {kind}",
            expected="a floating-point tensor, usually with values in [0, 1]",
            remedy="pass images.float() / 255 for 8-bit images, or torch.from_numpy(images) for a NumPy array",
        )
