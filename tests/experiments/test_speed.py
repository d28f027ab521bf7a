"""`experiments.speed`: what CI can hold without the other packages."""

import sys

import pytest
import torch

from experiments.speed.contenders import Worker
from pcsim import PcsimError


def test_a_python_without_pcx_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    worker = Worker(sys.executable, [torch.ones(2, 2)], torch.ones(1, 2), torch.ones(1, 2), steps=1)
    try:
        with pytest.raises(PcsimError, match="--pcx-python"):
            worker()
    finally:
        worker.close()
    assert "No module named" in capfd.readouterr().err
