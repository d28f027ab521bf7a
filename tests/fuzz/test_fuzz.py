"""Near-valid arguments of every public callable end in success or in a pcsim exception.

The seeded sample has a few hundred calls by default and 10,000 under the marker `slow`. A failure is repeated with
`fuzzed(name, ENTRIES[name], random.Random(f"{seed} {number}"))`.
"""

from __future__ import annotations

import importlib
import inspect
import random
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from fuzz.calls import Failure, called, fuzzed
from fuzz.table import MADE_BY_PCSIM, entries

import pcsim
from pcsim import PcsimError
from pcsim.core.kinds import kind_of

PARTS = ("models", "rules", "connections", "stimuli", "solvers", "training", "analysis", "dynamics", "brain", "sweeps")
FEW, MANY = 800, 10_000
TAKE_ANY_NAME = {"connections.draw", "brain.subject.Subject.start_recording"}
"""callables for which an unknown name is a fact to keep, or an option of another function"""


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls with the name of a file write to a folder of the test."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def table() -> dict[str, Any]:
    return entries()


def public(module: types.ModuleType, prefix: str) -> Iterator[tuple[str, Any]]:
    """Yield the public functions and classes of a module, and of the modules that it offers."""
    own = [name for name, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__]
    for name in getattr(module, "__all__", [name for name in own if not name.startswith("_")]):
        value = getattr(module, name)
        if isinstance(value, types.ModuleType) and prefix:
            yield from public(value, f"{prefix}{name}.")
        elif inspect.isfunction(value) or inspect.isclass(value):
            yield f"{prefix}{name}", value


def every_public_callable() -> dict[str, Any]:
    found = dict(public(pcsim, ""))
    for part in (*PARTS, "plots"):
        found |= dict(public(importlib.import_module(f"pcsim.{part}"), f"{part}."))
    return found


def is_abstract(value: Any) -> bool:
    return inspect.isabstract(value) or getattr(value, "_is_protocol", False)


def test_every_public_callable_is_in_the_table(table: dict[str, Any]) -> None:
    known = {getattr(function, "__func__", function) for function, _ in (entry() for entry in table.values())}
    missing = [
        name
        for name, value in every_public_callable().items()
        if name not in {*table, *MADE_BY_PCSIM} and value not in known and not is_abstract(value)
    ]
    assert not missing


@pytest.mark.parametrize("number", range(8))
def test_near_valid_arguments_succeed_or_raise_pcsim_exceptions(table: dict[str, Any], number: int) -> None:
    fuzz(table, seed=number, count=FEW // 8)


@pytest.mark.slow
@pytest.mark.timeout(3_600)
def test_ten_thousand_near_valid_calls(table: dict[str, Any]) -> None:
    fuzz(table, seed=100, count=MANY)


def fuzz(table: dict[str, Any], seed: int, count: int) -> None:
    names = sorted(set(table) - MADE_BY_PCSIM)
    random.Random(seed).shuffle(names)
    failures: list[Failure] = []
    for number in range(count):
        name = names[number % len(names)]
        failure = fuzzed(name, table[name], random.Random(f"{seed} {number}"))
        failures += [failure] if failure is not None else []
    assert not failures, "\n".join(sorted(map(str, failures)))


def test_misspelt_argument_raises_pcsim_exception(table: dict[str, Any]) -> None:
    raw = []
    for name, entry in table.items():
        function, arguments = entry()
        if not arguments or name in TAKE_ANY_NAME | MADE_BY_PCSIM:
            continue
        try:
            called(function, {**arguments, "no_such_argument": 1})
        except PcsimError as reason:
            if "no_such_argument" in reason.given or "no_such_argument" in reason.remedy:
                continue
        except Exception:
            pass
        raw.append(name)
    assert not raw


def test_wrong_word_is_never_another_choice(table: dict[str, Any]) -> None:
    tried, accepted = 0, []
    for name, entry in table.items():
        function, arguments = entry()
        annotations = {} if name in MADE_BY_PCSIM else inspect.signature(function).parameters
        for argument, value in arguments.items():
            parameter = annotations.get(argument)
            if parameter is None or not isinstance(value, str):
                continue
            names = vars(sys.modules[inspect.unwrap(function).__module__])
            kind = kind_of(parameter.annotation, names)
            if kind is None or "one of " not in kind.words:
                continue
            for word in ("wrong", value.upper(), value.capitalize(), value[:-1], f"{value} ", ""):
                tried += 1
                try:
                    called(entry()[0], {**arguments, argument: word})
                except PcsimError:
                    continue
                accepted.append((name, argument, word))
    assert not accepted and tried > 100


def test_annotations_of_public_callables_can_be_read(table: dict[str, Any]) -> None:
    """A name that is not found would leave its argument unchecked."""
    unknown = []
    for name, value in every_public_callable().items():
        owners = reversed(value.__mro__) if inspect.isclass(value) else (inspect.unwrap(value),)
        module = {name: each for owner in owners for name, each in vars(sys.modules[owner.__module__]).items()}
        if is_abstract(value) or name in MADE_BY_PCSIM:
            continue
        for argument, parameter in inspect.signature(value).parameters.items():
            try:
                get_type_hints(types.SimpleNamespace(__annotations__={"it": parameter.annotation}), module)
            except NameError as reason:
                if "xarray" not in str(reason):
                    unknown.append((name, argument, str(reason)))
            except TypeError:
                continue
    assert not unknown
