"""Records of a simulation: a `Record` specifies which values to keep, and when."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor

from pcsim.core.checks import Count, checked
from pcsim.core.clock import whole_steps
from pcsim.core.exceptions import RecordError
from pcsim.core.state import State, norm, units, variable_key
from pcsim.network.wiring import Wiring

Names = Sequence[str] | str
Function = Callable[[Tensor], Tensor]
Kept = tuple[str, tuple[str, ...], Callable[..., Tensor]]
"""the key of an entry, the names of the values from which it is computed, and the function of these values"""


def _norm(value: Tensor) -> Tensor:
    return norm(value).to(value.dtype)


def _mean_square(value: Tensor) -> Tensor:
    # The square of the norm may overflow although the mean of the squares does not.
    return (norm(value) / math.sqrt(value[0].numel())).square().to(value.dtype)


def _mean(value: Tensor) -> Tensor:
    return value.mean(units(value))


def _max_space(value: Tensor) -> Tensor:
    return value.flatten(2).amax(2) if value.dim() > 2 else value


REDUCTIONS: dict[str, Function] = {
    "mean_square": _mean_square,
    "norm": _norm,
    "mean": _mean,
    "max_space": _max_space,
}


def relative_square(error: Tensor, predicted: Tensor) -> Tensor:
    """Return sum e^2 / sum r^2 for each sample, (batch,): the prediction error relative to the predicted activity."""
    activity = norm(predicted)
    return (norm(error) / activity.clamp_min(torch.finfo(activity.dtype).tiny)).square().to(error.dtype)


@checked(RecordError)
@dataclass(frozen=True)
class Record:
    """The values to keep from a simulation, and the steps at which to keep them.

    states   populations (or "all") to keep in full: (time, batch, channel, height, width). Other variables ("r1.c") and
             gates ("r1.f") of a rule are also allowed; see `extra` and `gates` of the rule
    errors   prediction errors (or "all") to keep as their mean square per sample: (time, batch)
    relative  if True, also keep these errors relative to the predicted activity, sum e^2 / sum r^2, under
             "error.relative"
    reduce   {population: one or more reductions}, each "mean_square", "norm" or "mean" (all (time, batch)), "max_space"
             (time, batch, channel), or a function from (batch, ...) to (batch, ...). The keys are
             "population.reduction"; for a function, "population.name_of_the_function". Reductions are computed in the
             dtype of the state (half precision in float32), where squares of values above 1e19 overflow and those of
             values below 1e-19 are lost
    every    number of steps between rows
    at       times of the rows in ms, as an alternative to `every`
    initial  if True, also keep a row before the first step. In a discrete network, wires have a value before the first
             step only if the initialiser provides one

    To keep values at different times, pass several records: simulate(..., record=[Record(...), Record(...)]).
    """

    EXAMPLE: ClassVar[str] = "Record(states=[...], errors='all')"

    states: Names = ()
    errors: Names = ()
    relative: bool = False
    reduce: Mapping[str, str | Function | Sequence[str | Function]] = field(default_factory=dict)
    every: Count = 1
    at: Sequence[float] | None = None
    initial: bool = False

    def kept(self, network: Wiring) -> list[Kept]:
        """Return the entries that this record keeps. Raises RecordError for unknown names."""
        states = names_of(self.states, tuple(network.populations))
        errors = names_of(self.errors, network.errors)
        if wrong := [name for name in errors if name not in network.errors]:
            raise RecordError(
                given=f"a record of the errors {', '.join(wrong)}",
                expected=f"prediction errors of {network.name!r}: {', '.join(network.errors) or 'none'}",
                remedy=f"pass states=[{wrong[0]!r}] or reduce={{{wrong[0]!r}: 'mean_square'}}"
                if wrong[0] in network.populations
                else f"pass errors={list(network.errors)!r} or 'all'; the top of a hierarchy has no error"
                if network.errors
                else "build a predictive network, such as models.predictive_coding(...)",
            )
        known = _values_of(network)
        kept: list[Kept] = [(name, (name,), _whole) for name in states]
        kept += [(f"{name}.mean_square", (name,), REDUCTIONS["mean_square"]) for name in errors]
        for name, kinds in self.reduce.items():
            for kind in [kinds] if isinstance(kinds, str) or callable(kinds) else kinds:
                kept.append((f"{name}.{_name_of(kind)}", (name,), _function(name, kind)))
        if self.relative:
            kept += [(f"{e}.relative", (e, network.predicted[e]), relative_square) for e in errors]
        for key, names, function in kept:
            if wrong := [name for name in names if name not in known and name not in network.inputs]:
                raise RecordError(
                    given=f"a record of {wrong[0]!r}",
                    expected=f"one of {', '.join(known)}",
                    remedy=f"use {next(iter(known))!r} or another of these names",
                )
            if (key in known) != (function is _whole):
                raise RecordError(
                    given=f"a reduction with the key {key!r}, which is also a variable of the network",
                    expected="a reduction whose key is not a variable",
                    remedy="rename the reduction function",
                )
        return list({key: (key, names, function) for key, names, function in kept}.values())

    def described(self) -> dict[str, Any]:
        """Return the settings as JSON types; reduction functions are described by their names."""
        reduce = {
            name: [_name_of(kind) for kind in ([kinds] if isinstance(kinds, str) or callable(kinds) else kinds)]
            for name, kinds in self.reduce.items()
        }
        names = {"states": _as_written(self.states), "errors": _as_written(self.errors)}
        at = [float(time) for time in self.at] if self.at is not None else None
        rest = {"relative": self.relative, "every": self.every, "at": at, "initial": self.initial}
        return {**names, "reduce": reduce, **rest}

    def steps(self, begin: int, end: int, dt: float) -> tuple[int, ...]:
        """Return the steps in (begin, end] after which a row is kept. Raises RecordError for times between steps."""
        if self.at is None:
            rows = tuple(range(begin + self.every, end + 1, self.every))
            if not rows:
                raise RecordError(
                    given=f"Record(every={self.every}) in a run of {end - begin} steps",
                    expected="a record with at least one row",
                    remedy=f"pass every={end - begin} or less, or run more steps",
                )
            return rows
        found = [whole_steps(float(time), dt) for time in self.at]
        wrong = [t for t, s in zip(self.at, found, strict=True) if s is None or not begin < s <= end]
        if wrong or self.every != 1:
            raise RecordError(
                given=f"Record(every={self.every}, at={list(self.at)}) in a run of {begin * dt:g} to {end * dt:g} ms",
                expected=f"multiples of dt = {dt:g} ms after the start and up to the end of the run, and no `every`",
                remedy="round the times to multiples of dt; for a row before the first step, pass initial=True",
            )
        return tuple(sorted(cast(set[int], set(found))))


def _whole(value: Tensor) -> Tensor:
    return value


def _name_of(kind: object) -> str:
    name = kind if isinstance(kind, str) else getattr(kind, "__name__", type(kind).__name__)
    if not str(name).isidentifier():
        raise RecordError(
            given=f"a reduction named {name!r}",
            expected="a function with a name, because the name becomes part of the key",
            remedy="define the function with def instead of lambda",
        )
    return str(name)


def _function(name: str, kind: object) -> Function:
    if isinstance(kind, str) and kind not in REDUCTIONS:
        raise RecordError(
            given=f"a record of {name!r} reduced by {kind!r}",
            expected=f"one of {', '.join(REDUCTIONS)}, or a function of a tensor (batch, ...)",
            remedy=f"pass reduce={{{name!r}: 'mean_square'}}",
        )
    return REDUCTIONS[kind] if isinstance(kind, str) else cast(Function, kind)


def names_of(given: Names, known: tuple[str, ...]) -> tuple[str, ...]:
    """Return a tuple of names from one name, several names, or "all" for all known names."""
    if isinstance(given, str):
        return known if given == "all" else (given,)
    return tuple(given)


def _values_of(network: Wiring) -> dict[str, None]:
    """Return the names of all values that can be recorded: populations, their other variables, and gates."""
    found: dict[str, None] = dict.fromkeys(network.populations)
    for name, population in network.populations.items():
        found |= dict.fromkeys(variable_key(name, variable) for variable in network.shapes.variables[name])
        found |= dict.fromkeys(f"{name}.{gate}" for gate in population.rule.gates)
    return found


def kept_by(records: Sequence[Record], network: Wiring) -> list[list[Kept]]:
    """Return the entries of each record. Raises RecordError for unknown names and for keys in more than one record."""
    all_kept = [record.kept(network) for record in records]
    keys = [key for kept in all_kept for key, _, _ in kept]
    if twice := sorted({key for key in keys if keys.count(key) > 1}):
        raise RecordError(
            given=f"{', '.join(twice)} in several records",
            expected="each key in only one record",
            remedy=f"keep {twice[0]!r} only in the record with the rows you need",
        )
    return all_kept


class Recorder:
    """Buffers for recorded values, allocated when the first row is stored.

    kept  the entries of each record, from `kept_by`
    """

    def __init__(self, records: Sequence[Record], kept: Sequence[list[Kept]], begin: int, end: int, dt: float) -> None:
        self.every = records[0].every if len(records) == 1 and records[0].at is None else None
        self.kept = kept
        self.rows = [((begin,) if r.initial else ()) + r.steps(begin, end, dt) for r in records]
        self._sets = [frozenset(rows) for rows in self.rows]
        self._all = frozenset().union(*self._sets)
        self.names = tuple(dict.fromkeys(n for kept in self.kept for _, names, _ in kept for n in names))
        self.buffers: dict[str, Tensor] = {}
        self._written = [0] * len(records)
        self._listed: dict[str, list[Tensor]] = {}

    def due(self, step: int) -> bool:
        """Return whether any record keeps a row after a step."""
        return step in self._all

    def keep(self, step: int, values: State) -> None:
        """Store the rows of a step, computed from `values`, which is keyed by `self.names`."""
        for number, kept in enumerate(self.kept):
            if step not in self._sets[number]:
                continue
            for key, names, function in kept:
                value = function(*(values[name] for name in names))
                self._write(key, number, value)
            self._written[number] += 1

    def _write(self, key: str, number: int, value: Tensor) -> None:
        if value.requires_grad:  # with in-place writes, the backward pass would copy the whole buffer for every row
            self._listed.setdefault(key, []).append(value)
            return
        if key not in self.buffers:
            self.buffers[key] = _rows_like(value, len(self.rows[number]))
        self.buffers[key][self._written[number]] = value

    def arrays(self) -> dict[str, Tensor]:
        """Return the stored rows, (time, batch, ...), by key."""
        found = {}
        for number, kept in enumerate(self.kept):
            count = self._written[number]
            for key, _, _ in kept:
                if key in self._listed:
                    early = [self.buffers[key][: count - len(self._listed[key])]] if key in self.buffers else []
                    found[key] = torch.cat([*early, torch.stack(self._listed[key])])
                elif key in self.buffers:
                    found[key] = self.buffers[key][:count]
        return found

    @property
    def reduced(self) -> dict[str, str]:
        """Reduction key -> the population that it reduces."""
        return {key: names[0] for kept in self.kept for key, names, function in kept if function is not _whole}

    def steps(self) -> dict[str, np.ndarray]:
        """Return the steps of the stored rows by key."""
        found: dict[str, np.ndarray] = {}
        for number, kept in enumerate(self.kept):
            rows = np.asarray(self.rows[number][: self._written[number]], dtype=np.int64)
            found |= {key: rows for key, _, _ in kept}
        return found


def _as_written(names: Names) -> str | list[str]:
    return names if isinstance(names, str) else list(names)


def _rows_like(value: Tensor, rows: int) -> Tensor:
    """Return an empty tensor (rows, *value.shape) whose rows have the memory layout of `value`, for fast copies."""
    if torch.empty_like(value).stride() != value.stride():
        return value.new_empty((rows, *value.shape))
    return torch.empty_strided(
        (rows, *value.shape), (value.numel(), *value.stride()), dtype=value.dtype, device=value.device
    )
