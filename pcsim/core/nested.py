"""Nested values (dicts, lists, tuples, settings, tensors) as a dict of tensors and a JSON skeleton, and back."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

OWNERS = ("pcsim.models.", "pcsim.rules.", "pcsim.training.")
"""packages that define settings classes"""


def flatten_nested(nested: object, prefix: str = "") -> tuple[dict[str, Tensor], object]:
    """Flatten nested values to a dict of tensors by path and a JSON skeleton that refers to these paths.

    Other objects stay in the skeleton, so that writing it as JSON raises an error.
    """
    if isinstance(nested, Tensor):
        return {prefix: nested}, {"tensor": prefix}
    if isinstance(nested, torch.dtype):
        return {}, {"dtype": str(nested).removeprefix("torch.")}
    if isinstance(nested, np.generic):
        return {}, {"value": nested.item()}
    if isinstance(nested, dict) or _is_settings(nested):
        is_dict = isinstance(nested, dict)
        content = nested if isinstance(nested, dict) else _content(nested)
        parts = {key: flatten_nested(value, f"{prefix}/{key}") for key, value in content.items()}
        items = [[key, skeleton] for key, (_, skeleton) in parts.items()]
        name = f"{type(nested).__module__}:{type(nested).__name__}"
        return _joined(parts.values()), {"dict": items} if is_dict else {"settings": [name, items]}
    if isinstance(nested, list | tuple):
        each = [flatten_nested(value, f"{prefix}/{index}") for index, value in enumerate(nested)]
        kind = "list" if isinstance(nested, list) else "tuple"
        return _joined(each), {kind: [skeleton for _, skeleton in each]}
    return {}, {"value": nested}


def restore_nested(tensors: Mapping[str, Tensor], skeleton: Any) -> Any:
    """Rebuild the values flattened by `flatten_nested`.

    Raises ValueError for settings of an unknown class.
    """
    (kind, content), *_ = skeleton.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dtype":
        return {str(each): each for each in vars(torch).values() if isinstance(each, torch.dtype)}[f"torch.{content}"]
    if kind == "dict":
        return {key: restore_nested(tensors, value) for key, value in content}
    if kind == "settings":
        return _settings_class(content[0])(**{key: restore_nested(tensors, value) for key, value in content[1]})
    if kind in ("list", "tuple"):
        restored = [restore_nested(tensors, value) for value in content]
        return restored if kind == "list" else tuple(restored)
    return content


def _content(settings: Any) -> dict[str, Any]:
    return {field.name: getattr(settings, field.name) for field in fields(settings) if field.init}


def _joined(parts: Any) -> dict[str, Tensor]:
    return {name: tensor for tensors, _ in parts for name, tensor in tensors.items()}


def _is_settings(value: object) -> bool:
    """Return whether a value is a settings object, such as `models.Layer`."""
    return is_dataclass(value) and not isinstance(value, type) and type(value).__module__.startswith(OWNERS)


def _settings_class(name: str) -> type[Any]:
    """Return a settings class by name. Nothing is imported, and no other class or function is ever called."""
    module, _, last = name.partition(":")
    found = getattr(sys.modules.get(module), last, None) if module.startswith(OWNERS) else None
    if not isinstance(found, type) or not is_dataclass(found):
        raise ValueError(f"the settings class {name!r}")
    return found
