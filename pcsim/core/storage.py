"""Safe file storage: files are written atomically, checked when read and never executed as code.

Tensors are stored in safetensors files, whose metadata contains JSON and the SHA-256 of the tensors. This module
depends on no other part of pcsim.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from pcsim.core.exceptions import StorageError

FORMAT = 1


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path that replaces `path` only after the file is complete and on disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield partial
        with partial.open("rb+") as written:
            os.fsync(written.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def sweep_partials(folder: Path) -> None:
    """Remove the partial files that killed processes left behind in `folder` and its subfolders."""
    for partial in folder.rglob(".*.part"):
        partial.unlink(missing_ok=True)


def plain(value: Any) -> Any:
    """Convert a configuration to JSON types: dataclasses and mappings to dicts, tuples to lists, paths to strings."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return str(value) if isinstance(value, Path) else value


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, content: object) -> None:
    """Write a JSON file atomically, keeping the order of the keys."""
    write_text(path, json.dumps(content, indent=1) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file. Raises StorageError if the file is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as reason:
        raise _damaged(path, str(reason)) from reason


def write_tensors(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write tensors and JSON-serialisable `facts`, including a "kind", to one file with a checksum."""
    # Copy, because safetensors rejects tensors that share memory, as the past values of a delay may.
    dense = {n: t.detach().cpu().clone(memory_format=torch.contiguous_format) for n, t in tensors.items()}
    described = json.dumps({"format": FORMAT, "sha256": _digest(dense), **facts})
    with replacing(path) as partial:
        partial.write_bytes(save(dense, {"pcsim": described}))


def read_tensors(path: Path, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and facts of a file of the given kind that `write_tensors` wrote.

    Raises StorageError if the file is missing, truncated or altered, or has another kind or format version.
    """
    try:
        with safe_open(str(path), "pt") as opened:
            facts = json.loads((opened.metadata() or {})["pcsim"])
            names = opened.keys()
            tensors = {name: opened.get_tensor(name) for name in names}
    except (OSError, SafetensorError, KeyError, json.JSONDecodeError, UnicodeDecodeError) as reason:
        raise _damaged(path, f"{type(reason).__name__}: {reason}") from reason
    if facts.get("format") != FORMAT or facts.get("kind") != kind:
        raise StorageError(
            given=f"{path}, a file of kind {facts.get('kind')!r} and format version {facts.get('format')}",
            expected=f"a file of kind {kind!r} and format version {FORMAT}",
            remedy=f"pass a file of kind {kind!r}, or load this file with the pcsim version that wrote it",
        )
    if facts.pop("sha256") != _digest(tensors):
        raise _damaged(path, "its content does not match its SHA-256")
    return tensors, facts


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose names start with `prefix`, with the prefix removed."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _damaged(path: Path, reason: str) -> StorageError:
    missing = not path.exists()
    return StorageError(
        given=f"{path}, which {'does not exist' if missing else f'cannot be read ({reason})'}",
        expected="a complete file written by pcsim",
        remedy="check the path" if missing else "delete it and create it again; damaged files are never used",
    )


def flatten_nested(nested: object, prefix: str = "") -> tuple[dict[str, Tensor], object]:
    """Split nested dicts and lists into tensors by path and a JSON skeleton that refers to these paths."""
    if isinstance(nested, Tensor):
        return {prefix: nested}, {"tensor": prefix}
    if isinstance(nested, dict):
        tensors: dict[str, Tensor] = {}
        items = []
        for key, value in nested.items():
            inner, skeleton = flatten_nested(value, f"{prefix}/{key}")
            tensors |= inner
            items.append([key, skeleton])
        return tensors, {"dict": items}
    if isinstance(nested, list | tuple):
        parts = [flatten_nested(value, f"{prefix}/{index}") for index, value in enumerate(nested)]
        return {name: tensor for inner, _ in parts for name, tensor in inner.items()}, {
            "list": [skeleton for _, skeleton in parts]
        }
    return {}, {"value": nested}


def restore_nested(tensors: Mapping[str, Tensor], skeleton: Any) -> Any:
    """Rebuild the nested dicts and lists from the output of `flatten_nested`."""
    (kind, content), *_ = skeleton.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: restore_nested(tensors, value) for key, value in content}
    if kind == "list":
        return [restore_nested(tensors, value) for value in content]
    return content
