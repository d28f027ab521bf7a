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


def test_repetitions_do_not_depend_on_order_of_axes() -> None:
    recorded = labelled(**made())
    for dims in (("neuroid", "presentation", "time_bin"), ("time_bin", "neuroid", "presentation")):
        turned = recorded.transpose(*dims)
        assert np.array_equal(repetitions(turned), repetitions(recorded), equal_nan=True)
        assert images_of(turned).tolist() == ["a", "b", "c"]
    one = recorded.isel(time_bin=0)
    assert np.array_equal(repetitions(one.T), repetitions(recorded)[..., 0], equal_nan=True)
    for wrong in (recorded.isel(neuroid=0), recorded.rename(neuroid="unit"), recorded.expand_dims("session")):
        with pytest.raises(StimulusError, match="recorded.rename"):
            repetitions(wrong)


@pytest.mark.parametrize("kind", ["npz", "nc"])
def test_load_sorts_time_bins_by_start(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded, mixed = labelled(**made()), [2, 0, 1]
    monkeypatch.setenv("HOME", str(tmp_path))
    unsorted = recorded.isel(time_bin=mixed)
    if kind == "npz":
        arrays = made(time_bin_start=[90, 70, 80], time_bin_end=[100, 80, 90])
        np.savez(tmp_path / "mixed.npz", **arrays | {"responses": arrays["responses"][..., mixed]})
    else:
        pytest.importorskip("h5netcdf")
        unsorted.to_netcdf(tmp_path / "mixed.nc", engine="h5netcdf")
    found = load(f"~/mixed.{kind}")
    assert found["time_bin_start"].values.tolist() == [70, 80, 90]
    assert np.array_equal(found.values, recorded.values)
    with pytest.raises(StimulusError, match="recorded.sortby"):
        repetitions(unsorted)


def test_time_bins_may_overlap_but_not_recur() -> None:
    wide = labelled(**made(time_bin_end=[120, 130, 140]))
    assert np.array_equal(repetitions(wide), repetitions(labelled(**made())), equal_nan=True)
    nested = labelled(**made(time_bin_start=[70, 70, 80], time_bin_end=[80, 170, 90]))
    assert repetitions(nested).shape == (3, 3, 2, 3)
    for start, end in (
        ([70, 70, 80], [80, 80, 90]),
        ([0.3, 0.1 + 0.2, 0.4], [0.4, 0.4, 0.5]),
        ([70, 80, 90], [80, 80, 100]),
        ([70, np.nan, 90], [80, 90, 100]),
    ):
        with pytest.raises(StimulusError, match="without duplicates"):
            repetitions(labelled(**made(time_bin_start=start, time_bin_end=end)))


@pytest.mark.parametrize("ids", [[1.0, np.nan, 1.0, 2.0, 2.0, 1.0], ["a", np.nan, "a", "b", "b", "a"], [*"ab ab", ""]])
def test_missing_image_ids_are_rejected(ids: list) -> None:
    recorded = labelled(**made(presentation_stimulus_id=ids))
    for call in (images_of, repetitions, lambda r: of_images(r, "stimulus_id")):
        with pytest.raises(StimulusError, match="stimulus_id with [12] of 6 missing"):
            call(recorded)
    kinds = labelled(**made(presentation_kind=["x", "y", "x", np.nan, "y", "x"]))
    with pytest.raises(StimulusError, match="kind with 1 of 6 missing"):
        of_images(kinds, "kind")


def test_neuroids_that_occur_twice_are_rejected() -> None:
    with pytest.raises(StimulusError, match="neuroid_id m1, which occurs more than once"):
        repetitions(labelled(**made(neuroid_neuroid_id=["m1", "m1"])))
    with pytest.raises(StimulusError, match="both called 'id'"):
        labelled(**made(neuroid_id=["m1", "m2"], presentation_id=range(6)))


def test_repetitions_of_missing_trials_and_sessions() -> None:
    """Two sessions with other images, one neuroid each: NaN where a session did not show an image, or lost a trial."""
    values = np.full((6, 2), np.nan)
    values[:3, 0], values[3:, 1] = [1.0, 2.0, np.nan], [4.0, 5.0, 6.0]
    each = repetitions(labelled(values, presentation_stimulus_id=["a", "b", "b", "b", "c", "b"]))
    nan = np.nan
    expected = [[[1, nan], [2, nan], [nan, 5]], [[nan] * 2] * 3, [[nan] * 2, [nan, 4], [nan] * 2]]
    expected += [[[nan] * 2, [nan, 6], [nan] * 2]]
    assert np.array_equal(each, expected, equal_nan=True)


@pytest.mark.parametrize("kind", ["npz", "nc"])
def test_damaged_recordings_are_rejected_by_name(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("h5netcdf")
    path = tmp_path / f"good.{kind}"
    if kind == "npz":
        np.savez_compressed(path, **made())
    else:
        labelled(**made()).to_netcdf(path, engine="h5netcdf")
    content = path.read_bytes()
    for number, size in enumerate((0, 10, len(content) // 2, len(content) - 30)):
        damaged = tmp_path / f"damaged{number}.{kind}"
        damaged.write_bytes(content[:size])
        with pytest.raises(StorageError, match=f"damaged{number}"):
            load(damaged)
    with pytest.raises(StorageError, match="folder"):
        load(tmp_path)


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
