"""Readers of frames from array files, images, folders of images, and videos.

A file is rejected, with its path in the message, if it is damaged, if it needs more than `files.MOST_BYTES` of memory,
or if content would be lost: additional pages or arrays, more than 8 bits per channel, or uneven frame times.
"""

from __future__ import annotations

import io
import math
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, ImageSequence

from pcsim.core.exceptions import PcsimError, StimulusError, needs_extra
from pcsim.core.storage import full_path, require_file
from pcsim.stimuli import files
from pcsim.stimuli.layout import clips_of, even_rate, in_order

Clips = tuple[NDArray[Any], ...]
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
STACKS = (".tif", ".tiff")
VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".mpg")
# Pillow's other formats are excluded, because some of them, such as EPS, may start a program.
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "GIF")
GREYS = ("1", "L", "LA", "La")
COLOURS = ("P", "PA", "RGB", "RGBA", "RGBa", "CMYK", "YCbCr")
FRAME = "time height width channel"
HEAD_BYTES = 2**16
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read_clips(path: Path | str, axes: str | None, background: float) -> tuple[Clips, float | None, Path]:
    """Return clips (time, channel, height, width), the rate in Hz (None if unspecified), and the full path."""
    path = full_path(path)
    if not path.exists():
        raise StimulusError(given=str(path), expected="the path of an existing file or folder", remedy="check the path")
    if not path.is_dir():
        path = require_file(path, StimulusError)
    suffix = "/" if path.is_dir() else path.suffix.lower()
    if not 0 <= background <= 1:
        raise StimulusError(
            given=f"background={background}",
            expected="a grey level from 0 (black) to 1 (white)",
            remedy="pass background=0.0",
        )
    if suffix not in (*ARRAYS, *PICTURES):
        raise StimulusError(
            given=str(path),
            expected=f"a folder of images, or a file of type {', '.join(s for s in (*ARRAYS, *PICTURES) if s != '/')}",
            remedy="convert it with ffmpeg -i INPUT film.mp4 or np.save('film.npy', frames)",
        )
    with _reading(path):
        if suffix in ARRAYS:
            array, rate = ARRAYS[suffix](path)
            return clips_of(array, axes, str(path)), rate, path
        frames, rate = PICTURES[suffix](path, background)
        if not frames or len({frame.shape for frame in frames}) > 1:
            raise StimulusError(
                given=f"{path} with {len(frames)} frames" + (" of different sizes" if frames else ""),
                expected="frames of the same size, all grey or all in colour",
                remedy="put the images of each clip, all of the same size, into a separate folder",
            )
        return clips_of(np.stack(frames), FRAME, str(path)), rate, path


def mapped(path: Path | str) -> NDArray[Any]:
    """Return the array in a .npy file as a memory map. Raises StimulusError for a damaged file."""
    path = require_file(path, StimulusError)
    with _reading(path):
        return np.load(path, mmap_mode="r")


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Convert any exception that a library raises while reading `path` to StimulusError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except PcsimError:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as reason:
        raise StimulusError(
            given=f"{path}: {reason}",
            expected="images within Pillow's size limit",
            remedy="make the images smaller, or increase PIL.Image.MAX_IMAGE_PIXELS if you trust the file",
        ) from reason
    except Exception as reason:  # a decoder may raise any exception for a damaged file
        raise StimulusError(
            given=f"{path}, which cannot be read ({type(reason).__name__}: {str(reason)[:200]})",
            expected="a complete file whose content matches its extension",
            remedy="restore the file from a backup, or create it again",
        ) from reason


# ---------------------------------------------------------------------- arrays


def _read_npy(path: Path) -> tuple[NDArray[Any], None]:
    with path.open("rb") as file:
        return _array(file, path.stat().st_size, path), None


def _read_npz(path: Path) -> tuple[NDArray[Any], float | None]:
    with zipfile.ZipFile(path) as content:
        members = {name.removesuffix(".npy"): name for name in content.namelist()}
        key = "frames" if "frames" in members else next(iter(members)) if len(members) == 1 else None
        if key is None:
            raise StimulusError(
                given=f"{path}, which contains {', '.join(members)}",
                expected="an array named 'frames'",
                remedy="save the file with np.savez(path, frames=frames, fps=10.0)",
            )
        arrays = []
        for name in (key, "fps"):
            if name in members:
                info = content.getinfo(members[name])
                with content.open(info) as file:
                    arrays.append(_array(file, info.file_size, path))
    frames, *rates = arrays
    return frames, float(rates[0].item()) if rates else None


def _array(file: IO[bytes], size: int, path: Path) -> NDArray[Any]:
    """Read an array from `size` bytes in the npy format, checking the header before memory is allocated."""
    head = io.BytesIO(file.read(HEAD_BYTES))
    shape, _, dtype = HEADERS[np.lib.format.read_magic(head)](head)
    if dtype.hasobject:
        raise ValueError("it contains Python objects")
    if math.prod(shape) * dtype.itemsize != size - head.tell():
        raise ValueError(f"its header specifies {shape} of {dtype}, but {size - head.tell():,} bytes follow")
    files.require_affordable(size, path)
    file.seek(0)
    array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    if file.read(1):
        raise ValueError("it continues after the end of the array")
    return array


# ---------------------------------------------------------------------- images


def _read_folder(path: Path, background: float) -> tuple[list[NDArray[Any]], None]:
    # Hidden files are skipped, because macOS writes "._0.png" next to 0.png.
    images = [file for file in path.iterdir() if file.suffix.lower() in IMAGES and not file.name.startswith(".")]
    frames = []
    for file in in_order(images):
        frames.append(read_picture(file, background, copies=len(images)))
    return frames, None


def read_picture(file: Path, background: float | None, copies: int = 1) -> NDArray[Any]:
    """Return the only image in a file, uint8 (height, width, 1 or 3); see `_pages` for the arguments."""
    with _reading(require_file(file, StimulusError)):
        pages, _ = _pages(file, background, copies)
    if len(pages) > 1:
        raise StimulusError(
            given=f"{file}, which contains {len(pages)} images",
            expected="one image in each file of a folder",
            remedy=f"pass the path of the TIFF stack itself: stimuli.read_film({str(file)!r}, rate=10.0)",
        )
    return pages[0]


def _read_stack(path: Path, background: float) -> tuple[list[NDArray[Any]], None]:
    return _pages(path, background)[0], None


def _read_gif(path: Path, background: float) -> tuple[list[NDArray[Any]], float | None]:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - HEAD_BYTES))
        if not file.read().rstrip(b"\0").endswith(b";"):  # without this check, Pillow stops at the last complete frame
            raise ValueError("the end of the file is missing")
    pages, durations = _pages(path, background)
    # The final frame may be longer, because no frame follows it.
    times = durations[:-1] or durations
    return pages, even_rate(times, Fraction(1, 100), path) if any(times) else None


def _pages(path: Path, background: float | None, copies: int = 1) -> tuple[list[NDArray[Any]], list[float]]:
    """Return the pages of an image, uint8 (height, width, 1 or 3), and their durations in units of 10 ms.

    background  grey level behind transparent pixels; if None, such pixels raise StimulusError
    copies  number of files of this size that will be loaded, for the memory limit
    """
    with Image.open(path, formats=FORMATS) as picture:
        layers = 2 if picture.mode in GREYS else 4
        pixels = picture.width * picture.height * getattr(picture, "n_frames", 1)
        files.require_affordable(copies * pixels * layers, path)
        picture.verify()
    pages, durations = [], []
    with Image.open(path, formats=FORMATS) as picture:
        for page in ImageSequence.Iterator(picture):
            _require_8_bits(page, path)
            is_grey = page.mode in GREYS and picture.format != "GIF"  # a GIF may mix grey and colour pages
            shown = ImageOps.exif_transpose(page).convert("LA" if is_grey else "RGBA")
            values = np.asarray(shown)
            if background is None and values[..., -1].min() < 255:
                raise StimulusError(
                    given=f"{path}, which has transparent pixels",
                    expected="the grey level behind transparent pixels",
                    remedy="pass background=0.0 for black, 0.5 for grey or 1.0 for white",
                )
            pages.append(_opaque(values, background or 0.0))
            durations.append(page.info.get("duration", 0) / 10)
    return pages, durations


def _require_8_bits(page: Image.Image, path: Path) -> None:
    """Raise StimulusError if Pillow would discard bits or channels."""
    raw = " ".join(str(tile[3]) for tile in getattr(page, "tile", []))
    if page.mode not in (*GREYS, *COLOURS) or re.search(r"(?<!BGR);(16|32|64)", raw):
        raise StimulusError(
            given=f"{path}, whose pixels have Pillow's mode {page.mode} ({raw})",
            expected="8-bit images, grey or in colour",
            remedy="load the pixels as an array and divide them by the full scale: "
            "frames = np.stack([np.asarray(Image.open(p)) for p in paths]) / 65535; "
            "stimuli.read_film(frames, rate=10.0)",
        )


def _opaque(layers: NDArray[np.uint8], background: float) -> NDArray[np.uint8]:
    """Blend an image that has an alpha channel with a uniform field of level `background`: (height, width, 1 or 3)."""
    colours, alpha = layers[..., :-1], layers[..., -1:]
    if alpha.min() == 255:
        return colours
    share = alpha / np.float32(255)
    return np.rint(share * colours + (1 - share) * 255 * np.float32(background)).astype(np.uint8)


# ---------------------------------------------------------------------- videos


def _read_video(path: Path, background: float) -> tuple[list[NDArray[Any]], float | None]:
    with needs_extra("video", StimulusError, str(path)):
        import av
    with av.open(str(path.absolute()), options={"protocol_whitelist": "file"}) as container:
        stream = _only_stream(container.streams.video, path)
        frames: list[NDArray[Any]] = []
        stamps: list[int | None] = []
        for frame in container.decode(stream):
            count = max(stream.frames, len(frames) + 1)
            files.require_affordable(count * frame.width * frame.height * 4, path)
            if frame.is_corrupt:
                raise ValueError(f"frame {len(frames)} is damaged")
            frames.append(_upright(frame, background))
            # MPEG-1 and MPEG-2 have a fixed frame rate, and time stamps for only a few frames.
            stamps.append(None if stream.codec_context.name in ("mpeg1video", "mpeg2video") else frame.pts)
        rate = _rate(stamps, stream.time_base, stream.average_rate, path)
        length = stream.duration * stream.time_base if stream.duration else None
        if length is None and container.duration and len(container.streams) == 1:
            length = Fraction(container.duration, av.time_base)
        if rate and length and len(frames) + 2 < length * rate:
            raise ValueError(f"it lasts {float(length):g} s, but only {len(frames) / rate:g} s of it can be read")
        return frames, rate


def _only_stream(streams: Sequence[Any], path: Path) -> Any:
    if len(streams) != 1:
        raise StimulusError(
            given=f"{path}, which has {len(streams)} video streams",
            expected="one video stream",
            remedy=f"extract one stream with ffmpeg -i {path.name} -map 0:v:0 film.mp4",
        )
    return streams[0]


def _upright(frame: Any, background: float) -> NDArray[np.uint8]:
    """Return a PyAV frame in its display orientation, without alpha: (height, width, 3)."""
    has_alpha = any(component.is_alpha for component in frame.format.components)
    pixels = frame.to_ndarray(format="rgba" if has_alpha else "rgb24")
    return np.rot90(_opaque(pixels, background) if has_alpha else pixels, frame.rotation // 90)


def _rate(stamps: Sequence[int | None], tick: Fraction, said: Fraction | None, path: Path) -> float | None:
    """Return the nominal rate `said` or, if they disagree, the rate of the time stamps (in units of `tick` seconds)."""
    known = [stamp for stamp in stamps if stamp is not None]
    measured = even_rate(np.diff(known).tolist(), tick, path)
    if measured is None or len(known) < len(stamps):
        return float(said) if said else None
    is_within_rounding = said and abs(1 / said - 1 / Fraction(measured)) * (len(known) - 1) <= tick
    return float(said) if said and is_within_rounding else measured


ARRAYS: dict[str, Callable[[Path], tuple[NDArray[Any], float | None]]] = {".npy": _read_npy, ".npz": _read_npz}
PICTURES: dict[str, Callable[[Path, float], tuple[list[NDArray[Any]], float | None]]] = {
    ".gif": _read_gif,
    **dict.fromkeys(STACKS, _read_stack),
    "/": _read_folder,
    **dict.fromkeys(VIDEOS, _read_video),
}
