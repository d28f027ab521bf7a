"""The description of a network's wiring as JSON types, its SHA-256, and differences between descriptions in words."""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from pcsim.network.graph import Graph
from pcsim.network.weights import trained_tensors

PLAIN = (bool, int, str, type(None))
OF_TORCH = frozenset(vars(nn.Module()))
"""attributes that every module has"""
MOST_DIFFERENCES = 4


def description(network: Graph) -> dict[str, Any]:
    """Return, as JSON types, everything except the weights that determines what a network computes.

    Modules are described by their class, settings, fixed buffers and children, but not by their hooks or code.
    """
    populations, edges = network.populations, network.projections
    described: dict[str, Any] = {
        "inputs": {name: list(shape) for name, shape in network.inputs.items()},
        "readout": network.readout,
        "steps": network.steps,
        "step_ms": _plain(network.step_ms),
        "timing": _plain(network.timing),
        "evaluation order": list(network.order),
        "order of edges": [edge.name for edge in edges],
        "population": {},
        "edge": {},
        "tensor": {},
        "initialiser": description(network.initialiser) if network.initialiser is not None else None,
    }
    for name, population in populations.items():
        described["population"][name] = {
            "rule": _module(population.rule),
            "shape": list(network.shape(name)),
            "active": _plain(population.active),
            "starts_from": population.starts_from,
        }
    for edge in edges:
        plain = ("source", "target", "kind", "delay", "port", "before", "active", "lesioned", "compute_dtype")
        described["edge"][edge.name] = {name: _plain(getattr(edge, name)) for name in plain} | {
            "delay_ms": _plain(edge.delay_ms),
            "transform": _module(edge.transform),
        }
    for name, tensor in trained_tensors(network).items():
        described["tensor"][name] = {"shape": list(tensor.shape), "dtype": str(tensor.dtype).removeprefix("torch.")}
    return described


def fingerprint(described: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a description."""
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def differences(theirs: Mapping[str, Any], own: Mapping[str, Any]) -> list[str]:
    """Return, in words, how the description in a file differs from that of a network."""
    found = list(_differences((), theirs, own))
    more = len(found) - MOST_DIFFERENCES
    return [*found[:MOST_DIFFERENCES], f"{more} more differences"] if more > 0 else found


def _differences(path: tuple[str, ...], theirs: Any, own: Any) -> Iterator[str]:
    if isinstance(theirs, dict) and isinstance(own, dict):
        for key in {**theirs, **own}:
            if key not in theirs or key not in own:
                where = "this network" if key in own else "the file"
                yield f"{_words((*path, key))} is only in {where}"
            else:
                yield from _differences((*path, key), theirs[key], own[key])
            if key == "class" and theirs.get(key) != own.get(key):
                return  # the settings of other classes are not comparable
    elif theirs != own:
        yield f"{_words(path)} is {_short(theirs)} in the file and {_short(own)} in this network"


def _words(path: tuple[str, ...]) -> str:
    kind, *rest = path
    if kind in ("population", "edge", "tensor") and rest:
        name, *inner = rest
        return f"{kind} {name!r}" + (f": {' '.join(inner)}" if inner else "")
    return " ".join(path)


def _short(value: Any) -> str:
    text = value["class"] if isinstance(value, dict) and "class" in value else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _module(module: nn.Module, outer: tuple[int, ...] = ()) -> dict[str, Any]:
    """Return the class, settings, fixed buffers and children of a module."""
    if id(module) in outer:  # a module that refers to its owner
        return {"class": type(module).__name__}
    inside = (*outer, id(module))
    found: dict[str, Any] = {"class": type(module).__name__}
    for name, value in sorted(vars(module).items()):
        if name not in OF_TORCH and (name[0] != "_" or isinstance(value, (*PLAIN, float))):
            found[name] = _plain(value, inside)
    for name in sorted(module._non_persistent_buffers_set):
        found[name] = _plain(module._buffers[name])
    for name, child in module._modules.items():
        found[name] = _module(child, inside) if child is not None else None
    return found


def _plain(value: Any, outer: tuple[int, ...] = ()) -> Any:
    """Return a setting as JSON types: arrays as their SHA-256, functions and other objects as their names."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, (*PLAIN, float)):
        return value
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        raw = value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if value.numel() else b""
        return {"shape": list(value.shape), "dtype": str(value.dtype), "sha256": hashlib.sha256(raw).hexdigest()}
    if isinstance(value, np.ndarray):
        digest = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
        return {"shape": list(value.shape), "dtype": str(value.dtype), "sha256": digest}
    if isinstance(value, nn.Module):
        return _module(value, outer)
    if isinstance(value, list | tuple):
        return [_plain(each, outer) for each in value]
    if isinstance(value, set | frozenset):
        return sorted(str(each) for each in value)
    if isinstance(value, Mapping):
        return {str(key): _plain(each, outer) for key, each in value.items()}
    if isinstance(value, functools.partial):
        return [_name(value.func), _plain(value.args, outer), _plain(value.keywords, outer)]
    if isinstance(value, torch.dtype | torch.device):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        settings = {each.name: _plain(getattr(value, each.name), outer) for each in fields(value)}
        return {"class": type(value).__name__} | settings
    return _name(cast(Callable[..., Any], value)) if callable(value) else type(value).__name__


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", type(function).__name__)
