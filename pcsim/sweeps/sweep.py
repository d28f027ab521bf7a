"""Sweeps: one function evaluated at many configurations, with one result file per point.

    points = grid({"tau": [5.0, 10.0, 20.0], "solver.dt": [0.5, 1.0], "seed": range(3)})
    sweep = Sweep(measure, Setting(), points, folder)          measure(Setting) -> {"settling": 31.0, "error": tensor}
    table = sweep.run("processes:4")
    table.over("settling", "tau", "solver.dt")                 (3, 2, 3): the two axes, then the repeats

A point is identified by the name and compiled code of the function and by the configuration, except for dataclass
fields with `field(compare=False)`, such as paths and devices. A sweep can therefore be extended, resumed, read during a
run, and merged with another folder. Results are written atomically.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import fields, is_dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

from pcsim.core import storage
from pcsim.core.checks import Count, Whole, checked
from pcsim.core.exceptions import StorageError, SweepError, warn
from pcsim.core.log import logger
from pcsim.core.progress import resumable, tqdm
from pcsim.sweeps.executors import SupportsSubmit, completed, executor_named
from pcsim.sweeps.identity import content_of, identity, without_arguments
from pcsim.sweeps.lock import locked
from pcsim.sweeps.table import FAILURE, Point, Table

Config = TypeVar("Config")
Axes = Mapping[str | tuple[str, ...], Iterable[Any]]
KIND = "point"
WAIT_S = 0.5
"""seconds between two checks of points that another process is computing"""


@checked(SweepError)
def grid(axes: Axes) -> list[Point]:
    """Return all combinations of values; the last axis varies fastest.

    Names in a tuple vary together, and each of their values is a tuple.

    grid({("tau.low", "tau.high"): [(5.0, 10.0), (10.0, 20.0)], "seed": range(3)})
    """
    return [_point(zip(axes, values, strict=True)) for values in product(*(list(values) for values in axes.values()))]


@checked(SweepError)
def sample(
    ranges: Mapping[str | tuple[str, ...], tuple],
    count: Count,
    seed: Whole = 0,
    how: Literal["random", "latin_hypercube"] = "latin_hypercube",
) -> list[Point]:
    """Draw `count` points from ranges (low, high) or (low, high, "log"); names in a tuple share one value.

    latin_hypercube  divides each range into `count` equal parts (in log space with "log") and samples each part once
    Raises SweepError for an invalid range.
    """
    from scipy.stats import qmc

    for name, ends in ranges.items():
        low, high, *scale = ends if _is_range(ends) else (0.0, 0.0)
        if not low < high or scale not in ([], ["log"]) or (scale and low <= 0):
            raise SweepError(
                given=f"{name}: {ranges[name]}",
                expected='(low, high) with low < high, or (low, high, "log") with low > 0',
                remedy=f"pass {{{name!r}: (1.0, 100.0, 'log')}}",
            )
    if how == "latin_hypercube":
        shares = qmc.LatinHypercube(len(ranges), rng=np.random.default_rng(seed)).random(count)
    else:
        shares = np.random.default_rng(seed).random((count, len(ranges)))
    return [
        _point((names, _within(share, *ends)) for share, (names, ends) in zip(row, ranges.items(), strict=True))
        for row in shares
    ]


def _is_range(ends: tuple) -> bool:
    return len(ends) >= 2 and all(isinstance(end, int | float) and math.isfinite(end) for end in ends[:2])


@checked(SweepError)
def changed(config: Config, values: Mapping[str, Any]) -> Config:
    """Return a copy of `config` with the values at the given dotted names replaced.

    Each part of a name is a dataclass field, dict key or tuple index. An int that replaces a float is converted to
    float. Raises SweepError for an unknown name.

        changed(Setting(), {"solver.dt": 0.5, "tau.0": 20})
    """
    for name, value in values.items():
        config = _with(config, name.split("."), value, name, config)
    return config


def names(config: object, prefix: str = "") -> list[str]:
    """Return the dotted names of all values in a configuration."""
    parts = _parts(config)
    if not parts:
        return [prefix]
    return [name for key, inner in parts.items() for name in names(inner, f"{prefix}.{key}" if prefix else key)]


@checked(SweepError)
class Sweep:
    """A parameter sweep that evaluates `function` at each of `points` and stores the results in `folder`.

    function  defined at the top level of a module; takes a configuration and returns a dict of numbers, arrays, tensors
              and strings. With together=n it takes a list of up to n configurations and returns one dict for each
    base      the configuration (a dataclass or dict) that the points modify; each point maps dotted names to values

    Raises SweepError for names that are not in `base`, and for duplicate points.
    """

    def __init__(
        self,
        function: Callable[[Any], Any],
        base: object,
        points: Sequence[Mapping[str, Any]],
        folder: Path | str,
        *,
        together: Count = 1,
    ) -> None:
        plain_function = without_arguments(function)
        if "<" in getattr(plain_function, "__qualname__", "<"):
            raise SweepError(
                given=f"the function {getattr(plain_function, '__qualname__', repr(plain_function))}",
                expected="a function defined at the top level of a module, so that other processes can import it",
                remedy="define it with `def` outside other functions, and pass its parameters in the configuration",
            )
        self.function, self.base, self.together = function, base, together
        self.folder = storage.full_path(folder)
        self.points = [dict(point) for point in points]
        self.configs = [changed(base, point) for point in self.points]
        content = content_of(function)
        self.ids = [identity(content, config) for config in self.configs]
        twice = [point for at, point in enumerate(self.points) if self.ids[at] in self.ids[:at]]
        if twice or not self.points:
            raise SweepError(
                given=f"{len(self.points)} points" + (f", {twice[0]} twice" if twice else ""),
                expected="at least one point, and no duplicates",
                remedy='to repeat points, add an axis such as "seed": range(3)',
            )

    def __repr__(self) -> str:
        name = without_arguments(self.function).__name__
        return f"Sweep({name}: {len(self.points)} points, {len(self.missing())} to do, {self.folder})"

    @checked(SweepError)
    def path(self, id_: str) -> Path:
        """Return the file in which the result of a point is stored."""
        return self.folder / "points" / f"{id_}.safetensors"

    def missing(self) -> list[int]:
        """Return the indices of the points that have no result yet."""
        return [number for number, id_ in enumerate(self.ids) if not self.path(id_).exists()]

    @checked(SweepError)
    def run(self, where: str | SupportsSubmit = "here", *, tries: Count = 5, progress: bool = True) -> Table:
        """Run the missing points, and return the table of all points.

        where  "here", "processes:4", "dask", "dask:tcp://host:8786", "slurm:partition=cpu", or any executor with
               submit(); workers on other machines must share `folder`
        tries  maximum number of attempts to compute a point if workers are lost

        If a point raises an exception, it is marked in the table (`table.failures`), the others still run, and the next
        run() retries it. A PcsimWarning reports exceptions that can result from the point's settings, such as a solver
        that cannot use a dt: ValueError (which includes pcsim's exceptions), ArithmeticError and LinAlgError. Raises
        SweepError at the end if any other exception occurred (probably a bug), or if no point has a result.
        """
        storage.make_folder(self.folder / "points")
        storage.remove_partials(self.folder)
        todo = self.missing()
        lots = [todo[at : at + self.together] for at in range(0, len(todo), self.together)]
        if 0 < len(todo) < len(self.points):
            logger.info(f"{self._kept()} are kept from earlier runs")
        with resumable(self._kept):
            opened = executor_named(where, self.folder) if isinstance(where, str) else nullcontext(where)
            with opened as executor:
                failures = self._work_off(executor, lots, tries, progress)
        self._remove_locks()
        if failures:
            self._report(failures)
        return self.table()

    def _kept(self) -> str:
        return f"{len(self.points) - len(self.missing())} of {len(self.points)} points"

    def table(self) -> Table:
        """Return the finished and failed points and their results, even while another process runs the sweep.

        Raises StorageError if a file is damaged.
        """
        points: list[Point] = []
        results: list[dict[str, Any]] = []
        failures: dict[int, str] = {}
        for point, id_ in zip(self.points, self.ids, strict=True):
            if self.path(id_).exists():
                results.append(self._read(id_))
            elif self._mark(id_).exists():
                failures[len(points)] = storage.read_json(self._mark(id_))["exception"]
                results.append({})
            else:
                continue
            points.append(point)
        return Table(points, results, failures)

    @checked(SweepError)
    def merge(self, folder: Path | str) -> int:
        """Copy this sweep's missing results from another folder, and return how many were copied."""
        other = Sweep(self.function, self.base, self.points, folder)
        new = [id_ for id_ in self.ids if not self.path(id_).exists() and other.path(id_).exists()]
        for id_ in new:
            storage.read_tensors(other.path(id_), KIND)
            with storage.replacing(self.path(id_)) as partial:
                partial.write_bytes(other.path(id_).read_bytes())
        return len(new)

    def _work_off(
        self, executor: SupportsSubmit, lots: Sequence[list[int]], tries: int, progress: bool
    ) -> dict[int, Exception]:
        """Run all `lots` of points, mark points that failed, and return their exceptions."""
        failures: dict[int, Exception] = {}
        bar = tqdm(total=len(self.points), initial=len(self.points) - len(self.missing()), disable=not progress or None)
        with bar:
            while lots:
                elsewhere: list[int] = []
                calls = [(self, lot) for lot in lots]
                for (_, lot), others, reason in completed(executor, _do, calls, tries):
                    elsewhere += others or ()
                    lost = [n for n in lot if n not in elsewhere and not self.path(self.ids[n]).exists()]
                    bar.update(len(lot) - len(lost) - len(others or ()))
                    if len(lost) > 1 and reason is not None:
                        calls += [(self, [n]) for n in lost]  # only one failed, so retry each separately
                    else:
                        failures |= {n: reason or self._unshared() for n in lost}
                lots = self._wait_for(elsewhere, bar)
        for number, reason in failures.items():
            facts = {"point": storage.plain(self.points[number]), "exception": f"{type(reason).__name__}: {reason}"}
            storage.write_json(self._mark(self.ids[number]), facts)
        return failures

    def _unshared(self) -> SweepError:
        return SweepError(
            given=f"a worker that cannot access {self.folder.resolve()}",
            expected="a folder shared by all workers",
            remedy="pass a folder on a shared file system",
        )

    def _report(self, failures: Mapping[int, Exception]) -> None:
        """Warn about failed points, or raise SweepError if a bug is the cause or no point has a result."""
        bugs = {number: reason for number, reason in failures.items() if not _is_result(reason)}
        number, reason = min((bugs or failures).items(), key=lambda failure: failure[0])
        what = (
            f"{len(failures)} of {len(self.points)} points without a result, the first being {self.points[number]}: "
            f"{type(reason).__name__}: {reason}"
        )
        if not bugs and len(self.missing()) < len(self.points):
            warn(f"{what}\nThey are marked in the table; see table.failures")
            return
        raise SweepError(
            given=what,
            expected="a result for every point",
            remedy="fix the cause and call run() again; finished points are kept, and table() returns them",
        ) from reason

    def _wait_for(self, elsewhere: Sequence[int], bar: tqdm) -> list[list[int]]:
        """Wait for points that another process is computing, and return those that it did not finish."""
        left: list[int] = []
        while elsewhere and not left:
            busy: list[int] = []
            for number in elsewhere:
                with locked(self._lock(number)) as is_free:
                    if self.path(self.ids[number]).exists():
                        bar.update(1)
                    else:
                        (left if is_free else busy).append(number)
            elsewhere = busy
            if elsewhere and not left:
                time.sleep(WAIT_S)
        return [[number] for number in (*left, *elsewhere)]

    def _mark(self, id_: str) -> Path:
        """Return the file that marks a point as failed."""
        return self.path(id_).with_suffix(".failed.json")

    def _lock(self, number: int) -> Path:
        return self.path(self.ids[number]).with_suffix(".lock")

    def _remove_locks(self) -> None:
        """Remove the lock files of killed processes. Locks held by other processes are kept."""
        for number in range(len(self.points)):
            if self._lock(number).exists():
                with locked(self._lock(number)):
                    pass

    def _read(self, id_: str) -> dict[str, Any]:
        tensors, facts = storage.read_tensors(self.path(id_), KIND)
        with storage.content_of(self.path(id_), "the result of a point", "delete this file and call run() again"):
            return {name: tensors[name].numpy() if name in tensors else facts["texts"][name] for name in facts["order"]}

    def _write(self, number: int, result: Mapping[str, Any]) -> None:
        clash = [name for name in result if name in (*self.points[number], FAILURE)]
        if clash:
            raise SweepError(
                given=f"a result named {clash[0]!r}",
                expected=f"a name that is neither an axis of the sweep nor {FAILURE!r}",
                remedy=f"rename it, for example to {f'{clash[0]}_result'!r}",
            )
        texts = {name: value for name, value in result.items() if isinstance(value, str)}
        tensors = {name: _as_tensor(name, value) for name, value in result.items() if name not in texts}
        facts = {"kind": KIND, "point": storage.plain(self.points[number]), "texts": texts, "order": list(result)}
        facts["config"] = storage.plain(self.configs[number])
        storage.write_tensors(self.path(self.ids[number]), tensors, facts)
        self._mark(self.ids[number]).unlink(missing_ok=True)


def _do(sweep: Sweep, lot: Sequence[int]) -> list[int]:
    """Compute, in a worker, the points without a result; return those that another process is computing."""
    left: list[int] = []
    elsewhere: list[int] = []
    with ExitStack() as stack:
        for number in lot:
            is_ours = stack.enter_context(locked(sweep._lock(number)))
            if not sweep.path(sweep.ids[number]).exists():
                (left if is_ours else elsewhere).append(number)
        if left:
            configs = [sweep.configs[number] for number in left]
            results = [sweep.function(configs[0])] if sweep.together == 1 else sweep.function(configs)
            if len(results) != len(configs):
                raise SweepError(
                    given=f"{len(results)} results for {len(configs)} configurations",
                    expected="one dict for each configuration",
                    remedy="return a list with one dict for each configuration",
                )
            for number, result in zip(left, results, strict=True):
                sweep._write(number, result)
    return elsewhere


def _is_result(reason: Exception) -> bool:
    """Return whether an exception can result from a point's settings, rather than from a bug or the machine."""
    kinds = (ValueError, ArithmeticError, np.linalg.LinAlgError, torch.linalg.LinAlgError)
    return isinstance(reason, kinds) and not isinstance(reason, SweepError | StorageError)


def _point(pairs: Iterable[tuple[str | tuple[str, ...], Any]]) -> Point:
    point: Point = {}
    for names_, value in pairs:
        if isinstance(names_, str):
            point[names_] = value
        else:
            if isinstance(value, list | np.ndarray | Tensor):
                raise SweepError(
                    given=f"{value!r} for {', '.join(names_)}",
                    expected="a tuple with one value for each name, or a single value for all",
                    remedy=f"pass tuple({value!r})",
                )
            values = value if isinstance(value, tuple) else (value,) * len(names_)
            if len(values) != len(names_):
                raise SweepError(
                    given=f"{value} for {', '.join(names_)}",
                    expected=f"{len(names_)} values, one for each name",
                    remedy=f"pass {{{names_}: [{tuple(range(len(names_)))}]}}",
                )
            point |= dict(zip(names_, values, strict=True))
    return {name: value.item() if isinstance(value, np.generic) else value for name, value in point.items()}


def _within(share: float, low: float, high: float, scale: str = "") -> float:
    return float(low * (high / low) ** share) if scale else float(low + share * (high - low))


def _parts(config: object) -> dict[str, Any]:
    if is_dataclass(config) and not isinstance(config, type):
        return {field.name: getattr(config, field.name) for field in fields(config)}
    if isinstance(config, Mapping):
        return {str(key): value for key, value in config.items()}
    return {str(at): value for at, value in enumerate(config)} if isinstance(config, tuple | list) else {}


def _with(config: Any, path: Sequence[str], value: Any, name: str, whole: object) -> Any:
    if not path:
        return _like(config, value, name)
    first, *rest = path
    parts = _parts(config)
    if first not in parts:
        raise SweepError(
            given=f"the name {name!r}",
            expected=f"one of {', '.join(names(whole))}",
            remedy=f"use {names(whole)[0]!r} or another of these names",
        )
    inner = _with(parts[first], rest, value, name, whole)
    if isinstance(config, Mapping):
        return {key: inner if str(key) == first else old for key, old in config.items()}
    if isinstance(config, tuple | list):
        return type(config)(inner if at == int(first) else old for at, old in enumerate(config))
    return replace(config, **{first: inner})


def _like(old: object, new: Any, name: str) -> Any:
    """Return `new`, converted to a float if `old` is a float, so that 5 and 5.0 are the same point."""
    if isinstance(old, float) and isinstance(new, int) and not isinstance(new, bool):
        return float(new)
    if isinstance(old, str) != isinstance(new, str) and old is not None and new is not None:
        raise SweepError(
            given=f"{name} = {new!r}",
            expected=f"a {type(old).__name__}, like {old!r}",
            remedy=f"pass a {type(old).__name__} for {name!r}",
        )
    return new


def _as_tensor(name: str, value: Any) -> Tensor:
    try:
        return value if isinstance(value, Tensor) else torch.as_tensor(np.asarray(value))
    except (TypeError, ValueError) as reason:
        raise SweepError(
            given=f"a result {name!r} of type {type(value).__name__}",
            expected="a number, an array, a tensor or a string",
            remedy=f"return np.array(...), or several results such as {f'{name}_0'!r} and {f'{name}_1'!r}",
        ) from reason
