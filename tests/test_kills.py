"""Trainings, sweeps and searches that are killed a hundred times end with the same bits (marker `slow`)."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from support import interrupted, swept
from support.paths import ENVIRONMENT
from support.processes import workers_of


def killed(kind: str, folder: Path, kills: int, slowly: float = 0.0) -> int:
    """Run a program to its end, killing it or one of its workers `kills` times; return how often it was killed."""
    dice, done = random.Random(0), 0
    command = [sys.executable, "-m", "support.interrupted", kind, str(folder)]
    environment = ENVIRONMENT | {"PCSIM_SLOWLY": str(slowly)}
    while True:
        parent = subprocess.Popen(command, env=environment, start_new_session=True, stderr=subprocess.DEVNULL)
        before = progress(folder)
        while parent.poll() is None and progress(folder) == before:  # it has begun to work
            time.sleep(0.01)
        while parent.poll() is None and done < kills:
            time.sleep(dice.uniform(0.0, 0.6))
            victim = dice.choice([parent.pid, *workers_of(parent.pid)])
            if parent.poll() is None:
                os.kill(victim, signal.SIGKILL)
                done += 1
            if victim == parent.pid:
                parent.wait()
        parent.wait(timeout=200)
        if parent.returncode == 0:
            return done


def progress(folder: Path) -> object:
    """Return something that changes whenever work is stored."""
    stored = [p for p in folder.rglob("*") if p.suffix != ".lock"] if folder.exists() else []
    return sorted((str(path), path.stat().st_mtime_ns) for path in stored if path.exists())


@pytest.mark.slow
@pytest.mark.timeout(1_800)
@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="workers are found in /proc")
def test_training_killed_40_times_ends_with_same_bits(tmp_path: Path) -> None:
    assert killed("training", tmp_path / "wild", 40) == 40
    (tmp_path / "calm").mkdir()
    calm = interrupted.training(tmp_path / "calm")
    wild = torch.load(tmp_path / "wild" / "weights.pt")
    assert calm.keys() == wild.keys() and all(torch.equal(calm[name], wild[name]) for name in calm)


@pytest.mark.slow
@pytest.mark.timeout(1_800)
@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="workers are found in /proc")
def test_sweep_killed_40_times_has_same_table(tmp_path: Path) -> None:
    assert killed("sweep", tmp_path, 40, slowly=0.5) == 40
    table = interrupted.sweep(tmp_path).table()
    assert len(table) == interrupted.POINTS
    for point, result in zip(table.points, table.results, strict=True):
        expected = swept.measure(swept.Setting(seed=point["seed"]))
        assert all(np.array_equal(result[name], expected[name]) for name in expected)
    assert {path.suffix for path in (tmp_path / "points").iterdir()} == {".safetensors"}


@pytest.mark.slow
@pytest.mark.timeout(1_800)
@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="workers are found in /proc")
def test_search_killed_20_times_has_same_trials(tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason="optuna is not installed (extra sweep)")
    calm, wild = tmp_path / "calm", tmp_path / "wild"
    calm.mkdir()
    assert killed("search", wild, 20, slowly=0.1) == 20
    expected = interrupted.search(calm).run(progress=False)
    found = interrupted.search(wild).trials()
    assert [(t.number, t.parameters, t.values, t.state) for t in found] == [
        (t.number, t.parameters, t.values, t.state) for t in expected
    ]
