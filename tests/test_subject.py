"""A network in Brain-Score's form: the right activations, of the right population, in the right bins."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pcsim import RK4, Record, StimulusError, WiringError, models, simulate
from pcsim.subject import Subject

IMAGES = {f"image-{number}": torch.rand(1, 8, 8) for number in range(5)}


def subject(**options: object) -> Subject:
    torch.manual_seed(0)
    net = models.leaky_rcnn((2, 3), tau=(10.0, 20.0), size=8)
    given = {"solver": RK4(5.0), "until": 60.0, "prepare": lambda image: image, "batch": 2} | options
    return Subject(net, {"V1": "l1", "IT": "l2"}, **given)


class StimulusSet(dict):
    """What a benchmark hands over: a table with `stimulus_id`, and files by id."""

    def get_stimulus(self, name: str) -> str:
        return f"{name}.png"


def test_activations_are_means_over_the_rows_of_a_bin() -> None:
    pytest.importorskip("xarray")
    looking = subject(latency={"V1": 40.0, "IT": 50.0})
    looking.start_recording("IT", time_bins=[(60, 70), (70, 80), (500, 510)])
    found = looking.look_at(IMAGES, number_of_trials=3)
    run = simulate(
        looking.network, torch.stack(list(IMAGES.values())), solver=RK4(5.0), until=60.0, record=Record(states=["l2"])
    )
    rows = run["l2"].flatten(2).numpy()  # at 5, 10, ... 60 ms: 55, 60, ... 110 with the latency
    assert found.dims == ("presentation", "neuroid", "time_bin") and found.shape == (5, rows.shape[2], 3)
    for place, expected in enumerate((rows[1:3].mean(0), rows[3:5].mean(0), rows[-1])):
        assert np.allclose(found[:, :, place], expected, atol=1e-6)
    assert found.stimulus_id.values.tolist() == list(IMAGES) and set(found.layer.values) == {"l2"}
    assert found.time_bin_start.values.tolist() == [60.0, 70.0, 500.0] and set(found.region.values) == {"IT"}
    assert len(set(found.neuroid_id.values)) == rows.shape[2]


def test_a_stimulus_set_is_read_by_its_ids() -> None:
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


def test_what_cannot_be_looked_at_is_refused() -> None:
    with pytest.raises(WiringError, match="not l9"):
        Subject(models.blt(width=2), {"IT": "l9"}, solver=RK4(1.0), until=1.0, prepare=lambda image: image)
    looking = subject()
    with pytest.raises(StimulusError, match="start_recording first"):
        looking.look_at(IMAGES)
    with pytest.raises(StimulusError, match="one of V1, IT"):
        looking.start_recording("V4", [(0, 10)])
    with pytest.raises(StimulusError, match="bins"):
        looking.start_recording("V1", [(10, 10)])
    looking.start_recording("V1", [(0, 10)])
    with pytest.raises(StimulusError, match="mapping of ids"):
        looking.look_at([1, 2])
