"""Video clips with a frame rate: loading, fitting and splitting them, and drawing sequences by (seed, index).

film = stimuli.read_film("walk.gif").fitted(multiple=8)
train, test = film.split()
frames = train.draw(seed=0, first=0, count=16, length=10)          (16, 10, channel, height, width)
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from pcsim.core.checks import Count, Positive, Whole, checked
from pcsim.core.exceptions import StimulusError
from pcsim.stimuli.layout import clips_of
from pcsim.stimuli.pixels import LUMA, as_pixels, require_pixels
from pcsim.stimuli.random import integers, uniform
from pcsim.stimuli.readers import mapped, read_clips
from pcsim.stimuli.timeline import Epoch, Timeline

Frames = NDArray[Any]
"""an array of frames, uint8 or float32 in [0, 1]"""


@checked(StimulusError, clips=None)
@dataclass(frozen=True, repr=False)
class Film:
    """A set of video clips whose frames all have the same size.

    clips  arrays (time, channel, height, width), uint8, or float32 with black as 0 and white as 1
    rate   frames per second; a prediction one frame ahead is 1 / rate seconds ahead
    """

    clips: tuple[Frames, ...]
    rate: float
    name: str = "film"

    def __post_init__(self) -> None:
        clips = self.clips if isinstance(self.clips, tuple | list) else (None,)
        arrays = [clip for clip in clips if isinstance(clip, np.ndarray)]
        sizes = {clip.shape[1:] for clip in arrays}
        if len(arrays) < len(clips) or len(sizes) != 1 or any(clip.ndim != 4 or not clip.size for clip in arrays):
            raise StimulusError(
                given=f"{self.name}: clips of shapes {', '.join(str(clip.shape) for clip in arrays) or 'none'}",
                expected="at least one NumPy array (time, channel, height, width), all with frames of the same size",
                remedy="create one Film for each size, then fit them to a common size with film.fitted(size=(64, 64))",
            )
        if not (math.isfinite(self.rate) and self.rate > 0):
            raise StimulusError(
                given=f"{self.name}: a rate of {self.rate}",
                expected="a positive number of frames per second",
                remedy="pass rate=10.0",
            )
        for clip in arrays:
            require_pixels(clip, f"{self.name}: frames")

    def __repr__(self) -> str:
        channels, height, width = self.shape
        count = f"{len(self.clips)} clip{'s' * (len(self.clips) > 1)}"
        return f"Film({self.name}: {count}, {len(self)} frames of {channels}x{height}x{width} at {self.rate:g} Hz)"

    def __len__(self) -> int:
        return sum(len(clip) for clip in self.clips)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of a frame: (channel, height, width)."""
        _, channels, height, width = self.clips[0].shape
        return channels, height, width

    @checked(StimulusError)
    def fitted(
        self,
        size: tuple[Count, Count] | None = None,
        *,
        multiple: Count = 1,
        how: Literal["crop", "pad", "resize"] = "crop",
    ) -> Film:
        """Return the film with frames of `size` (height, width), or of the nearest size divisible by `multiple`.

        how  "crop" keeps the centre, "pad" repeats the border pixels, "resize" rescales (bilinear, antialiased)

        A PredNet with n layers needs multiple=2 ** (n - 1). Raises StimulusError when cropping to a larger size or
        padding to a smaller size, and for an unknown `how`.
        """
        given = self.shape[1:]
        up = how == "pad"
        height, width = size or tuple((-(-side // multiple) if up else side // multiple) * multiple for side in given)
        wrong = {"crop": (height > given[0] or width > given[1]), "pad": (height < given[0] or width < given[1])}
        if wrong.get(how) or height < 1 or width < 1:
            raise StimulusError(
                given=f"size {height}x{width} with how={how!r} for frames of {given[0]}x{given[1]}",
                expected="cropping to a smaller size, padding to a larger size, or how='resize'",
                remedy="call fitted(multiple=8) for the nearest size divisible by 8, or pass how='resize' for any size",
            )
        change = {"crop": _cropped, "pad": _padded, "resize": _resized}[how]
        return replace(self, clips=tuple(change(clip, height, width) for clip in self.clips))

    def grey(self) -> Film:
        """Return the luminance of a colour film, or a grey film unchanged.

        Raises StimulusError unless the film has 1 or 3 channels.
        """
        if self.shape[0] == 1:
            return self
        if self.shape[0] != 3:
            raise StimulusError(
                given=f"grey() of {self!r}",
                expected="1 channel, or 3 channels: red, green and blue",
                remedy="choose the channels first: Film(tuple(clip[:, :3] for clip in film.clips), film.rate)",
            )
        mixed = [np.einsum("tchw,c->thw", clip.astype(np.float32), LUMA)[:, None] for clip in self.clips]
        like = zip(mixed, self.clips, strict=True)
        return replace(self, clips=tuple(_as_type(grey, clip) for grey, clip in like))

    @checked(StimulusError)
    def every(self, frames: Count) -> Film:
        """Return the film reduced to every `frames`-th frame, with the rate divided by `frames`."""
        return replace(self, clips=tuple(clip[::frames] for clip in self.clips), rate=self.rate / frames)

    @checked(StimulusError)
    def split(self, share: float = 0.2, by: Literal["time", "clip"] = "time") -> tuple[Film, Film]:
        """Split into (train, test) without shared frames: test is the last `share` of each clip, or of the clips."""
        if not 0 < share < 1:
            raise StimulusError(
                given=f"split(share={share})",
                expected="a fraction between 0 and 1",
                remedy="call film.split(0.2)",
            )
        if by == "clip":
            first = len(self.clips) - max(1, round(share * len(self.clips)))
            parts = self.clips[:first], self.clips[first:]
        else:
            cuts = [len(clip) - max(1, round(share * len(clip))) for clip in self.clips]
            parts = (
                tuple(clip[:cut] for clip, cut in zip(self.clips, cuts, strict=True) if cut),
                tuple(clip[cut:] for clip, cut in zip(self.clips, cuts, strict=True)),
            )
        if not parts[0]:
            raise StimulusError(
                given=f"split by {by} of {self!r}",
                expected="at least one frame or clip left for training",
                remedy="call film.split(0.2, by='time'), or load more clips",
            )
        train, test = (replace(self, clips=part) for part in parts)
        return train, test

    @checked(StimulusError)
    def draw(self, seed: Whole, first: Whole, count: Count, length: Count) -> Frames:
        """Draw `count` sequences, starting at index `first`: (count, length, channel, height, width).

        The starting frame of a sequence is a function of (seed, index), and all starting frames are equally likely.
        """
        starts = np.array([max(0, len(clip) - length + 1) for clip in self.clips])
        self._require_length(length, starts)
        chosen = integers(uniform(seed, "sequences", first, count, 1)[:, 0], int(starts.sum()))
        ends = np.cumsum(starts)
        which = np.searchsorted(ends, chosen, side="right")
        begin = chosen - (ends - starts)[which]
        return np.stack([self.clips[w][b : b + length] for w, b in zip(which, begin, strict=True)])

    @checked(StimulusError)
    def sequences(self, length: Count) -> Frames:
        """Cut the clips into consecutive, non-overlapping sequences: (n, length, channel, height, width)."""
        starts = [range(0, len(clip) - length + 1, length) for clip in self.clips]
        self._require_length(length, np.array([len(own) for own in starts]))
        return np.stack([clip[at : at + length] for clip, own in zip(self.clips, starts, strict=True) for at in own])

    def _require_length(self, length: int, starts: NDArray) -> None:
        if not starts.sum():
            longest = max(len(clip) for clip in self.clips)
            raise StimulusError(
                given=f"sequences of {length} frames from {self!r}",
                expected=f"at most {longest} frames, the length of the longest clip",
                remedy=f"pass length={longest} or less",
            )


@checked(StimulusError, frames=None)
def as_timeline(frames: Frames | Tensor, every: Positive = 10.0, *, name: str = "frames") -> Timeline:
    """Convert `frames` (n, time, channel, height, width), 8-bit or in [0, 1], to a stimulus with `every` ms per frame.

    By default, each frame lasts one step of a discrete network (`net.step_ms`). Frames are converted to floating point
    only when they are presented, so a long 8-bit clip needs no extra memory.
    """
    shown = rearrange(as_frames(frames), "n time ... -> time n ...")
    shape = tuple(shown.shape[1:])
    return Timeline((Epoch(len(shown) * every, every, lambda k: as_pixels(shown[k]), name, "sequence", {}, shape),))


def as_frames(frames: Frames | Tensor) -> Tensor:
    """Return `frames` (n, time, channel, height, width) as a tensor.

    Raises StimulusError unless they are 8-bit, or finite and from 0 to 1.
    """
    if isinstance(frames, Film):
        raise StimulusError(
            given=repr(frames),
            expected="sequences of frames from the film, (n, time, channel, height, width)",
            remedy="call film.sequences(length=20) or film.draw(seed=0, first=0, count=16, length=20)",
        )
    try:
        # Copy arrays with negative strides, as after a flip, because torch does not support them.
        shown = frames if isinstance(frames, Tensor) else torch.as_tensor(np.ascontiguousarray(frames))
    except (TypeError, ValueError, RuntimeError) as reason:
        raise StimulusError(
            given=f"frames that are not a numeric array ({reason})",
            expected="a tensor or an array (n, time, channel, height, width)",
            remedy="pass film.sequences(length=20), or load other formats with stimuli.read_film",
        ) from reason
    if shown.dim() != 5:
        raise StimulusError(
            given=f"frames of shape {tuple(shown.shape)}",
            expected="(n, time, channel, height, width)",
            remedy="pass clip[None] for a single clip, or load other layouts with stimuli.read_film",
        )
    require_pixels(shown)
    return shown


@checked(StimulusError, frames=None, how=None)
def oddball(frames: Frames | Tensor, at: int, how: Literal["reverse", "cut"] = "reverse") -> Tensor:
    """Return `frames` (n, time, ...) with an unexpected continuation of each clip from frame `at` on.

    how  "reverse": the clip runs backwards, x(at - 1 + h) = x(at - 1 - h), so each step changes the same
         pixels as the step that it reverses
         "cut": the clip continues with the frames of the next clip

    Use the unchanged frames as the standard for comparison. Raises StimulusError for clips of fewer than 3 frames (2
    for "cut"), if too few frames precede `at` for reversed playback, or if there is no second clip to cut to.
    """
    shown = as_frames(frames)
    count, length = shown.shape[:2]
    if how in ("reverse", "cut") and length < (least := 3 if how == "reverse" else 2):
        raise StimulusError(
            given=f"how={how!r} for clips of {length} frame{'s' * (length > 1)}",
            expected=f"clips of at least {least} frames",
            remedy="draw longer clips, such as film.draw(seed=0, first=0, count=16, length=10)",
        )
    if how not in ("reverse", "cut") or at not in range(1, length) or (how == "reverse" and length > 2 * at - 1):
        raise StimulusError(
            given=f"at={at} and how={how!r} for clips of {length} frames",
            expected="how='reverse' or 'cut', at from 1 to the last frame, and at most 2 * at - 1 frames for 'reverse'",
            remedy=f"pass at={length // 2 + 1}, how='reverse'",
        )
    if how == "cut" and count < 2:
        raise StimulusError(given="how='cut' with one clip", expected="at least two clips", remedy="pass how='reverse'")
    odd = shown[:, 2 * at - 1 - length : at - 1].flip(1) if how == "reverse" else shown.roll(-1, 0)[:, at:]
    return torch.cat([shown[:, :at], odd], 1)


@checked(StimulusError, source=None)
def read_film(
    source: Path | str | NDArray | Tensor,
    rate: Positive | None = None,
    name: str | None = None,
    *,
    axes: str | None = None,
    background: float = 0.0,
) -> Film:
    """Load a film from an array, a file or a folder of images.

    source  an array, .npy file or .npz file (with arrays "frames" and "fps"); a folder of 8-bit images, sorted by the
            numbers in their names (hidden files are ignored); a GIF; a TIFF stack; or a video file, which requires
            the `video` extra
    rate    frames per second; required if the source does not specify a rate, and otherwise replaces that rate
    axes    names of the axes of an array, such as "n time height width channel"; by default, (time, height,
            width), (time, height, width, 1 or 3) or (n, time, channel, height, width), also with 1 or 3 channels last
    background  grey level behind transparent pixels, from 0 (black) to 1 (white)

    Raises StimulusError for a source that is damaged or too large (`pcsim.stimuli.files.MOST_BYTES`), for ambiguous
    axes or an ambiguous file order, for images with more than 8 bits per channel, for folders in which a file contains
    several images, and for frames of unequal duration.
    """
    if isinstance(source, Path | str):
        clips, found, path = read_clips(source, axes, background)
        name = name or path.stem
    else:
        clips, found, name = clips_of(_array(source), axes, "an array"), None, name or "array"
    rate = found if rate is None else rate
    if rate is None:
        raise StimulusError(
            given=f"{name}, which has no rate",
            expected="a number of frames per second",
            remedy="pass rate=10.0 to read_film",
        )
    kept = (clip if clip.dtype == np.uint8 else clip.astype(np.float32) for clip in clips)
    return Film(tuple(kept), float(rate), name)


def _array(source: NDArray | Tensor) -> NDArray:
    try:
        array = source.detach().cpu().numpy() if isinstance(source, Tensor) else np.asarray(source)
    except (TypeError, ValueError, RuntimeError) as reason:
        raise StimulusError(
            given=f"a {type(source).__name__} that is not a numeric array ({reason})",
            expected="an array or tensor of frames, or a path",
            remedy="pass np.stack(frames) for frames of the same size, and values.float() for a bfloat16 tensor",
        ) from reason
    if np.ma.is_masked(source):
        raise StimulusError(
            given="a masked array with masked values",
            expected="frames without missing values",
            remedy="fill in the missing values, for example with frames.filled(0)",
        )
    return array


@checked(StimulusError)
def read_moving_mnist(path: Path | str) -> Film:
    """Load the published test sequences of Srivastava et al. 2015, `mnist_test_seq.npy`: (20, 10000, 64, 64), 8-bit.

    The data do not specify a frame rate, so it is set to 10 Hz. Raises StimulusError for any other file.
    """
    array = mapped(path)
    if array.ndim != 4 or array.shape[0] != 20 or array.shape[2:] != (64, 64) or array.dtype != np.uint8:
        raise StimulusError(
            given=f"{path} of shape {array.shape} and type {array.dtype}",
            expected="(20, n, 64, 64), 8-bit",
            remedy="pass the path of mnist_test_seq.npy, or load other files with stimuli.read_film",
        )
    return Film(tuple(rearrange(array, "time n height width -> n time 1 height width")), 10.0, "moving MNIST")


def _cropped(clip: Frames, height: int, width: int) -> Frames:
    top, left = (clip.shape[2] - height) // 2, (clip.shape[3] - width) // 2
    return clip[:, :, top : top + height, left : left + width]


def _padded(clip: Frames, height: int, width: int) -> Frames:
    more = height - clip.shape[2], width - clip.shape[3]
    sides = [(0, 0), (0, 0), *((extra // 2, extra - extra // 2) for extra in more)]
    return np.pad(clip, sides, mode="edge")


def _resized(clip: Frames, height: int, width: int) -> Frames:
    values = torch.from_numpy(np.ascontiguousarray(clip, np.float32))
    return _as_type(functional.interpolate(values, (height, width), mode="bilinear", antialias=True).numpy(), clip)


def _as_type(values: NDArray, like: Frames) -> Frames:
    return (
        np.rint(values).clip(0, 255).astype(np.uint8)
        if like.dtype == np.uint8
        else values.clip(0, 1).astype(np.float32)
    )
