"""Video clips: file reading, disjoint sequences, and the motion of digits."""

from __future__ import annotations

import math
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pcsim import StimulusError, stimuli
from pcsim.stimuli.film import Film, as_timeline, oddball, read_film, read_moving_mnist
from pcsim.stimuli.moving import MovingDigits
from pcsim.training.memory import Live

VIDEOS = Path(__file__).parents[3] / "shared" / "data"


def numbered(*lengths: int, shape: tuple[int, int, int] = (1, 4, 6)) -> Film:
    """Return frames filled with their index across all clips."""
    ends = np.cumsum(lengths)
    clips = [np.arange(end - n, end, dtype=np.uint8) for n, end in zip(lengths, ends, strict=True)]
    return Film(tuple(np.broadcast_to(c[:, None, None, None], (len(c), *shape)) for c in clips), 10.0)


def numbers(frames: np.ndarray) -> np.ndarray:
    return frames[..., 0, 0, 0].astype(int)


GREY = np.random.default_rng(0).integers(0, 256, (5, 8, 12), dtype=np.uint8)
COLOUR = np.random.default_rng(1).integers(0, 256, (5, 8, 12, 3), dtype=np.uint8)


def test_read_film_returns_frames_of_each_file_type(tmp_path: Path) -> None:
    np.save(tmp_path / "grey.npy", GREY)
    np.savez(tmp_path / "colour.npz", frames=COLOUR, fps=25)
    (tmp_path / "folder").mkdir()
    for number, frame in enumerate(COLOUR):
        Image.fromarray(frame).save(tmp_path / "folder" / f"{number:03}.png")
    pages = [Image.fromarray(np.where(frame < 128, 0, 255).astype(np.uint8)) for frame in GREY]
    pages[0].save(tmp_path / "film.gif", save_all=True, append_images=pages[1:], duration=40)
    grey, colour = read_film(tmp_path / "grey.npy", rate=10), read_film(tmp_path / "colour.npz")
    assert np.array_equal(grey.clips[0], GREY[:, None]) and grey.rate == 10
    assert np.array_equal(colour.clips[0], COLOUR.transpose(0, 3, 1, 2)) and colour.rate == 25
    assert np.array_equal(read_film(tmp_path / "folder", rate=5).clips[0], colour.clips[0])
    gif = read_film(str(tmp_path / "film.gif"))
    assert gif.rate == 25 and np.array_equal(gif.clips[0][:, 0], np.stack([np.asarray(page) for page in pages]))
    many = read_film(torch.rand(3, 7, 2, 4, 4), rate=1)
    assert len(many.clips) == 3 and many.shape == (2, 4, 4) and len(many) == 21
    assert repr(colour) == "Film(colour: 1 clip, 5 frames of 3x8x12 at 25 Hz)"


def test_read_film_without_pyav_names_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    path = tmp_path / "film.mp4"
    path.write_bytes(b"")
    with pytest.raises(StimulusError, match=r"pcsim\[video\]"):
        read_film(path)


def test_read_film_reads_video_file(tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="PyAV is not installed (extra video)")
    path = tmp_path / "film.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=20)
        stream.width, stream.height = 32, 16
        for level in (0, 120, 240):
            frame = av.VideoFrame.from_ndarray(np.full((16, 32, 3), level, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    film = read_film(path)
    assert film.rate == 20 and film.shape == (3, 16, 32)
    assert np.allclose(film.clips[0].mean((1, 2, 3)), (0, 120, 240), atol=8)


@pytest.mark.parametrize(
    ("array", "rate", "message"),
    [
        (GREY, None, "has no rate"),
        (GREY, -1.0, "above 0"),
        (np.zeros((3, 2, 8, 8)), 1.0, "pass array, axes='time channel height width'"),
        (np.zeros((64, 64, 3), np.uint8), 1.0, r"shape \(64, 64, 3\), whose axes are ambiguous"),
        (np.zeros((2, 5, 3, 16, 3), np.uint8), 1.0, "axes are ambiguous"),
        (np.zeros((2, 3, 16, 64, 64), np.uint8), 1.0, "axes are ambiguous"),
        (np.zeros((2, 5, 16, 16, 4), np.uint8), 1.0, "axes are ambiguous"),
        (np.zeros((5, 3, 16, 3), np.uint8), 1.0, "axes are ambiguous"),
        (GREY / 127.5 - 1, 1.0, r"pass \(frames \+ 1\) / 2 if black is -1"),
        (np.full((3, 8, 8), np.nan), 1.0, "NaN or infinite"),
        (np.full((3, 8, 8), np.inf, np.float32), 1.0, "NaN or infinite"),
        (GREY > 3, 1.0, "type bool"),
        (GREY.astype(str), 1.0, "8-bit pixels"),
        (GREY.astype(complex), 1.0, "8-bit pixels"),
        ([[1], [1, 2]], 1.0, r"pass np\.stack"),
        (np.ma.masked_less(GREY, 9), 1.0, "missing values"),
        (np.zeros((0, 8, 8)), 1.0, "at least one"),
        (np.zeros((3, 0, 8)), 1.0, "at least one"),
        (GREY.astype(np.int64), 1.0, "8-bit pixels"),
        (GREY.astype(np.float32), 1.0, "divide the frames by the full scale"),
        (np.zeros((0, 3, 8, 8, 3)), 1.0, "at least one"),
    ],
)
def test_read_film_rejects_invalid_arrays(array: np.ndarray, rate: float | None, message: str) -> None:
    with pytest.raises(StimulusError, match=message):
        read_film(array, rate=rate)


def test_read_film_takes_channels_last_and_named_axes() -> None:
    clips = np.random.default_rng(4).integers(0, 256, (2, 5, 16, 12, 3), dtype=np.uint8)
    wanted = clips.transpose(0, 1, 4, 2, 3)
    for array, axes in (
        (clips, None),
        (wanted, None),
        (clips.transpose(3, 1, 0, 4, 2), "width time n channel height"),
        (wanted.transpose(1, 0, 2, 3, 4), "time n channel height width"),
    ):
        assert np.array_equal(np.stack(read_film(array, rate=1, axes=axes).clips), wanted)
    assert read_film(np.zeros((4, 9, 8)), rate=1, axes="height width time").shape == (1, 4, 9)
    for axes in ("time height width", "n time height height channel", "n time height width colour", "n n n n n"):
        with pytest.raises(StimulusError, match="names for all axes"):
            read_film(clips, rate=1, axes=axes)


def test_film_refuses_values_that_are_no_pixels() -> None:
    with pytest.raises(StimulusError, match="divide the frames by the full scale"):
        Film((np.full((2, 1, 4, 4), 200.0),), 1.0)
    with pytest.raises(StimulusError, match="at least one NumPy array"):
        Film((torch.zeros(2, 1, 4, 4),), 1.0)  # type: ignore[arg-type]
    with pytest.raises(StimulusError, match="red, green and blue"):
        read_film(torch.rand(1, 2, 2, 8, 8), rate=1).grey()
    white = read_film(np.ones((1, 2, 3, 8, 8)), rate=1)
    for film in (white.grey(), white.fitted((5, 7), how="resize")):
        assert np.allclose(film.clips[0], 1.0, atol=1e-6), "rounding must not make white brighter than white"


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (torch.rand(2, 3, 1, 8, 8) * 2 - 1, "if black is -1"),
        (torch.rand(2, 3, 1, 8, 8) * 255, "frames / 255"),
        (torch.rand(2, 3, 1, 8, 8) * 9, "frames / 255"),
        (torch.full((1, 2, 1, 4, 4), math.nan), "NaN"),
        (np.zeros((1, 2, 1, 4, 4), np.uint16), "frames / 4095"),
        (torch.rand(0, 3, 1, 8, 8), "at least one frame"),
        ("walk.gif", r"stimuli\.read_film"),
        (torch.rand(3, 1, 8, 8), r"clip\[None\]"),
    ],
)
def test_frames_are_checked_in_every_function(frames: object, message: str) -> None:
    for call in (as_timeline, lambda f: oddball(f, 2)):
        with pytest.raises(StimulusError, match=message):
            call(frames)


def test_as_timeline_accepts_flipped_arrays() -> None:
    frames = numbered(6).draw(0, 0, 3, 4)
    assert torch.equal(as_timeline(frames[:, ::-1]).at(0.0), as_timeline(frames).at(30.0))


def test_read_film_rejects_unreadable_files(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("")
    np.savez(tmp_path / "two.npz", a=GREY, b=GREY)
    for name, message in (
        ("missing.npy", "an existing file or folder"),
        ("notes.txt", "a folder of images, or a file"),
        ("empty", "a separate folder"),
        ("two.npz", r"with np\.savez"),
    ):
        with pytest.raises(StimulusError, match=message):
            read_film(tmp_path / name, rate=1)


def test_film_fitted_crops_pads_and_resizes() -> None:
    film = read_film(GREY[:, :7, :11], rate=1)
    assert film.fitted(multiple=4).shape == (1, 4, 8) and film.fitted(multiple=4, how="pad").shape == (1, 8, 12)
    assert np.array_equal(film.fitted((3, 7)).clips[0][:, 0], GREY[:, 2:5, 2:9])
    padded = film.fitted((9, 11), how="pad").clips[0][:, 0]
    assert np.array_equal(padded[:, 1:8], GREY[:, :7, :11]) and np.array_equal(padded[:, 0], GREY[:, 0, :11])
    flat = Film((np.full((2, 1, 9, 9), 77, np.uint8),), 1.0)
    assert (flat.fitted((4, 5), how="resize").clips[0] == 77).all()
    for size, how in (((8, 11), "crop"), ((6, 11), "pad"), ((4, 4), "squeeze")):
        with pytest.raises(StimulusError, match="multiple=8|one of"):
            film.fitted(size, how=how)
    white = read_film(np.full((2, 3, 3, 3), 255, np.uint8), rate=1).grey()
    assert white.shape == (1, 3, 3) and (white.clips[0] == 255).all()


def test_film_split_has_no_common_frame() -> None:
    film = numbered(20, 30, 10)
    for by in ("time", "clip"):
        train, test = film.split(0.2, by)
        seen, kept = (set(np.concatenate([numbers(c) for c in part.clips])) for part in (train, test))
        assert not seen & kept and len(seen | kept) == 60
    assert [len(clip) for clip in film.split(0.2)[1].clips] == [4, 6, 2]
    with pytest.raises(StimulusError, match="left for training"):
        numbered(5).split(0.2, "clip")


def test_film_draw_depends_on_seed_and_index_within_clips() -> None:
    film = numbered(9, 3, 14)
    drawn = numbers(film.draw(0, 0, 400, 4))
    assert (np.diff(drawn, axis=1) == 1).all()
    begins, counts = np.unique(drawn[:, 0], return_counts=True)
    assert set(begins) == {*range(6), *range(12, 23)}, "every start within a clip must occur, and no other"
    assert counts.min() > 5
    assert np.array_equal(numbers(film.draw(0, 100, 7, 4)), drawn[100:107])
    assert not np.array_equal(numbers(film.draw(1, 0, 400, 4)), drawn)
    end_to_end = numbers(film.sequences(4))
    assert end_to_end[:, 0].tolist() == [0, 4, 12, 16, 20] and len(np.unique(end_to_end)) == end_to_end.size
    assert numbers(film.every(2).clips[0]).tolist() == [0, 2, 4, 6, 8] and film.every(2).rate == 5.0
    with pytest.raises(StimulusError, match="the longest clip"):
        film.draw(0, 0, 1, 15)


def test_as_timeline_shows_film_frame_by_frame() -> None:
    frames = numbered(6).draw(0, 0, 3, 4)
    line = as_timeline(frames, every=10.0)
    assert line.duration == 40.0 and line.change_times(40.0) == [10.0, 20.0, 30.0]
    assert torch.equal(line.at(20.0), torch.from_numpy(frames[:, 2] / np.float32(255)))


def test_moving_digits_move_straight_and_bounce() -> None:
    shown = MovingDigits(digits=2).draw(seed=3, first=0, count=20, length=60)
    assert shown.frames.shape == (20, 60, 1, 64, 64) and shown.frames.max() == 255
    assert shown.corners.min() == 0 and shown.corners.max() == 36
    moved = np.diff(shown.corners, axis=1)
    inside = ((shown.corners[:, 1:] > 0) & (shown.corners[:, 1:] < 36)).all(-1)
    pace = np.linalg.norm(moved, axis=-1)[inside & ((shown.corners[:, :-1] % 36 != 0).all(-1))]
    assert 3 <= pace.min() and pace.max() <= 5
    for path in shown.corners.transpose(0, 2, 1, 3).reshape(-1, 60, 2):
        again = bounced(path[0], path, 36.0)
        assert np.allclose(again, path, atol=1e-9)


def bounced(start: np.ndarray, path: np.ndarray, room: float) -> np.ndarray:
    """Recompute the path one coordinate at a time, at the speed measured in steps without a bounce."""
    made = []
    for axis in range(2):
        x = float(start[axis])
        free = [b - a for a, b in zip(path[:-1, axis], path[1:, axis], strict=True) if 0 < b < room]
        size = max(abs(v) for v in free)
        v = math.copysign(size, path[1, axis] - x)
        line = [x]
        for _ in range(len(path) - 1):
            x += v
            if x <= 0 or x >= room:
                x, v = min(max(x, 0.0), room), -v
            line.append(x)
        made.append(line)
    return np.array(made).T


def test_moving_digits_clip_depends_on_seed_and_index() -> None:
    moving = MovingDigits(digits=3, bars=2)
    whole, part = moving.draw(5, 0, 8, 6), moving.draw(5, 3, 2, 6)
    assert np.array_equal(whole.frames[3:5], part.frames) and np.array_equal(whole.identities[3:5], part.identities)
    assert not np.array_equal(whole.frames[0], whole.frames[1])
    assert not np.array_equal(moving.draw(6, 0, 8, 6).frames, whole.frames)
    assert np.array_equal(moving.draw(5, 0, 8, 3).frames, whole.frames[:, :3]), (
        "a longer clip must start like a shorter one"
    )


def test_moving_digits_are_hidden_by_bars() -> None:
    moving = MovingDigits(digits=1, bars=3, width=9)
    shown, bare = moving.draw(1, 0, 30, 5), MovingDigits(digits=1).draw(1, 0, 30, 5)
    assert np.array_equal(shown.corners, bare.corners), "bars must not change the path of a digit"
    covered = shown.frames[:, :1] == 119
    columns = covered.all(3, keepdims=True)
    assert (columns.sum(4) >= 18).all() and (columns.sum(4) <= 27).all(), "three bars, of which the border may cut one"
    assert np.array_equal(np.where(columns, 119, bare.frames), shown.frames)
    ink = bare.frames >= 128
    expected = (ink & ~columns).sum((2, 3, 4)) / ink.sum((2, 3, 4))
    assert np.allclose(shown.visible[..., 0], expected)
    assert bare.visible.min() == 1.0 and shown.visible.min() < 0.5


def test_moving_digits_corners_locate_digit() -> None:
    shown = MovingDigits(digits=1).draw(0, 0, 12, 2)
    patches = stimuli.RenderedGlyphs().patches(shown.identities[:, 0])
    for frame, (y, x), patch in zip(shown.frames[:, 1, 0], shown.corners[:, 1, 0].astype(int), patches, strict=True):
        assert np.array_equal(frame[y : y + 28, x : x + 28], patch) and frame.sum() == patch.sum()
    heights = [np.flatnonzero(patch.max(1) >= 128) for patch in stimuli.RenderedGlyphs().patches(np.arange(10))]
    assert all(17 <= rows[-1] - rows[0] + 1 <= 21 for rows in heights), "digits must be 20 pixels tall, as in MNIST"


def test_moving_digits_at_half_size_average_pixels() -> None:
    large = MovingDigits(digits=1, speed=(2, 2)).draw(0, 0, 4, 1)
    small = MovingDigits(digits=1, size=32, side=14, speed=(1, 1)).draw(0, 0, 4, 6)
    assert small.frames.shape == (4, 6, 1, 32, 32) and np.array_equal(small.identities, large.identities)
    assert np.allclose(small.corners[:, 0], large.corners[:, 0] / 2)
    for one, other, at, to in zip(
        small.frames[:, 0, 0],
        large.frames[:, 0, 0],
        small.corners[:, 0, 0].astype(int),
        large.corners[:, 0, 0].astype(int),
        strict=True,
    ):
        means = other[to[0] : to[0] + 28, to[1] : to[1] + 28].reshape(14, 2, 14, 2).mean((1, 3))
        assert np.array_equal(one[at[0] : at[0] + 14, at[1] : at[1] + 14], np.rint(means))


@pytest.mark.parametrize(
    "wrong",
    [
        {"digits": 0},
        {"size": 28},
        {"speed": (5.0, 3.0)},
        {"speed": (math.nan, 3.0)},
        {"bars": 8},
        {"speed": (3, 40)},
        {"side": 20},
    ],
)
def test_moving_digits_reject_invalid_settings(wrong: dict) -> None:
    (setting,) = (f"{name}={re.escape(repr(value))}" for name, value in wrong.items())
    with pytest.raises(StimulusError, match=rf"given: .*\b{setting}[\s\S]*remedy: use the published settings"):
        MovingDigits(**wrong)


def test_moving_digits_reject_empty_batches() -> None:
    for name, count, length in (("count", 0, 5), ("length", 5, 0)):
        with pytest.raises(StimulusError, match=f"{name}=0 for draw"):
            MovingDigits().draw(0, 0, count, length)
    with pytest.raises(StimulusError, match="count"):
        numbered(9).draw(0, 0, 0, 4)


def test_read_moving_mnist_reads_published_layout(tmp_path: Path) -> None:
    array = np.random.default_rng(2).integers(0, 256, (20, 3, 64, 64), dtype=np.uint8)
    np.save(tmp_path / "mnist_test_seq.npy", array)
    film = read_moving_mnist(tmp_path / "mnist_test_seq.npy")
    assert len(film.clips) == 3 and film.shape == (1, 64, 64)
    assert np.array_equal(film.clips[1][7, 0], array[7, 1])
    for other in (array[:10], array.astype(np.float32)):
        np.save(tmp_path / "other.npy", other)
        with pytest.raises(StimulusError, match="mnist_test_seq"):
            read_moving_mnist(tmp_path / "other.npy")


@pytest.mark.data
def test_moving_digits_show_unchanged_mnist_digits(mnist: Path) -> None:
    glyphs = stimuli.HandwrittenGlyphs("test", mnist)
    shown = MovingDigits(digits=1).draw(0, 0, 5, 3, glyphs)
    for frame, (y, x), digit in zip(
        shown.frames[:, 2, 0], shown.corners[:, 2, 0].astype(int), shown.identities[:, 0], strict=True
    ):
        patch = frame[y : y + 28, x : x + 28]
        assert any(np.array_equal(patch, glyphs.images[i]) for i in glyphs.of_class(digit))


@pytest.mark.data
@pytest.mark.parametrize(
    ("file", "crop", "one", "five"),
    [
        ("video_driving/udacity_solidWhiteRight_128x160.npz", False, 0.00068, 0.0029),
        ("video_kitti_sample/kitti_odometry_sample1_128x416_gray.npz", True, 0.0156, 0.033),
        ("video_kitti_sample/kitti_odometry_sample2_128x416_gray.npz", True, 0.0241, 0.066),
        ("video_pedestrians/opencv_vtest_96x128_gray.npz", False, 0.00161, 0.0063),
    ],
)
def test_video_copy_last_frame_mse_matches_documented(file: str, crop: bool, one: float, five: float) -> None:
    if not (VIDEOS / file).exists():
        pytest.skip(f"no {file}")
    film = read_film(VIDEOS / file)
    frames = (film.fitted((128, 160)) if crop else film).clips[0] / np.float32(255)
    for ahead, expected in ((1, one), (5, five)):
        found = float(np.square(frames[ahead:] - frames[:-ahead]).mean())
        assert found == pytest.approx(expected, rel=0.02)


def test_oddball_changes_film_only_after_surprise() -> None:
    frames = np.arange(24, dtype=np.uint8).reshape(2, 12, 1, 1, 1)
    assert oddball(frames, 8)[0].flatten().tolist() == [*range(8), 6, 5, 4, 3]
    assert oddball(frames[:, :7], 4)[0].flatten().tolist() == [0, 1, 2, 3, 2, 1, 0]
    assert oddball(frames, 5, "cut")[:, :, 0, 0, 0].tolist() == [
        [*range(5), *range(17, 24)],
        [*range(12, 17), *range(5, 12)],
    ]


@pytest.mark.parametrize(
    ("at", "how", "clips"), [(6, "reverse", 2), (0, "cut", 2), (12, "cut", 2), (8, "turn", 2), (8, "cut", 1)]
)
def test_oddball_rejects_invalid_arguments(at: int, how: str, clips: int) -> None:
    remedy = "pass how='reverse'" if clips == 1 else "remedy: pass at=7, how='reverse'"
    with pytest.raises(StimulusError, match=remedy):
        oddball(np.zeros((clips, 12, 1, 1, 1), np.uint8), at, how)


@pytest.mark.parametrize(("length", "how", "least"), [(1, "reverse", 3), (2, "reverse", 3), (1, "cut", 2)])
def test_oddball_of_short_clips_asks_for_longer_ones(length: int, how: str, least: int) -> None:
    with pytest.raises(StimulusError, match=rf"at least {least} frames\nremedy: draw longer clips"):
        oddball(np.zeros((2, length, 1, 1, 1), np.uint8), 1, how)
    shortest = np.arange(2 * least, dtype=np.uint8).reshape(2, least, 1, 1, 1)
    assert oddball(shortest, least - 1, how).shape == shortest.shape


def test_as_timeline_of_long_film_stays_compact_in_memory() -> None:
    frames = torch.zeros(1, 400, 1, 32, 32, dtype=torch.uint8)
    with Live() as live:
        shown = as_timeline(frames)
        assert all(shown.at(float(t)).dtype == torch.float32 for t in range(400))
    assert live.most < frames.numel() + 10 * 4 * 32 * 32
