"""Identities of sweep points: the function's name, code and bound arguments, and the configuration."""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from functools import partial
from types import CodeType, FunctionType, ModuleType
from typing import Any

import cloudpickle
import numpy as np
import torch
from torch import Tensor, nn

from pcsim.core import storage
from pcsim.core.exceptions import SweepError


def identity(content: list[Any], config: object) -> str:
    """Return a point's identity, derived from the function's content and the point's configuration."""
    what = {"function": content, "config": storage.plain(_known_by(config))}
    try:
        text = json.dumps(what, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as reason:
        raise SweepError(
            given=f"a configuration that cannot be used to identify a point ({reason})",
            expected="finite numbers, strings, None, and dataclasses, dicts, lists and tuples of these",
            remedy="use strings or numbers instead, or declare the dataclass field with field(compare=False)",
        ) from reason
    return _hash(text)[:24]


def content_of(function: Callable[..., Any]) -> list[Any]:
    """Return a function's fingerprint: name, hash of its compiled code, defaults and, for a partial, bound arguments.

    The module name is not included, because it changes when a module is run as a script. For a function entered in an
    interactive session, the fingerprint includes the session's functions, classes and values that it uses.
    """
    if isinstance(function, partial):
        arguments = storage.plain([_known_by(function.args), _known_by(function.keywords)])
        return [*content_of(function.func), arguments]
    code = getattr(function, "__code__", None)
    if code is None:
        return [function.__qualname__, None]
    content: list[Any] = [function.__qualname__, _hash(_text_of(code))]
    if isinstance(function, FunctionType):
        defaults = [function.__defaults__ or (), function.__kwdefaults__ or {}]
        content += [_content_of_value(defaults, set())] if any(defaults) else []
        content += [_used_by(code, function.__globals__, {id(function)})] if _is_typed_in(function) else []
    return content


def without_arguments(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function without the arguments bound by `functools.partial`."""
    while isinstance(function, partial):
        function = function.func
    return function


def _is_typed_in(value: object) -> bool:
    """Return whether a function or class was entered interactively, so that other processes cannot import it."""
    return getattr(value, "__module__", None) == "__main__" and is_interactive()


def is_interactive() -> bool:
    """Return whether this is an interactive session, such as a notebook, rather than a program in a file."""
    return getattr(sys.modules["__main__"], "__file__", None) is None


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _known_by(config: Any) -> Any:
    """Return the part of a configuration that identifies a point, omitting dataclass fields with compare=False."""
    if is_dataclass(config) and not isinstance(config, type):
        return {field.name: _known_by(getattr(config, field.name)) for field in fields(config) if field.compare}
    if isinstance(config, Mapping):
        return {key: _known_by(value) for key, value in config.items()}
    return [_known_by(value) for value in config] if isinstance(config, tuple | list) else config


def _text_of(code: CodeType) -> str:
    """Return the bytecode, names and constants of compiled code as text, without docstrings and line numbers."""
    constants = list(code.co_consts)
    if constants and isinstance(constants[0], str) and inspect.CO_OPTIMIZED & code.co_flags:
        constants[0] = None  # the docstring
    listed = [
        _text_of(value)
        if isinstance(value, CodeType)
        else sorted(map(repr, value))
        if isinstance(value, frozenset)
        else repr(value)
        for value in constants
    ]
    return f"{code.co_code.hex()} {code.co_names} {code.co_varnames} {listed}"


def _used_by(code: CodeType, space: Mapping[str, Any], known: set[int]) -> list[Any]:
    """Return the names that code looks up in `space`, and the content of their values."""
    inner = [value for value in code.co_consts if isinstance(value, CodeType)]
    names = sorted({name for name in code.co_names if name in space})
    return [[name, _content_of_value(space[name], known)] for name in names] + [
        found for each in inner for found in _used_by(each, space, known)
    ]


def _content_of_value(value: Any, known: set[int]) -> Any:
    """Return a value's content as JSON types: source code for code entered interactively, bytes for arrays and objects.

    known  ids of the functions and classes visited so far, because functions may call each other
    """
    if isinstance(value, ModuleType):
        return value.__name__
    if isinstance(value, type | FunctionType):
        if id(value) in known or not _is_typed_in(value):
            return f"{value.__module__}.{value.__qualname__}"
        known.add(id(value))
        if isinstance(value, type):
            parts = {key: part for key, part in vars(value).items() if not key.startswith("__") or callable(part)}
            return _content_of_value([str(value.__mro__[1:]), parts], known)
        defaults = _content_of_value([value.__defaults__, value.__kwdefaults__], known)
        return [_hash(_text_of(value.__code__)), defaults, _used_by(value.__code__, value.__globals__, known)]
    if isinstance(value, Mapping):
        return [[str(key), _content_of_value(part, known)] for key, part in value.items()]
    if isinstance(value, list | tuple):
        return [_content_of_value(part, known) for part in value]
    if isinstance(value, nn.Module):
        return [repr(value), _content_of_value(value.state_dict(), known)]
    if isinstance(value, Tensor | np.ndarray):
        tensor = torch.as_tensor(value).detach().cpu().reshape(-1)
        return [str(value.dtype), list(value.shape), hashlib.sha256(tensor.view(torch.uint8).numpy().data).hexdigest()]
    if isinstance(value, str | int | float | complex | None):
        return repr(value)
    return hashlib.sha256(cloudpickle.dumps(value)).hexdigest()
