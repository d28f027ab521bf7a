"""Checks of arguments against the annotations that document them, so that a value is described once.

    @checked(WiringError)
    def blt(width: Count = 32, *, unroll: Literal["engineering", "biological"] = "engineering") -> Network: ...

An annotation is checked if it consists of numbers, words, tensors, arrays, classes, and their unions and containers.
Bounds are those of pydantic's `Field`, and an example in it, or the EXAMPLE of a class, becomes
the remedy. Neither a bool nor NaN is a number, and
a word must be one of the choices.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import math
import numbers
import os
import sys
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field, ValidationError
from torch import Tensor, nn

from pcsim.core.exceptions import PcsimError

Count = Annotated[int, Field(ge=1)]
"""a number of things, at least one"""
Whole = Annotated[int, Field(ge=0)]
"""an index, a seed, or a number of things that may be none"""
Finite = Annotated[float, Field(gt=-math.inf, lt=math.inf)]
Positive = Annotated[float, Field(gt=0, lt=math.inf)]
NonNegative = Annotated[float, Field(ge=0, lt=math.inf)]
Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class Axes:
    """In `Annotated`, the axes of a tensor of real floating-point numbers; "..." stands for any number of axes.

    values: Annotated[Tensor, Axes("time, batch, ...")]
    """

    names: str
    is_float: bool = True

    def fits(self, value: Any) -> bool:
        """Return whether an array has these axes and, with `is_float`, real floating-point numbers."""
        names = self.names.split(", ")
        least = len([name for name in names if name != "..."])
        if value.ndim < least or (value.ndim > least and "..." not in names) or not _size(value):
            return False
        return not self.is_float or (
            value.is_floating_point() if isinstance(value, Tensor) else value.dtype.kind == "f"
        )

    def __str__(self) -> str:
        return f"with the axes ({self.names})" + (" and floating-point numbers" if self.is_float else "")


class _OfLabels:
    """In `Annotated`, numbers or texts."""


Labels = Annotated[ArrayLike, _OfLabels()]
"""labels of samples: an array, a tensor or a list of numbers or texts"""
Target = TypeVar("Target", bound=Callable[..., Any])


@dataclass(frozen=True)
class _Kind:
    """The values that an annotation allows, in words and as a test."""

    words: str
    fits: Callable[[Any], bool]
    example: str = ""


def checked(error: type[PcsimError], **others: type[PcsimError] | None) -> Callable[[Target], Target]:
    """Return a decorator that raises `error` if an argument of a function or class does not fit its annotation.

    others  exceptions for single arguments, by name; None for an argument that the function itself checks

    Defaults are not checked. A NumPy scalar is passed on as a Python number. The annotations are read at the first
    call, when all names in them are defined.
    """

    def decorate(target: Target) -> Target:
        signature, spaces = inspect.signature(target), _namespaces(target)
        is_class = isinstance(target, type)
        function: Callable[..., Any] = target.__init__ if is_class else target

        @functools.cache
        def kinds() -> dict[str, _Kind]:
            checks = {name: each for name, each in signature.parameters.items() if others.get(name, error) is not None}
            found = {name: _kind_of(each.annotation, spaces()) for name, each in checks.items()}
            return {name: kind for name, kind in found.items() if kind is not None}

        @functools.wraps(function)
        def call(*args: Any, **options: Any) -> Any:
            own, args = (args[:1], args[1:]) if is_class else ((), args)
            owner = type(own[0]).__name__ if own else target.__name__
            try:
                bound = signature.bind(*args, **options)
            except TypeError as reason:
                raise _misnamed(error, owner, signature, options, str(reason)) from None
            for name, value in bound.arguments.items():
                parameter = signature.parameters[name]
                if isinstance(value, np.generic):
                    bound.arguments[name] = value = value.item()
                if (kind := kinds().get(name)) is not None:
                    for each in _each(parameter, value):
                        if not kind.fits(each):
                            raise _unfit(others.get(name) or error, owner, parameter, kind, each)
            try:
                return function(*own, *bound.args, **bound.kwargs)
            except ValidationError as reason:  # of a class that pydantic checks as well
                raise _invalid(error, owner, reason) from None

        if isinstance(target, type):
            target.__init__ = call  # type: ignore[misc]
            return target
        return typing.cast(Target, call)

    return decorate


def shown(value: object) -> str:
    """Return a value as text of one line for a message: the shape and type of an array, and at most 100 characters."""
    if isinstance(value, Tensor | np.ndarray):
        return f"a {type(value).__name__} of shape {tuple(value.shape)} and type {value.dtype}"
    text = f"a {type(value).__name__}" if isinstance(value, nn.Module) else " ".join(repr(value).split())
    return text if len(text) <= 100 else f"{text[:97]}..."


def _namespaces(target: Callable[..., Any]) -> Callable[[], dict[str, Any]]:
    """Return a function that returns the names that the annotations of `target` may use."""
    owners = reversed(target.__mro__) if isinstance(target, type) else (target,)
    modules = [owner.__module__ for owner in owners]
    return lambda: {name: value for module in modules for name, value in vars(sys.modules[module]).items()}


def _each(parameter: inspect.Parameter, value: Any) -> Iterable[Any]:
    """Return the values that a parameter received: one, or several for *args and **options."""
    if parameter.kind is parameter.VAR_POSITIONAL:
        return typing.cast(Iterable[Any], value)
    return value.values() if parameter.kind is parameter.VAR_KEYWORD else (value,)


def _misnamed(
    error: type[PcsimError], name: str, signature: inspect.Signature, options: Mapping[str, Any], reason: str
) -> PcsimError:
    known = [each for each in signature.parameters if each != "self"]
    unknown = next((option for option in options if option not in known), None)
    return error(
        given=f"{name}(...): {reason}",
        expected=f"the arguments {', '.join(known) or '(none)'}",
        remedy=f"add the missing argument, or remove the surplus one; help({name}) explains them"
        if unknown is None or not known
        else f"write {_nearest(unknown, known)!r} instead of {unknown!r}",
    )


def _invalid(error: type[PcsimError], owner: str, reason: ValidationError) -> PcsimError:
    first = reason.errors()[0]
    name = ".".join(map(str, first["loc"]))
    return error(given=f"{name}={shown(first['input'])} for {owner}", expected=first["msg"], remedy=f"change {name}")


def _unfit(error: type[PcsimError], owner: str, parameter: inspect.Parameter, kind: _Kind, value: object) -> PcsimError:
    name, default = parameter.name, parameter.default
    return error(
        given=f"{name}={shown(value)} for {owner}", expected=kind.words, remedy=_remedy(name, default, kind, value)
    )


def _remedy(name: str, default: object, kind: _Kind, value: object) -> str:
    if kind.example:
        return f"pass {name}={kind.example}"
    if isinstance(value, np.ndarray) and kind.fits(_as_tensor(value)):
        return f"pass {name}=torch.from_numpy({name})"
    if isinstance(value, Tensor | np.ndarray) and kind.fits(value.tolist()):
        return f"pass {name}={name}.tolist()"
    if isinstance(value, str):
        for convert in (int, float, Path):
            try:
                if kind.fits(convert(value)):
                    return f"pass {name}={convert(value)!r}"
            except ValueError:
                continue
    if isinstance(value, float) and value.is_integer() and kind.fits(int(value)):
        return f"pass {name}={int(value)}"
    words = [word.strip("'") for word in kind.words.removeprefix("one of ").split(", ")]
    if kind.words.startswith("one of "):
        return f"pass {name}={_nearest(value, words)!r}"
    if default is inspect.Parameter.empty or not isinstance(default, int | float | str | tuple):
        omit = "" if default is inspect.Parameter.empty else ", or omit it"
        return f"pass {name} as {kind.words}{omit}"
    return f"pass {name}={shown(default)}, the default, or another value as described"


def _as_tensor(value: np.ndarray) -> object:
    import torch

    try:
        return torch.from_numpy(value)
    except TypeError:
        return None


def _nearest(value: object, options: Sequence[str]) -> str:
    known = {option.lower(): option for option in options}
    near = difflib.get_close_matches(value.lower(), known, 1) if isinstance(value, str) else []
    return known[near[0]] if near else options[0]


# ---------------------------------------------------------------- annotations


def _kind_of(annotation: Any, names: Mapping[str, Any]) -> _Kind | None:
    """Return the values that an annotation allows; None if it allows all, or is of a kind that is not checked."""
    if isinstance(annotation, str | typing.ForwardRef):
        holder = types.SimpleNamespace(__annotations__={"it": annotation})
        try:
            return _kind_of(typing.get_type_hints(holder, dict(names), include_extras=True)["it"], names)
        except NameError:  # imported for type checking only
            return None
    if annotation == ArrayLike:
        return _Kind("numbers: an array, a tensor or nested lists", functools.partial(_is_array, "biuf"))
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        inner = _kind_of(parts[0], names)
        if any(isinstance(part, _OfLabels) for part in parts[1:]):
            return _Kind(
                "labels: an array, a tensor or a list of numbers or texts", functools.partial(_is_array, "biufU")
            )
        examples = [example for part in parts[1:] for example in getattr(part, "examples", None) or ()]
        rules = [rule for part in parts[1:] for rule in getattr(part, "metadata", [part])]
        return inner and replace(_bounded(inner, rules), example=examples[0] if examples else inner.example)
    if origin is Literal:
        words = f"one of {', '.join(map(repr, parts))}"
        return _Kind(words, lambda value: any(type(value) is type(part) and value == part for part in parts))
    if origin in (typing.Union, types.UnionType):
        kinds = [_kind_of(part, names) for part in parts]
        known = [kind for kind in kinds if kind is not None]
        if len(known) < len(kinds):
            return None
        words = " or ".join(dict.fromkeys(kind.words for kind in known))
        example = next((kind.example for kind in known if kind.example), "")
        return _Kind(words, lambda value: any(kind.fits(value) for kind in known), example)
    if origin is not None:
        return _container(origin, parts, names)
    return _plain(annotation)


def _plain(annotation: Any) -> _Kind | None:
    if annotation in (Any, object, inspect.Parameter.empty) or isinstance(annotation, TypeVar):
        return None
    if annotation in (None, type(None)):
        return _Kind("None", lambda value: value is None)
    if annotation is int:
        return _Kind(
            "a whole number", lambda value: isinstance(value, numbers.Integral) and not isinstance(value, bool)
        )
    if annotation is float:
        return _Kind("a number", _is_number)
    if annotation is bool:
        return _Kind("True or False", lambda value: isinstance(value, bool | np.bool_))
    if annotation is str:
        return _Kind("a text", lambda value: isinstance(value, str))
    if annotation is Path:
        return _Kind("a pathlib.Path", lambda value: isinstance(value, os.PathLike))
    if annotation is Callable or annotation is Mapping or annotation is Sequence:
        return _container(annotation, (), {})
    if not isinstance(annotation, type) or getattr(annotation, "_is_protocol", False):
        return None
    article = "an" if annotation.__name__[0] in "AEIOU" else "a"
    kinds = f" ({', '.join(_concrete(annotation))})" if inspect.isabstract(annotation) else ""
    words = f"{article} {annotation.__name__}{kinds}"
    return _Kind(words, lambda value: isinstance(value, annotation), getattr(annotation, "EXAMPLE", ""))


def _concrete(base: type) -> list[str]:
    """Return the names of pcsim's classes that implement an abstract class."""
    inner = {name for part in typing.cast(list[type], base.__subclasses__()) for name in _concrete(part)}
    is_one = not inspect.isabstract(base) and base.__module__.startswith("pcsim.") and base.__name__[0] != "_"
    return sorted(inner) or [base.__name__] * is_one


def _container(origin: Any, parts: tuple[Any, ...], names: Mapping[str, Any]) -> _Kind | None:
    if origin is type:
        base = parts[0] if isinstance(parts[0], type) else object
        return _Kind(f"a class of {base.__name__}", lambda value: isinstance(value, type) and issubclass(value, base))
    if not isinstance(origin, type) or getattr(origin, "_is_protocol", False):
        return None
    if issubclass(origin, Callable):  # type: ignore[arg-type]
        return _Kind("a function", callable)
    if issubclass(origin, np.ndarray):
        (scalar,) = get_args(parts[-1]) or (Any,)
        wanted = scalar if isinstance(scalar, type) and issubclass(scalar, np.generic) else np.generic
        words = "an array" if wanted is np.generic else f"an array of {wanted.__name__}"
        return _Kind(words, lambda value: isinstance(value, np.ndarray) and _can_be(value.dtype, wanted))
    inner = [_kind_of(part, names) for part in parts if part is not Ellipsis]
    if issubclass(origin, Mapping):
        key, value_ = inner if len(inner) == 2 else (None, None)
        words = " to ".join(kind.words if kind else "anything" for kind in (key, value_))
        return _Kind(
            f"a dict of {words}",
            lambda value: (
                isinstance(value, origin)
                and (key is None or all(map(key.fits, value)))
                and (value_ is None or all(map(value_.fits, value.values())))
            ),
        )
    if origin is tuple and Ellipsis not in parts:
        words = ", ".join(kind.words if kind else "anything" for kind in inner)
        return _Kind(
            f"({words})",
            lambda value: (
                isinstance(value, tuple | list)
                and len(value) == len(inner)
                and all(kind is None or kind.fits(each) for kind, each in zip(inner, value, strict=True))
            ),
        )
    if issubclass(origin, Iterable):
        element = inner[0] if inner else None
        return _Kind(
            f"a {origin.__name__.lower()}" + (f" of which each is {element.words}" if element else ""),
            lambda value: (
                isinstance(value, origin)
                and not isinstance(value, str | bytes)
                and (element is None or not isinstance(value, Collection) or all(map(element.fits, value)))
            ),
            f"[{element.example}, ...]" if element and element.example else "",
        )
    return _Kind(f"a {origin.__name__}", lambda value: isinstance(value, origin))


def _can_be(dtype: np.dtype, wanted: type) -> bool:
    """Return whether numbers of a dtype can be converted to `wanted` without loss."""
    return np.issubdtype(dtype, wanted) if wanted in (Any, np.generic) else np.can_cast(dtype, wanted)


def _size(value: Any) -> int:
    return value.numel() if isinstance(value, Tensor) else int(value.size)


def _bounded(kind: _Kind, rules: Sequence[Any]) -> _Kind:
    """Return the values of `kind` that meet the bounds or have the axes; None is left to `kind`."""
    axes = next((rule for rule in rules if isinstance(rule, Axes)), None)
    if axes is not None:
        return _Kind(
            f"{kind.words} {axes}",
            lambda value: kind.fits(value) and (not isinstance(value, Tensor | np.ndarray) or axes.fits(value)),
        )
    tests: list[tuple[str, Callable[[Any], bool]]] = []
    for sign, words, compare in _BOUNDS:
        for bound in (getattr(rule, sign) for rule in rules if getattr(rule, sign, None) is not None):
            is_trivial = isinstance(bound, float) and math.isinf(bound)
            tests.append(("finite" if is_trivial else f"{words} {bound:g}", functools.partial(compare, bound)))
    if not tests:
        return kind
    words = " and ".join(dict.fromkeys(words for words, _ in tests))
    return _Kind(
        f"{kind.words}, {words}",
        lambda value: kind.fits(value) and (not _is_number(value) or all(test(value) for _, test in tests)),
    )


_BOUNDS: tuple[tuple[str, str, Callable[[Any, Any], bool]], ...] = (
    ("gt", "above", lambda bound, value: value > bound),
    ("ge", "at least", lambda bound, value: value >= bound),
    ("lt", "below", lambda bound, value: value < bound),
    ("le", "at most", lambda bound, value: value <= bound),
)


def _is_number(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and not math.isnan(value)


def _is_array(kinds: str, value: object) -> bool:
    try:
        array = np.asarray(value.detach().cpu() if isinstance(value, Tensor) else value)
        return array.dtype.kind in kinds and (array.ndim > 0 or array.dtype.kind != "U")
    except (ValueError, TypeError):
        return False
