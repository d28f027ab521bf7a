"""Checks of `experiments.speed` that need none of the compared packages."""

import sys

import pytest
import torch

from experiments.speed.contenders import Worker
from pcsim import PcsimError


def test_speed_worker_without_pcx_names_option(capfd: pytest.CaptureFixture[str]) -> None:
    worker = Worker(sys.executable, [torch.ones(2, 2)], torch.ones(1, 2), torch.ones(1, 2), steps=1)
    try:
        with pytest.raises(PcsimError, match="--pcx-python"):
            worker()
    finally:
        worker.close()
    assert "No module named" in capfd.readouterr().err
