"""Arrays and blends of digits, with cues to the target."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pcsim import StimulusError, stimuli


@pytest.mark.parametrize("make", [stimuli.digit_arrays, stimuli.digit_blends])
def test_images_depend_on_seed_and_index_alone(make: object) -> None:
    whole, part, other = make(3, 0, 6), make(3, 4, 2), make(4, 0, 6)
    for field in ("images", "identities", "target"):
        assert np.array_equal(getattr(whole, field)[4:], getattr(part, field))
    assert not np.array_equal(whole.images, other.images)
    assert all(len(set(row)) == len(row) for row in whole.identities.tolist())


def test_array_cells_are_the_centred_digits_of_their_identities() -> None:
    found = stimuli.digit_arrays(0, 0, 40, rows=2, columns=3, cell=24)
    assert found.images.shape == (40, 1, 48, 72) and found.pixels().max() <= 1
    cells = found.images.reshape(40, 2, 24, 3, 24).transpose(0, 1, 3, 2, 4).reshape(40, 6, 24, 24)
    first: dict[int, np.ndarray] = {}
    same = [
        np.array_equal(first.setdefault(int(identity), cell), cell)
        for row, digits in zip(cells, found.identities, strict=True)
        for cell, identity in zip(row, digits, strict=True)
    ]
    assert np.mean(same) == 1.0  # a font has one glyph per digit
    assert len({cell.tobytes() for cell in first.values()}) == 10
    assert found.centres.tolist()[4] == [35.5, 35.5]


def test_blend_is_the_average_of_its_digits() -> None:
    one, both = stimuli.digit_blends(0, 0, 30, spread=0.0), stimuli.digit_arrays(0, 0, 1, cell=32)
    assert one.images.shape == (30, 1, 32, 32)
    single = {}
    for seed in range(12):
        array = stimuli.digit_arrays(seed, 0, 1, cell=32)
        cells = array.images.reshape(2, 32, 2, 32).transpose(0, 2, 1, 3).reshape(4, 32, 32)
        single |= dict(zip(array.identities[0].tolist(), cells.astype(float), strict=True))
    assert len(single) == 10 and both.identities.shape == (1, 4)
    for image, (a, b) in zip(one.images[:, 0], one.identities.tolist(), strict=True):
        assert np.abs(image - (single[a] + single[b]) / 2).max() <= 1.0  # rounding


def test_cues_refer_to_target_distractor_and_absent_digit() -> None:
    found = stimuli.digit_arrays(2, 0, 50)
    rows = np.arange(50)
    assert np.array_equal(found.labels(), found.identities[rows, found.target])
    assert np.array_equal(found.labels("invalid"), found.identities[rows, (found.target + 1) % 4])
    foils = found.labels("foil").numpy()
    assert not (found.identities == foils[:, None]).any() and len(set(foils.tolist())) > 5
    for cue in ("valid", "invalid", "foil"):
        assert torch.equal(found.goals(cue).argmax(1), found.labels(cue)) and (found.goals(cue).sum(1) == 1).all()
    assert torch.allclose(found.goals("neutral"), torch.tensor(0.1)) and not found.goals("absent").any()
    assert set(found.target.tolist()) == {0, 1, 2, 3}


def test_spotlight_is_gaussian_around_the_place() -> None:
    found = stimuli.digit_arrays(2, 0, 20)
    masks = found.spotlights("valid", sd=6.0).numpy()
    y, x = np.mgrid[:48, :48]
    for mask, place in zip(masks[:, 0], found.target, strict=True):
        row, column = 11.5 + 24 * (place // 2), 11.5 + 24 * (place % 2)
        assert np.allclose(mask, np.exp(-((y - row) ** 2 + (x - column) ** 2) / 72.0), rtol=0, atol=1e-6)
    every = [stimuli.spotlight(torch.from_numpy(found.centres[[n]]), (48, 48), 6.0) for n in range(4)]
    assert torch.allclose(found.spotlights("neutral", sd=6.0)[:1], sum(every) / 4)
    assert not found.spotlights("absent").any()
    assert not np.array_equal(found.spotlights("invalid").numpy(), masks)


@pytest.mark.parametrize(
    "attempt",
    [
        lambda: stimuli.digit_arrays(0, 0, 1, rows=4, columns=3),
        lambda: stimuli.digit_arrays(0, 0, 1, cell=40),
        lambda: stimuli.digit_blends(0, 0, 1, digits=1),
        lambda: stimuli.digit_blends(0, 0, 1).spotlights("valid"),
        lambda: stimuli.digit_arrays(0, 0, 1).goals("left"),
        lambda: stimuli.spotlight(torch.zeros(2), (8, 8)),
    ],
)
def test_cued_images_reject_wrong_options(attempt: object) -> None:
    with pytest.raises(StimulusError):
        attempt()
