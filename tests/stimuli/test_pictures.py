"""Pictures from folders: order, orientation, transparency, channels, sizes and limits; right values from Pillow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pcsim import Euler, StimulusError, models, simulate
from pcsim.stimuli import files, read_images

NOISE = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)


def saved(folder: Path, **images: Image.Image) -> Path:
    for name, image in images.items():
        image.save(folder / f"{name}.png")
    return folder


def grey(level: int, size: tuple[int, int] = (9, 6)) -> Image.Image:
    return Image.new("L", size, level)


def test_read_images_returns_pixels_and_names_in_numerical_order(tmp_path: Path) -> None:
    saved(tmp_path, cat10=grey(10), cat2=grey(2), bird7=grey(7))
    (tmp_path / "notes.txt").write_text("not a picture")
    (tmp_path / "._cat2.png").write_text("written by macOS")
    images, names = read_images(tmp_path)
    assert names == ("bird7.png", "cat2.png", "cat10.png")
    assert images.shape == (3, 1, 6, 9) and images.dtype == torch.float32
    assert torch.allclose(images[:, 0, 0, 0] * 255, torch.tensor([7.0, 2.0, 10.0]))


def test_read_images_keeps_order_of_files(tmp_path: Path) -> None:
    saved(tmp_path, a=grey(1), b=Image.fromarray(NOISE).convert("L"))
    images, names = read_images([tmp_path / "b.png", str(tmp_path / "a.png")])
    assert names == ("b.png", "a.png")
    assert np.array_equal((images[0, 0] * 255).round().numpy(), np.asarray(Image.fromarray(NOISE).convert("L")))
    assert read_images(tmp_path / "a.png")[1] == ("a.png",)


def test_read_images_rotates_as_stored(tmp_path: Path) -> None:
    image, exif = Image.fromarray(NOISE), Image.Exif()
    exif[274] = 6  # turned by 90 degrees
    image.save(tmp_path / "a.png", exif=exif)
    images, _ = read_images(tmp_path)
    turned = np.rot90(NOISE, -1).transpose(2, 0, 1)
    assert np.array_equal((images[0] * 255).round().numpy(), turned)


def test_read_images_converts_channels(tmp_path: Path) -> None:
    saved(tmp_path, a=Image.fromarray(NOISE), b=grey(51))
    with pytest.raises(StimulusError, match="channels=1"):
        read_images(tmp_path)
    luminance, _ = read_images(tmp_path, channels=1)
    assert np.abs(luminance[0, 0].numpy() * 255 - np.asarray(Image.fromarray(NOISE).convert("L"), float)).max() < 1
    colour, _ = read_images(tmp_path, channels=3)
    assert colour.shape == (2, 3, 6, 9) and bool((colour[1] == 0.2).all())


def test_read_images_needs_background_of_transparent_pixels(tmp_path: Path) -> None:
    image = Image.new("LA", (2, 1), (200, 255))
    image.putpixel((1, 0), (200, 0))
    saved(tmp_path, a=image)
    with pytest.raises(StimulusError, match="background=0.0"):
        read_images(tmp_path)
    assert torch.allclose(read_images(tmp_path, background=0.5)[0], torch.tensor([200 / 255, 128 / 255]))


def test_read_images_opaque_alpha_needs_no_background(tmp_path: Path) -> None:
    saved(tmp_path, a=Image.new("RGBA", (2, 2), (255, 0, 0, 255)))
    assert read_images(tmp_path)[0][0, :, 0, 0].tolist() == [1.0, 0.0, 0.0]


def test_read_images_rescales_mixed_sizes(tmp_path: Path) -> None:
    saved(tmp_path, a=grey(51, (8, 8)), b=grey(102, (16, 16)))
    with pytest.raises(StimulusError, match="8x8.*16x16"):
        read_images(tmp_path)
    images, _ = read_images(tmp_path, size=4)
    assert images.shape == (2, 1, 4, 4)
    assert torch.allclose(images.amax((1, 2, 3)), torch.tensor([0.2, 0.4]))
    assert torch.allclose(images.amin((1, 2, 3)), torch.tensor([0.2, 0.4]))


def test_read_images_asks_how_to_change_aspect_ratio(tmp_path: Path) -> None:
    pixels = np.zeros((4, 8), np.uint8)
    pixels[:, 2:6] = 255  # the central square
    saved(tmp_path, a=Image.fromarray(pixels))
    with pytest.raises(StimulusError, match="fit='crop'"):
        read_images(tmp_path, size=4)
    assert bool((read_images(tmp_path, size=4, fit="crop")[0] == 1).all())
    stretched, _ = read_images(tmp_path, size=4, fit="stretch")
    assert stretched.mean().item() == pytest.approx(0.5, abs=0.02) and stretched[0, 0, 0, 0] < 0.2
    assert read_images(tmp_path, size=(2, 4))[0].shape == (1, 1, 2, 4)


def test_read_images_refuses_what_it_would_leave_out(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    with pytest.raises(StimulusError, match="no pictures"):
        read_images(tmp_path)
    saved(tmp_path, a=grey(1))
    (tmp_path / "b.webp").write_bytes(b"RIFF")
    with pytest.raises(StimulusError, match="b.webp"):
        read_images(tmp_path)


def test_read_images_refuses_missing_damaged_and_deep_files(tmp_path: Path) -> None:
    with pytest.raises(StimulusError, match="none.png"):
        read_images(tmp_path / "none.png")
    with pytest.raises(StimulusError, match="none"):
        read_images(tmp_path / "none")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(StimulusError, match="cannot be read"):
        read_images(tmp_path)
    Image.fromarray(np.zeros((2, 2), np.uint16)).save(tmp_path / "a.png")
    with pytest.raises(StimulusError, match="8-bit"):
        read_images(tmp_path)


def test_read_images_respects_memory_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path, a=grey(1, (100, 100)), b=grey(1, (100, 100)))
    monkeypatch.setattr(files, "MOST_BYTES", 50_000)
    with pytest.raises(StimulusError, match="MOST_BYTES"):
        read_images(tmp_path)
    assert read_images(tmp_path, size=10)[0].shape == (2, 1, 10, 10)


def test_pictures_in_three_lines(tmp_path: Path) -> None:
    saved(tmp_path, a=Image.fromarray(NOISE), b=grey(30))
    images, names = read_images(tmp_path, size=16, channels=1, fit="crop")
    net = models.leaky_rcnn((2, 3), image=tuple(images.shape[1:]))
    run = simulate(net, images, solver=Euler(dt=1.0), until=5.0)
    assert len(run.status) == len(names) == 2
