"""What a run says about itself, and its exports: reading back what was written gives the same numbers."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import loadmat
from support.small import SMALL, shown, small, stepping

import pcsim
from pcsim import Euler, Iterate, Record, Run, StorageError, models, simulate, stimuli
from pcsim.rules import LearnableTau


def top_two(value: torch.Tensor) -> torch.Tensor:
    return value.flatten(1).topk(2).values


def example(labels: torch.Tensor | None = None, **options: object) -> Run:
    torch.manual_seed(0)
    net = models.leaky_rcnn((3, 4), tau=(10.0, 20.0), image=(1, 8, 8))
    line = stimuli.held(torch.rand(2, 1, 8, 8), 8.0)
    line = line if labels is None else line.with_labels(labels)
    record = options.pop("record", Record(states=["l2"], reduce={"l1": ["norm", "max_space"], "l2": top_two}))
    return simulate(net, line, solver=Euler(2.0), record=record, **options)


# ---------------------------------------------------------------------- about


def test_about_names_taus_record_and_step() -> None:
    net = models.leaky_rcnn((3, 2), tau=[torch.tensor([5.0, 6.0, 7.0]), LearnableTau(2, 10.0, 20.0)], image=(1, 8, 8))
    record = Record(reduce={"l1": ["norm", top_two]}, every=2, initial=True)
    at = Record(states="all", at=[4.0])
    about = simulate(net, torch.rand(1, 1, 8, 8), solver=Euler(2.0), until=8.0, record=[record, at]).about
    assert about["tau"] == {"l1": [5.0, 6.0, 7.0], "l2": [20.0, 20.0], "readout": None}
    assert about["step_ms"] is None and about["solver"] == "Euler(dt=2.0)"
    assert about["record"][0]["reduce"] == {"l1": ["norm", "top_two"]} and about["record"][0]["initial"]
    assert (about["record"][1]["states"], about["record"][1]["at"]) == ("all", [4.0])
    discrete = simulate(models.blt(channels=(2, 2), image=(1, 8, 8)), torch.rand(1, 1, 8, 8), solver=Iterate()).about
    assert discrete["step_ms"] == 10.0 and set(discrete["tau"].values()) == {None}


def test_about_describes_stimulus_and_seeds() -> None:
    images = torch.rand(2, 1, 8, 8)
    line = stimuli.blank(4.0, images, 0.5, name="fixation").then(stimuli.noise(images, 0.1, 6.0, 2.0, seed=9))
    net = models.leaky_rcnn((3, 4), tau=(10.0, 20.0), image=(1, 8, 8))
    first = simulate(net, line.then(stimuli.held(images)), solver=Euler(2.0), until=14.0)
    assert first.about["stimulus"]["image"] == [
        {"from": 0.0, "to": 4.0, "name": "fixation", "kind": "blank", "level": 0.5},
        {"from": 4.0, "to": 10.0, "name": "noise", "kind": "noise", "every": 2.0, "sd": 0.1, "seed": 9, "first": 0},
        {"from": 10.0, "to": 14.0, "name": "image", "kind": "held"},
    ]
    assert first.about["seeds"] == {"image": [9]}
    rest = simulate(net, line.then(stimuli.held(images)), solver=Euler(2.0), until=20.0, start=first.final)
    assert [(e["from"], e["to"]) for e in rest.about["stimulus"]["image"]] == [(14.0, 20.0)]
    still = simulate(
        net, stimuli.digit_debris(3, seed=4, batch=2).mapped(lambda x: x[..., :8, :8]), solver=Euler(2.0), until=2.0
    )
    (epoch,) = still.about["stimulus"]["image"]
    assert (epoch["to"], epoch["source"], epoch["seed"]) == (2.0, "digit_debris", 4)


def test_about_lists_lesions_in_ms() -> None:
    net = models.blt(channels=(2, 2), image=(1, 8, 8))
    lesioned = net.without("top_down", during=(1, 3)).without("lateral")
    run = simulate(lesioned, torch.rand(1, 1, 8, 8), solver=Iterate())
    found = {(lesion["from"], lesion["to"]): set(lesion["edges"]) for lesion in run.about["lesions"]}
    assert found == {
        (10.0, 30.0): {edge.name for edge in net.projections if edge.kind == "top_down"},
        (None, None): {edge.name for edge in net.projections if edge.kind == "lateral"},
    }
    flow = simulate(
        net.as_ode(5.0).without("top_down", during=(10, 20)), torch.rand(1, 1, 8, 8), solver=Euler(5.0), until=15.0
    )
    assert [(lesion["from"], lesion["to"]) for lesion in flow.about["lesions"]] == [(10.0, 20.0)]


@pytest.mark.parametrize("name", SMALL)
def test_about_of_every_model_is_json(name: str) -> None:
    net = small(name)
    solver, steps = stepping(net)
    about = simulate(net, shown(net, 2), solver=solver, steps=steps).about
    assert json.loads(json.dumps(about, allow_nan=False)) == about
    assert set(about["tau"]) == set(net.populations) and set(about["stimulus"]) == set(net.inputs)


# ---------------------------------------------------------------------- tables


@pytest.mark.parametrize("labels", [None, torch.tensor([4, 7]), torch.tensor([[0, 1, 1], [1, 0, 0]])])
def test_dataset_has_labels_of_samples(labels: torch.Tensor | None) -> None:
    data = example(labels).to_xarray()
    if labels is None:
        assert "label" not in data.coords
        return
    assert data.label.dims == ("sample", "class")[: labels.dim()] and np.array_equal(data.label, labels)
    if labels.dim() == 1:
        assert np.array_equal(data["l1.norm"].isel(sample=1), data["l1.norm"].sel(sample=data.label == 7)[:, 0])


def test_dataframe_is_the_long_form_of_the_values() -> None:
    run = example(torch.tensor([4, 7]))
    frame = run.to_dataframe()
    assert list(frame) == ["key", "time_ms", "sample", "label", "channel", "height", "width", "value"]
    assert len(frame) == sum(value.numel() for value in run.values.values())
    norm = frame[frame.key == "l1.norm"]
    assert norm.channel.isna().all() and np.array_equal(norm.value, run["l1.norm"].ravel())
    one = frame.query("key == 'l2' and time_ms == 6 and sample == 1 and channel == 3 and height == 2 and width == 0")
    assert one.value.item() == run["l2"][2, 1, 3, 2, 0].item() and one.label.item() == 7
    assert set(run.to_dataframe(["l1.norm"])) == {"key", "time_ms", "sample", "label", "value"}
    many = example(torch.tensor([[0, 1], [1, 0]])).to_dataframe(["l1.norm"])
    assert many[many["sample"] == 1][["label_0", "label_1"]].drop_duplicates().values.tolist() == [[1, 0]]
    with pytest.raises(pcsim.RecordError, match="l9"):
        run.to_dataframe(["l9"])


# ---------------------------------------------------------------------- files


def test_netcdf_gives_back_the_same_numbers(tmp_path: Path) -> None:
    import xarray

    run = example(torch.tensor([4, 7]))
    run.save(tmp_path / "run.nc")
    with xarray.open_dataset(tmp_path / "run.nc", engine="h5netcdf") as data:
        for key, value in run.values.items():
            assert np.array_equal(data[key], value) and np.array_equal(data[key].time, run.times)
        assert np.array_equal(data.label, run.labels) and json.loads(data.attrs["about"]) == run.about


def test_records_with_different_rows_are_exported(tmp_path: Path) -> None:
    import xarray

    run = example(record=[Record(reduce={"l1": "norm"}), Record(states=["l2"], every=2)])
    run.save(tmp_path / "run.nc")
    with xarray.open_dataset(tmp_path / "run.nc", engine="h5netcdf") as data:
        assert data["l2"].dims[0] == "time_l2" and np.array_equal(data["l2"]["time_l2"], run.times_of["l2"])
    assert run.to_dataframe().groupby("key").time_ms.unique()["l2"].tolist() == run.times_of["l2"].tolist()


def test_csv_gives_back_the_same_numbers(tmp_path: Path) -> None:
    import pandas

    run = example(torch.tensor([4, 7]))
    run.save(str(tmp_path / "run.csv"))
    back = pandas.read_csv(tmp_path / "run.csv")
    for key, value in run.values.items():
        assert np.array_equal(back[back.key == key].value.to_numpy(np.float32), value.ravel()), key
    assert back[back["sample"] == 1].label.unique() == [7]


@pytest.mark.filterwarnings("ignore")
def test_nwb_gives_back_the_same_numbers(tmp_path: Path) -> None:
    pynwb = pytest.importorskip("pynwb")

    run = example(torch.tensor([4, 7]))
    run.save(tmp_path / "run.nwb")
    with pynwb.NWBHDF5IO(str(tmp_path / "run.nwb"), "r") as io:
        module = io.read().processing["pcsim"]
        for key, value in run.values.items():
            series = module[key]
            assert series.unit == "a.u." and np.array_equal(np.asarray(series.data).ravel(), value.ravel())
            assert np.allclose(np.asarray(series.timestamps) * 1000.0, run.times, rtol=1e-15)
            assert json.loads(series.description) == run.about
        assert "channel 4 x height 4 x width 4" in module["l2"].comments
        assert list(module["samples"]["label"].data) == [4, 7]
        assert list(module["samples"]["status"].data) == ["COMPLETED", "COMPLETED"]
        ends = np.asarray(module["samples"]["valid_until"].data) * 1000.0
        assert np.allclose(ends, run.valid_until, rtol=1e-12) and np.isfinite(ends).all()
    assert not pynwb.validate(path=str(tmp_path / "run.nwb"))


def test_half_precision_and_gradients_are_exported(tmp_path: Path) -> None:
    run = example()
    run.values["l2"] = run["l2"].bfloat16().requires_grad_()
    assert np.array_equal(run.to_xarray()["l2"], run["l2"].detach().float())
    run.save(tmp_path / "run.nc")


@pytest.mark.parametrize("name", ["run", "run.pcsim", "run.nc", "run.csv", "run.nwb"])
def test_run_file_is_overwritten_only_if_asked(name: str, tmp_path: Path) -> None:
    if name.endswith("nwb"):
        pytest.importorskip("pynwb")
    path = tmp_path / name
    example().save(path)
    content = path.read_bytes()
    with pytest.raises(StorageError, match="overwrite=True"):
        example().save(path)
    assert path.read_bytes() == content
    example(torch.tensor([4, 7])).save(path, overwrite=True)
    assert path.read_bytes() != content and [p.name for p in tmp_path.iterdir()] == [name]


def test_native_file_restores_everything(tmp_path: Path) -> None:
    run = example(torch.tensor([4, 7]))
    run.save(tmp_path / "run.pcsim")
    for back in (pcsim.load(tmp_path / "run.pcsim"), Run.load(tmp_path / "run.pcsim")):
        assert back.about == run.about and torch.equal(back.labels, run.labels)
        assert all(torch.equal(back[key], run[key]) for key in run.values)


def test_mat_file_has_all_values_times_and_labels(tmp_path: Path) -> None:
    run = example(torch.tensor([3, 5]))
    run.save(tmp_path / "run.mat")
    read = loadmat(tmp_path / "run.mat", simplify_cells=True)
    for key, name in {
        "l2": "l2",
        "l1.norm": "l1_norm",
        "l1.max_space": "l1_max_space",
        "l2.top_two": "l2_top_two",
    }.items():
        assert np.array_equal(read[name], run[key].numpy())
        assert np.array_equal(read["times"][name], run.times_of[key])
    assert read["labels"].tolist() == [3, 5] and read["status"].tolist() == ["COMPLETED"] * 2
    assert np.array_equal(read["valid_until"], run.valid_until)
    assert json.loads(read["about"]) == json.loads(json.dumps(run.about))
    with pytest.raises(StorageError, match="scipy.io.loadmat"):
        pcsim.load(tmp_path / "run.mat")


def test_mat_names_are_valid_and_distinct(tmp_path: Path) -> None:
    run = example()
    first, long = run["l2"], "l" * 70
    keys = ("a.b", "a_b", "1st", "labels", "end", long + "1", long + "2", "_x")
    other = replace(run, values={key: first + n for n, key in enumerate(keys)}, times_of=dict.fromkeys(keys, run.times))
    other.save(tmp_path / "run.mat")
    read = loadmat(tmp_path / "run.mat", simplify_cells=True)
    names = [
        name for name in read if not name.startswith("__") and name not in ("times", "status", "about", "valid_until")
    ]
    assert all(re.fullmatch(r"[A-Za-z]\w{0,62}", name) for name in names) and "end" not in names
    assert [float((read[name] - first.numpy()).mean().round()) for name in names] == list(range(len(keys)))


@pytest.mark.parametrize("name", ["run.xlsx", "run.npz", "run.h5", "run.pt", "run.parquet", "run.MAT", "run.pkl"])
def test_foreign_extensions_are_refused_by_name(name: str, tmp_path: Path) -> None:
    run = example()
    with pytest.raises(StorageError, match=r"\.mat") as caught:
        run.save(tmp_path / name)
    assert Path(name).suffix in caught.value.given and ".pcsim" in caught.value.expected
    if name != "run.MAT":
        with pytest.raises(StorageError, match="net.pcsim"):
            models.leaky_rcnn((3, 4), image=(1, 8, 8)).save(tmp_path / name.replace("run", "net"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["run", "run.pcsim", "run.run", "run.safetensors", "rate0.01", "run.2"])
def test_own_extensions_and_numbers_are_accepted(name: str, tmp_path: Path) -> None:
    example().save(tmp_path / name)
    assert set(pcsim.load(tmp_path / name).keys()) == set(example().keys())


def test_netcdf_without_h5py_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """h5netcdf 1.8 and later does not install h5py."""
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(StorageError, match=r"the package h5py\n.*pcsim\[analysis\]"):
        example().save(tmp_path / "run.nc")
    assert not list(tmp_path.iterdir())


def test_key_of_unknown_population_names_the_populations() -> None:
    with pytest.raises(pcsim.RecordError) as caught:
        example()["l4.norm"]
    assert "l1, l2, readout" in caught.value.remedy and "'l4'" not in caught.value.remedy
    with pytest.raises(pcsim.RecordError, match=r"states=\['l1'\]"):
        example()["l1"]
