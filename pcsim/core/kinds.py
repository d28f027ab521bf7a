"""Tests and descriptions of the values that an annotation allows."""

from __future__ import annotations

import functools
import inspect
import math
import numbers
import os
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor


@dataclass(frozen=True)
class Axes:
    """Metadata for `Annotated`: the axes of a real floating-point tensor, where "..." matches any number of axes.

    values: Annotated[Tensor, Axes("time, batch, ...")]
    """

    names: str
    is_float: bool = True

    def fits(self, value: Any) -> bool:
        """Return whether an array has these axes and, if `is_float` is True, real floating-point values."""
        names = self.names.split(", ")
        least = len([name for name in names if name != "..."])
        value = value if isinstance(value, Tensor) else np.asarray(value)
        if value.ndim < least or (value.ndim > least and "..." not in names) or not _size(value):
            return False
        if isinstance(value, Tensor) and value.is_complex():
            return False
        return not self.is_float or (
            value.is_floating_point() if isinstance(value, Tensor) else value.dtype.kind == "f"
        )

    def __str__(self) -> str:
        return f"with the axes ({self.names})" + (" and floating-point values" if self.is_float else "")


class OfLabels:
    """Metadata for `Annotated`: an array of numbers or strings."""


class OrNaN:
    """Metadata for `Annotated`: a number that may be NaN."""


@dataclass(frozen=True)
class Kind:
    """A description of the values that an annotation allows, and a function that tests a value."""

    words: str
    fits: Callable[[Any], bool]
    example: str = ""
    is_real: bool = False
    """whether integers are converted to float"""


def kind_of(annotation: Any, names: Mapping[str, Any]) -> Kind | None:
    """Return the `Kind` of an annotation, or None if the annotation allows any value or is not supported."""
    if isinstance(annotation, str | typing.ForwardRef):
        holder = types.SimpleNamespace(__annotations__={"it": annotation})
        try:
            return kind_of(typing.get_type_hints(holder, dict(names), include_extras=True)["it"], names)
        except NameError:  # a name imported only for type checking
            return None
    if annotation == ArrayLike:
        return Kind("numbers: an array, a tensor or nested lists", functools.partial(_is_array, "biuf"))
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        inner = kind_of(parts[0], names)
        if any(isinstance(part, OfLabels) for part in parts[1:]):
            return Kind(
                "labels: an array, a tensor, or a list of numbers or strings", functools.partial(_is_array, "biufU")
            )
        if any(isinstance(part, OrNaN) for part in parts[1:]):
            return Kind("a number", _is_number_or_nan, is_real=True)
        examples = [example for part in parts[1:] for example in getattr(part, "examples", None) or ()]
        rules = [rule for part in parts[1:] for rule in getattr(part, "metadata", [part])]
        return inner and replace(_bounded(inner, rules), example=examples[0] if examples else inner.example)
    if origin is Literal:
        words = f"one of {', '.join(map(repr, parts))}"
        return Kind(words, lambda value: any(type(value) is type(part) and value == part for part in parts))
    if origin in (typing.Union, types.UnionType):
        of_arrays = set(get_args(ArrayLike))
        if of_arrays <= set(parts):
            parts = (ArrayLike, *(part for part in parts if part not in of_arrays))
        kinds = [kind_of(part, names) for part in parts]
        known = [kind for kind in kinds if kind is not None]
        if len(known) < len(kinds):
            return None
        words = " or ".join(dict.fromkeys(kind.words for kind in known))
        example = next((kind.example for kind in known if kind.example), "")
        is_real = any(kind.is_real for kind in known) and not any(kind.fits(1) and not kind.is_real for kind in known)
        return Kind(words, lambda value: any(kind.fits(value) for kind in known), example, is_real)
    if origin is not None:
        return _container(origin, parts, names)
    return _plain(annotation)


def _plain(annotation: Any) -> Kind | None:
    if isinstance(annotation, TypeVar):
        return _plain(annotation.__bound__ or Any)
    if annotation in (Any, object, inspect.Parameter.empty):
        return None
    if annotation in (None, type(None)):
        return Kind("None", lambda value: value is None)
    if annotation is int:
        return Kind("a whole number", lambda value: isinstance(value, numbers.Integral) and not isinstance(value, bool))
    if annotation is float:
        return Kind("a number", _is_number, is_real=True)
    if annotation is bool:
        return Kind("True or False", lambda value: isinstance(value, bool | np.bool_))
    if annotation is str:
        return Kind("a string", lambda value: isinstance(value, str))
    if annotation is Path:
        return Kind("a pathlib.Path", lambda value: isinstance(value, os.PathLike))
    if annotation is Callable or annotation is Mapping or annotation is Sequence:
        return _container(annotation, (), {})
    if not isinstance(annotation, type) or _is_unchecked_protocol(annotation):
        return None
    article = "an" if annotation.__name__[0] in "AEIOU" else "a"
    kinds = f" ({', '.join(_concrete(annotation))})" if inspect.isabstract(annotation) else ""
    words = f"{article} {annotation.__name__}{kinds}"
    return Kind(words, lambda value: isinstance(value, annotation), getattr(annotation, "EXAMPLE", ""))


def _is_unchecked_protocol(annotation: type) -> bool:
    return getattr(annotation, "_is_protocol", False) and not getattr(annotation, "_is_runtime_protocol", False)


def _concrete(base: type) -> list[str]:
    """Return the names of the pcsim classes that implement an abstract class."""
    inner = {name for part in typing.cast(list[type], base.__subclasses__()) for name in _concrete(part)}
    is_one = not inspect.isabstract(base) and base.__module__.startswith("pcsim.") and base.__name__[0] != "_"
    return sorted(inner) or [base.__name__] * is_one


def _container(origin: Any, parts: tuple[Any, ...], names: Mapping[str, Any]) -> Kind | None:
    if origin is type:
        base = parts[0] if isinstance(parts[0], type) else object
        return Kind(f"a subclass of {base.__name__}", lambda value: isinstance(value, type) and issubclass(value, base))
    if not isinstance(origin, type) or _is_unchecked_protocol(origin):
        return None
    if issubclass(origin, Callable):  # type: ignore[arg-type]
        return Kind("a function", callable)
    if issubclass(origin, np.ndarray):
        (scalar,) = get_args(parts[-1]) or (Any,)
        wanted = scalar if isinstance(scalar, type) and issubclass(scalar, np.generic) else np.generic
        words = "an array" if wanted is np.generic else f"an array of {wanted.__name__}"
        return Kind(words, lambda value: isinstance(value, np.ndarray) and _can_be(value.dtype, wanted))
    inner = [kind_of(part, names) for part in parts if part is not Ellipsis]
    if issubclass(origin, Mapping):
        key, value_ = inner if len(inner) == 2 else (None, None)
        words = " to ".join(kind.words if kind else "anything" for kind in (key, value_))
        return Kind(
            f"a dict that maps {words}",
            lambda value: (
                isinstance(value, origin)
                and (key is None or all(map(key.fits, value)))
                and (value_ is None or all(map(value_.fits, value.values())))
            ),
        )
    if origin is tuple and Ellipsis not in parts:
        words = ", ".join(kind.words if kind else "anything" for kind in inner)
        return Kind(
            f"({words})",
            lambda value: (
                isinstance(value, tuple | list)
                and len(value) == len(inner)
                and all(kind is None or kind.fits(each) for kind, each in zip(inner, value, strict=True))
            ),
        )
    if issubclass(origin, Iterable):
        element = inner[0] if inner else None
        return Kind(
            f"a {origin.__name__.lower()}" + (f" in which each element is {element.words}" if element else ""),
            lambda value: (
                isinstance(value, origin)
                and not isinstance(value, str | bytes)
                and (element is None or not isinstance(value, Collection) or all(map(element.fits, value)))
            ),
            f"[{element.example}, ...]" if element and element.example else "",
        )
    return Kind(f"a {origin.__name__}", lambda value: isinstance(value, origin))


def _can_be(dtype: np.dtype, wanted: type) -> bool:
    """Return whether values of a dtype can be converted to `wanted` without loss."""
    if wanted is np.generic:
        return True
    return np.can_cast(dtype, wanted) and (dtype.kind != "b" or wanted is np.bool_)


def _size(value: Any) -> int:
    return value.numel() if isinstance(value, Tensor) else int(value.size)


def _bounded(kind: Kind, rules: Sequence[Any]) -> Kind:
    """Restrict `kind` to values that satisfy the bounds or axes, which do not apply to None."""
    axes = next((rule for rule in rules if isinstance(rule, Axes)), None)
    if axes is not None:
        return Kind(
            f"{kind.words} {axes}",
            lambda value: kind.fits(value) and (value is None or axes.fits(value)),
        )
    tests: list[tuple[str, Callable[[Any], bool]]] = []
    for sign, words, compare in _BOUNDS:
        for bound in (getattr(rule, sign) for rule in rules if getattr(rule, sign, None) is not None):
            is_trivial = isinstance(bound, float) and math.isinf(bound)
            tests.append(("finite" if is_trivial else f"{words} {bound:g}", functools.partial(compare, bound)))
    if not tests:
        return kind
    words = " and ".join(dict.fromkeys(words for words, _ in tests))
    return replace(
        kind,
        words=f"{kind.words}, {words}",
        fits=lambda value: kind.fits(value) and (value is None or all(test(value) for _, test in tests)),
    )


_BOUNDS: tuple[tuple[str, str, Callable[[Any, Any], bool]], ...] = (
    ("gt", "above", lambda bound, value: value > bound),
    ("ge", "at least", lambda bound, value: value >= bound),
    ("lt", "below", lambda bound, value: value < bound),
    ("le", "at most", lambda bound, value: value <= bound),
    ("min_length", "of length at least", lambda bound, value: len(value) >= bound),
)


def _is_number_or_nan(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return _is_number_or_nan(value) and not math.isnan(value)


def _is_array(kinds: str, value: object) -> bool:
    try:
        array = np.asarray(value.detach().cpu() if isinstance(value, Tensor) else value)
        return array.dtype.kind in kinds and (array.ndim > 0 or array.dtype.kind != "U")
    except (ValueError, TypeError):
        return False
