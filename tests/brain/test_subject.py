"""Networks as Brain-Score subjects: correct activations of the correct population in the correct bins."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pcsim import RK4, Iterate, Record, StimulusError, WiringError, models, simulate
from pcsim.brain.subject import Subject

IMAGES = {f"image-{number}": torch.rand(1, 8, 8) for number in range(5)}


def subject(**options: object) -> Subject:
    torch.manual_seed(0)
    net = models.leaky_rcnn((2, 3), tau=(10.0, 20.0), image=(1, 8, 8))
    given = {"solver": RK4(5.0), "until": 60.0, "prepare": lambda image: image, "batch": 2} | options
    return Subject(net, {"V1": "l1", "IT": "l2"}, **given)


class StimulusSet(dict):
    """A benchmark's stimulus set: a table with `stimulus_id`, and files by id."""

    def get_stimulus(self, name: str) -> str:
        return f"{name}.png"


def test_subject_activations_are_bin_means() -> None:
    pytest.importorskip("xarray")
    looking = subject(latency={"V1": 40.0, "IT": 50.0})
    looking.start_recording("IT", time_bins=[(60, 70), (70, 80), (109, 109.5)])
    found = looking.look_at(IMAGES, number_of_trials=3)
    run = simulate(
        looking.network, torch.stack(list(IMAGES.values())), solver=RK4(5.0), until=60.0, record=Record(states=["l2"])
    )
    rows = run["l2"].flatten(2).numpy()  # at 5, 10, ... 60 ms, which the latency shifts to 55, 60, ... 110
    assert found.dims == ("presentation", "neuroid", "time_bin") and found.shape == (5, rows.shape[2], 3)
    for place, expected in enumerate((rows[2:4].mean(0), rows[4:6].mean(0), rows[-1])):
        assert np.allclose(found[:, :, place], expected, atol=1e-6)
    assert found.stimulus_id.values.tolist() == list(IMAGES) and set(found.layer.values) == {"l2"}
    assert found.time_bin_start.values.tolist() == [60.0, 70.0, 109.0] and set(found.region.values) == {"IT"}
    assert len(set(found.neuroid_id.values)) == rows.shape[2]


def test_subject_bins_discrete_steps_by_step_ms() -> None:
    pytest.importorskip("xarray")
    blt = models.blt(channels=(2, 2))
    shown = {"image": np.random.default_rng(0).random((1, 32, 32), np.float32)}
    record = Record(states=["l2"])
    rows = simulate(blt, torch.from_numpy(shown["image"])[None], solver=Iterate(), record=record)["l2"].flatten(2)
    looking = Subject(blt, {"IT": "l2"}, solver=Iterate(), prepare=lambda image: image, latency=70.0)
    looking.start_recording("IT", [(70, 80), (80, 90), (90, 110)])
    found = looking.look_at(shown)
    for place, expected in enumerate((rows[0], rows[1], rows[2:4].mean(0))):
        assert np.allclose(found[:, :, place], expected, atol=1e-6)
    looking.start_recording("IT", [(110, 120)])
    with pytest.raises(StimulusError, match="after 70 and up to 110 ms"):
        looking.look_at(shown)


def test_subject_uses_published_timing_of_area() -> None:
    """In Brain-Score's mapping of CORnet-S, repeat n of V4 covers the 50 ms from 90 + 50 n ms on."""
    pytest.importorskip("xarray")
    net = models.cornet_s((2, 2, 2, 2), image=(1, 32, 32))
    image = torch.rand(1, 32, 32)
    looking = Subject(net, {"V4": "v4", "V1": "v1"}, solver=Iterate(), prepare=lambda image: image)
    looking.start_recording("V4", [(90, 140), (140, 190), (240, 290), (100, 110)])
    found = looking.look_at({"image": image}).values
    run = simulate(net, image[None], solver=Iterate(), record=Record(states=["v4"]))
    rows = run["v4"].flatten(2).numpy()
    for place, step in enumerate((3, 4, 6, 3)):
        assert np.allclose(found[:, :, place], rows[step], atol=1e-6)
    assert not np.allclose(found[:, :, 0], found[:, :, 1])
    looking.start_recording("V4", [(60, 80)])
    with pytest.raises(StimulusError, match="after 90 and up to 290 ms"):
        looking.look_at({"image": image})


def test_subject_reads_stimulus_set_by_id() -> None:
    pytest.importorskip("xarray")
    seen = []

    def prepare(path: str) -> torch.Tensor:
        seen.append(path)
        return IMAGES[path.removesuffix(".png")]

    looking = subject(prepare=prepare)
    assert looking.visual_degrees() == 8
    looking.start_recording("V1", [(0, 100)])
    found = looking.look_at(StimulusSet(stimulus_id=["image-3", "image-1"]))
    assert seen == ["image-3.png", "image-1.png"] and found.stimulus_id.values.tolist() == ["image-3", "image-1"]
    again = subject()
    again.start_recording("V1", [(0, 100)])
    assert np.allclose(found[1], again.look_at(IMAGES)[1], atol=1e-6)


def test_subject_rejects_invalid_arguments() -> None:
    with pytest.raises(WiringError, match="not l9"):
        Subject(models.blt(channels=(2, 2)), {"IT": "l9"}, solver=RK4(1.0), until=1.0, prepare=lambda image: image)
    looking = subject()
    with pytest.raises(StimulusError, match="start_recording first"):
        looking.look_at(IMAGES)
    with pytest.raises(StimulusError, match="one of V1, IT"):
        looking.start_recording("V4", [(0, 10)])
    with pytest.raises(StimulusError, match="bins"):
        looking.start_recording("V1", [(10, 10)])
    for bins in ((70, 80), [(70, 80, 90)], [(80, 70)], []):
        with pytest.raises(StimulusError, match=r"pass time_bins=\[\(70, 80\), \(80, 90\)\]"):
            looking.start_recording("V1", bins)
    looking.start_recording("V1", [(0, 10)])
    with pytest.raises(StimulusError, match="mapping of ids"):
        looking.look_at([1, 2])


def test_subject_shows_bins_in_any_order_and_with_overlap() -> None:
    pytest.importorskip("xarray")
    looking = subject()
    looking.start_recording("IT", [(0, 20), (20, 40)])
    expected = looking.look_at(IMAGES)
    looking.start_recording("IT", [(20, 40), (0, 20), (0, 40)])
    found = looking.look_at(IMAGES)
    assert np.array_equal(found.values[..., 1], expected.values[..., 0])
    assert np.array_equal(found.values[..., 0], expected.values[..., 1])
    assert np.allclose(found.values[..., 2], expected.values.mean(-1), atol=1e-6)


def test_subject_rejects_ids_that_are_missing_or_twice() -> None:
    looking = subject()
    looking.start_recording("V1", [(0, 10)])
    image = torch.rand(1, 8, 8)
    for stimuli, message in (
        (StimulusSet(stimulus_id=["image-1", "image-1"]), "2 stimuli with 1 different ids"),
        (StimulusSet(stimulus_id=["image-1", float("nan")]), "stimulus_id with 1 of 2 missing"),
        ({1: image, "1": image}, "2 stimuli with 1 different ids"),
        ({}, "0 stimuli"),
        ({"a": image, "b": image[:, :4]}, "resize them in prepare"),
    ):
        looking._prepare = lambda shown: IMAGES.get(shown.removesuffix(".png")) if isinstance(shown, str) else shown
        with pytest.raises(StimulusError, match=message):
            looking.look_at(stimuli)
    for latency in (float("nan"), {"V1": 40.0}):
        with pytest.raises(StimulusError, match="one for each region"):
            subject(latency=latency)
