"""Argument checks derived from type annotations, so that every requirement is stated only once.

    @checked(WiringError)
    def rcnn(iterations: Count = 3, *, unroll: Literal["engineering", "biological"] = "engineering") -> Network: ...

Numbers, literals, tensors, arrays and classes can be checked, as can unions and containers of these.
Bounds are specified with pydantic's `Field`. An example in the `Field`, or the EXAMPLE attribute of a class, appears
in the remedy of the error message. Booleans and NaN are not accepted as numbers.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import math
import sys
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field, ValidationError
from torch import Tensor, nn

from pcsim.core.exceptions import PcsimError
from pcsim.core.kinds import Axes, Kind, OfLabels, OrNaN, kind_of
from pcsim.core.renamed import OPTIONS

Count = Annotated[int, Field(ge=1)]
"""a count of at least 1"""
Whole = Annotated[int, Field(ge=0)]
"""a non-negative integer, such as an index, a seed or a count"""
Finite = Annotated[float, Field(gt=-math.inf, lt=math.inf)]
Positive = Annotated[float, Field(gt=0, lt=math.inf)]
NonNegative = Annotated[float, Field(ge=0, lt=math.inf)]
Counts = Annotated[Sequence[Count], Field(min_length=1)]
"""a non-empty sequence of counts"""
Share = Annotated[float, Field(ge=0, le=1)]


Number = Annotated[float, OrNaN()]
"""a number that may be NaN, either because NaN is meaningful or because the function itself checks for it"""
Labels = Annotated[ArrayLike, OfLabels()]
"""labels of samples: an array, a tensor, or a list of numbers or strings"""
Target = TypeVar("Target", bound=Callable[..., Any])


def checked(error: type[PcsimError], **others: type[PcsimError] | None) -> Callable[[Target], Target]:
    """Return a decorator that raises `error` if an argument of a function or class does not match its annotation.

    others  argument name -> another exception for this argument; None if the function itself checks the argument

    Default values are not checked. NumPy scalars are converted to Python numbers, and integers to floats if the
    annotation is float. Annotations are evaluated on the first call, by which time all names they use are defined.
    """

    def decorate(target: Target) -> Target:
        signature, spaces = inspect.signature(target), _namespaces(target)
        is_class = isinstance(target, type)
        function: Callable[..., Any] = target.__init__ if is_class else target

        @functools.cache
        def kinds() -> dict[str, Kind]:
            checks = {name: each for name, each in signature.parameters.items() if others.get(name, error) is not None}
            found = {name: kind_of(each.annotation, spaces()) for name, each in checks.items()}
            return {name: kind for name, kind in found.items() if kind is not None}

        arguments = _Arguments(signature, error)

        @functools.wraps(function)
        def call(*args: Any, **options: Any) -> Any:
            own, args = (args[:1], args[1:]) if is_class else ((), args)
            owner = type(own[0]).__name__ if own else target.__name__
            given, bound = arguments.bind(owner, args, options)
            known = kinds()
            for name, value in given.items():
                if isinstance(value, np.generic | tuple | list):
                    given[name] = value = _plain(value)
                if (kind := known.get(name)) is not None:
                    if kind.is_real and isinstance(value, int) and not isinstance(value, bool):
                        given[name] = value = float(value)
                    for each in (value,) if bound is None else _each(signature.parameters[name], value):
                        if not kind.fits(each):
                            raise _unfit(others.get(name) or error, owner, signature.parameters[name], kind, each)
            try:
                return function(*own, **given) if bound is None else function(*own, *bound.args, **bound.kwargs)
            except ValidationError as reason:  # from a class that is also validated by pydantic
                raise _invalid(error, owner, reason) from None

        if isinstance(target, type):
            target.__init__ = call  # type: ignore[misc]
            return target
        return typing.cast(Target, call)

    return decorate


class _Arguments:
    """The parameters of a function. `bind` replaces inspect.Signature.bind, which is slower than all the checks."""

    def __init__(self, signature: inspect.Signature, error: type[PcsimError]) -> None:
        self._signature, self._error = signature, error
        each = signature.parameters.values()
        self._plain = [one.name for one in each if one.kind is one.POSITIONAL_OR_KEYWORD]
        self._named = {*self._plain, *(one.name for one in each if one.kind is one.KEYWORD_ONLY)}
        self._needed = {one.name for one in each if one.default is one.empty}
        self._is_simple = len(self._named) == len(signature.parameters)

    def bind(
        self, owner: str, args: tuple[Any, ...], options: dict[str, Any]
    ) -> tuple[dict[str, Any], inspect.BoundArguments | None]:
        """Return a dict of the arguments, and BoundArguments if some of them cannot be passed as keywords."""
        if self._is_simple and len(args) <= len(self._plain):
            given = dict(zip(self._plain, args, strict=False))
            is_known = given.keys().isdisjoint(options) and self._named.issuperset(options)
            given |= options
            if is_known and self._needed <= given.keys():
                return given, None
        try:
            bound = self._signature.bind(*args, **options)
        except TypeError as reason:
            raise _misnamed(self._error, owner, self._signature, options, str(reason)) from None
        return bound.arguments, bound


def shown(value: object) -> str:
    """Format a value for a message on one line of at most 100 characters. For an array, show its shape and type."""
    if isinstance(value, Tensor | np.ndarray):
        return f"a {type(value).__name__} of shape {tuple(value.shape)} and type {value.dtype}"
    if type(value) is dict:
        text = "{" + ", ".join(f"{key!r}: {shown(each)}" for key, each in islice(value.items(), 100)) + "}"
    elif type(value) is list:
        text = "[" + ", ".join(map(shown, islice(value, 100))) + "]"
    elif type(value) is tuple:
        text = "(" + ", ".join(map(shown, value[:100])) + ("," if len(value) == 1 else "") + ")"
    else:
        text = f"a {type(value).__name__}" if isinstance(value, nn.Module) else " ".join(repr(value).split())
    return text if len(text) <= 100 else f"{text[:97]}..."


def _namespaces(target: Callable[..., Any]) -> Callable[[], dict[str, Any]]:
    """Return a function that returns the namespace in which the annotations of `target` are evaluated."""
    owners = reversed(target.__mro__) if isinstance(target, type) else (target,)
    modules = [owner.__module__ for owner in owners]
    return lambda: {name: value for module in modules for name, value in vars(sys.modules[module]).items()}


def _plain(value: Any) -> Any:
    """Convert NumPy scalars to Python numbers, including those in tuples and lists. Return other values unchanged."""
    if isinstance(value, np.generic):
        return value.item()
    if type(value) not in (tuple, list):
        return value
    inner = [_plain(each) for each in value]
    return value if all(a is b for a, b in zip(inner, value, strict=True)) else type(value)(inner)


def _each(parameter: inspect.Parameter, value: Any) -> Iterable[Any]:
    """Return all values passed to a parameter: possibly several for *args and **options, otherwise one."""
    if parameter.kind is parameter.VAR_POSITIONAL:
        return typing.cast(Iterable[Any], value)
    return value.values() if parameter.kind is parameter.VAR_KEYWORD else (value,)


def _misnamed(
    error: type[PcsimError], name: str, signature: inspect.Signature, options: Mapping[str, Any], reason: str
) -> PcsimError:
    known = [each for each in signature.parameters if each != "self"]
    unknown = next((option for option in options if option not in known), None)
    if unknown and OPTIONS.get(unknown) in known:
        return error(
            given=f"{unknown}=... for {name}",
            expected=f"{OPTIONS[unknown]}, its name since pcsim 0.2.0",
            remedy=f"write {OPTIONS[unknown]}=...",
        )
    by_name = [each for each, parameter in signature.parameters.items() if parameter.kind is parameter.KEYWORD_ONLY]
    if near := _nearest(unknown, known):
        remedy = f"use {near!r} instead of {unknown!r}"
    elif unknown:
        remedy = f"remove {unknown!r}; help({name}) explains all arguments"
    elif by_name and "too many positional arguments" in reason:
        remedy = f"pass {', '.join(by_name)} by name, for example {by_name[0]}=..."
    else:
        remedy = f"add the missing argument or remove the extra one; help({name}) explains all arguments"
    return error(
        given=f"{name}(...): {reason}", expected=f"the arguments {', '.join(known) or '(none)'}", remedy=remedy
    )


def _invalid(error: type[PcsimError], owner: str, reason: ValidationError) -> PcsimError:
    first = reason.errors()[0]
    name = ".".join(map(str, first["loc"]))
    return error(given=f"{name}={shown(first['input'])} for {owner}", expected=first["msg"], remedy=f"change {name}")


def _unfit(error: type[PcsimError], owner: str, parameter: inspect.Parameter, kind: Kind, value: object) -> PcsimError:
    name, default = parameter.name, parameter.default
    return error(
        given=f"{name}={shown(value)} for {owner}", expected=kind.words, remedy=_remedy(name, default, kind, value)
    )


def _remedy(name: str, default: object, kind: Kind, value: object) -> str:
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
    if kind.words.startswith("one of "):
        options = {word.strip("'"): word for word in kind.words.removeprefix("one of ").split(", ")}
        return f"pass {name}={options[_nearest(value, tuple(options)) or next(iter(options))]}"
    if default is inspect.Parameter.empty or not isinstance(default, int | float | str | tuple):
        omit = "" if default is inspect.Parameter.empty else ", or omit it"
        return f"pass {name} as {kind.words}{omit}"
    return f"pass {name}={shown(default)}, the default, or a value that meets this requirement"


def _as_tensor(value: np.ndarray) -> object:
    import torch

    try:
        return torch.from_numpy(value)
    except TypeError:
        return None


def _nearest(value: object, options: Sequence[str]) -> str | None:
    """Return the option that is most similar to `value`, ignoring case, or None if none is similar."""
    known = {option.lower(): option for option in options}
    near = difflib.get_close_matches(value.lower(), known, 1) if isinstance(value, str) else []
    return known[near[0]] if near else None


__all__ = [
    "Axes",
    "Count",
    "Counts",
    "Finite",
    "Labels",
    "NonNegative",
    "Number",
    "Positive",
    "Share",
    "Whole",
    "checked",
    "shown",
]
