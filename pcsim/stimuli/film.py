"""Video clips with a frame rate: load them, fit them to a network, split them, and draw sequences by (seed, index).

film = stimuli.read_film("walk.gif").fitted(multiple=8)
train, test = film.split()
frames = train.draw(seed=0, first=0, count=16, length=10)          (16, 10, channel, height, width)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from pcsim.core.checks import Count, Positive, Whole, checked
from pcsim.core.exceptions import StimulusError, needs_extra
from pcsim.stimuli.digits import as_pixels
from pcsim.stimuli.random import integers, uniform
from pcsim.stimuli.timeline import Timeline, sequence

Frames = NDArray[Any]
"""an array of frames, uint8 or float32 in [0, 1]"""
Clips = Annotated[
    Frames | Tensor, Field(examples=["film.sequences(length=20), frames (n, time, channel, height, width)"])
]
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".mpg")
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""luminance weights of red, green and blue, ITU-R BT.601"""
TOO_BRIGHT = 10.0
"""a value that frames in [0, 1] never exceed, even with noise, but frames in [0, 255] do"""


@checked(StimulusError)
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
        sizes = {clip.shape[1:] for clip in self.clips}
        if len(sizes) != 1 or any(clip.ndim != 4 or not len(clip) for clip in self.clips):
            raise StimulusError(
                given=f"clips of shapes {', '.join(str(clip.shape) for clip in self.clips) or 'none'}",
                expected="at least one clip (time, channel, height, width), all with frames of the same size",
                remedy="create one Film for each size, then fit them to a common size with film.fitted(size=(64, 64))",
            )
        if not (math.isfinite(self.rate) and self.rate > 0):
            raise StimulusError(
                given=f"a rate of {self.rate}",
                expected="a number of frames per second above 0",
                remedy="pass rate=10.0",
            )

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

        A PredNet with n layers needs multiple=2 ** (n - 1). Raises StimulusError for cropping to a larger size, padding
        to a smaller size, or an unknown `how`.
        """
        given = self.shape[1:]
        up = how == "pad"
        height, width = size or tuple((-(-side // multiple) if up else side // multiple) * multiple for side in given)
        wrong = {"crop": (height > given[0] or width > given[1]), "pad": (height < given[0] or width < given[1])}
        if how not in ("crop", "pad", "resize") or wrong.get(how) or height < 1 or width < 1:
            raise StimulusError(
                given=f"size {height}x{width} with how={how!r} for frames of {given[0]}x{given[1]}",
                expected="cropping to a smaller size, padding to a larger size, or how='resize'",
                remedy="call fitted(multiple=8) for the nearest size divisible by 8, or pass how='resize' for any size",
            )
        change = {"crop": _cropped, "pad": _padded, "resize": _resized}[how]
        return replace(self, clips=tuple(change(clip, height, width) for clip in self.clips))

    def grey(self) -> Film:
        """Return the luminance of a colour film, or a grey film unchanged."""
        if self.shape[0] != 3:
            return self
        mixed = [np.einsum("tchw,c->thw", clip.astype(np.float32), LUMA)[:, None] for clip in self.clips]
        like = zip(mixed, self.clips, strict=True)
        return replace(self, clips=tuple(_as_type(grey, clip) for grey, clip in like))

    @checked(StimulusError)
    def every(self, frames: Count) -> Film:
        """Return the film with only every `frames`-th frame, and its rate divided by `frames`."""
        _require_positive(frames=frames)
        return replace(self, clips=tuple(clip[::frames] for clip in self.clips), rate=self.rate / frames)

    @checked(StimulusError)
    def split(self, share: float = 0.2, by: Literal["time", "clip"] = "time") -> tuple[Film, Film]:
        """Split into (train, test) without common frames; test is the last `share` of each clip or of the clip list."""
        if by not in ("time", "clip") or not 0 < share < 1:
            raise StimulusError(
                given=f"split(share={share}, by={by!r})",
                expected="a share between 0 and 1, and by='time' or 'clip'",
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
                expected="at least one frame or clip left to train on",
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
        """Cut the clips into consecutive sequences that do not overlap: (n, length, channel, height, width)."""
        starts = [range(0, len(clip) - length + 1, length) for clip in self.clips]
        self._require_length(length, np.array([len(own) for own in starts]))
        return np.stack([clip[at : at + length] for clip, own in zip(self.clips, starts, strict=True) for at in own])

    def _require_length(self, length: int, starts: NDArray) -> None:
        _require_positive(length=length)
        if not starts.sum():
            longest = max(len(clip) for clip in self.clips)
            raise StimulusError(
                given=f"sequences of {length} frames from {self!r}",
                expected=f"at most {longest} frames, the length of the longest clip",
                remedy=f"pass length={longest} or less",
            )


@checked(StimulusError)
def as_timeline(frames: Clips, every: Positive = 10.0) -> Timeline:
    """Turn `frames` (n, time, channel, height, width), 8-bit or in [0, 1], into a stimulus with `every` ms per frame.

    The default is one step of a discrete network (`net.step_ms`). A frame is converted to floating point only when it
    is presented, so a long 8-bit clip takes no extra memory.
    """
    return sequence(rearrange(as_frames(frames), "n time ... -> time n ..."), every).mapped(as_pixels)


def as_frames(frames: Frames | Tensor) -> Tensor:
    """Return `frames` (n, time, channel, height, width) as a tensor. Raises StimulusError for invalid frames."""
    if isinstance(frames, Film):
        raise StimulusError(
            given=repr(frames),
            expected="sequences of frames from the film, (n, time, channel, height, width)",
            remedy="call film.sequences(length=20) or film.draw(seed=0, first=0, count=16, length=20)",
        )
    shown = torch.as_tensor(frames)
    if shown.dim() != 5:
        raise StimulusError(
            given=f"frames of shape {tuple(shown.shape)}",
            expected="(n, time, channel, height, width)",
            remedy="pass clip[None] for a single clip, or load other layouts with stimuli.read_film",
        )
    if shown.dtype != torch.uint8 and (not shown.is_floating_point() or bool((shown.detach() > TOO_BRIGHT).any())):
        raise StimulusError(
            given=f"frames of type {shown.dtype} with values up to {shown.max():g}",
            expected="8-bit values, or floating-point values from 0 (black) to 1 (white)",
            remedy="pass frames / 255, or frames.to(torch.uint8) if the values are 8-bit",
        )
    return shown


@checked(StimulusError)
def oddball(frames: Clips, at: int, how: Literal["reverse", "cut"] = "reverse") -> Tensor:
    """Return `frames` (n, time, ...) with a surprise: from frame `at` on, each clip continues in an unexpected way.

    how  "reverse": the clip runs backwards, x(at - 1 + h) = x(at - 1 - h), so steps change as many pixels as before
         "cut": the clip continues with the frames of the next clip

    Use the unchanged frames as the standard for comparison. Raises StimulusError if too few frames precede `at` to be
    played backwards, or if there is no second clip to cut to.
    """
    shown = as_frames(frames)
    count, length = shown.shape[:2]
    if how not in ("reverse", "cut") or not 0 < at < length or (how == "reverse" and length > 2 * at - 1):
        raise StimulusError(
            given=f"at={at} and how={how!r} for clips of {length} frames",
            expected="how='reverse' or 'cut', at from 1 to the last frame, and at most 2 * at - 1 frames for 'reverse'",
            remedy=f"pass at={length // 2 + 1}, how='reverse'",
        )
    if how == "cut" and count < 2:
        raise StimulusError(given="how='cut' with one clip", expected="at least two clips", remedy="pass how='reverse'")
    odd = shown[:, 2 * at - 1 - length : at - 1].flip(1) if how == "reverse" else shown.roll(-1, 0)[:, at:]
    return torch.cat([shown[:, :at], odd], 1)


@checked(StimulusError)
def read_film(source: Path | str | NDArray | Tensor, rate: Positive | None = None, name: str | None = None) -> Film:
    """Load a film from an array, a file or a folder of images.

    source  an array, .npy file or .npz file (frames under "frames", rate under "fps") of shape (time, height, width),
            (time, height, width, 3) or (n, time, channel, height, width); a folder of images, loaded in the order of
            their names; a GIF; or a video file, which needs the extra `video`
    rate    frames per second; required if the source has no rate; overrides the rate of the source otherwise

    Raises StimulusError for a source that cannot be read or has different axes.
    """
    if not isinstance(source, Path | str):
        array = source.detach().cpu().numpy() if isinstance(source, Tensor) else np.asarray(source)
        return _film(_axes(array), rate, name or "array")
    path = Path(source)
    if not path.exists():
        raise StimulusError(given=str(path), expected="the path of a file or a folder", remedy="check the path")
    suffix = "/" if path.is_dir() else path.suffix.lower()
    if suffix not in READERS:
        raise StimulusError(
            given=str(path),
            expected=f"a folder of images, or a file of type {', '.join(s for s in READERS if s != '/')}",
            remedy="convert it with ffmpeg -i INPUT film.mp4 or np.save('film.npy', frames)",
        )
    clips, found = READERS[suffix](path)
    return _film(clips, rate or found, name or path.stem)


@checked(StimulusError)
def read_moving_mnist(path: Path | str) -> Film:
    """Load the published test sequences of Srivastava et al. 2015, `mnist_test_seq.npy`: (20, 10000, 64, 64), 8-bit.

    The data do not specify a frame rate, so it is set to 10 Hz.
    """
    array = np.load(Path(path), mmap_mode="r")
    if array.ndim != 4 or array.shape[0] != 20 or array.shape[2:] != (64, 64):
        raise StimulusError(
            given=f"{path} of shape {array.shape}",
            expected="(20, n, 64, 64)",
            remedy="pass the path of mnist_test_seq.npy, or load other files with stimuli.read_film",
        )
    return Film(tuple(rearrange(array, "time n height width -> n time 1 height width")), 10.0, "moving MNIST")


def _film(clips: Iterable[NDArray], rate: float | None, name: str) -> Film:
    if rate is None:
        raise StimulusError(
            given=f"{name}, which has no rate",
            expected="a number of frames per second",
            remedy="pass rate=10.0 to read_film",
        )
    return Film(tuple(_checked(clip) for clip in clips), float(rate), name)


def _checked(clip: NDArray) -> Frames:
    if clip.dtype == np.uint8:
        return clip
    if not np.issubdtype(clip.dtype, np.floating) or not (clip.min() >= 0 and clip.max() <= 1):
        raise StimulusError(
            given=f"frames of type {clip.dtype} with values from {clip.min()} to {clip.max()}",
            expected="8-bit values, or floating-point values from 0 (black) to 1 (white)",
            remedy="divide by the full scale, such as frames / 4095.0 for a 12-bit camera",
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
        remedy="pass array[None] if the axes are (time, channel, height, width), or reorder them with np.moveaxis",
    )


def _read_npy(path: Path) -> tuple[tuple[NDArray, ...], float | None]:
    return _axes(np.load(path)), None


def _read_npz(path: Path) -> tuple[tuple[NDArray, ...], float | None]:
    with np.load(path) as content:
        key = "frames" if "frames" in content else content.files[0] if len(content.files) == 1 else None
        if key is None:
            raise StimulusError(
                given=f"{path}, which contains {', '.join(content.files)}",
                expected="an array named 'frames'",
                remedy="save the file with np.savez(path, frames=frames, fps=10.0)",
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
            given=f"{path} with {len(frames)} images" + (" of different sizes" if frames else ""),
            expected=f"images of the same size, of type {', '.join(IMAGES)}",
            remedy="put the images of each clip, all of the same size, into a folder of their own",
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
