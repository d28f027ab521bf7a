"""Inference of the axes of frame arrays, the order of numbered files and, from frame durations, the frame rate.

Ambiguous cases raise an error that states which information to pass.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from statistics import median
from typing import Any

from einops import rearrange
from numpy.typing import NDArray

from pcsim.core.exceptions import StimulusError
from pcsim.stimuli.pixels import require_pixels

AXES = ("n", "time", "channel", "height", "width")
COLOURS = (1, 3)
MOST_CHANNELS = 4
WHOLE = re.compile(r"([0-9]+)")
DECIMAL = re.compile(r"((?:(?<![^\W_])-)?[0-9]+(?:\.[0-9]+)?)")


def clips_of(array: NDArray[Any], axes: str | None, what: str) -> tuple[NDArray[Any], ...]:
    """Split an array with the given `axes` into clips (time, channel, height, width).

    axes  names of the axes in order, such as "time height width channel"; inferred from the shape if None

    Raises StimulusError if the axes are ambiguous, or if the values are not pixels.
    """
    shape = array.shape
    names = (axes or _axes_of(shape) or "").split()
    if len(names) != len(shape) or len(set(names)) != len(names) or not {*AXES[1:2], *AXES[3:]} <= {*names} <= {*AXES}:
        guess = "n time height width channel" if len(shape) == 5 else "time channel height width"
        raise StimulusError(
            given=f"{what} of shape {shape}" + (f" with axes={axes!r}" if axes else ", whose axes are ambiguous"),
            expected="(time, height, width), (time, height, width, 1 or 3) or (n, time, up to 4 channels, height, "
            f"width), or names for all axes, chosen from {', '.join(AXES)}",
            remedy=f"pass array, axes={guess!r} to stimuli.read_film, naming the axes in order",
        )
    full = rearrange(array, f"{' '.join(names)} -> {' '.join(name if name in names else '1' for name in AXES)}")
    if full.size:  # Film reports empty arrays
        require_pixels(full, f"{what}: frames")
    return tuple(full)


def _axes_of(shape: tuple[int, ...]) -> str | None:
    """Return the axes of an array of frames, or None if its shape is ambiguous."""
    channels_last = bool(shape) and shape[-1] in COLOURS
    if len(shape) == 3:
        is_image = shape[2] <= MOST_CHANNELS < shape[1]
        return None if is_image else "time height width"
    if len(shape) == 4:
        may_be_first = shape[1] in COLOURS and shape[2] not in COLOURS
        return "time height width channel" if channels_last and not may_be_first else None
    if len(shape) == 5 and channels_last != (shape[2] <= MOST_CHANNELS):
        return "n time height width channel" if channels_last else " ".join(AXES)
    return None


def in_order(files: Sequence[Path]) -> list[Path]:
    """Return files sorted by the numbers in their names, or alphabetically if the names contain no numbers.

    Raises StimulusError if the order is ambiguous: if decimals or signs would change it, if two names have the same
    number, or if names with different text sort differently by letter and by number.
    """
    found = naturally_sorted(files)
    patterns = {_key(file, WHOLE)[::2] for file in files}
    is_clear = len({_key(file, WHOLE) for file in files}) == len(files)
    is_clear &= found == sorted(files, key=lambda file: _key(file, DECIMAL))
    if not is_clear or (len(patterns) > 1 and found != sorted(files, key=lambda file: file.stem)):
        shown = ", ".join(file.name for file in found[:4])
        raise StimulusError(
            given=f"{files[0].parent} with {shown} ..., whose order is ambiguous",
            expected="names that differ only in whole numbers, or whose alphabetical and numerical orders agree",
            remedy="rename them to 000.png, 001.png, ..., and put each clip into a separate folder",
        )
    return found


def naturally_sorted(files: Sequence[Path]) -> list[Path]:
    """Return files sorted by name, comparing numbers in names by value: a2.png before a10.png."""
    return sorted(files, key=lambda file: (_key(file, WHOLE), file.name))


def _key(file: Path, number: re.Pattern[str]) -> tuple[Any, ...]:
    """Split a name into alternating text and numbers, starting and ending with text."""
    return tuple(Decimal(part) if place % 2 else part.casefold() for place, part in enumerate(number.split(file.stem)))


def even_rate(durations: Sequence[int | float], tick: Fraction, path: Path) -> float | None:
    """Return the frame rate in Hz, given `durations` in units of `tick` seconds, or None if there are no durations.

    Raises StimulusError if a duration differs from the median by more than a tenth and by more than one unit.
    """
    if not durations:
        return None
    usual = median(durations)
    if not usual > 0 or any(abs(each - usual) > max(1, usual / 10) for each in durations):
        least, most = (float(1000 * tick * Fraction(each)) for each in (min(durations), max(durations)))
        raise StimulusError(
            given=f"{path}, whose frames last from {least:g} to {most:g} ms",
            expected="frames of equal duration, because a film has a single rate",
            remedy=f"resample the video with ffmpeg -i {path.name} -vf fps=25 even.mp4",
        )
    return float(len(durations) / (tick * sum(map(Fraction, durations))))
