"""Occluders: covered share, position, independence of the batch, and frames of the moving bar."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pcsim import StimulusError
from pcsim.stimuli import moving_bar, occluded

FREE, HIDDEN = 0.0, 7.0


def hidden(shape: tuple[int, ...], *args: object, **options: object) -> Tensor:
    """Return which pixels are covered, (batch, height, width)."""
    shown = occluded(torch.full(shape, FREE), *args, level=HIDDEN, **options)
    assert ((shown == FREE) | (shown == HIDDEN)).all() and (shown == shown[:, :1]).all()  # all channels alike
    return shown[:, 0] == HIDDEN


@pytest.mark.parametrize(
    ("share", "width", "columns"), [(0.25, 32, 8), (0.3, 10, 3), (0.33, 10, 3), (0, 9, 0), (1, 9, 9)]
)
def test_bar_covers_adjacent_whole_columns(share: float, width: int, columns: int) -> None:
    covered = hidden((40, 3, 6, width), share)
    assert (covered == covered[:, :1]).all()
    for row in covered[:, 0]:
        positions = row.nonzero().flatten().tolist()
        assert positions == list(range(positions[0], positions[0] + columns)) if columns else positions == []


def test_bar_reaches_every_position() -> None:
    covered = hidden((200, 1, 2, 6), 0.5)[:, 0]
    assert sorted({int(row.nonzero()[0]) for row in covered}) == [0, 1, 2, 3]


@pytest.mark.parametrize("size", [(32, 32), (28, 28), (30, 45), (5, 3), (1, 1)])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.25, 0.5, 0.9, 1.0])
def test_blocks_cover_share_up_to_one_block(size: tuple[int, int], share: float) -> None:
    height, width = size
    block = max(1, round(min(size) / 8)) ** 2
    covered = hidden((20, 2, height, width), share, "blocks").sum((1, 2))
    target = share * height * width
    assert (covered >= target - 1e-6).all() and (covered < target + block).all()


def test_blocks_cover_exact_share_of_square_image() -> None:
    covered = hidden((10, 1, 32, 32), 0.25, "blocks")
    assert (covered.sum((1, 2)) == 256).all()
    squares = covered.reshape(10, 8, 4, 8, 4).float().mean((2, 4))
    assert ((squares == 0) | (squares == 1)).all() and (squares.sum((1, 2)) == 16).all()


@pytest.mark.parametrize("pattern", ["bar", "blocks"])
def test_occluder_depends_on_seed_and_sample_only(pattern: str) -> None:
    images = torch.rand(6, 1, 16, 16)
    whole = occluded(images, 0.4, pattern, seed=3)
    assert torch.equal(occluded(images[4:], 0.4, pattern, seed=3, first=4), whole[4:])
    assert torch.equal(occluded(images, 0.4, pattern, seed=3), whole)
    assert not torch.equal(occluded(images, 0.4, pattern, seed=4), whole)
    assert len({tuple((one != image).flatten().tolist()) for one, image in zip(whole, images, strict=True)}) > 1


@pytest.mark.parametrize("pattern", ["bar", "blocks"])
def test_visible_pixels_and_given_images_are_unchanged(pattern: str) -> None:
    images = torch.rand(3, 1, 16, 16, dtype=torch.float64)
    kept = images.clone()
    shown = occluded(images, 0.4, pattern, level=2.0)
    assert torch.equal(images, kept) and shown.dtype == torch.float64
    assert torch.equal(shown[shown != 2.0], images[shown != 2.0])


def test_moving_bar_frames() -> None:
    line = moving_bar(torch.zeros(1, 1, 1, 4), width=2, every=5.0, level=1.0)
    frames = [line.at(5.0 * k + 1.0).flatten().tolist() for k in range(6)]
    assert frames == [[1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1], [0, 0, 0, 1], [0, 0, 0, 0]]
    assert line.duration == 30.0 and line.change_times(100.0) == [5.0, 10.0, 15.0, 20.0, 25.0]
    facts = {"name": "moving_bar", "kind": "moving_bar", "every": 5.0, "width": 2, "level": 1.0}
    assert line.described() == [{"from": 0.0, "to": 30.0} | facts]


def test_moving_bar_wider_than_image_covers_it() -> None:
    line = moving_bar(torch.zeros(2, 3, 2, 3), width=5, every=1.0)
    assert [float(line.at(k).mean()) * 2 for k in range(8)] == pytest.approx([1 / 3, 2 / 3, 1, 1, 1, 2 / 3, 1 / 3, 0])


@pytest.mark.parametrize(
    "images",
    [torch.rand(4, 4), torch.rand(3, 4, 4), torch.rand(0, 1, 4, 4), torch.zeros(2, 1, 4, 4, dtype=torch.uint8)],
)
def test_other_images_are_refused(images: Tensor) -> None:
    for make in (lambda: occluded(images, 0.5), lambda: moving_bar(images, 2, 5.0)):
        with pytest.raises(StimulusError, match="expected"):
            make()


@pytest.mark.parametrize(
    "options",
    [{"share": 0.01}, {"share": 1.1}, {"share": -0.1}, {"share": 0.5, "pattern": "disc"}, {"share": float("nan")}],
)
def test_shares_that_cannot_be_covered_are_refused(options: dict) -> None:
    with pytest.raises(StimulusError):
        occluded(torch.rand(2, 1, 16, 16), **options)
