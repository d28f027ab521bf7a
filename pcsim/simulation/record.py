"""What is kept of a simulation: `Record` says what and when, `Run` is what came out."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcsim.core import storage
from pcsim.core.clock import Clock
from pcsim.core.exceptions import StimulusError, WiringError
from pcsim.network.graph import Network
from pcsim.core.state import State, units

if TYPE_CHECKING:
    import xarray

Names = Sequence[str] | str


def _norm(value: Tensor) -> Tensor:
    """One pass over memory, and no squares to be put anywhere."""
    return torch.linalg.vector_norm(value, dim=units(value))


REDUCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean_square": lambda value: _norm(value).square() / value[0].numel(),
    "norm": lambda value: _norm(value),
    "mean": lambda value: value.mean(units(value)),
    "max_space": lambda value: value.flatten(2).amax(2) if value.dim() > 2 else value,
}


def relative_square(error: Tensor, predicted: Tensor) -> Tensor:
    """sum e^2 / sum r^2 for each sample, (batch,): a prediction error in units of the activity it is about."""
    activity = _norm(predicted).square()
    return _norm(error).square() / activity.clamp_min(torch.finfo(activity.dtype).tiny)


AXES = ("channel", "height", "width")


@dataclass(frozen=True)
class Record:
    """What to keep, every `every` steps.

    states   populations (or "all") kept whole: (time, batch, channel, height, width)
    errors   prediction errors (or "all") kept as their mean square per sample: (time, batch)
    relative  also keep them divided by the activity they are about, sum e^2 / sum r^2, under "error.relative"
    reduce   {population: reduction or reductions} among mean_square, norm, mean (each (time, batch)) and
             max_space (time, batch, channel); kept under "population.reduction"
    """

    states: Names = ()
    errors: Names = ()
    relative: bool = False
    reduce: Mapping[str, str | Sequence[str]] = field(default_factory=dict)
    every: int = 1

    def plan(self, network: Network) -> list[tuple[str, tuple[str, ...], Callable[..., Tensor]]]:
        """(key, populations, function of their values) of everything kept. Raises WiringError for what is not there."""
        if not isinstance(self.every, int) or self.every < 1:
            raise WiringError(
                given=f"Record(every={self.every!r})", expected="a whole number of steps >= 1", remedy="use every=1"
            )
        states = names_of(self.states, tuple(network.populations))
        errors = names_of(self.errors, network.errors)
        if wrong := [name for name in errors if name not in network.errors]:
            raise WiringError(
                given=f"a record of the errors {', '.join(wrong)}",
                expected=f"prediction errors of {network.name!r}: {', '.join(network.errors) or 'it has none'}",
                remedy="name other populations in states=..., or their mean square in reduce=...",
            )
        reduced = [(name, "mean_square") for name in errors]
        for name, kinds in self.reduce.items():
            reduced += [(name, kind) for kind in ([kinds] if isinstance(kinds, str) else kinds)]
        for name, reduction in [*((name, None) for name in states), *reduced]:
            if name not in network.populations or (reduction is not None and reduction not in REDUCTIONS):
                raise WiringError(
                    given=f"a record of {name!r}" + (f" reduced by {reduction!r}" if reduction else ""),
                    expected=f"a population among {', '.join(network.populations)}; a reduction among "
                    + ", ".join(REDUCTIONS),
                    remedy="correct the Record",
                )
        plan: list[tuple[str, tuple[str, ...], Callable[..., Tensor]]] = [(name, (name,), _whole) for name in states]
        plan += [(f"{name}.{reduction}", (name,), REDUCTIONS[reduction]) for name, reduction in reduced]
        if self.relative:
            plan += [(f"{e}.relative", (e, network.predicted[e]), relative_square) for e in errors]
        return list({key: (key, names, function) for key, names, function in plan}.values())


def _whole(value: Tensor) -> Tensor:
    return value


def names_of(given: Names, known: tuple[str, ...]) -> tuple[str, ...]:
    """The names that are meant: one, several, or "all" that are known."""
    if isinstance(given, str):
        return known if given == "all" else (given,)
    return tuple(given)


class Recorder:
    """Copies what a `Record` asks for into buffers made once, before the first step."""

    def __init__(self, record: Record, network: Network, steps: int) -> None:
        self.plan = record.plan(network)
        if record.every > steps:
            raise WiringError(
                given=f"Record(every={record.every}) in a run of {steps} steps",
                expected="at least one row",
                remedy="record more often, or run longer",
            )
        self.network = network
        self.every = record.every
        self.steps = steps
        self.names = tuple(dict.fromkeys(name for _, names, _ in self.plan for name in names))
        self.buffers: dict[str, Tensor] = {}
        self.rows: list[int] = []

    @property
    def keys(self) -> tuple[str, ...]:
        """What is kept."""
        return tuple(key for key, _, _ in self.plan)

    @property
    def note(self) -> Callable[[Clock, State, State], State] | None:
        """(clock, state, inputs) -> one row, key by key; None where nothing is kept."""
        return self._row if self.plan else None

    def _row(self, clock: Clock, state: State, inputs: State) -> State:
        values = self.network.observe(clock, state, inputs, self.names)
        return {key: function(*(values[name] for name in names)) for key, names, function in self.plan}

    def keep(self, first: int, values: State) -> None:
        """Write the next row of a run whose first step was `first`."""
        row = len(self.rows)
        for key, value in values.items():
            if key not in self.buffers:
                self.buffers[key] = _rows_like(value, self.steps // self.every)
            self.buffers[key][row] = value
        self.rows.append(first + (row + 1) * self.every)

    def arrays(self) -> dict[str, Tensor]:
        """Key -> (time, batch, ...), the rows that were written."""
        return {key: buffer[: len(self.rows)] for key, buffer in self.buffers.items()}


def _rows_like(value: Tensor, rows: int) -> Tensor:
    """An empty (rows, *value.shape) in the memory layout of `value`: rows are then copied as they lie."""
    if torch.empty_like(value).stride() != value.stride():
        return value.new_empty((rows, *value.shape))
    return torch.empty_strided(
        (rows, *value.shape), (value.numel(), *value.stride()), dtype=value.dtype, device=value.device
    )


class Status(Enum):
    """How a sample ended."""

    COMPLETED = "ran to the end with finite values"
    DIVERGED = "became NaN or infinite; everything after `valid_until` is NaN. Take a smaller dt, or weaker feedback"


@dataclass(frozen=True)
class Snapshot:
    """Where a run can go on: pass it as `simulate(..., start=run.final)`."""

    clock: Clock
    state: State


@dataclass(frozen=True, repr=False)
class Run:
    """What came out of a simulation.

    values       key -> (time, batch, ...): "v1" whole, "v1.norm" reduced
    times        (time,) ms
    status       (batch,) of `Status`
    valid_until  (batch,) ms, the last time at which a sample was finite
    diverged_in  (batch,), the population that first was not, or ""
    labels       of the stimulus, if it had any
    about        network, solver, steps, versions, device, wall time, evaluations
    final        where the run can go on
    """

    values: dict[str, Tensor]
    times: NDArray[np.float64]
    status: tuple[Status, ...]
    valid_until: NDArray[np.float64]
    diverged_in: tuple[str, ...]
    about: dict[str, object]
    final: Snapshot
    labels: Tensor | None = None

    def __repr__(self) -> str:
        kept = ", ".join(f"{key} {tuple(value.shape)}" for key, value in self.values.items())
        diverged = sum(status is Status.DIVERGED for status in self.status)
        end = f"{self.final.clock.time:g} ms, {len(self.status)} samples, {diverged} diverged"
        return f"Run({self.about['network']}: {end}; {kept})"

    def __getitem__(self, key: str) -> Tensor:
        """(time, batch, ...) of "population" or "population.reduction"."""
        if key not in self.values:
            raise StimulusError(
                given=f"run[{key!r}]",
                expected=f"one of {', '.join(self.values) or 'nothing: the run recorded nothing'}",
                remedy="name it in simulate(..., record=Record(states=[...]))",
            )
        return self.values[key]

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def keys(self) -> tuple[str, ...]:
        """What was recorded."""
        return tuple(self.values)

    @property
    def errors(self) -> dict[str, Tensor]:
        """Population -> mean squared prediction error per sample, (time, batch)."""
        return self._of_errors("mean_square")

    @property
    def relative_errors(self) -> dict[str, Tensor]:
        """Population -> squared prediction error over the squared activity it is about, per sample, (time, batch).

        Raises StimulusError for a run that kept other errors only.
        """
        relative = self._of_errors("relative")
        if self.about["errors"] and not relative:
            raise StimulusError(
                given=f"the relative errors of a run that kept {', '.join(self.values) or 'nothing'}",
                expected="errors recorded with relative=True",
                remedy="simulate(..., record=Record(errors='all', relative=True))",
            )
        return relative

    def _of_errors(self, kind: str) -> dict[str, Tensor]:
        names = cast(list[str], self.about["errors"])
        return {name: self.values[f"{name}.{kind}"] for name in names if f"{name}.{kind}" in self.values}

    def to_xarray(self) -> xarray.Dataset:
        """The values as a labelled data set: time in ms, sample, channel, height, width. Needs the extra `analysis`."""
        import xarray

        arrays = {}
        for key, value in self.values.items():
            axes = [f"{key.split('.')[0]}_{axis}" for axis in AXES[: value.dim() - 2]]
            arrays[key] = (["time", "sample", *axes], value.cpu().numpy())
        sample = np.arange(len(self.status))
        coordinates = {"time": ("time", self.times, {"units": "ms"}), "sample": sample}
        data = xarray.Dataset(arrays, coordinates, {"about": json.dumps(self.about)})
        data["status"] = ("sample", [status.name for status in self.status])
        data["valid_until"] = ("sample", self.valid_until, {"units": "ms"})
        return data

    def save(self, path: str | Path) -> None:
        """Write everything into one file that holds only numbers and text, checked on reading."""
        facts = {
            "status": [status.name for status in self.status],
            "diverged_in": list(self.diverged_in),
            "clock": vars(self.final.clock),
            "about": self.about,
        }
        tensors = {f"values/{key}": value for key, value in self.values.items()}
        tensors |= {f"state/{key}": value for key, value in self.final.state.items()}
        tensors |= {"times": torch.from_numpy(self.times), "valid_until": torch.from_numpy(self.valid_until)}
        if self.labels is not None:
            tensors["labels"] = self.labels
        storage.write_tensors(Path(path), tensors, {"kind": "run", **facts})

    @staticmethod
    def load(path: str | Path) -> Run:
        """Read what `save` wrote. Raises StorageError for a missing, damaged or foreign file."""
        tensors, facts = storage.read_tensors(Path(path), "run")
        return Run(
            values=storage.under("values/", tensors),
            times=tensors["times"].numpy(),
            status=tuple(Status[name] for name in facts["status"]),
            valid_until=tensors["valid_until"].numpy(),
            diverged_in=tuple(facts["diverged_in"]),
            about=facts["about"],
            final=Snapshot(Clock(**facts["clock"]), storage.under("state/", tensors)),
            labels=tensors.get("labels"),
        )
