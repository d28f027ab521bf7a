"""Transforms built from a number or a function."""

from __future__ import annotations

import functools
import hashlib
import inspect
import sys
import types
from collections.abc import Callable
from importlib import import_module
from typing import Any

from torch import Tensor, nn

from pcsim.core.checks import Finite, checked, shown
from pcsim.core.exceptions import StorageError, WiringError


@checked(WiringError)
class Gain(nn.Module):
    """y = gain x, with a fixed gain; `Projection("v1", "v2", 0.5)` builds it from the number."""

    def __init__(self, gain: Finite) -> None:
        super().__init__()
        self.gain = gain

    def forward(self, value: Tensor) -> Tensor:
        """y = gain x."""
        return self.gain * value


@checked(WiringError)
class Function(nn.Module):
    """y = f(x), where f is a stateless function; `Projection("v1", "v2", lambda x: x.relu())` builds it.

    The function must not refer to modules or tensors, because the network would not train, save or move them.
    Networks with a lambda can be copied, but pickling them requires cloudpickle. Raises WiringError for a class, or for
    a function that refers to modules or tensors.
    """

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function, self.name = function, getattr(function, "__name__", type(function).__name__)
        self.code = _digest(function)  # used by pcsim.load(path, into=net) to recognise a lambda
        if isinstance(function, type):
            raise WiringError(
                given=f"the class {self.name} as a transform",
                expected="a module or a function",
                remedy=f"call it, as in {self.name}(...)",
            )
        if held := _state_of(function):
            raise WiringError(
                given=f"the function {self.name!r} as a transform, which refers to {' and '.join(held)}",
                expected="a function without modules or tensors, which the network could not train, save or move",
                remedy="pass the module itself, an nn.Sequential(...) of several modules, or your own nn.Module that "
                "registers its tensors as buffers",
            )

    def forward(self, value: Tensor) -> Tensor:
        """y = f(x)."""
        return self.function(value)

    def __deepcopy__(self, memo: dict[int, Any]) -> Function:
        return Function(self.function).train(self.training)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"function": _picklable(self.function, self.name)}


def _digest(function: Any) -> str:
    """Return a digest of the code of a function that cannot be imported by name, or "" for other functions."""
    if not inspect.isfunction(function) or _is_importable(function):
        return ""
    found = hashlib.sha256()
    waiting = [function.__code__]
    for code in waiting:
        inner = [each for each in code.co_consts if inspect.iscode(each)]
        found.update(code.co_code + repr((code.co_names, [c for c in code.co_consts if c not in inner])).encode())
        waiting += inner
    values = {**_referred(function), "defaults": (function.__defaults__, function.__kwdefaults__)}
    plain = {name: value for name, value in values.items() if isinstance(value, int | float | str | tuple)}
    found.update(repr(sorted(plain.items())).encode())
    return f"{found.hexdigest()[:12]} in Python {sys.version_info.major}.{sys.version_info.minor}"


def _referred(function: Any) -> dict[str, Any]:
    """Return the values of the outer variables to which a function refers, by name."""
    try:
        names = inspect.getclosurevars(function)
    except ValueError as reason:  # an empty cell
        raise WiringError(
            given=f"the function {function.__name__!r} as a transform, which refers to a variable without a value",
            expected="a function whose variables have values when the network is built",
            remedy="assign the variable before you build the projection",
        ) from reason
    return {**names.globals, **names.nonlocals}


def _is_importable(function: Any) -> bool:
    """Return whether a function can be imported by name from its module, unlike "<lambda>" and "f.<locals>.g"."""
    return "<" not in getattr(function, "__qualname__", "")


def _state_of(function: object, known: tuple[object, ...] = ()) -> list[str]:
    """Return the names of the modules and tensors that a function uses, directly or through functions that it calls."""
    if isinstance(function, functools.partial):
        parts = {f"argument {n}": part for n, part in enumerate((*function.args, *function.keywords.values()))}
        found = parts | {"its function": function.func}
    elif inspect.ismethod(function):
        found = {"its object": function.__self__, "its function": function.__func__}
    elif inspect.isfunction(function):
        defaults = {f"default {n}": value for n, value in enumerate(function.__defaults__ or ())}
        found = {**_referred(function), **defaults, **(function.__kwdefaults__ or {})}
    else:  # an object with a __call__ method, or a built-in function
        found = dict(vars(function)) if hasattr(function, "__dict__") else {}
    held = [f"{name} (a {type(value).__name__})" for name, value in found.items() if _is_state(value)]
    for value in found.values():
        is_function = isinstance(value, functools.partial | types.FunctionType | types.MethodType)
        is_known = str(getattr(value, "__module__", "")).startswith("torch") or any(value is one for one in known)
        if is_function and not is_known:
            held += _state_of(value, (*known, function))
    return list(dict.fromkeys(held))


def _is_state(value: object) -> bool:
    return isinstance(value, nn.Module | Tensor) or (
        isinstance(value, list | tuple) and any(isinstance(part, nn.Module | Tensor) for part in value)
    )


def _picklable(function: Any, name: str) -> object:
    """Return a function that can be imported by name, or an object that cloudpickle stores by value."""
    inner = function.func if isinstance(function, functools.partial) else function
    if _is_importable(inner):
        return function
    try:
        return _ByValue(import_module("cloudpickle"), function)
    except ImportError as reason:
        raise StorageError(
            given=f"a network whose transform is the function {name!r}, which cannot be pickled because it cannot be "
            "imported by name",
            expected="a function defined with def at the top level of a module",
            remedy="move the function to a file and import it, or pip install cloudpickle",
        ) from reason


class _ByValue:
    """A wrapper that is pickled as the code of a function, and unpickled as the function itself."""

    def __init__(self, cloudpickle: Any, function: object) -> None:
        self._cloudpickle, self._function = cloudpickle, function

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[bytes]]:
        return self._cloudpickle.loads, (self._cloudpickle.dumps(self._function),)


def as_transform(given: object) -> nn.Module:
    """Return a module unchanged, a number as a `Gain`, and a function as a `Function`.

    Raises WiringError for other values.
    """
    if isinstance(given, nn.Module):
        return given
    if isinstance(given, int | float) and not isinstance(given, bool):
        return Gain(float(given))
    if callable(given):
        return Function(given)
    raise WiringError(
        given=f"transform={shown(given)}",
        expected="a module, a function of a tensor (batch, ...), or a number (a fixed gain)",
        remedy="pass connections.conv(3, 8), or omit it for the identity",
    )
