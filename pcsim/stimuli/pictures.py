"""Pictures from a folder or a list of files, as a batch for a network.

images, names = stimuli.read_images("objects", size=64, channels=1)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from pcsim.core.checks import Count, Share, checked
from pcsim.core.exceptions import StimulusError
from pcsim.core.storage import full_path
from pcsim.stimuli.files import require_affordable
from pcsim.stimuli.layout import naturally_sorted
from pcsim.stimuli.pixels import LUMA
from pcsim.stimuli.readers import IMAGES, read_picture

Fit = Literal["crop", "stretch"]
UNREADABLE = (".gif", ".webp", ".heic", ".heif", ".avif", ".jp2", ".jfif", ".svg", ".tga", ".ppm", ".pgm", ".psd")


@checked(StimulusError)
def read_images(
    source: str | Path | Sequence[str | Path],
    size: Count | tuple[Count, Count] | None = None,
    channels: Literal[1, 3] | None = None,
    *,
    fit: Fit | None = None,
    background: Share | None = None,
) -> tuple[Tensor, tuple[str, ...]]:
    """Load pictures as a float32 tensor (n, channel, height, width) with values in [0, 1], and return their file names.

    source      a folder, sorted by the numbers in the names (hidden files and files other than pictures are ignored),
                one file, or a sequence of files, which keeps its order: 8-bit PNG, JPEG, BMP or TIFF
    size        height and width, or one number for both: rescales the pictures (bilinear, antialiased). Required if the
                pictures differ in size
    channels    1 converts colour to luminance (ITU-R BT.601), 3 repeats grey. Required if some pictures are grey and
                others in colour
    fit         for pictures whose aspect ratio differs from that of `size`: "crop" keeps the centre, "stretch" distorts
    background  grey level behind transparent pixels, from 0 (black) to 1 (white). Required if any pixels are
                transparent

    The orientation stored in a file is applied. Raises StimulusError if one of these settings is required but missing,
    for a folder without pictures, and for files that are damaged, too large (`pcsim.stimuli.files.MOST_BYTES`) or of
    another type, or that contain several images or more than 8 bits per channel.

        images, names = pcsim.stimuli.read_images("objects", size=64, channels=1)
        run = pcsim.simulate(net, images, solver=RK4(dt=1.0), until=200.0)
    """
    paths = _paths(source)
    shape = (size, size) if isinstance(size, int) else size
    images: list[Tensor] = []
    for path in paths:
        pixels = read_picture(path, background, copies=1 if shape else len(paths))
        image = torch.from_numpy(_with_channels(pixels, channels).transpose(2, 0, 1))
        require_affordable(4 * len(paths) * image.shape[0] * int(np.prod(shape or image.shape[1:])), path)
        images.append(image if shape is None else _rescaled(image, shape, fit, path))
    _require_same_shape(images, paths)
    return torch.stack(images), tuple(path.name for path in paths)


def _paths(source: str | Path | Sequence[str | Path]) -> list[Path]:
    """Return the paths of the pictures. Raises StimulusError if there are none, or if one has an unsupported type."""
    if not isinstance(source, str | Path):
        paths = [full_path(path) for path in source]
    elif (folder := full_path(source)).is_dir():
        files = [path for path in folder.iterdir() if not path.name.startswith(".") and path.is_file()]
        if left := [path.name for path in files if path.suffix.lower() in UNREADABLE]:
            raise StimulusError(
                given=f"{folder} with {', '.join(sorted(left)[:4])}, a type that is not supported",
                expected=f"pictures of type {', '.join(IMAGES)}",
                remedy="convert them to PNG, or pass a list of the other files: sorted(Path(folder).glob('*.png'))",
            )
        paths = naturally_sorted([path for path in files if path.suffix.lower() in IMAGES])
    else:
        paths = [folder]
    wrong = [path for path in paths if path.suffix.lower() not in IMAGES]
    if not paths or wrong:
        raise StimulusError(
            given=f"{source}, which contains no pictures" if not paths else f"{wrong[0]}",
            expected=f"a folder or files of type {', '.join(IMAGES)}",
            remedy="pass the folder that directly contains the pictures"
            if not paths
            else "check the path, or convert the file to PNG",
        )
    return paths


def _with_channels(pixels: NDArray[np.uint8], channels: int | None) -> NDArray[Any]:
    """Return 8-bit pixels (height, width, 1 or 3) as float32 in [0, 1] with the given number of channels."""
    values = pixels.astype(np.float32) / np.float32(255)
    if channels == 1 and values.shape[-1] == 3:
        values = (values @ LUMA)[..., None].clip(0, 1)
    return np.repeat(values, 3, -1) if channels == 3 and values.shape[-1] == 1 else values


def _rescaled(image: Tensor, size: tuple[int, int], fit: Fit | None, path: Path) -> Tensor:
    """Return an image (channel, height, width) of the given size."""
    (height, width), (rows, columns) = image.shape[1:], size
    # The largest part with the aspect ratio of `size` (if the ratios agree, the whole image, up to rounding).
    kept = min(height, round(width * rows / columns)), min(width, round(height * columns / rows))
    if kept != (height, width) and fit is None:
        raise StimulusError(
            given=f"{path} with {height}x{width} pixels for size={rows}x{columns}, which differs in aspect ratio",
            expected="pictures with the aspect ratio of `size`, or fit='crop' or 'stretch'",
            remedy="pass fit='crop' to cut off the borders, or fit='stretch' to distort the pictures",
        )
    if fit != "stretch":
        kept = max(kept[0], 1), max(kept[1], 1)
        top, left = (height - kept[0]) // 2, (width - kept[1]) // 2
        image = image[:, top : top + kept[0], left : left + kept[1]]
    return functional.interpolate(image[None], size, mode="bilinear", antialias=True)[0].clamp(0, 1)


def _require_same_shape(images: Sequence[Tensor], paths: Sequence[Path]) -> None:
    for image, path in zip(images, paths, strict=True):
        if image.shape == images[0].shape:
            continue
        is_size = image.shape[1:] != images[0].shape[1:]
        shown = [
            f"{name} ({'x'.join(map(str, each.shape))})"
            for name, each in ((paths[0].name, images[0]), (path.name, image))
        ]
        raise StimulusError(
            given=f"pictures of different shapes (channel x height x width): {' and '.join(shown)}",
            expected="pictures of the same size, all grey or all in colour",
            remedy="pass size=(height, width) to rescale them" if is_size else "pass channels=1 for grey pictures",
        )
