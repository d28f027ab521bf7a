"""Trials of memory tasks: items, durations, answers and timelines."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch

from pcsim import StimulusError, stimuli

TASKS = [stimuli.delayed_match, stimuli.n_back, stimuli.change_detection, stimuli.serial_order]


@pytest.mark.parametrize("make", TASKS)
def test_trials_depend_on_seed_and_index_alone(make: object) -> None:
    whole, part, other = make(3, 0, 20), make(3, 15, 5), make(4, 0, 20)
    for field in ("durations", "items", "answers"):
        assert np.array_equal(getattr(whole, field)[15:], getattr(part, field))
    assert not np.array_equal(whole.items, other.items)


def test_delayed_match_answers_compare_test_with_sample() -> None:
    found = stimuli.delayed_match(0, 0, 4_000, items=5, delay=600.0, distractors=3, distractor=50.0)
    shown = found.items[:, :, 0]
    assert found.names == ("sample", *("delay", "distractor") * 3, "delay", "test")
    assert found.durations[0].tolist() == [100.0, *(110.0, 50.0) * 3, 120.0, 100.0] and found.duration == 800.0
    assert np.array_equal(found.answers[:, -1], shown[:, 0] == shown[:, -1]) and (found.answers[:, :-1] == -1).all()
    assert abs(found.answers[:, -1].mean() - 0.5) < 0.03
    for number in (2, 4, 6):
        others = shown[:, [n for n in (0, 2, 4, 6, 8) if n != number]]
        assert not (shown[:, number, None] == others).any()
        assert np.bincount(shown[:, number], minlength=5).min() > 700
    assert (shown[:, [1, 3, 5, 7]] == -1).all()
    pairs = np.bincount(5 * shown[:, 0] + shown[:, -1], minlength=25).reshape(5, 5)
    assert pairs.diagonal().min() > 330 and pairs[~np.eye(5, dtype=bool)].min() > 60  # 400 and 100 expected


@pytest.mark.parametrize("step", [1.0, 20.0])
def test_distractors_keep_to_grid_of_steps(step: float) -> None:
    for delay in (220.0, 240.0, 600.0, 620.0):
        found = stimuli.delayed_match(0, 0, 1, sample=60.0, delay=delay, distractors=2, distractor=60.0, step=step)
        ends = np.cumsum(found.durations[0])
        assert not (ends[:-2] % step).any() and found.duration == 160.0 + delay and found.durations.min() >= step


@pytest.mark.parametrize("n", [1, 2, 3])
def test_n_back_answers_compare_items(n: int) -> None:
    found = stimuli.n_back(1, 0, 2_000, n=n, length=7, item=80.0, gap=20.0)
    shown, answers = found.items[:, ::2, 0], found.answers[:, ::2]
    assert np.array_equal(answers[:, n:], shown[:, n:] == shown[:, :-n]) and (answers[:, :n] == -1).all()
    assert np.array_equal(found.answers[:, 1::2], answers) and (found.items[:, 1::2] == -1).all()
    assert abs(answers[:, n:].mean() - 0.5) < 0.02 and found.duration == 700.0


def test_change_detection_changes_at_most_one_item() -> None:
    found = stimuli.change_detection(0, 0, 2_000, places=5, shown=3, items=4)
    before, after = found.items[:, 0], found.items[:, 2]
    assert ((before >= 0).sum(1) == 3).all() and np.array_equal(before >= 0, after >= 0)
    changed = (before != after).sum(1)
    assert np.array_equal(changed, found.answers[:, 2]) and abs(changed.mean() - 0.5) < 0.04
    assert ((before != after).mean(0) > 0.07).all()  # in every place, 0.1 expected
    assert found.timeline().at(0.0).shape == (2_000, 20)


def test_serial_order_answer_is_order_whatever_the_durations() -> None:
    found = stimuli.serial_order(0, 0, 3_000, items=4, length=3, element=50.0, stretch=(1.0, 2.0, 4.0), gap=10.0)
    orders = list(permutations(range(4), 3))
    assert found.classes == 24 and [orders[k] for k in found.labels()] == [tuple(r) for r in found.items[:, :6:2, 0]]
    lengths = found.durations[:, :6:2]
    assert set(lengths.ravel().tolist()) == {50.0, 100.0, 200.0}
    assert abs(np.corrcoef(found.items[:, 0, 0], lengths[:, 0])[0, 1]) < 0.06
    start, end = found.span("answer")
    assert np.array_equal(start, lengths.sum(1) + 30.0) and np.array_equal(end, start + 100.0)


def test_timeline_presents_items_at_their_times() -> None:
    found = stimuli.serial_order(2, 0, 6, items=3, length=3, element=20.0, stretch=(1.0, 3.0))
    line, ends = found.timeline(), np.cumsum(found.durations, axis=1)
    for time in np.arange(0.0, found.duration, 10.0):
        for trial, frame in enumerate(line.at(time)):
            epoch = int((ends[trial] <= time).sum())
            item = found.items[trial, epoch, 0] if epoch < 4 else -1
            assert frame.tolist() == [float(item == kind) for kind in range(3)]
    assert torch.equal(line.labels, found.labels())


def test_targets_are_due_after_onset_until_end_of_epoch() -> None:
    found = stimuli.delayed_match(0, 0, 3, sample=20.0, delay=30.0, test=20.0)
    due = found.targets(np.arange(0.0, 100.0, 10.0))
    assert due[:, 0].tolist() == [-1] * 6 + [int(found.labels()[0])] * 2 + [-1] * 2
    thirds = found.targets(np.arange(1, 22) * (10.0 / 3.0))
    assert (thirds[:, 0] >= 0).nonzero().flatten().tolist() == list(range(15, 21))
    sample, delay = found.span("sample"), found.span("delay")
    assert sample[1].tolist() == delay[0].tolist() == [20.0] * 3 and delay[1].tolist() == [50.0] * 3


def test_digit_items_are_digits_in_order() -> None:
    digits = stimuli.digit_items()
    array = stimuli.digit_arrays(5, 0, 1, cell=32)
    cells = array.pixels().reshape(2, 32, 2, 32).permute(0, 2, 1, 3).reshape(4, 32, 32)
    assert digits.shape == (10, 1, 32, 32) and torch.equal(digits[array.identities[0], 0], cells)
    found = stimuli.change_detection(0, 0, 2, places=3, items=8)
    with pytest.raises(StimulusError, match="without a background"):
        found.timeline(stimuli.digit_items(8))
    line = found.timeline(stimuli.digit_items(8), background=0.25)
    frame = line.at(0.0)
    assert torch.equal(line.at(found.duration), torch.full_like(frame, 0.25))
    assert frame.shape == (2, 1, 32, 96)
    for trial, items in zip(frame[:, 0], found.items[:, 0], strict=True):
        for place, item in enumerate(items):
            assert torch.equal(
                trial[:, 32 * place : 32 * place + 32], digits[item, 0] if item >= 0 else torch.full((32, 32), 0.25)
            )


@pytest.mark.parametrize(
    "attempt",
    [
        lambda: stimuli.delayed_match(0, 0, 2, items=3, distractors=2),
        lambda: stimuli.delayed_match(0, 0, 2, delay=200.0, distractors=2),
        lambda: stimuli.delayed_match(0, 0, 2, delay=229.0, distractors=2),
        lambda: stimuli.delayed_match(0, 0, 2, items=1),
        lambda: stimuli.delayed_match(0, 0, 2, delay=0.0),
        lambda: stimuli.n_back(0, 0, 2, n=8),
        lambda: stimuli.change_detection(0, 0, 2, places=2, shown=3),
        lambda: stimuli.serial_order(0, 0, 2, items=3, length=4),
        lambda: stimuli.serial_order(0, 0, 2, items=9, length=6),
        lambda: stimuli.serial_order(0, 0, 2, stretch=()),
        lambda: stimuli.serial_order(0, 0, 2, stretch=(0.0,)),
        lambda: stimuli.delayed_match(0, 0, 2).timeline(torch.eye(5)),
        lambda: stimuli.delayed_match(0, 0, 2).span("probe"),
        lambda: stimuli.delayed_match(0, 0, 2).targets(3.0),
        lambda: stimuli.digit_items(11),
    ],
)
def test_memory_tasks_reject_wrong_options(attempt: object) -> None:
    with pytest.raises(StimulusError):
        attempt()
