"""The report printed by `pcsim doctor`: versions, devices, compilation, data folders and extras."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sysconfig
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import torch

from pcsim.core.version import VERSION

PACKAGES = ("torch", "numpy", "scipy", "torchdiffeq", "matplotlib", "safetensors", "pydantic")
EXTRAS = {
    "analysis": (
        ("h5netcdf", "h5py", "sklearn", "xarray"),
        "labelled arrays, netCDF files, decoders, object solution times",
    ),
    "cluster": (("distributed", "submitit"), "sweeps on Dask and SLURM clusters"),
    "data": (("pooch",), "downloads of MNIST and Omniglot"),
    "nwb": (("pynwb",), "runs in Neurodata Without Borders files"),
    "sweep": (("optuna",), "searches, pcsim run cell_search"),
    "video": (("av",), "video files other than GIF"),
    "viz": (("plotly",), "interactive pages"),
}
"""extra -> (the modules that it installs, what needs them)"""
VARIABLES = {
    "PCSIM_MNIST": "the four idx files of MNIST; without it, they are downloaded (data extra)",
    "PCSIM_OMNIGLOT": "the zip files of Omniglot; without it, they are downloaded (data extra)",
    "PCSIM_NEURAL": "recordings of inferior temporal cortex for pcsim run object_solution_time (docs/neural.md)",
}
"""environment variable -> contents of the folder that it names"""
COMPILERS = ("g++", "clang++", "c++", "cl")


def report() -> str:
    """Return the report as text."""
    sections = {
        "Versions": _versions(),
        "Devices": _devices(),
        "Compilation: Simulator(..., compile=True)": _compilation(),
        "Data folders": _folders(),
        "Extras": _extras(),
    }
    return "\n\n".join("\n".join([title, *(f"  {line}" for line in lines)]) for title, lines in sections.items())


def _versions() -> Iterator[str]:
    yield f"pcsim {VERSION} in {Path(__file__).parents[1]}"
    yield f"Python {platform.python_version()} on {platform.platform()}"
    for package in PACKAGES:
        try:
            yield f"{package} {version(package)}"
        except PackageNotFoundError:
            yield f"{package} is missing: pip install {package}"


def _devices() -> Iterator[str]:
    yield f"cpu: {os.cpu_count()} cores; torch uses {torch.get_num_threads()} threads"
    names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    yield f"cuda: {', '.join(names) or 'no GPU found'}"
    yield f"mps: {'available' if torch.backends.mps.is_available() else 'not available'}"


def _compilation() -> Iterator[str]:
    chosen = os.environ.get("CXX")
    found = next(filter(None, map(shutil.which, [chosen] if chosen else COMPILERS)), None)
    if found is None:
        yield f"no C++ compiler ({chosen or ', '.join(COMPILERS)}): install one, on Debian with apt install g++"
    else:
        said = subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout
        yield f"C++ compiler: {found} ({(said.splitlines() or ['unknown version'])[0]})"
    if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        yield "no Python.h: install the Python headers, on Debian with apt install python3-dev"


def _folders() -> Iterator[str]:
    for variable, contents in VARIABLES.items():
        folder = os.environ.get(variable)
        state = (
            "not set" if not folder else folder if Path(folder).expanduser().is_dir() else f"{folder} does not exist"
        )
        yield f"{variable}: {state} ({contents})"


def _extras() -> Iterator[str]:
    for extra, (modules, needed_for) in EXTRAS.items():
        missing = [module for module in modules if find_spec(module) is None]
        if missing:
            yield f'{extra}: {", ".join(missing)} missing, for {needed_for}: pip install "pcsim[{extra}]"'
        else:
            yield f"{extra}: installed, for {needed_for}"
