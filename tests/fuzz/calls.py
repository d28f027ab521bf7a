"""One fuzzed call, and its verdict: success, a pcsim exception, or a failure with its site."""

from __future__ import annotations

import copy
import dataclasses
import random
import signal
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from fuzz.mutate import Mutation, mutated

import pcsim
from pcsim import PcsimError

TABLE = str(Path(__file__).with_name("table.py"))
PACKAGE = str(Path(pcsim.__file__).parent)
LIMIT_S = 20
NOT_REPEATABLE = {"training.memory_of_update", "training.frames.train_to_predict"}
"""callables whose result depends on the state of the process, or that change networks made before the seed"""


class Hang(BaseException):
    """A call that took more than LIMIT_S."""


@dataclasses.dataclass(frozen=True)
class Failure:
    """A call that neither succeeded nor raised a pcsim exception, or whose result is not that of the valid twin."""

    name: str
    argument: str
    words: str
    reason: str
    site: str

    def __str__(self) -> str:
        return f"{self.site:45} {self.name}({self.argument}: {self.words}) {self.reason}"


@contextmanager
def _time_limit() -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, LIMIT_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def called(function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    """Return the result of a call, with at most LIMIT_S and without its warnings."""
    given = dict(arguments)
    positional = given.pop("*", ())
    torch.manual_seed(0)
    with warnings.catch_warnings(), _time_limit():
        warnings.simplefilter("ignore")
        return function(*positional, **given)


def fuzzed(name: str, entry: Callable[[], Any], draw: random.Random) -> Failure | None:
    """Call with one argument changed; return how that failed, or None."""
    function, arguments = entry()
    mutation = mutated(arguments, draw)
    # The twin has its own networks, which training changes in place.
    twin = copy.deepcopy(mutation.twin) if name not in NOT_REPEATABLE else None
    try:
        result = called(function, mutation.arguments)
    except PcsimError:
        return None
    except Hang:
        return _failure(name, mutation, "hangs", "hang")
    except Exception as reason:
        if is_out_of_memory(reason) or mutation.is_called or is_own(reason):
            return None
        return _failure(name, mutation, f"{type(reason).__name__}: {str(reason)[:80]!r}", site_of(reason))
    return None if twin is None else _compared(name, mutation, function, result, twin)


def _compared(
    name: str, mutation: Mutation, function: Callable[..., Any], result: Any, twin: dict[str, Any]
) -> Failure | None:
    try:
        other = called(function, twin)
    except PcsimError as reason:
        return _failure(name, mutation, f"accepted, but not its twin: {str(reason)[:80]!r}", "twin")
    except Exception:
        return None
    first, second = numbers_of(result), numbers_of(other)
    tolerance = 2e-2 if "16" in mutation.words else 1e-4
    if len(first) != len(second) or any(not alike(a, b, tolerance) for a, b in zip(first, second, strict=True)):
        return _failure(name, mutation, f"another result: {first[:1]} {second[:1]}"[:150], "twin")
    return None


def alike(first: np.ndarray, second: np.ndarray, tolerance: float) -> bool:
    if first.shape != second.shape:
        return False
    return bool(np.allclose(first.astype(complex), second.astype(complex), tolerance, tolerance, equal_nan=True))


def numbers_of(value: Any, depth: int = 0) -> list[np.ndarray]:
    """Return the numbers in a result, as arrays."""
    if isinstance(value, torch.Tensor):
        return [value.detach().to(torch.complex128).numpy()]
    if isinstance(value, bool | int | float | np.number):
        return [np.asarray(value)]
    if isinstance(value, np.ndarray):
        return [value] if value.dtype.kind in "biufc" else []
    if isinstance(value, torch.nn.Module):
        return [each for tensor in value.state_dict().values() for each in numbers_of(tensor)]
    if depth > 4:
        return []
    if isinstance(value, dict):
        return [each for key, inner in value.items() if key != "about" for each in numbers_of(inner, depth + 1)]
    if isinstance(value, list | tuple):
        return [each for inner in value for each in numbers_of(inner, depth + 1)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return numbers_of(parts, depth + 1)
    return []


def site_of(reason: BaseException) -> str:
    """Return the innermost line of pcsim in a traceback."""
    frames = [frame for frame in traceback.extract_tb(reason.__traceback__) if frame.filename.startswith(PACKAGE)]
    if not frames:
        return f"outside: {type(reason).__name__}"
    return f"{frames[-1].filename.removeprefix(PACKAGE)[1:]}:{frames[-1].lineno} {frames[-1].name}"


def is_own(reason: Exception) -> bool:
    """Return whether the exception comes from a function of the table that pcsim called."""
    files = [frame.filename for frame in traceback.extract_tb(reason.__traceback__)]
    inside = next((at for at, file in enumerate(files) if file.startswith(PACKAGE)), len(files))
    return any(file == TABLE for file in files[inside:])


def is_out_of_memory(reason: Exception) -> bool:
    return isinstance(reason, MemoryError) or "allocate" in str(reason)


def _failure(name: str, mutation: Mutation, reason: str, site: str) -> Failure:
    return Failure(name, mutation.argument, mutation.words, reason, site)
