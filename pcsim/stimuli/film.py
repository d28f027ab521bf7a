"""Films: clips of frames and their rate. Read them, fit them to a network, split them, and draw by (seed, index).

film = stimuli.read_film("walk.gif").fitted(multiple=8)
train, test = film.split()
frames = train.draw(seed=0, first=0, count=16, length=10)          (16, 10, channel, height, width)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from pcsim.core.exceptions import StimulusError, needs_extra
from pcsim.stimuli.digits import as_pixels
from pcsim.stimuli.random import integers, uniform
from pcsim.stimuli.timeline import Timeline, sequence

Frames = NDArray[Any]
"""frames: uint8, or float32 from 0 to 1"""
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".mpg")
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""luminance weights of red, green and blue, ITU-R BT.601"""
TOO_BRIGHT = 10.0
"""a value that frames from 0 to 1 never exceed, even with noise, and frames from 0 to 255 do"""


@dataclass(frozen=True, repr=False)
class Film:
    """Clips of frames of one size.

    clips  each (time, channel, height, width), uint8, or float32 with black 0 and white 1
    rate   frames a second: part of the data, as a prediction one frame ahead is one 1 / rate seconds ahead
    """

    clips: tuple[Frames, ...]
    rate: float
    name: str = "film"

    def __post_init__(self) -> None:
        sizes = {clip.shape[1:] for clip in self.clips}
        if len(sizes) != 1 or any(clip.ndim != 4 or not len(clip) for clip in self.clips):
            raise StimulusError(
                given=f"clips of shapes {', '.join(str(clip.shape) for clip in self.clips) or 'none'}",
                expected="at least one, each (time, channel, height, width), with frames of one size",
                remedy="make one Film for each size, and bring them to one with film.fitted(size=(64, 64))",
            )
        if not (math.isfinite(self.rate) and self.rate > 0):
            raise StimulusError(
                given=f"a rate of {self.rate}",
                expected="frames per second, above 0",
                remedy="write read_film(path, rate=10.0)",
            )

    def __repr__(self) -> str:
        channels, height, width = self.shape
        count = f"{len(self.clips)} clip{'s' * (len(self.clips) > 1)}"
        return f"Film({self.name}: {count}, {len(self)} frames of {channels}x{height}x{width} at {self.rate:g} Hz)"

    def __len__(self) -> int:
        return sum(len(clip) for clip in self.clips)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channel, height, width) of a frame."""
        _, channels, height, width = self.clips[0].shape
        return channels, height, width

    def fitted(
        self,
        size: tuple[int, int] | None = None,
        *,
        multiple: int = 1,
        how: Literal["crop", "pad", "resize"] = "crop",
    ) -> Film:
        """Return the film at another size: (height, width), or the nearest whose sides `multiple` divides.

        how  "crop" keeps the middle, "pad" repeats the border, "resize" scales (bilinear, antialiased).
        A PredNet of n layers needs multiple=2 ** (n - 1). Raises StimulusError for a crop to a larger size, a pad to a
        smaller one, or an unknown `how`.
        """
        given = self.shape[1:]
        up = how == "pad"
        height, width = size or tuple((-(-side // multiple) if up else side // multiple) * multiple for side in given)
        wrong = {"crop": (height > given[0] or width > given[1]), "pad": (height < given[0] or width < given[1])}
        if how not in ("crop", "pad", "resize") or wrong.get(how) or height < 1 or width < 1:
            raise StimulusError(
                given=f"fitted({height}x{width}, how={how!r}) of frames of {given[0]}x{given[1]}",
                expected="crop to a smaller size, pad to a larger one, or resize",
                remedy="write fitted(multiple=8) for the nearest size that 8 divides, or how='resize' for any size",
            )
        change = {"crop": _cropped, "pad": _padded, "resize": _resized}[how]
        return replace(self, clips=tuple(change(clip, height, width) for clip in self.clips))

    def grey(self) -> Film:
        """Return the luminance of a colour film; a grey film is returned as it is."""
        if self.shape[0] != 3:
            return self
        mixed = [np.einsum("tchw,c->thw", clip.astype(np.float32), LUMA)[:, None] for clip in self.clips]
        like = zip(mixed, self.clips, strict=True)
        return replace(self, clips=tuple(_as_type(grey, clip) for grey, clip in like))

    def every(self, frames: int) -> Film:
        """Keep every `frames`-th frame, and divide the rate by `frames`."""
        _require_positive(frames=frames)
        return replace(self, clips=tuple(clip[::frames] for clip in self.clips), rate=self.rate / frames)

    def split(self, share: float = 0.2, by: Literal["time", "clip"] = "time") -> tuple[Film, Film]:
        """Return (train, test) without a common frame: test is the last `share` of every clip, or of the clips."""
        if by not in ("time", "clip") or not 0 < share < 1:
            raise StimulusError(
                given=f"split(share={share}, by={by!r})",
                expected="a share between 0 and 1, by 'time' or 'clip'",
                remedy="write film.split(0.2)",
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
                expected="something left to train on",
                remedy="write film.split(0.2, by='time'), or read more clips",
            )
        train, test = (replace(self, clips=part) for part in parts)
        return train, test

    def draw(self, seed: int, first: int, count: int, length: int) -> Frames:
        """Draw the sequences first, first + 1, ...: (count, length, channel, height, width).

        The frame at which each begins is a function of (seed, index); all are equally likely.
        """
        starts = np.array([max(0, len(clip) - length + 1) for clip in self.clips])
        self._require_length(length, starts)
        chosen = integers(uniform(seed, "sequences", first, count, 1)[:, 0], int(starts.sum()))
        ends = np.cumsum(starts)
        which = np.searchsorted(ends, chosen, side="right")
        begin = chosen - (ends - starts)[which]
        return np.stack([self.clips[w][b : b + length] for w, b in zip(which, begin, strict=True)])

    def sequences(self, length: int) -> Frames:
        """Return all sequences that lie end to end, (n, length, channel, height, width): they do not overlap."""
        starts = [range(0, len(clip) - length + 1, length) for clip in self.clips]
        self._require_length(length, np.array([len(own) for own in starts]))
        return np.stack([clip[at : at + length] for clip, own in zip(self.clips, starts, strict=True) for at in own])

    def _require_length(self, length: int, starts: NDArray) -> None:
        _require_positive(length=length)
        if not starts.sum():
            longest = max(len(clip) for clip in self.clips)
            raise StimulusError(
                given=f"sequences of {length} frames from {self!r}",
                expected=f"at most {longest} frames, the longest clip",
                remedy=f"pass length={longest} or less",
            )


def as_timeline(frames: Frames | Tensor, every: float = 10.0) -> Timeline:
    """Turn `frames` (n, time, channel, height, width), 8-bit or in [0, 1], into a stimulus: each for `every` ms.

    The default is one step of a discrete network (`net.step_ms`).

    A frame becomes floating point only when it is shown, so a long 8-bit clip takes no more memory.
    """
    return sequence(rearrange(as_frames(frames), "n time ... -> time n ..."), every).mapped(as_pixels)


def as_frames(frames: Frames | Tensor) -> Tensor:
    """Return `frames` (n, time, channel, height, width), 8-bit or from 0 to 1. Raises StimulusError for others."""
    if isinstance(frames, Film):
        raise StimulusError(
            given=repr(frames),
            expected="sequences of its frames, (n, time, channel, height, width)",
            remedy="write film.sequences(length=20), or film.draw(seed=0, first=0, count=16, length=20)",
        )
    shown = torch.as_tensor(frames)
    if shown.dim() != 5:
        raise StimulusError(
            given=f"frames of shape {tuple(shown.shape)}",
            expected="(n, time, channel, height, width)",
            remedy="write clip[None] for a single clip; stimuli.read_film reads other layouts",
        )
    if shown.dtype != torch.uint8 and (not shown.is_floating_point() or bool((shown.detach() > TOO_BRIGHT).any())):
        raise StimulusError(
            given=f"frames of type {shown.dtype} up to {shown.max():g}",
            expected="8-bit values, or floating point from 0 (black) to 1 (white)",
            remedy="write frames / 255, or frames.to(torch.uint8) if they are 8-bit values",
        )
    return shown


def oddball(frames: Frames | Tensor, at: int, how: Literal["reverse", "cut"] = "reverse") -> Tensor:
    """Return `frames` (n, time, ...) with a surprise: from frame `at` on they do not continue as before.

    how  "reverse": they run backwards, x(at - 1 + h) = x(at - 1 - h), so each step changes as many pixels as before
         "cut": they continue with the frames of the next clip
    The unchanged frames are the standard to compare with. Raises StimulusError if the past is too short to be played
    backwards, or there is no other clip.
    """
    shown = as_frames(frames)
    count, length = shown.shape[:2]
    if how not in ("reverse", "cut") or not 0 < at < length or (how == "reverse" and length > 2 * at - 1):
        raise StimulusError(
            given=f"oddball(at={at}, how={how!r}) of {length} frames",
            expected="how 'reverse' or 'cut', a frame after the first, and for 'reverse' at most 2 at - 1 frames",
            remedy=f"write at={length // 2 + 1}, how='reverse'",
        )
    if how == "cut" and count < 2:
        raise StimulusError(given="a cut in one clip", expected="two clips or more", remedy="write how='reverse'")
    odd = shown[:, 2 * at - 1 - length : at - 1].flip(1) if how == "reverse" else shown.roll(-1, 0)[:, at:]
    return torch.cat([shown[:, :at], odd], 1)


def read_film(source: Path | str | NDArray | Tensor, rate: float | None = None, name: str | None = None) -> Film:
    """Read a film from an array or a file.

    source  (n, time, channel, height, width), (time, height, width) or (time, height, width, 3) as an array, .npy, or
            .npz (under "frames", its rate under "fps"); a folder of images, taken in the order of their names; a GIF;
            or a video file, for which the extra `video` is needed
    rate    frames a second; needed if the source has none, and used instead of its own

    Raises StimulusError for a source that cannot be read or has other axes.
    """
    if not isinstance(source, Path | str):
        array = source.detach().cpu().numpy() if isinstance(source, Tensor) else np.asarray(source)
        return _film(_axes(array), rate, name or "array")
    path = Path(source)
    if not path.exists():
        raise StimulusError(given=str(path), expected="a file or a folder", remedy="check the path")
    suffix = "/" if path.is_dir() else path.suffix.lower()
    if suffix not in READERS:
        raise StimulusError(
            given=str(path),
            expected=f"a folder of images, or a file in one of {', '.join(s for s in READERS if s != '/')}",
            remedy="convert it: ffmpeg -i INPUT film.mp4, or np.save('film.npy', frames)",
        )
    clips, found = READERS[suffix](path)
    return _film(clips, rate or found, name or path.stem)


def read_moving_mnist(path: Path | str) -> Film:
    """Read the published test sequences of Srivastava et al. 2015: `mnist_test_seq.npy`, (20, 10000, 64, 64), 8 bits.

    Their time has no unit; the rate is set to 10 Hz.
    """
    array = np.load(Path(path), mmap_mode="r")
    if array.ndim != 4 or array.shape[0] != 20 or array.shape[2:] != (64, 64):
        raise StimulusError(
            given=f"{path} of shape {array.shape}",
            expected="(20, n, 64, 64)",
            remedy="pass the path of mnist_test_seq.npy; stimuli.read_film reads other files",
        )
    return Film(tuple(rearrange(array, "time n height width -> n time 1 height width")), 10.0, "moving MNIST")


def _film(clips: Iterable[NDArray], rate: float | None, name: str) -> Film:
    if rate is None:
        raise StimulusError(
            given=f"{name}, which has no rate",
            expected="frames a second",
            remedy="write read_film(..., rate=10.0)",
        )
    return Film(tuple(_checked(clip) for clip in clips), float(rate), name)


def _checked(clip: NDArray) -> Frames:
    if clip.dtype == np.uint8:
        return clip
    if not np.issubdtype(clip.dtype, np.floating) or not (clip.min() >= 0 and clip.max() <= 1):
        raise StimulusError(
            given=f"frames of type {clip.dtype} from {clip.min()} to {clip.max()}",
            expected="8-bit values, or floating point from 0 (black) to 1 (white)",
            remedy="divide by the full scale, such as frames / 4095.0 for a camera of 12 bits",
        )
    return clip.astype(np.float32)


def _axes(array: NDArray) -> tuple[NDArray, ...]:
    if array.ndim == 5:
        return tuple(array)
    if array.ndim == 3:
        return (rearrange(array, "time height width -> time 1 height width"),)
    if array.ndim == 4 and array.shape[-1] in (1, 3):
        return (rearrange(array, "time height width channel -> time channel height width"),)
    raise StimulusError(
        given=f"an array of shape {array.shape}",
        expected="(n, time, channel, height, width), (time, height, width) or (time, height, width, 1 or 3)",
        remedy="write array[None] for (time, channel, height, width); np.moveaxis moves other axes",
    )


def _read_npy(path: Path) -> tuple[tuple[NDArray, ...], float | None]:
    return _axes(np.load(path)), None


def _read_npz(path: Path) -> tuple[tuple[NDArray, ...], float | None]:
    with np.load(path) as content:
        key = "frames" if "frames" in content else content.files[0] if len(content.files) == 1 else None
        if key is None:
            raise StimulusError(
                given=f"{path} with {', '.join(content.files)}",
                expected="an array 'frames'",
                remedy="write np.savez(path, frames=frames, fps=10.0)",
            )
        return _axes(content[key]), float(content["fps"]) if "fps" in content else None


def _read_gif(path: Path) -> tuple[tuple[NDArray, ...], float | None]:
    from PIL import Image, ImageSequence

    with Image.open(path) as picture:
        frames, durations = [], []
        for frame in ImageSequence.Iterator(picture):
            frames.append(np.asarray(frame.convert("RGB")))
            durations.append(float(frame.info.get("duration", 0)))
    mean = float(np.mean(durations))
    return _axes(np.stack(frames)), 1000.0 / mean if mean else None


def _read_folder(path: Path) -> tuple[tuple[NDArray, ...], float | None]:
    from PIL import Image

    files = sorted(file for file in path.iterdir() if file.suffix.lower() in IMAGES)
    frames = []
    for file in files:
        with Image.open(file) as picture:
            is_grey = picture.mode in ("1", "L", "I", "F")
            frames.append(np.asarray(picture.convert("L" if is_grey else "RGB")))
    if not frames or len({frame.shape for frame in frames}) > 1:
        raise StimulusError(
            given=f"{path} with {len(frames)} images" + (" of several sizes" if frames else ""),
            expected=f"frames of one size, {', '.join(IMAGES)}",
            remedy="put the images of each clip, all of one size, into a folder of their own",
        )
    return _axes(np.stack(frames)), None


def _read_video(path: Path) -> tuple[tuple[NDArray, ...], float | None]:
    with needs_extra("video", StimulusError, str(path)):
        import av
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        rate = stream.average_rate
    return _axes(np.stack(frames)), float(rate) if rate else None


Reader = Callable[[Path], tuple[tuple[NDArray, ...], float | None]]
READERS: dict[str, Reader] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".gif": _read_gif,
    "/": _read_folder,
    **dict.fromkeys(VIDEOS, _read_video),
}


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
    return np.rint(values).clip(0, 255).astype(np.uint8) if like.dtype == np.uint8 else values.astype(np.float32)


def _require_positive(**values: int) -> None:
    if wrong := {name: value for name, value in values.items() if value < 1}:
        example = ", ".join(f"{name}=1" for name in wrong)
        raise StimulusError(given=f"{wrong}", expected="at least 1", remedy=f"pass {example} or more")
