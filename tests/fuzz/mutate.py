"""Near-valid values: one argument of a valid call is replaced, removed or renamed."""

from __future__ import annotations

import dataclasses
import enum
import math
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

LARGE = 300
"""a size that is far larger than meant, but can be allocated"""
Change = tuple[str, Any]


@dataclasses.dataclass(frozen=True)
class Mutation:
    """A call with one argument changed, in `words`; `twin` is a valid call that means the same, if there is one."""

    argument: str
    words: str
    arguments: dict[str, Any]
    twin: dict[str, Any] | None = None
    is_called: bool = False
    """the value is a function, which may fail with its own exception"""


def mutated(arguments: Mapping[str, Any], draw: random.Random) -> Mutation:
    """Change one of `arguments`, or a part of it, or its name."""
    given = dict(arguments)
    if not given:
        return Mutation("", "unchanged", {})
    name = draw.choice(list(given))
    kind = draw.random()
    if kind < 0.03 and name != "*":
        del given[name]
        return Mutation(name, "missing", given)
    if kind < 0.06 and name != "*":
        given[name[:-1] + "_"] = given.pop(name)
        return Mutation(name, "misspelt", given)
    words, value, twin = _changed(given[name], draw)
    is_called = callable(value) and not isinstance(value, nn.Module)
    if name == "*" and not isinstance(value, tuple):
        value = (value,)
    same = None if twin is NONE else {**given, name: twin}
    return Mutation(name, words, {**given, name: value}, same, is_called or isinstance(value, nn.ReLU))


NONE = object()
Changed = tuple[str, Any, Any]


def _changed(value: Any, draw: random.Random) -> Changed:
    if isinstance(value, Mapping | list | tuple) and len(value) and draw.random() < 0.5:
        return _inside(value, draw)
    if draw.random() < 0.15 and not callable(value):
        other: Any = draw.choice(
            [None, "wrong", 3, 2.5, True, [], {}, torch.zeros(2), np.zeros(2), object(), nn.ReLU(), int]
        )
        return f"{_name(other)} for {type(value).__name__}", other, NONE
    words, make, twin = draw.choice(_ways(value))
    return words, make(), NONE if twin is None else twin()


def _name(value: object) -> str:
    return repr(value) if isinstance(value, str | int | float | None) else type(value).__name__


def _inside(value: Any, draw: random.Random) -> Changed:
    """Change one element of a container."""
    if isinstance(value, Mapping):
        key = draw.choice(list(value))
        words, new, twin = _changed(value[key], draw)
        same = NONE if twin is NONE else {**value, key: twin}
        return f"[{key!r}] {words}", {**value, key: new}, same
    place = draw.randrange(len(value))
    words, new, twin = _changed(value[place], draw)

    def put(each: Any) -> Any:
        return type(value)([*value[:place], each, *value[place + 1 :]]) if type(value) in (list, tuple) else value

    return f"[{place}] {words}", put(new), NONE if twin is NONE else put(twin)


def _ways(value: Any) -> list[tuple[str, Callable[[], Any], Callable[[], Any] | None]]:
    for kind, ways in (
        (bool, _of_bool),
        (int, _of_number),
        (float, _of_number),
        (str, _of_text),
        (Tensor, _of_tensor),
        (np.ndarray, _of_array),
        (Path, _of_path),
        (Mapping, _of_mapping),
        ((list, tuple), _of_sequence),
    ):
        if isinstance(value, kind) and not isinstance(value, enum.Enum):  # type: ignore[arg-type]
            return ways(value)
    # A class, a module or a function would be called in place of a function, and fail with its own exception.
    own = [] if callable(value) and not isinstance(value, nn.Module) else [("its class", lambda: type(value), None)]
    return [
        *own,
        ("None", lambda: None, None),
        ("its name", lambda: type(value).__name__, None),
        ("in a list", lambda: [value], None),
        ("another object", lambda: object(), None),
        ("a number", lambda: 1, None),
    ]


def _of_bool(value: bool) -> Any:
    return [
        ("None", lambda: None, None),
        ("int", lambda: int(value), None),
        ("text", lambda: str(value), None),
        ("np.bool_", lambda: np.bool_(value), lambda: value),
        ("array", lambda: np.array([value]), None),
    ]


def _of_number(value: float) -> Any:
    ways: list[Any] = [
        ("text", lambda: str(value), None),
        ("None", lambda: None, None),
        ("negative", lambda: -abs(value) or -1, None),
        ("zero", lambda: type(value)(0), None),
        ("large", lambda: type(value)(LARGE), None),
        ("NaN", lambda: math.nan, None),
        ("inf", lambda: math.inf, None),
        ("-inf", lambda: -math.inf, None),
        ("bool", lambda: True, None),
        ("complex", lambda: complex(value, 1.0), None),
        ("in a list", lambda: [value], None),
        ("0-d tensor", lambda: torch.tensor(value), lambda: value),
        ("0-d array", lambda: np.array(value), lambda: value),
        ("float16", lambda: np.float16(value), lambda: float(np.float16(value))),
        ("a half more", lambda: value + 0.5, None),
    ]
    if isinstance(value, int):
        ways += [
            ("np.int64", lambda: np.int64(value), lambda: value),
            ("np.uint8", lambda: np.uint8(value % 256), lambda: value % 256),
            ("whole float", lambda: float(value), None),
        ]
    else:
        ways += [("np.float64", lambda: np.float64(value), lambda: value)]
        ways += [("int", lambda: int(value), lambda: float(int(value)))] if math.isfinite(value) else []
    return ways


def _of_text(value: str) -> Any:
    return [
        ("wrong word", lambda: "wrong", None),
        ("upper case", lambda: value.upper(), None),
        ("capital", lambda: value.capitalize(), None),
        ("shortened", lambda: value[:-1], None),
        ("lengthened", lambda: value + "s", None),
        ("with a space", lambda: value + " ", None),
        ("with an underscore for a hyphen", lambda: value.replace("_", "-"), None),
        ("empty", lambda: "", None),
        ("None", lambda: None, None),
        ("number", lambda: 3, None),
        ("in a list", lambda: [value], None),
        ("bytes", lambda: value.encode(), None),
    ]


def _of_path(value: Path) -> Any:
    return [
        ("missing", lambda: value.with_name("missing"), None),
        ("folder", lambda: value.parent, None),
        ("text", lambda: str(value), None),
        ("None", lambda: None, None),
        ("number", lambda: 3, None),
        ("below a file", lambda: Path(__file__) / "x", None),
        ("another file", lambda: Path(__file__), None),
    ]


def _of_tensor(value: Tensor) -> Any:
    dtypes = (torch.float64, torch.float16, torch.int64, torch.uint8, torch.bool, torch.complex64)
    ways: list[Any] = [
        ("None", lambda: None, None),
        ("text", lambda: "images", None),
        ("number", lambda: 1.0, None),
        ("numpy", lambda: value.detach().numpy(), lambda: value),
        ("list", lambda: value.tolist(), lambda: value),
        ("one axis more", lambda: value[None], None),
        ("one axis more at the end", lambda: value[..., None], None),
        ("empty", lambda: value[:0], None),
        ("0-d", lambda: value.flatten()[0] if value.numel() else value, None),
        ("NaN", lambda: torch.full_like(value, math.nan) if value.is_floating_point() else value, None),
        ("inf", lambda: torch.full_like(value, math.inf) if value.is_floating_point() else value, None),
        ("large values", lambda: value * 300, None),
        ("negative values", lambda: -value if value.dtype != torch.bool else value, None),
        (
            "not contiguous",
            lambda: value.flip(0).flip(0).mT.contiguous().mT if value.dim() > 1 else value,
            lambda: value,
        ),
        ("with a gradient", lambda: value.clone().requires_grad_() if value.is_floating_point() else value, None),
        *((str(kind), lambda kind=kind: value.to(kind), _twin(value, kind)) for kind in dtypes),
    ]
    if value.dim():
        ways += [
            ("one axis fewer", lambda: value[0], None),
            ("one shorter", lambda: value[1:], None),
            ("one shorter at the end", lambda: value[..., 1:], None),
            ("flat", lambda: value.flatten(), None),
            ("transposed", lambda: value.transpose(0, -1), None),
            ("empty at the end", lambda: value[..., :0], None),
        ]
    if value.dim() > 2:
        ways += [("axes exchanged", lambda: value.movedim(1, -1), None)]
    return ways


def _twin(value: Tensor, kind: torch.dtype) -> Callable[[], Tensor] | None:
    """Return the same numbers in the dtype of `value`, as a call with another dtype must give the same result."""
    return None if kind.is_complex else lambda: value.to(kind).to(value.dtype)


def _of_array(value: np.ndarray) -> Any:
    if value.dtype.kind not in "biuf":
        return [
            ("None", lambda: None, None),
            ("list", lambda: value.tolist(), lambda: value),
            ("empty", lambda: value[:0], None),
            ("one shorter", lambda: value[1:], None),
            ("one axis more", lambda: value[None], None),
            ("objects", lambda: value.astype(object), None),
        ]
    tensor = torch.from_numpy(value.copy())
    ways = []
    for words, make, twin in _of_tensor(tensor):
        if words in ("numpy", "list", "with a gradient", "None", "text", "number"):
            continue

        def made(make: Callable[[], Any] = make) -> np.ndarray:
            return np.asarray(make())

        ways += [(words, made, None if twin is None else (lambda twin=twin: np.asarray(twin())))]
    return [
        *ways,
        ("None", lambda: None, None),
        ("text", lambda: "images", None),
        ("number", lambda: 1.0, None),
        ("tensor", lambda: tensor, lambda: value),
        ("list", lambda: value.tolist(), lambda: value),
        ("objects", lambda: value.astype(object), None),
        ("texts", lambda: value.astype(str), None),
    ]


def _of_mapping(value: Mapping[Any, Any]) -> Any:
    ways: list[Any] = [
        ("None", lambda: None, None),
        ("empty", dict, None),
        ("pairs", lambda: list(value.items()), None),
        ("keys", lambda: list(value), None),
        ("unknown key", lambda: {**value, "unknown": next(iter(value.values()), 1)}, None),
        ("number as a key", lambda: {**value, 3: next(iter(value.values()), 1)}, None),
    ]
    if value:
        first = next(iter(value))
        ways += [("key missing", lambda: {k: v for k, v in value.items() if k != first}, None)]
        ways += [("first value alone", lambda: value[first], None)]
        if isinstance(first, str):
            ways += [("key misspelt", lambda: {(k if k != first else k + "x"): v for k, v in value.items()}, None)]
    return ways


def _of_sequence(value: list | tuple) -> Any:
    other: type = tuple if isinstance(value, list) else list
    ways: list[Any] = [
        ("None", lambda: None, None),
        (other.__name__, lambda: other(value), lambda: value),
        ("empty", lambda: type(value)([]), None),
        ("generator", lambda: (each for each in value), None),
        ("set", lambda: _set(value), None),
        ("text", lambda: "l1", None),
        ("number", lambda: 3, None),
        ("nested", lambda: [list(value)], None),
    ]
    if len(value) and type(value) in (list, tuple):
        ways += [
            ("one shorter", lambda: value[1:], None),
            ("one longer", lambda: type(value)([*value, value[0]]), None),
            ("first alone", lambda: value[0], None),
            ("reversed", lambda: value[::-1], None),
        ]
        if all(isinstance(each, int | float) and not isinstance(each, bool) for each in value):
            ways += [
                ("array", lambda: np.array(value), lambda: value),
                ("tensor", lambda: torch.tensor(value), lambda: value),
            ]
    return ways


def _set(value: list | tuple) -> Any:
    try:
        return set(value)
    except TypeError:
        return value
