"""Frames from files: order, bit depth, pages, transparency, times, damage and size; right values from the pixels."""

from __future__ import annotations

import io
import os
import struct
import sys
import zipfile
import zlib
from contextlib import nullcontext
from fractions import Fraction
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from pcsim import StimulusError
from pcsim.stimuli import files
from pcsim.stimuli.film import read_film, read_moving_mnist

NOISE = np.random.default_rng(0).integers(0, 256, (5, 8, 8), dtype=np.uint8)


def level(value: int, size: tuple[int, int] = (6, 4)) -> Image.Image:
    return Image.new("L", size, value)


def folder(path: Path, images: dict[str, Image.Image]) -> Path:
    path.mkdir()
    for name, image in images.items():
        image.save(path / name)
    return path


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """Return a PNG file written by hand, as Pillow does not write 16 bits in colour."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def npy_head(shape: tuple[int, ...]) -> bytes:
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return head.getvalue()


# ---------------------------------------------------------------------- order and pages


@pytest.mark.parametrize(
    "names",
    [
        ["frame0", "frame1", "frame2", "frame9", "frame10", "frame11"],
        ["1", "2", "10"],
        ["take-1_frame-2", "take-1_frame-10", "take-2_frame-1"],
        ["2024-01-02_9", "2024-01-02_10"],
        ["0.05", "0.10", "0.15"],
        ["a", "b", "c"],
    ],
)
def test_read_film_orders_folder_by_numbers(tmp_path: Path, names: list[str]) -> None:
    images = {f"{name}.png": level(value) for value, name in enumerate(names)}
    for name in ("._frame0.png", ".hidden.png"):
        (tmp_path / "f").mkdir(exist_ok=True)
        (tmp_path / "f" / name).write_bytes(b"hidden files of macOS are no images")
    for name, image in reversed(images.items()):
        image.save(tmp_path / "f" / name)
    assert read_film(tmp_path / "f", rate=1).clips[0][:, 0, 0, 0].tolist() == [*range(len(names))]


@pytest.mark.parametrize(
    "names",
    [
        ("t0.5.png", "t0.25.png"),
        ("-2.png", "-1.png", "0.png"),
        ("left2.png", "left10.png", "right1.png"),
        ("01.png", "1.png"),
        ("0.png", "0.bmp"),
        ("B.png", "a.png"),
        ("9.png", "a.png", "10.png", "1f.png"),
    ],
)
def test_read_film_refuses_folder_in_doubtful_order(tmp_path: Path, names: tuple[str, ...]) -> None:
    with pytest.raises(StimulusError, match="whose order is ambiguous"):
        read_film(folder(tmp_path / "f", {name: level(1) for name in names}), rate=1)


def test_read_film_reads_all_pages_or_refuses(tmp_path: Path) -> None:
    first, *pages = [level(40 * number) for number in range(5)]
    first.save(tmp_path / "stack.tif", save_all=True, append_images=pages)
    film = read_film(tmp_path / "stack.tif", rate=10)
    assert film.clips[0][:, 0, 0, 0].tolist() == [0, 40, 80, 120, 160]
    (tmp_path / "f").mkdir()
    first.save(tmp_path / "f" / "stack.tif", save_all=True, append_images=pages)
    with pytest.raises(StimulusError, match=r"stack\.tif, which contains 5 images"):
        read_film(tmp_path / "f", rate=10)
    (tmp_path / "g").mkdir()
    first.save(tmp_path / "g" / "0.png", save_all=True, append_images=pages)
    with pytest.raises(StimulusError, match="which contains 5 images"):
        read_film(tmp_path / "g", rate=10)
    with (tmp_path / "two.npy").open("wb") as file:
        np.save(file, NOISE)
        np.save(file, NOISE)
    with pytest.raises(StimulusError, match=r"two\.npy, which cannot be read .* bytes follow"):
        read_film(tmp_path / "two.npy", rate=10)


def test_read_film_refuses_images_of_different_sizes(tmp_path: Path) -> None:
    images = folder(tmp_path / "f", {"0.png": level(1), "1.png": level(1, (6, 5))})
    with pytest.raises(StimulusError, match="2 frames of different sizes"):
        read_film(images, rate=1)
    mixed = folder(tmp_path / "g", {"0.png": level(1), "1.png": level(1).convert("RGB")})
    with pytest.raises(StimulusError, match="all grey or all in colour"):
        read_film(mixed, rate=1)


# ---------------------------------------------------------------------- pixels


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("kind", [np.uint16, np.int32, np.float32])
def test_read_film_refuses_more_than_8_bits(tmp_path: Path, suffix: str, kind: type) -> None:
    if suffix == ".png" and kind != np.uint16:
        pytest.skip("no such PNG")
    deep = Image.fromarray(np.linspace(0, 65535, 64).reshape(8, 8).astype(kind))
    with pytest.raises(StimulusError, match="divide them by the full scale"):
        read_film(folder(tmp_path / "f", {f"0{suffix}": deep}), rate=1)


def test_read_film_refuses_16_bits_in_colour_and_scales_fewer_bits(tmp_path: Path) -> None:
    for name in ("deep", "flat"):
        (tmp_path / name).mkdir()
    (tmp_path / "deep" / "0.png").write_bytes(png(2, 2, 16, 2, 2 * (b"\0" + b"\x12\x34" * 6)))
    with pytest.raises(StimulusError, match="mode RGB"):
        read_film(tmp_path / "deep", rate=1)
    (tmp_path / "flat" / "0.png").write_bytes(png(2, 2, 4, 0, b"\0\x0f" * 2))  # 4 bits: black and white
    assert read_film(tmp_path / "flat", rate=1).clips[0][0, 0].tolist() == [[0, 255], [0, 255]]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_read_film_shows_transparent_images_over_background(tmp_path: Path, mode: str) -> None:
    seen = []
    for hidden in (0, 240):
        pixels = np.full((4, 4, 4), hidden, np.uint8)
        pixels[..., 3] = 0
        pixels[1:3, 1:3] = 200, 200, 200, 255
        image = Image.fromarray(pixels)
        if mode == "P":
            image = Image.fromarray((pixels[..., 3] > 0).astype(np.uint8))
            image = image.convert("P")
            image.putpalette([hidden] * 3 + [200] * 3)
            image.info["transparency"] = 0
        elif mode == "LA":
            image = image.convert("LA")
        path = folder(tmp_path / f"{hidden}", {"0.png": image})
        seen += [read_film(path, rate=1).clips[0], read_film(path, rate=1, background=0.4).clips[0]]
    black, grey, again, grey_again = (clip[0, 0].tolist() for clip in seen)
    assert black == again == np.pad(np.full((2, 2), 200), 1).tolist()
    assert grey == grey_again == np.pad(np.full((2, 2), 200), 1, constant_values=102).tolist()
    with pytest.raises(StimulusError, match="background=40"):
        read_film(path, rate=1, background=40)


def test_read_film_weighs_half_transparent_pixels(tmp_path: Path) -> None:
    half = folder(tmp_path / "f", {"0.png": Image.new("LA", (2, 2), (200, 51))})
    assert (read_film(half, rate=1, background=1.0).clips[0] == round(0.2 * 200 + 0.8 * 255)).all()


def test_read_film_turns_images_upright(tmp_path: Path) -> None:
    tag = Image.Exif()
    tag[0x0112] = 6  # the camera was turned: show the image a quarter turn clockwise
    (tmp_path / "f").mkdir()
    Image.fromarray(NOISE[0, :4]).save(tmp_path / "f" / "0.png", exif=tag)
    assert np.array_equal(read_film(tmp_path / "f", rate=1).clips[0][0, 0], np.rot90(NOISE[0, :4], -1))


# ---------------------------------------------------------------------- times


def gif(path: Path, durations: list[int]) -> Path:
    first, *others = [Image.fromarray(np.roll(NOISE[0], number)) for number in range(len(durations))]
    first.save(path, save_all=True, append_images=others, duration=durations)
    return path


def test_read_film_refuses_gif_with_pause(tmp_path: Path) -> None:
    for durations in ([40, 40, 1000, 40], [40, 80, 40, 80], [40, 60, 40, 60]):
        with pytest.raises(StimulusError, match=f"last from 40 to {max(durations)} ms"):
            read_film(gif(tmp_path / "a.gif", durations), rate=25)
    assert read_film(gif(tmp_path / "a.gif", [40, 40, 40, 1000])).rate == 25, "no frame follows the last one"
    # 30 Hz in units of 10 ms
    assert read_film(gif(tmp_path / "a.gif", [30, 30, 40, 30, 30, 40, 30])).rate == pytest.approx(6 / 0.2)


def fake_av(
    stamps: list[int | None],
    *,
    length: int | None = None,
    declared: int = 0,
    count: int = 1,
    codec: str = "h264",
    rotation: int = 0,
) -> ModuleType:
    """Return a stand-in for PyAV, whose files hold frames of 2x4 at `stamps` ms."""
    frames = [
        SimpleNamespace(
            pts=at,
            width=4,
            height=2,
            is_corrupt=False,
            rotation=rotation,
            format=SimpleNamespace(components=[SimpleNamespace(is_alpha=False)]),
            to_ndarray=lambda **_: np.zeros((2, 4, 3), np.uint8),
        )
        for at in stamps
    ]
    stream = SimpleNamespace(
        frames=declared,
        time_base=Fraction(1, 1000),
        average_rate=Fraction(25),
        duration=length,
        codec_context=SimpleNamespace(name=codec),
    )
    container = SimpleNamespace(
        streams=SimpleNamespace(video=[stream] * count), duration=None, decode=lambda _: iter(frames)
    )
    module = ModuleType("av")
    module.open = lambda *_, **__: nullcontext(container)  # type: ignore[attr-defined]
    return module


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (fake_av([0, 40, 80, 120, 1000, 2000]), "last from 40 to 1000 ms"),
        (fake_av([0, 40, 80, 160, 200]), "last from 40 to 80 ms"),
        (fake_av([0, 40, 80], length=4000), "it lasts 4 s, but only 0.12 s of it can be read"),
        (fake_av([0, 40], count=2), "2 video streams"),
        (fake_av([0], count=0), "0 video streams"),
        (fake_av([]), "with 0 frames"),
        (fake_av([0, 40], declared=10**9), "takes 32,000,000,000 bytes"),
    ],
)
def test_read_film_refuses_video(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: ModuleType, message: str
) -> None:
    monkeypatch.setitem(sys.modules, "av", module)
    (tmp_path / "a.mp4").write_bytes(b"")
    with pytest.raises(StimulusError, match=message) as caught:
        read_film(tmp_path / "a.mp4", rate=25)
    assert "a.mp4" in str(caught.value)


def test_read_film_takes_rate_of_video_from_time_stamps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.mp4").write_bytes(b"")
    for module, rate in (
        (fake_av([0, 100, 200, 300], length=400), 10.0),
        (fake_av([0, 40, 81, 121]), 25.0),  # stamps are rounded to 1 ms
        (fake_av([0, 40, 40, 160], codec="mpeg1video"), 25.0),  # has a fixed rate and few time stamps
        (fake_av([None, None]), 25.0),
    ):
        monkeypatch.setitem(sys.modules, "av", module)
        assert read_film(tmp_path / "a.mp4").rate == rate
    monkeypatch.setitem(sys.modules, "av", fake_av([0, 40], rotation=-90))
    assert read_film(tmp_path / "a.mp4").shape == (3, 4, 2), "a viewer shows it upright"


def test_read_film_refuses_real_video_with_pause(tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="PyAV is not installed (extra video)")
    for suffix in (".mp4", ".mkv"):
        path, unit = tmp_path / f"film{suffix}", Fraction(1, 1000)
        with av.open(str(path), "w") as container:
            stream = container.add_stream("mpeg4", rate=25)
            stream.width, stream.height, stream.codec_context.time_base = 64, 48, unit
            for at in (0, 40, 80, 120, 1000, 2000):
                frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
                frame.pts, frame.time_base = at, unit
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        with pytest.raises(StimulusError, match="frames of equal duration"):
            read_film(path, rate=25)


# ---------------------------------------------------------------------- damage


def test_read_film_refuses_damaged_files_with_path(tmp_path: Path) -> None:
    junk = b"not what it says" * 9
    for name in ("a.npy", "a.npz", "a.gif", "a.tif"):
        for content in (junk, b"", b"PK", b"GIF89a", b"\x93NUMPY\x01\x00"):
            (tmp_path / name).write_bytes(content)
            with pytest.raises(StimulusError, match=rf"{name}, which cannot be read"):
                read_film(tmp_path / name, rate=1)
    np.save(tmp_path / "objects.npy", np.array([{}], object))
    with pytest.raises(StimulusError, match="Python objects"):
        read_film(tmp_path / "objects.npy", rate=1)
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "0.png").write_bytes(junk)
    with pytest.raises(StimulusError, match=r"0\.png, which cannot be read"):
        read_film(tmp_path / "f", rate=1)
    with pytest.raises(StimulusError, match=r"a\.npy, which cannot be read"):
        read_moving_mnist(tmp_path / "a.npy")
    np.savez(tmp_path / "fps.npz", frames=NOISE, fps=np.array([10.0, 20.0]))
    with pytest.raises(StimulusError, match=r"fps\.npz"):
        read_film(tmp_path / "fps.npz")
    np.savez(tmp_path / "fps.npz", frames=NOISE, fps=np.array([10.0]))
    assert read_film(tmp_path / "fps.npz").rate == 10


@pytest.mark.parametrize("name", ["a.gif", "a.npz", "a.npy", "f/0.png"])
def test_read_film_never_reads_truncated_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    if name == "a.gif":
        gif(path, [40] * 5)
    elif name == "a.npz":
        np.savez(path, frames=NOISE, fps=10)
    elif name == "a.npy":
        np.save(path, NOISE)
    else:
        Image.fromarray(NOISE[0]).save(path)
    whole, source = path.read_bytes(), path.parent if name.startswith("f/") else path
    read_film(source, rate=1)
    end = 12 if name.endswith("png") else 0  # the last 12 bytes of a PNG say only that it ends
    for size in range(0, len(whole) - end, 1 + len(whole) // 60):
        path.write_bytes(whole[:size])
        with pytest.raises(StimulusError, match="cannot be read"):
            read_film(source, rate=1)


def test_read_film_detects_flipped_bytes_of_png_and_npz(tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    image, array = tmp_path / "f" / "0.png", tmp_path / "a.npz"
    Image.fromarray(NOISE[0]).save(image, compress_level=0)
    np.savez(array, frames=NOISE)
    for path, at in ((image, 60), (array, 300)):
        content = bytearray(path.read_bytes())
        content[at] ^= 1
        path.write_bytes(content)
        with pytest.raises(StimulusError, match="cannot be read"):
            read_film(path.parent if path == image else path, rate=1)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
@pytest.mark.timeout(20)
def test_read_film_refuses_pipes_and_devices(tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    for name in ("a.npy", "a.npz", "a.gif", "a.tif", "a.mp4", "f/0.png"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(StimulusError, match="a pipe, socket or device"):
            read_film(tmp_path / "f" if name.startswith("f/") else tmp_path / name, rate=1)
    (tmp_path / "link.npy").symlink_to("/dev/zero")
    for read in (read_moving_mnist, read_film):
        with pytest.raises(StimulusError, match="a pipe, socket or device"):
            read(tmp_path / "link.npy")


def test_read_film_expands_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    np.save(tmp_path / "film.npy", NOISE)
    folder(tmp_path / "f", {"0.png": level(3)})
    assert len(read_film("~/film.npy", rate=1)) == 5 and len(read_film("~/f", rate=1)) == 1
    np.save(tmp_path / "mnist.npy", np.zeros((20, 2, 64, 64), np.uint8))
    assert len(read_moving_mnist("~/mnist.npy")) == 40


# ---------------------------------------------------------------------- size


def test_read_film_refuses_bombs_before_reading_them(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as content:
        head, zeros = npy_head((3_000, 1_000, 1_000)), bytes(10**7)
        with content.open("frames.npy", "w", force_zip64=True) as file:
            file.write(head)
            for _ in range(300):
                file.write(zeros)
    with (tmp_path / "a.npy").open("wb") as sparse:
        sparse.write(npy_head((10**6, 1_000, 1_000)))
        sparse.truncate(len(npy_head((10**6, 1_000, 1_000))) + 10**12)
    (tmp_path / "f").mkdir()
    for number in range(20):
        (tmp_path / "f" / f"{number}.png").write_bytes(png(9_000, 9_000, 1, 0, b""))
    for name in ("a.npz", "a.npy", "f"):
        with pytest.raises(StimulusError, match=r"at most pcsim\.stimuli\.files\.MOST_BYTES = 2,147,483,648"):
            read_film(tmp_path / name, rate=1)


def test_read_film_refuses_headers_larger_than_file(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(npy_head((10**13,)) + b"abc")
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as content:
        content.writestr("frames.npy", npy_head((10**13,)) + b"abc")
    for name in ("a.npy", "a.npz"):
        with pytest.raises(StimulusError, match="but 3 bytes follow"):
            read_film(tmp_path / name, rate=1)


def test_read_film_refuses_images_beyond_limit_of_pillow(tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    for side in (60_000, 12_000):  # Pillow raises an error for the first, and only warns of the second
        (tmp_path / "f" / "0.png").write_bytes(png(side, side, 8, 0, b""))
        with pytest.raises(StimulusError, match=r"increase PIL\.Image\.MAX_IMAGE_PIXELS"):
            read_film(tmp_path / "f", rate=1)


def test_read_film_limit_counts_all_frames_and_can_be_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gif(tmp_path / "a.gif", [40] * 5)
    images = folder(tmp_path / "f", {f"{number}.png": level(1) for number in range(5)})
    first, *others = [level(number) for number in range(5)]
    first.save(tmp_path / "a.tif", save_all=True, append_images=others)
    np.savez_compressed(tmp_path / "a.npz", frames=np.zeros((5, 30, 30), np.uint8))
    for path in (tmp_path / "a.gif", images, tmp_path / "a.tif", tmp_path / "a.npz"):
        monkeypatch.setattr(files, "MOST_BYTES", 200)
        with pytest.raises(StimulusError, match="MOST_BYTES = 200"):
            read_film(path, rate=1)
        monkeypatch.setattr(files, "MOST_BYTES", 10_000)
        assert len(read_film(path, rate=1)) == 5
