"""Timelines: texts, names, joining, and onsets, durations and contrasts of single images."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from pcsim import (
    Euler,
    Iterate,
    Network,
    PcsimWarning,
    Population,
    Projection,
    Record,
    Settled,
    StimulusError,
    batched,
    models,
    simulate,
    stimuli,
)
from pcsim.rules import Leaky, Rate
from pcsim.stimuli import blank, held, noise, presented, sequence, turns
from pcsim.stimuli.timeline import Epoch, Timeline


def images(batch: int = 3, seed: int = 0) -> Tensor:
    return torch.rand(batch, 1, 4, 4, generator=torch.Generator().manual_seed(seed))


def follower() -> Network:
    """A network whose state tau = dt steps behind is the input: after a step it shows the image of that step."""
    return Network({"x": (1, 4, 4)}, [Population("a", Leaky(Rate(1, "identity"), 1.0))], [Projection("x", "a")])


# ---------------------------------------------------------------------- texts


def test_repr_has_a_line_for_each_epoch() -> None:
    line = blank(50.0, images(), name="fixation").then(held(images(), 100.0)).then(noise(images(), 0.2, 30.0, 10.0, 4))
    assert repr(line).splitlines() == [
        "Timeline of 3 epochs, 180 ms",
        "  0 to 50 ms: fixation (blank), 3x1x4x4, level 0.0",
        "  50 to 150 ms: image (held), 3x1x4x4",
        "  150 to 180 ms: noise, 3x1x4x4, every 10 ms, sd 0.2, seed 4, first 0",
    ]
    assert repr(held(images())).splitlines() == [
        "Timeline of 1 epoch, without end",
        "  0 to ... ms: image (held), 3x1x4x4",
    ]
    assert "2x5, every 10 ms, rounds 10" in repr(turns(5, 2))


@pytest.mark.parametrize(
    ("make", "default"),
    [
        (lambda **o: held(images(), 5.0, **o), "image"),
        (lambda **o: blank(5.0, images(), **o), "blank"),
        (lambda **o: noise(images(), 0.1, 5.0, 1.0, 0, **o), "noise"),
        (lambda **o: sequence(images()[None], 5.0, **o), "frames"),
        (lambda **o: stimuli.as_timeline(images()[None].expand(2, -1, -1, -1, -1), **o), "frames"),
        (lambda **o: turns(3, 2, **o), "turns"),
        (lambda **o: presented(images(), 5.0, **o), "image"),
    ],
)
def test_epochs_have_default_names_that_can_be_set(make: object, default: str) -> None:
    assert make().epochs[0].name == default and make(name="mine").epochs[0].name == "mine"
    assert make().described()[0]["name"] == default


# ---------------------------------------------------------------------- joining


@pytest.mark.parametrize("other", [images(2), torch.rand(3, 1, 4, 5), torch.rand(3, 2, 4, 4), torch.rand(3, 4, 4)])
def test_other_batches_and_shapes_are_refused_where_they_are_joined(other: Tensor) -> None:
    for make in (held, lambda x: noise(x, 0.1, 5.0, 1.0, 0), lambda x: held(x).mapped(lambda y: y + 1)):
        with pytest.raises(StimulusError, match="throughout a timeline"):
            held(images(), 5.0).then(make(other))


def test_shapes_of_own_epochs_are_found_from_their_frames() -> None:
    own = Timeline((Epoch(5.0, 5.0, lambda k: images(2)),))
    assert own.epochs[0].shape == (2, 1, 4, 4)
    with pytest.raises(StimulusError, match="throughout a timeline"):
        held(images(3), 5.0).then(own)
    assert held(images(2), 5.0).then(own).duration == 10.0


# ---------------------------------------------------------------------- single images


def test_durations_of_single_images_shift_all_later_epochs() -> None:
    first, second = images(seed=1), images(seed=2)
    waits, lasts = torch.tensor([2.0, 0.0, 5.0]), torch.tensor([3.0, 4.0, 1.0])
    line = blank(waits, first, level=7.0).then(held(first, lasts)).then(held(second))
    assert line.change_times(100.0) == [2.0, 4.0, 5.0, 6.0]
    for time in range(9):
        for sample in range(3):
            begin, end = waits[sample], waits[sample] + lasts[sample]
            wanted = torch.full((1, 4, 4), 7.0) if time < begin else first[sample] if time < end else second[sample]
            assert torch.equal(line.at(float(time))[sample], wanted), (time, sample)


def test_noise_with_own_durations_is_counted_from_the_onset_of_each_image() -> None:
    line = blank(torch.tensor([0.0, 4.0]), images(2)).then(noise(images(2), 0.1, torch.tensor([6.0, 6.0]), 2.0, seed=3))
    alike = noise(images(2), 0.1, 6.0, 2.0, seed=3)
    for time in (0.0, 2.0, 4.0):
        assert torch.equal(line.at(time)[0], alike.at(time)[0])
        assert torch.equal(line.at(time + 4.0)[1], alike.at(time)[1])
    assert line.change_times(20.0) == [2.0, 4.0, 6.0, 8.0]


def test_batch_of_presented_images_equals_single_runs() -> None:
    shown, net = images(), models.leaky_rcnn((2, 3), tau=(5.0, 10.0), image=(1, 4, 4), classes=2)
    onsets, durations, contrasts = [0.0, 3.0, 6.0], [4.0, 4.0, 8.0], [0.1, 0.5, 1.0]
    line = presented(
        shown, torch.tensor(durations), onset=torch.tensor(onsets), contrast=torch.tensor(contrasts), background=0.5
    )
    together = simulate(net, line, solver=Euler(1.0), until=20.0)["readout"]
    for sample in range(3):
        image = shown[sample : sample + 1]
        grey = torch.full_like(image, 0.5)
        faded = image if contrasts[sample] == 1.0 else grey + contrasts[sample] * (image - grey)
        single = held(faded, durations[sample]).then(held(grey))
        single = held(grey, onsets[sample]).then(single) if onsets[sample] else single
        alone = simulate(net, single, solver=Euler(1.0), until=20.0)["readout"]
        assert torch.allclose(together[:, sample], alone[:, 0], rtol=0, atol=1e-6), sample


def test_presented_image_at_full_contrast_has_the_same_bits() -> None:
    line = presented(images(), 5.0, onset=2.0, background=0.3)
    assert torch.equal(line.at(2.0), images()) and torch.equal(line.at(6.9), images())
    assert (line.at(0.0) == 0.3).all() and (line.at(7.0) == 0.3).all() and math.isinf(line.duration)


def test_samples_follow_their_own_course_in_a_run() -> None:
    line = presented(images(), 2.0, onset=torch.tensor([0.0, 1.0, 3.0]))
    run = simulate(follower(), line, solver=Euler(1.0), until=6.0, record=Record(states=["a"]))
    for step in range(6):
        for sample, onset in enumerate((0, 1, 3)):
            wanted = images()[sample] if onset <= step < onset + 2 else torch.zeros(1, 4, 4)
            assert torch.equal(run["a"][step, sample], wanted), (step, sample)
    onsets = run.about["stimulus"]["x"][1]
    assert (onsets["from"], onsets["to"], onsets["onsets"], onsets["offsets"]) == (0.0, 5.0, [0, 1, 3], [2, 3, 5])


def test_gradients_reach_every_image() -> None:
    shown = images().requires_grad_()
    line = presented(shown, 2.0, onset=torch.tensor([0.0, 1.0, 3.0]))
    sum(line.at(float(time)).sum() for time in range(6)).backward()
    assert (shown.grad == 2.0).all()


def test_batched_networks_repeat_single_courses() -> None:
    many = batched(follower(), taus={"a": [1.0, 2.0]}, batch=3)
    line = presented(images(), 2.0, onset=torch.tensor([0.0, 1.0, 3.0]))
    tiled = many.tile(line)
    for time in range(6):
        assert torch.equal(tiled.at(float(time)), torch.cat([line.at(float(time))] * 2))


@pytest.mark.parametrize(
    "make",
    [
        lambda: held(images(), torch.tensor([1.0, 2.0])),
        lambda: held(images(), torch.tensor([1.0, -2.0, 3.0])),
        lambda: held(images(), torch.tensor([1.0, math.nan, 3.0])),
        lambda: held(images(), torch.zeros(3)),
        lambda: blank(torch.ones(2), images()),
        lambda: noise(images(), 0.1, torch.ones(4), 1.0, seed=0),
        lambda: presented(images(), 1.0, onset=torch.ones(3, 1)),
        lambda: presented(images(), 1.0, onset=-1.0),
        lambda: presented(images(), 1.0, onset=torch.tensor([0.0, -1.0, 0.0])),
        lambda: presented(images(), 1.0, contrast=torch.tensor([0.0, math.inf, 0.0])),
        lambda: presented(images(), 1.0, contrast=torch.ones(2)),
        lambda: presented(images(), 0.0),
        lambda: Timeline((Epoch(torch.ones(2), math.inf, lambda k: images()),)),
        lambda: held(images(), torch.tensor([1.0, math.inf, 1.0])).then(held(images())),
    ],
)
def test_wrong_courses_are_refused(make: object) -> None:
    with pytest.raises(StimulusError):
        make()


# ---------------------------------------------------------------------- the end


def test_timeline_that_ends_before_the_run_says_so() -> None:
    net, line = follower(), held(images(), 4.0)
    with pytest.warns(
        PcsimWarning, match=r"'x' ends at 4 ms, but the run ends at 6 ms; its last frame, 'image', remains"
    ):
        run = simulate(net, line, solver=Euler(1.0), until=6.0)
    assert run.about["stimulus"]["x"][0]["to"] == 6.0
    shorter = held(images(), torch.tensor([4.0, 6.0, 6.0]))
    with pytest.warns(PcsimWarning, match="ends at 4 ms for some samples"):
        simulate(net, shorter, solver=Euler(1.0), until=6.0)
    blt, clip = models.blt(channels=(2, 2), image=(1, 8, 8)), sequence(torch.rand(2, 1, 1, 8, 8), 10.0)
    with pytest.warns(PcsimWarning, match="ends at 20 ms, but the run ends at 30 ms"):
        simulate(blt, clip, solver=Iterate(), steps=3)


def test_timeline_that_covers_the_run_is_silent() -> None:
    net = follower()
    for line in (held(images()), held(images(), 6.0), held(images(), 4.0).then(blank(math.inf, images()))):
        simulate(net, line, solver=Euler(1.0), until=6.0)
    simulate(net, held(images(), 4.0), solver=Euler(1.0))
    simulate(net, sequence(images()[None].repeat(6, 1, 1, 1, 1), 0.1), solver=Euler(0.1), until=0.6)
    settled = Settled(1e-3, at_most=50.0)  # needs the last image until then
    assert simulate(net, held(images(), 4.0), solver=Euler(1.0), until=settled).settled_at is not None


def test_timeline_that_ends_after_its_last_use_is_silent() -> None:
    net = models.convlstm((2,), kernel=3, input_frames=2, output_frames=2, image=(1, 8, 8))
    simulate(net, sequence(torch.rand(2, 1, 1, 8, 8), 10.0), solver=Iterate(), steps=4)
    early = sequence(torch.rand(1, 1, 1, 8, 8), 10.0)
    with pytest.warns(PcsimWarning, match="ends at 10 ms"):
        simulate(net, early, solver=Iterate(), steps=4)


def test_samples_of_a_timeline_keep_their_courses_and_labels() -> None:
    line = presented(images(), 2.0, onset=torch.tensor([0.0, 1.0, 3.0])).with_labels(torch.tensor([5, 6, 7]))
    some = line.samples([2, 0, 2])
    assert some.labels.tolist() == [7, 5, 7]
    for time in range(6):
        assert torch.equal(some.at(float(time)), line.at(float(time))[[2, 0, 2]])


def test_sequence_of_vectors_presents_one_row_per_step() -> None:
    rows = torch.rand(4, 2, 3)
    net = Network({"u": (3,)}, [Population("a", Rate(3, "identity", bias=False))], [Projection("u", "a")])
    assert torch.equal(simulate(net, sequence(rows, 10.0), solver=Iterate(), steps=4)["a"], rows)
    with pytest.raises(StimulusError, match=r"\(time, batch, n\)"):
        sequence(torch.rand(4, 2, 3, 3), 10.0)
