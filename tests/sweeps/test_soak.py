"""A long sweep during which a worker or the whole program is killed every minute (marker `soak`)."""

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
from support import swept
from support.paths import ENVIRONMENT
from support.processes import workers_of

from pcsim.sweeps.sweep import Sweep

MINUTES = float(os.environ.get("PCSIM_SOAK_MINUTES", "30"))
PER_POINT_S = 0.5


@pytest.mark.soak
@pytest.mark.timeout(7_200)
@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="workers are found in /proc")
def test_sweep_survives_kill_every_minute(tmp_path: Path) -> None:
    count, dice, kills = int(60 * MINUTES * 2 / PER_POINT_S), random.Random(0), 0
    command = [sys.executable, "-m", "support.swept", str(tmp_path), "processes:2", str(count)]
    slowly = ENVIRONMENT | {"PCSIM_SLOWLY": str(PER_POINT_S), "PCSIM_CALLS": str(tmp_path / "calls")}
    parent = subprocess.Popen(command, env=slowly, start_new_session=True)
    while True:
        try:
            assert parent.wait(timeout=dice.uniform(50.0, 70.0)) == 0
            break
        except subprocess.TimeoutExpired:
            workers = workers_of(parent.pid)
            victim = dice.choice([parent.pid, *workers])
            os.kill(victim, signal.SIGKILL)
            kills += 1
            if victim == parent.pid:
                parent.wait()
                time.sleep(1.0)
                parent = subprocess.Popen(command, env=slowly, start_new_session=True)
    points = [{"seed": seed} for seed in range(count)]
    table = Sweep(swept.slowly, swept.Setting(), points, tmp_path).table()
    assert len(table) == count and kills >= 0.6 * MINUTES
    for point, result in zip(table.points, table.results, strict=True):
        expected = swept.measure(swept.Setting(seed=point["seed"]))
        assert all(np.array_equal(result[name], expected[name]) for name in expected)
    # A kill loses at most the points that were running: one for each worker.
    repeated = len((tmp_path / "calls").read_text().split()) - count
    assert repeated <= 2 * kills, f"{repeated} points were computed again after {kills} kills"
    assert {path.suffix for path in (tmp_path / "points").iterdir()} == {".safetensors"}
