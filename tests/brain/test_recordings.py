"""Recordings from files: labels, order of repetitions, rejected files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pcsim import StimulusError, StorageError
from pcsim.brain import regression
from pcsim.brain.recordings import images_of, labelled, load, of_images, repetitions

NAMES = ["b", "a", "b", "c", "a", "b"]


def made(**more) -> dict:
    values = np.arange(6 * 2 * 3, dtype=float).reshape(6, 2, 3)
    return {
        "responses": values,
        "presentation_stimulus_id": NAMES,
        "neuroid_region": ["V4", "IT"],
        "time_bin_start": [70, 80, 90],
        "time_bin_end": [80, 90, 100],
    } | more


def test_repetitions_keep_presentation_order() -> None:
    recorded = labelled(**made())
    each = repetitions(recorded)
    assert each.shape == (3, 3, 2, 3) and images_of(recorded).tolist() == ["a", "b", "c"]
    for image, name in enumerate("abc"):
        rows = [row for row, shown in enumerate(NAMES) if shown == name]
        assert np.array_equal(each[: len(rows), image], recorded.values[rows])
        assert np.isnan(each[len(rows) :, image]).all()


def test_of_images_follows_image_order() -> None:
    kinds = {"a": "animal", "b": "boat", "c": "car"}
    recorded = labelled(**made(presentation_kind=[kinds[name] for name in NAMES], presentation_trial=range(6)))
    assert of_images(recorded, "kind").tolist() == ["animal", "boat", "car"]
    with pytest.raises(StimulusError, match="changes between presentations"):
        of_images(recorded, "trial")
    with pytest.raises(StimulusError, match="along presentation: stimulus_id, kind, trial"):
        of_images(recorded, "region")


def test_repetitions_fit_split_half_ceiling() -> None:
    generator = np.random.default_rng(0)
    signal, order = generator.normal(size=(30, 4)), generator.permutation(np.repeat(np.arange(30), 20))
    shown = signal[order] + generator.normal(size=(600, 4))
    each = repetitions(labelled(shown, presentation_image_id=order))
    assert np.allclose(each.mean(0), [shown[order == image].mean(0) for image in range(30)])
    assert np.median(regression.split_half_ceiling(each)) > 0.85
    rarely = each.copy()
    rarely[2:, :5] = np.nan  # With two repetitions, both are often in the same half; such images are left out.
    fewer = regression.split_half_ceiling(rarely)
    assert np.isfinite(fewer).all() and np.median(fewer) > 0.8


@pytest.mark.parametrize("kind", ["npz", "nc"])
def test_load_returns_recorded_values_and_labels(kind: str, tmp_path: Path) -> None:
    path, recorded = tmp_path / f"recorded.{kind}", labelled(**made())
    if kind == "npz":
        np.savez(path, **made())
    else:
        pytest.importorskip("h5netcdf")
        # Brain-Score stores neuroids first and does not name the variable.
        recorded.transpose("neuroid", "presentation", "time_bin").to_netcdf(path, engine="h5netcdf")
    found = load(path)
    assert found.dims == ("presentation", "neuroid", "time_bin") and np.array_equal(found.values, recorded.values)
    assert found["time_bin_end"].values.tolist() == [80, 90, 100] and found["region"].values.tolist() == ["V4", "IT"]
    assert np.array_equal(repetitions(found), repetitions(recorded), equal_nan=True)


def test_recordings_reject_invalid_files_and_labels(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="check the path"):
        load(tmp_path / "none.npz")
    np.savez(tmp_path / "other.npz", images=np.zeros(3))
    with pytest.raises(StorageError, match=r"np\.savez\(path, responses="):
        load(tmp_path / "other.npz")
    np.savez(tmp_path / "short.npz", **made(time_bin_start=[70, 80]))
    with pytest.raises(StimulusError, match=r"time_bin_start \(2,\)"):
        load(tmp_path / "short.npz")
    with pytest.raises(StimulusError, match="presentation_stimulus_id"):
        labelled(np.zeros((3, 2)), presentation_name=["a", "b"])
    with pytest.raises(StimulusError, match=r"with labelled\(\)"):
        repetitions(np.zeros((3, 2)))
    with pytest.raises(StimulusError, match="by='NAME'"):
        repetitions(labelled(np.zeros((3, 2)), neuroid_region=["V4", "IT"]))
    xarray = pytest.importorskip("xarray")
    pytest.importorskip("h5netcdf")
    xarray.Dataset({"x": (("time",), np.zeros(3))}).to_netcdf(tmp_path / "other.nc", engine="h5netcdf")
    with pytest.raises(StorageError, match="rename its dimensions"):
        load(tmp_path / "other.nc")
