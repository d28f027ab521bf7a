"""Files are written atomically, verified when read, and never executed."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support import swept
from support.swept import Setting

import pcsim
from pcsim import PcsimError, StorageError, models, training
from pcsim.core import storage
from pcsim.core.nested import flatten_nested, restore_nested
from pcsim.network.saving import save_network
from pcsim.network.weights import trained_tensors
from pcsim.sweeps.sweep import Sweep


def written(path: Path) -> Path:
    storage.write_tensors(path, {"a": torch.arange(300.0), "b": torch.ones(2, 3)}, {"kind": "run", "x": 1})
    return path


def test_read_tensors_detects_flipped_byte(tmp_path: Path) -> None:
    path = written(tmp_path / "f")
    content = path.read_bytes()
    for place in np.random.default_rng(0).integers(len(content), size=64):
        damaged = bytearray(content)
        damaged[place] ^= 0x10
        path.write_bytes(bytes(damaged))
        with pytest.raises(StorageError):
            storage.read_tensors(path, "run")
    path.write_bytes(content)
    assert storage.read_tensors(path, "run")[0]["a"][7] == 7


def test_read_tensors_refuses_damaged_missing_and_foreign_files(tmp_path: Path) -> None:
    path = written(tmp_path / "f")
    content = path.read_bytes()
    for length in np.linspace(0, len(content) - 1, 16).astype(int):
        path.write_bytes(content[:length])
        with pytest.raises(StorageError, match="never used|not a pcsim file"):
            storage.read_tensors(path, "run")
    with pytest.raises(StorageError, match="does not exist"):
        storage.read_tensors(tmp_path / "nothing", "run")
    path.write_bytes(content)
    with pytest.raises(StorageError, match="kind 'run' and format version 2"):
        storage.read_tensors(path, "weights")
    storage.write_tensors(path, {"a": torch.ones(1)}, {"kind": "run", "format": 99})
    with pytest.raises(StorageError, match="the pcsim version that wrote it"):
        storage.read_tensors(path, "run")


def test_pickle_is_refused_and_never_executed(tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple:
            return os.mkdir, (str(tmp_path / "executed"),)

    (tmp_path / "evil.safetensors").write_bytes(pickle.dumps(Payload()))
    for read in (lambda p: storage.read_tensors(p, "network"), pcsim.load, pcsim.Run.load):
        with pytest.raises(StorageError):
            read(tmp_path / "evil.safetensors")
    assert not (tmp_path / "executed").exists()


def test_replacing_keeps_only_old_file_on_failure(tmp_path: Path) -> None:
    storage.write_text(tmp_path / "f", f"old, {storage.MARK}")
    with pytest.raises(RuntimeError), storage.replacing(tmp_path / "f") as partial:
        partial.write_text("half")
        raise RuntimeError
    assert (tmp_path / "f").read_text() == f"old, {storage.MARK}" and os.listdir(tmp_path) == ["f"]


def write_for_ever(path: Path, begun: int) -> None:
    for number in range(10**9):
        storage.write_tensors(path, {"a": torch.full((200_000,), float(number))}, {"kind": "run", "n": number})
        os.write(begun, b".")


def test_write_tensors_survives_sigkill(tmp_path: Path) -> None:
    path, generator = tmp_path / "f", np.random.default_rng(0)
    for _ in range(25):
        heard, begun = os.pipe()
        child = os.fork()
        if child == 0:
            write_for_ever(path, begun)
        os.read(heard, 1)
        time.sleep(generator.uniform(0.0, 0.05))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(heard)
        os.close(begun)
        tensors, facts = storage.read_tensors(path, "run")
        assert (tensors["a"] == facts["n"]).all()
    storage.remove_partials(tmp_path)
    assert os.listdir(tmp_path) == ["f"]


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4) | st.integers(0, 9), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=50, deadline=None)
@given(plain)
def test_nested_containers_round_trip(nested: object) -> None:
    import json

    with_tensor = {"t": torch.arange(3), "rest": nested}
    tensors, skeleton = flatten_nested(with_tensor)
    back = restore_nested(tensors, json.loads(json.dumps(skeleton)))
    assert torch.equal(back["t"], torch.arange(3)) and back["rest"] == nested


def test_weights_round_trip_and_refuse_other_networks(tmp_path: Path) -> None:
    net = models.blt(channels=(3, 3))
    save_network(net, tmp_path / "w", about={"error": 0.5})
    back = pcsim.load(tmp_path / "w")
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), back.parameters(), strict=True))
    assert storage.read_tensors(tmp_path / "w", "network")[1]["about"] == {"error": 0.5}
    with pytest.raises(StorageError, match="options used when the weights were trained"):
        models.build("blt", weights="debris-light", channels=(4, 4))
    with pytest.raises(StorageError, match="a model with bundled weights"):
        models.build("hgru", weights="debris-light")


def test_tied_weights_are_stored_once(tmp_path: Path) -> None:
    from support.examples import dense, linear_pc

    assert len(trained_tensors(linear_pc(dense(4, 2)))) == 1


def test_every_flipped_bit_and_truncation_is_detected(tmp_path: Path) -> None:
    """Files of tensors and JSON: every byte is covered by the checksum, facts and header included."""
    tensors, config = tmp_path / "f", tmp_path / "config.json"
    storage.write_tensors(tensors, {"a": torch.ones(2)}, {"kind": "run", "step": 20})
    storage.write_json(config, {"tau": 0.1, "name": "é"})
    for path, read in ((tensors, lambda p: storage.read_tensors(p, "run")), (config, storage.read_json)):
        good = path.read_bytes()
        bad = [
            good[:place] + bytes([good[place] ^ bit]) + good[place + 1 :]
            for place in range(len(good))
            for bit in (1, 32)
        ]
        bad += [good[:length] for length in range(len(good))]
        for content in bad:
            path.write_bytes(content)
            with pytest.raises(StorageError, match=path.name):
                read(path)
        path.write_bytes(good)
        read(path)
    assert storage.read_json(config) == {"tau": 0.1, "name": "é"}


@pytest.mark.parametrize("text", ["[" * 100_000, "9" * 5_000, '{"tau": NaN}', "[]", "", "\xff", "{"])
def test_json_of_other_programs_is_refused(text: str, tmp_path: Path) -> None:
    """Deep nesting, huge numbers, NaN, lists: each an error of pcsim, also where the mark of pcsim is copied."""
    path = tmp_path / "config.json"
    for content in (text.encode("latin1"), b'{"written by pcsim": "' + b"0" * 64 + b'", "a": ' + text.encode("latin1")):
        path.write_bytes(content)
        with pytest.raises(StorageError, match=r"config\.json"):
            storage.read_json(path)


def test_json_larger_than_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.write_json(tmp_path / "f", {"a": "b" * 1000})
    monkeypatch.setattr(storage, "MOST_JSON_BYTES", 500)
    with pytest.raises(StorageError, match="MOST_JSON_BYTES"):
        storage.read_json(tmp_path / "f")


@pytest.mark.parametrize("value", [float("nan"), {"a": [float("inf")]}, object()])
def test_write_json_refuses_what_json_cannot_hold(value: object, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot represent"):
        storage.write_json(tmp_path / "f", {"value": value})
    assert not list(tmp_path.iterdir())


def test_foreign_files_are_never_replaced(tmp_path: Path) -> None:
    thesis, folder, pipe = tmp_path / "thesis.txt", tmp_path / "folder", tmp_path / "pipe"
    thesis.write_text("mine")
    folder.mkdir()
    os.mkfifo(pipe)
    for path in (thesis, folder, pipe, Path("/dev/full")):
        for write in (lambda p: storage.write_json(p, {}), lambda p: storage.write_tensors(p, {}, {"kind": "run"})):
            with pytest.raises(StorageError, match="not written by pcsim"):
                write(path)
    assert thesis.read_text() == "mine" and {p.name for p in tmp_path.iterdir()} == {"thesis.txt", "folder", "pipe"}
    (tmp_path / "empty").touch()
    storage.write_json(tmp_path / "empty", {"a": 1})
    storage.write_json(tmp_path / "empty", {"a": 2})
    assert storage.read_json(tmp_path / "empty") == {"a": 2}


def test_foreign_file_is_named_as_such_without_advice_to_delete(tmp_path: Path) -> None:
    torch.save(models.blt(channels=(2, 2)).state_dict(), tmp_path / "w.pth")
    (tmp_path / "n.txt").write_text("notes")
    for path in (tmp_path / "w.pth", tmp_path / "n.txt"):
        for read in (pcsim.Run.load, pcsim.load, storage.read_json):
            with pytest.raises(StorageError, match="not a pcsim file") as caught:
                read(path)
            assert "delete" not in str(caught.value)


def test_pipes_devices_and_folders_are_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    signal.alarm(10)
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        for read in (pcsim.Run.load, pcsim.load, storage.read_json):
            with pytest.raises(StorageError, match=r"expected: a file"):
                read(path)
    signal.alarm(0)


def test_links_stay_and_file_behind_is_replaced(tmp_path: Path) -> None:
    storage.write_json(tmp_path / "real", {"a": 1})
    (tmp_path / "link").symlink_to("real")
    storage.write_json(tmp_path / "link", {"a": 2})
    assert (tmp_path / "link").is_symlink() and storage.read_json(tmp_path / "real") == {"a": 2}


def test_replaced_file_keeps_its_permissions(tmp_path: Path) -> None:
    storage.write_json(tmp_path / "f", {"a": 1})
    (tmp_path / "f").chmod(0o640)
    storage.write_json(tmp_path / "f", {"a": 2})
    assert (tmp_path / "f").stat().st_mode & 0o777 == 0o640


def test_tilde_is_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    models.blt(channels=(2, 2)).save("~/w")
    assert (tmp_path / "w").exists() and pcsim.load("~/w").name == "blt"
    with pytest.raises(StorageError, match="as a path"):
        storage.write_json("~nobody-of-this-name/f", {})


@pytest.mark.parametrize("path", ["a\0b", "x" * 300, "/proc/nowhere/f", None, 3])
def test_impossible_paths_are_refused(path: object) -> None:
    for use in (lambda p: storage.write_json(p, {}), storage.read_json, storage.make_folder):
        with pytest.raises(StorageError):
            use(path)


def test_remove_partials_spares_files_of_others_and_of_running_processes(tmp_path: Path) -> None:
    (tmp_path / ".thesis.part").write_text("mine")
    (tmp_path / f".f.{storage._HOST}.{os.getpid()}-1.pcsim-part").write_text("being written")
    (tmp_path / ".f.another-machine.1-1.pcsim-part").write_text("being written elsewhere")
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    dead = tmp_path / "points" / f".f.{storage._HOST}.{child}-1.pcsim-part"
    dead.parent.mkdir()
    dead.write_text("half")
    storage.remove_partials(tmp_path)
    assert not dead.exists() and len([p for p in tmp_path.iterdir() if p.is_file()]) == 3


@pytest.mark.parametrize("kind", ["run", "network", "training", "point"])
def test_missing_facts_are_storage_errors_with_path(kind: str, tmp_path: Path) -> None:
    """A file with a good checksum that lacks what its kind holds, as another version may write it."""
    net, path = models.blt(channels=(2, 2)), tmp_path / kind
    storage.write_tensors(path, {}, {"kind": kind})
    images, targets = torch.rand(2, 1, 32, 32), torch.eye(10)[:2]
    sweep = Sweep(swept.measure, Setting(), [{"seed": 1}], tmp_path / "sweep")
    reads = {
        "run": lambda: pcsim.Run.load(path),
        "network": lambda: pcsim.load(path),
        "training": lambda: training.train(net, images, targets, training.Training(updates=1), checkpoint=path),
        "point": sweep.table,
    }
    if kind == "point":
        sweep.path(sweep.ids[0]).parent.mkdir(parents=True)
        path.rename(sweep.path(sweep.ids[0]))
    with pytest.raises(StorageError, match=r"given: /"):
        reads[kind]()


def test_full_disk_keeps_old_file_and_names_free_space(tmp_path: Path) -> None:
    """A process whose files may have 2,000 bytes, as on a full disk."""
    path = tmp_path / "run"
    storage.write_tensors(path, {"a": torch.ones(3)}, {"kind": "run"})
    program = f"""
import pathlib, resource, signal, torch
from pcsim.core import storage
from pcsim import StorageError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
try: storage.write_tensors(pathlib.Path({str(path)!r}), {{"a": torch.ones(1000)}}, {{"kind": "run"}})
except StorageError as reason: print(reason)
"""
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert "cannot be written" in printed and "MB are free" in printed
    assert storage.read_tensors(path, "run")[0]["a"].tolist() == [1.0] * 3 and os.listdir(tmp_path) == ["run"]


def test_empty_path_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pathlib takes an empty string, such as that of an unset variable, for the current folder."""
    monkeypatch.chdir(tmp_path)
    for use in (storage.full_path, storage.make_folder, lambda path: Sweep(swept.measure, Setting(), [{}], path)):
        with pytest.raises(PcsimError, match="'' as a path .it is empty"):
            use("")
    assert storage.full_path(".") == Path() and not list(tmp_path.iterdir())
