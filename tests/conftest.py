"""Every test: one thread, its own seed. `float64` for those that compare numbers with something exact."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that tests start: two on a core wait for each other

DATA = Path(__file__).parents[2] / "shared" / "data"
MNIST = Path(os.environ.get("PCSIM_MNIST", DATA / "mnist"))
OMNIGLOT = Path(os.environ.get("PCSIM_OMNIGLOT", DATA / "omniglot_small"))
NEURAL = Path(os.environ.get("PCSIM_NEURAL", DATA))


@pytest.fixture(autouse=True)
def _reproducible() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture
def float64() -> Iterator[None]:
    """Networks built inside are double precision."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def mnist() -> Path:
    """A folder with the idx files, or a skipped test."""
    if not MNIST.is_dir():
        pytest.skip("no MNIST folder: set PCSIM_MNIST to one with the four idx files")
    return MNIST


@pytest.fixture
def omniglot() -> Path:
    """A folder with the zip files, or a skipped test."""
    if not (OMNIGLOT / "images_background_small1.zip").is_file():
        pytest.skip("no Omniglot folder: set PCSIM_OMNIGLOT to one with the zip files of the small background sets")
    return OMNIGLOT


@pytest.fixture
def recordings() -> Path:
    """A folder with the recordings of inferior temporal cortex, or a skipped test."""
    if not (NEURAL / "neural_it_zhang_desimone").is_dir():
        pytest.skip("no recordings: set PCSIM_NEURAL to a folder with those of docs/neural.md")
    return NEURAL
