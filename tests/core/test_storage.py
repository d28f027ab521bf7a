"""Files are written atomically, verified when read, and never executed."""

from __future__ import annotations

import os
import pickle
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import pcsim
from pcsim import StorageError, models
from pcsim.core import storage
from pcsim.models import weights
from pcsim.network.weights import trained_tensors


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
        with pytest.raises(StorageError, match="never used|not a file of pcsim"):
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
    for read in (lambda p: storage.read_tensors(p, "weights"), weights.load, pcsim.Run.load):
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
    tensors, skeleton = storage.flatten_nested(with_tensor)
    back = storage.restore_nested(tensors, json.loads(json.dumps(skeleton)))
    assert torch.equal(back["t"], torch.arange(3)) and back["rest"] == nested


def test_weights_round_trip_and_refuse_other_networks(tmp_path: Path) -> None:
    net = models.blt(width=3)
    weights.save(net, tmp_path / "w", "blt", {"width": 3}, scores={"error": 0.5})
    back = weights.load(tmp_path / "w")
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), back.parameters(), strict=True))
    with pytest.raises(StorageError, match="options used when the weights were trained"):
        weights.load(tmp_path / "w", width=4)
    with pytest.raises(StorageError, match="for which pcsim includes weights"):
        models.build("leaky_rcnn", weights="debris-light")


def test_tied_weights_are_stored_once(tmp_path: Path) -> None:
    from support.examples import dense, linear_pc

    assert len(trained_tensors(linear_pc(dense(4, 2)))) == 1
