"""Checks of `experiments.speed` that need none of the compared packages."""

import os
import re
import stat
import sys
from pathlib import Path

import pytest
import torch
from support.paths import ROOT

from experiments.speed.contenders import Worker
from experiments.speed.options import WORKS
from pcsim import PcsimError

INPUTS = ([torch.ones(2, 2)], torch.ones(1, 2), torch.ones(1, 2))


def test_speed_worker_without_pcx_names_option(capfd: pytest.CaptureFixture[str]) -> None:
    worker = Worker(sys.executable, *INPUTS, steps=1)
    try:
        with pytest.raises(PcsimError, match="--pcx-python"):
            worker()
    finally:
        worker.close()
    assert "No module named" in capfd.readouterr().err


def test_speed_worker_refuses_missing_python() -> None:
    with pytest.raises(PcsimError, match="--pcx-python /nowhere/python, which cannot be run"):
        Worker("/nowhere/python", *INPUTS, steps=1)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_speed_worker_gets_threads_of_torch(threads: int, tmp_path: Path) -> None:
    """XLA's thread pools have $NPROC threads: measured with JAX 0.4.38, two threads more for each."""
    python, said = tmp_path / "python", tmp_path / "said"
    python.write_text(f'#!/bin/sh\necho "$NPROC $JAX_PLATFORMS" > {said}; cat > {os.devnull}\n')
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    torch.set_num_threads(threads)
    worker = Worker(str(python), *INPUTS, steps=1)
    worker.process.communicate(timeout=30)
    assert worker.process.returncode == 0 and said.read_text() == f"{threads} cpu\n"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of a torch module that is imported late
def test_docs_describe_workloads_as_the_program_does() -> None:
    page = (ROOT / "docs" / "results" / "speed.md").read_text()
    described = {name: what for name, what in re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", page, re.M) if name in WORKS}
    assert len(described) > 20 and described["d"].startswith("PredNet")
    works = {name: WORKS[name]() for name in described}
    assert described == {name: work.what for name, work in works.items()}
    (columns,) = re.findall(r"^\| workload \| plain, ms \| (norm of every error .*) \|$", page, re.M)
    costs = [works[name] for name in ("records", "checkpointed", "rounded", "batches", "late")]
    assert set(columns.split(" | ")) <= {contender for work in costs for contender in work.contenders}
