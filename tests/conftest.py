"""Fixtures: every test runs with one thread and a fixed seed; `float64` is for comparisons with exact values."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

os.environ["MPLBACKEND"] = "Agg"  # no windows, also on a machine with a display
os.environ["OMP_NUM_THREADS"] = "1"  # for processes started by tests: several threads on one core wait for each other

DATA = Path(__file__).parents[2] / "shared" / "data"
MNIST = Path(os.environ.get("PCSIM_MNIST", DATA / "mnist"))
OMNIGLOT = Path(os.environ.get("PCSIM_OMNIGLOT", DATA / "omniglot_small"))
NEURAL = Path(os.environ.get("PCSIM_NEURAL", DATA))


@pytest.fixture(autouse=True)
def _reproducible() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _no_open_figures() -> Iterator[None]:
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


@pytest.fixture
def float64() -> Iterator[None]:
    """Build networks in double precision."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def mnist() -> Path:
    """Return the folder with MNIST's idx files, or skip the test."""
    if not MNIST.is_dir():
        pytest.skip("no MNIST data: set PCSIM_MNIST to a folder with the four idx files")
    return MNIST


@pytest.fixture
def omniglot() -> Path:
    """Return the folder with Omniglot's zip files, or skip the test."""
    if not (OMNIGLOT / "images_background_small1.zip").is_file():
        pytest.skip("no Omniglot data: set PCSIM_OMNIGLOT to a folder with the zip files of the small background sets")
    return OMNIGLOT


@pytest.fixture
def recordings() -> Path:
    """Return the folder with the recordings of inferior temporal cortex, or skip the test."""
    if not (NEURAL / "neural_it_zhang_desimone").is_dir():
        pytest.skip("no recordings: set PCSIM_NEURAL to a folder with the recordings listed in docs/neural.md")
    return NEURAL
