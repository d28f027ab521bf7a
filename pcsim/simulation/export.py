"""Export of runs to xarray datasets, data frames, and netCDF, CSV, MATLAB and NWB files."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from uuid import uuid4

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcsim.core import storage
from pcsim.core.exceptions import RecordError, StorageError, needs_extra

if TYPE_CHECKING:
    import pandas
    import xarray

AXES = ("channel", "height", "width")
MATLAB_LENGTH = 63
"""maximum length of a MATLAB name"""
MATLAB_KEYWORDS = (
    *("break", "case", "catch", "classdef", "continue", "else", "elseif", "end", "for", "function", "global"),
    *("if", "otherwise", "parfor", "persistent", "return", "spmd", "switch", "try", "while"),
)
"""names that MATLAB does not allow for variables"""


class Results(Protocol):
    """The attributes of a `Run` that are exported."""

    @property
    def values(self) -> dict[str, Tensor]:
        """Key -> (time, batch, ...)."""

    @property
    def times_of(self) -> Mapping[str, NDArray[np.float64]]:
        """Key -> times of the rows in ms."""

    @property
    def status(self) -> Sequence[Enum]:
        """The status of each sample."""

    @property
    def valid_until(self) -> NDArray[np.float64]:
        """The last time at which each sample was finite, in ms."""

    @property
    def labels(self) -> Tensor | None:
        """The labels, (batch,) or (batch, classes)."""

    @property
    def about(self) -> dict[str, Any]:
        """Metadata."""


def dataset(run: Results) -> xarray.Dataset:
    """Return a labelled dataset; see `Run.to_xarray`."""
    with needs_extra("analysis", RecordError, "to_xarray()"):
        import xarray

    arrays: dict[str, Any] = {}
    coordinates: dict[str, Any] = {"sample": np.arange(len(run.status))}
    sizes: dict[str, int] = {}
    is_common = len({times.tobytes() for times in run.times_of.values()}) <= 1
    for key, value in run.values.items():
        time = "time" if is_common else f"time_{key}"
        units = _axes_of(value)
        shared = [f"{key.split('.')[0]}_{axis}" for axis in units]
        # A reduction may differ in size from its population.
        fits = all(sizes.get(axis, size) == size for axis, size in zip(shared, value.shape[2:], strict=True))
        axes = shared if fits else [f"{key}_{axis}" for axis in units]
        sizes |= zip(axes, value.shape[2:], strict=True)
        arrays[key] = ([time, "sample", *axes], _array(value))
        coordinates[time] = (time, run.times_of[key], {"units": "ms"})
    if run.labels is not None:
        coordinates["label"] = (["sample", "class"][: run.labels.dim()], _array(run.labels))
    data = xarray.Dataset(arrays, coordinates, {"about": json.dumps(run.about)})
    data["status"] = ("sample", [status.name for status in run.status])
    data["valid_until"] = ("sample", run.valid_until, {"units": "ms"})
    return data


def dataframe(run: Results, keys: Sequence[str]) -> pandas.DataFrame:
    """Return a data frame with a row for each value of `keys`; see `Run.to_dataframe`."""
    with needs_extra("analysis", RecordError, "to_dataframe()"):
        import pandas

    units = max((_axes_of(run.values[key]) for key in keys), key=len, default=[])
    labels = None if run.labels is None else _array(run.labels)
    parts = []
    for key in keys:
        value = _array(run.values[key])
        time, sample, *places = (index.ravel() for index in np.indices(value.shape))
        columns: dict[str, Any] = {"key": key, "time_ms": run.times_of[key][time], "sample": sample}
        if labels is not None:
            each = labels[:, None] if labels.ndim == 1 else labels.reshape(len(labels), -1)
            names = ["label"] if labels.ndim == 1 else [f"label_{number}" for number in range(each.shape[1])]
            columns |= {name: each[sample, number] for number, name in enumerate(names)}
        absent = [None] * value.size
        for number, axis in enumerate(units):
            columns[axis] = pandas.array(places[number] if number < len(places) else absent, dtype="Int64")
        parts.append(pandas.DataFrame({**columns, "value": value.ravel()}))
    return pandas.concat(parts, ignore_index=True) if parts else pandas.DataFrame(columns=["key", "time_ms", "sample"])


def _write_netcdf(run: Results, path: Path) -> None:
    with needs_extra("analysis", StorageError, "run.save() as netCDF"):
        import h5netcdf  # noqa: F401
        import h5py  # noqa: F401 - since 1.8, h5netcdf does not install it
    dataset(run).to_netcdf(path, engine="h5netcdf")


def _write_csv(run: Results, path: Path) -> None:
    dataframe(run, tuple(run.values)).to_csv(path, index=False)


def _write_nwb(run: Results, path: Path) -> None:
    """Write each key as a TimeSeries (time, sample, unit) with timestamps in seconds, and a table of the samples."""
    with needs_extra("nwb", StorageError, "run.save() as NWB"):
        import h5py
        import pynwb

    about = json.dumps(run.about)
    file = pynwb.NWBFile(
        session_description=f"simulation of {run.about['network']} by pcsim",
        identifier=str(uuid4()),
        session_start_time=datetime.now(UTC),
        source_script=about,
        source_script_file_name="run.about",
    )
    results = file.create_processing_module("pcsim", "responses of a simulated network")
    for key, value in run.values.items():
        array = _array(value)
        units = dict(zip(_axes_of(value), array.shape[2:], strict=True))
        results.add(
            pynwb.TimeSeries(
                name=key.replace("/", "_").replace(":", "_"),
                data=array if array.ndim <= 3 else array.reshape(*array.shape[:2], -1),
                unit="a.u.",
                timestamps=run.times_of[key] / 1000.0,
                description=about,
                comments=f"axes: time, sample{', units ' if units else ''}"
                + " x ".join(f"{axis} {size}" for axis, size in units.items()),
            )
        )
    status = [status.name for status in run.status]
    samples = pynwb.core.DynamicTable(
        name="samples", description="the samples of the batch", id=list(range(len(status)))
    )
    samples.add_column("status", "COMPLETED or DIVERGED", data=status)
    samples.add_column("valid_until", "last finite time, in seconds", data=run.valid_until / 1000.0)
    if run.labels is not None:
        samples.add_column("label", "label of the stimulus", data=_array(run.labels))
    results.add(samples)
    with h5py.File(path, "w") as opened, pynwb.NWBHDF5IO(file=opened, mode="w") as io:
        io.write(file)


def _write_mat(run: Results, path: Path) -> None:
    """Write each key as an array (time, sample, ...) with its times, and the labels, status and metadata."""
    from scipy import io

    taken = {"labels", "status", "valid_until", "about", "times", *MATLAB_KEYWORDS}
    contents: dict[str, Any] = {}
    times: dict[str, Any] = {}
    for key, value in run.values.items():
        name = _matlab_name(key, taken)
        contents[name], times[name] = _array(value), run.times_of[key]
    contents |= {
        "times": times,
        "status": np.array([status.name for status in run.status], dtype=object),
        "valid_until": run.valid_until,
        "about": json.dumps(run.about),
    }
    if run.labels is not None:
        contents["labels"] = _array(run.labels)
    with path.open("wb") as file:
        io.savemat(file, contents, long_field_names=True, do_compression=True, oned_as="column")


def _matlab_name(key: str, taken: set[str]) -> str:
    """Return an unused MATLAB variable name for a key, such as "v1_norm" for "v1.norm"."""
    plain = re.sub(r"\W", "_", key, flags=re.ASCII)
    plain = (plain if plain[:1].isalpha() else f"x{plain}")[:MATLAB_LENGTH]
    name, number = plain, 1
    while name in taken:
        number += 1
        name = f"{plain[: MATLAB_LENGTH - len(str(number)) - 1]}_{number}"
    taken.add(name)
    return name


EXPORTS: dict[str, Callable[[Results, Path], None]] = {
    ".nc": _write_netcdf,
    ".csv": _write_csv,
    ".mat": _write_mat,
    ".nwb": _write_nwb,
}
"""file extension -> the function that writes a run"""


def export(run: Results, path: Path, overwrite: bool) -> None:
    """Write a run in the format given by the extension of `path`, one of those in `EXPORTS`."""
    storage.require_new(path, overwrite)
    with storage.replacing(path, is_ours=False) as partial:
        EXPORTS[path.suffix](run, partial)


def _axes_of(value: Tensor) -> list[str]:
    count = value.dim() - 2
    return [*AXES[:count], *(f"axis_{number}" for number in range(len(AXES), count))]


def _array(value: Tensor) -> NDArray[Any]:
    """Return a tensor as an array; bfloat16, which NumPy lacks, becomes float32 without loss."""
    value = value.detach().cpu()
    return (value.float() if value.dtype == torch.bfloat16 else value).numpy()
