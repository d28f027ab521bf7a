"""The results of a simulation, in memory and in a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcsim.core import storage
from pcsim.core.checks import checked
from pcsim.core.clock import Clock
from pcsim.core.exceptions import RecordError, StorageError
from pcsim.core.state import State
from pcsim.simulation.export import EXPORTS, dataframe, dataset, export

if TYPE_CHECKING:
    import pandas
    import xarray

Times = NDArray[np.float64]


class Status(Enum):
    """The status of a sample at the end of a run."""

    COMPLETED = "ran to the end with finite values"
    DIVERGED = "became NaN or infinite; all values after `valid_until` are NaN. Use a smaller dt or weaker feedback"


@dataclass(frozen=True)
class Snapshot:
    """A state from which a run can be continued with `simulate(..., start=run.final)`.

    spoken  populations that had a value before the first step, so their delayed edges deliver one step earlier
    """

    EXAMPLE: ClassVar[str] = "run.final"

    clock: Clock
    state: State
    spoken: tuple[str, ...] = ()


@dataclass(frozen=True, repr=False)
class Run:
    """The results of a simulation.

    values       key -> (time, batch, ...): "v1" is a population, "v1.norm" a reduction, "v1.c" another variable
    times_of     key -> times of the rows in ms, (time,); see also `times`
    status       the `Status` of each sample, (batch,)
    valid_until  the last time at which each sample was finite, in ms, (batch,)
    diverged_in  the population in which each sample first diverged, or "", (batch,)
    settled_at   the time at which each sample settled, in ms, or NaN, (batch,); None without until=Settled(...)
    labels       the labels of the stimulus, if any
    about        metadata: network, tau, solver, record, stimulus, lesions, seeds, versions, device, steps and how they
                 were run, wall time
    final        the Snapshot from which the run can be continued
    """

    values: dict[str, Tensor]
    times_of: dict[str, Times]
    status: tuple[Status, ...]
    valid_until: Times
    diverged_in: tuple[str, ...]
    about: dict[str, Any]
    final: Snapshot
    labels: Tensor | None = None
    settled_at: Times | None = None

    def __repr__(self) -> str:
        kept = ", ".join(f"{key} {tuple(value.shape)}" for key, value in self.values.items())
        diverged = sum(status is Status.DIVERGED for status in self.status)
        end = f"{self.final.clock.time:g} ms, {len(self.status)} samples, {diverged} diverged"
        return f"Run({self.about['network']}: {end}; {kept})"

    @checked(RecordError)
    def __getitem__(self, key: str) -> Tensor:
        """Return the values (time, batch, ...) for a key such as "v1.norm". Raises RecordError for unknown keys."""
        if key not in self.values:
            name, known = key.split(".")[0], tuple(self.about.get("tau", ()))
            if known and name not in known:
                near = next(iter(get_close_matches(name, known, 1, 0.0)))
                raise RecordError(
                    given=f"run[{key!r}], where {name!r} is not a population of {self.about['network']!r}",
                    expected=f"a recorded key: {', '.join(self.values) or 'none, because nothing was recorded'}",
                    remedy=f"write run[{near!r}]"
                    + (f", recorded with Record(states=[{near!r}])" if near not in self.values else "")
                    + f"; the populations are {', '.join(known)}",
                )
            raise RecordError(
                given=f"run[{key!r}]",
                expected=f"a recorded key: {', '.join(self.values) or 'none, as nothing was recorded'}",
                remedy=f"run simulate(..., record=Record(states=[{key.split('.')[0]!r}]))",
            )
        return self.values[key]

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def keys(self) -> tuple[str, ...]:
        """Return the keys of all recorded values."""
        return tuple(self.values)

    @property
    def times(self) -> Times:
        """Times of the rows in ms, (time,). Raises RecordError if records have rows at different times."""
        different = {times.tobytes() for times in self.times_of.values()}
        if len(different) > 1:
            raise RecordError(
                given="run.times of a run whose records have rows at different times",
                expected="the times of a single key",
                remedy=f"use run.times_of[key], where key is one of {', '.join(self.times_of)}",
            )
        return next(iter(self.times_of.values()), np.zeros(0))

    @property
    def errors(self) -> dict[str, Tensor]:
        """Mean squared prediction error of each sample, (time, batch), for each population."""
        return self._of_errors("mean_square")

    @property
    def relative_errors(self) -> dict[str, Tensor]:
        """Squared prediction error divided by squared predicted activity, (time, batch), for each population.

        Raises RecordError if the run did not record these errors.
        """
        relative = self._of_errors("relative")
        if self.about["errors"] and not relative:
            raise RecordError(
                given=f"run.relative_errors of a run that recorded {', '.join(self.values) or 'nothing'}",
                expected="errors recorded with relative=True",
                remedy="run simulate(..., record=Record(errors='all', relative=True))",
            )
        return relative

    def _of_errors(self, kind: str) -> dict[str, Tensor]:
        names = cast(list[str], self.about["errors"])
        return {name: self.values[f"{name}.{kind}"] for name in names if f"{name}.{kind}" in self.values}

    def to_xarray(self) -> xarray.Dataset:
        """Return a labelled dataset: time in ms, sample, channel, height, width. Requires the `analysis` extra.

        Labels become the coordinate "label" of the sample axis. If records have rows at different times, each key has
        its own time axis, "time_key".
        """
        return dataset(self)

    @checked(RecordError)
    def to_dataframe(self, keys: Sequence[str] | None = None) -> pandas.DataFrame:
        """Return a data frame with one row per value, for all recorded keys or only those in `keys`.

        Requires the `analysis` extra. The columns are key, time_ms, sample, label (or label_0, label_1, ... for labels
        (batch, classes)), the unit axes channel, height and width (missing where a key has no such axis), and value.
        """
        wanted = self.keys() if keys is None else tuple(keys)
        for key in wanted:
            self[key]
        return dataframe(self, wanted)

    @checked(StorageError)
    def save(self, path: str | Path, overwrite: bool = False) -> None:
        """Save the run to a file in the format given by the extension of `path`.

        .nc   the dataset of `to_xarray`, as netCDF (`analysis` extra)
        .csv  the data frame of `to_dataframe` (`analysis` extra)
        .nwb  Neurodata Without Borders: each key as a `TimeSeries` with timestamps in seconds (`nwb` extra)
        .mat  MATLAB: each key as an array with "." replaced by "_", `times` with a field for each, and `labels`,
              `status`, `valid_until` and `about` (as JSON)
        .pcsim, .run, .safetensors, or no extension: a single file, without code, that `pcsim.load` verifies and
              restores completely

        Raises StorageError for other extensions, or if `path` exists and `overwrite` is False.
        """
        full = storage.full_path(path)
        if full.suffix in EXPORTS:
            export(self, full, overwrite)
            return
        storage.require_own_extension(full, "run", EXPORTS)
        storage.require_new(full, overwrite)
        facts = {
            "status": [status.name for status in self.status],
            "diverged_in": list(self.diverged_in),
            "clock": vars(self.final.clock),
            "spoken": list(self.final.spoken),
            "layout": {key: _order(value) for key, value in self.final.state.items()},
            "about": self.about,
        }
        tensors = {f"values/{key}": value.detach() for key, value in self.values.items()}
        tensors |= {f"state/{key}": value.detach() for key, value in self.final.state.items()}
        tensors |= {f"times/{key}": torch.from_numpy(times) for key, times in self.times_of.items()}
        tensors["valid_until"] = torch.from_numpy(self.valid_until)
        if self.labels is not None:
            tensors["labels"] = self.labels
        if self.settled_at is not None:
            tensors["settled_at"] = torch.from_numpy(self.settled_at)
        storage.write_tensors(full, tensors, {"kind": "run", **facts})

    @staticmethod
    @checked(StorageError)
    def load(path: str | Path) -> Run:
        """Load a run written by `save`, as `pcsim.load` does.

        Raises StorageError if the file is missing, damaged or not a run.
        """
        return Run.restored(str(path), *storage.read_tensors(path, "run"))

    @staticmethod
    def restored(path: str, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> Run:
        """Return the run stored in the file `path`."""
        state = storage.under("state/", tensors)
        times = {key: value.numpy() for key, value in storage.under("times/", tensors).items()}
        with storage.content_of(path, "a run", "run the simulation again and call run.save(path)"):
            layout: Mapping[str, Sequence[int]] = facts["layout"]
            return Run(
                values=storage.under("values/", tensors),
                times_of=times,
                status=tuple(Status[name] for name in facts["status"]),
                valid_until=tensors["valid_until"].numpy(),
                diverged_in=tuple(facts["diverged_in"]),
                about=facts["about"],
                final=Snapshot(
                    Clock(**facts["clock"]),
                    {key: _laid_out_as(value, layout[key]) for key, value in state.items()},
                    tuple(facts["spoken"]),
                ),
                labels=tensors.get("labels"),
                settled_at=tensors["settled_at"].numpy() if "settled_at" in tensors else None,
            )


def _order(value: Tensor) -> list[int]:
    """Return the axes of a tensor in memory order, from the largest stride to the smallest."""
    strides = value.stride()
    return sorted(range(value.dim()), key=lambda axis: (-strides[axis], axis))


def _laid_out_as(value: Tensor, order: Sequence[int]) -> Tensor:
    """Restore the memory order of the axes, on which rounding depends. Files contain only contiguous tensors."""
    moved = value.permute(*order).contiguous()
    return moved.permute(*(order.index(axis) for axis in range(value.dim())))
