"""Safe file formats: files are either complete or absent, are verified when read, and contain no code.

Tensors are stored in safetensors files with JSON metadata. Every tensor file and JSON file contains the SHA-256 of its
own bytes, computed with zeros in place of the digest. This module imports only the exceptions from pcsim.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import socket
import stat
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from pcsim.core.exceptions import PcsimError, StorageError

FORMAT = 2
MARK = "written by pcsim"
"""text near the start of every pcsim file, or near the end of a PDF; files without it are never overwritten"""
OWN_EXTENSIONS = (".pcsim", ".run", ".safetensors")
MOST_JSON_BYTES = 2**28
"""maximum size of a JSON file; increase it to read larger files"""
HEAD_BYTES, MOST_HEADER_BYTES, CHUNK_BYTES = 4096, 100_000_000, 2**20
NO_DIGEST = b"0" * 64
_HOST = re.sub(r"\W", "-", socket.gethostname())[:40]
CHANGED = "its contents do not match its SHA-256"
_DIGEST = re.compile(rb"(?:sha256\\*|" + MARK.encode() + rb")\\*\": \\*\"([0-9a-f]{64})\\*\"")
_PARTIAL = re.compile(r"\..*\.(?P<host>[\w-]+)\.(?P<pid>\d+)-\d+\.pcsim-part")


# ---------------------------------------------------------------------- paths


def full_path(path: str | Path) -> Path:
    """Return a path with `~` expanded. Raises StorageError for values that are not valid paths."""
    try:
        if path == "":  # pathlib would interpret it as the current folder
            raise ValueError("it is empty")
        expanded = Path(path).expanduser()
        if "\0" in str(expanded):
            raise ValueError("it contains a NUL character")
    except (RuntimeError, TypeError, ValueError) as reason:
        raise StorageError(
            given=f"{path!r} as a path ({reason})",
            expected="the path of a file or folder",
            remedy="pass a string or a pathlib.Path, such as 'results/run'",
        ) from reason
    return expanded


def require_file(path: str | Path, error: type[PcsimError] = StorageError) -> Path:
    """Return the path of a regular file, or of a link to a regular file, with `~` expanded.

    Raises `error` for anything else, because reads from a pipe or a device could block indefinitely.
    """
    full = full_path(path)
    try:
        mode = full.stat().st_mode
    except OSError as reason:
        missing = isinstance(reason, FileNotFoundError)
        raise error(
            given=f"{full}, which " + ("does not exist" if missing else f"cannot be read ({reason.strerror})"),
            expected="the path of a file",
            remedy=f"check the path; the current folder is {Path.cwd()}",
        ) from reason
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe, socket or device"
        raise error(given=f"{full}, which is {kind}", expected="a file", remedy="pass the path of a regular file")
    return full


def require_own_extension(path: str | Path, name: str, exports: Iterable[str] = ()) -> None:
    """Raise StorageError if `path` has the extension of another format.

    name     variable name used in the remedy, such as "net"
    exports  extensions of the other formats in which the variable can be saved
    """
    extension = full_path(path).suffix
    is_number = not extension[1:2].isalpha()  # as in "rate0.01"
    if not is_number and extension not in OWN_EXTENSIONS:
        others = f", or {', '.join(exports)} for other formats" if exports else ""
        raise StorageError(
            given=f"{path}, a file with the extension {extension}",
            expected=f"{', '.join(OWN_EXTENSIONS)} or no extension for pcsim's own format{others}",
            remedy=f'call {name}.save("{Path(path).stem}.pcsim")',
        )


def require_new(path: str | Path, overwrite: bool) -> None:
    """Raise StorageError if `path` exists, unless `overwrite` is True."""
    if not overwrite and os.path.lexists(full := full_path(path)):
        raise StorageError(
            given=f"{full}, which already exists",
            expected="a new path, because files are not overwritten by default",
            remedy="pass overwrite=True to replace this file, or choose another path",
        )


@contextmanager
def replacing(path: str | Path, is_ours: bool = True) -> Iterator[Path]:
    """Yield the path of a temporary file, which replaces `path` once it is complete and on disk.

    If `path` is a link, the link is kept and its target is replaced. Raises StorageError if the file cannot be written,
    or if `path` exists and was not written by pcsim. With `is_ours=False`, for formats that cannot contain `MARK`, any
    regular file may be replaced.
    """
    target = Path(os.path.realpath(full_path(path)))
    name = f".{target.name[:120]}.{_HOST}.{os.getpid()}-{threading.get_ident()}.pcsim-part"
    partial = target.with_name(name)
    try:
        if is_ours or not target.is_file():
            _require_own(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        with partial.open("rb+") as written:
            os.fsync(written.fileno())
        if target.exists():
            shutil.copymode(target, partial)
        partial.replace(target)
    except OSError as reason:
        raise _unwritable(target, reason) from reason
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def _require_own(target: Path) -> None:
    """Raise StorageError if `target` exists and was not written by pcsim, because its contents would be lost."""
    if not target.exists():
        return
    if is_own := target.is_file():
        with target.open("rb") as file:
            head = file.read(HEAD_BYTES)
            file.seek(max(0, file.seek(0, os.SEEK_END) - HEAD_BYTES))
            is_own = not head or MARK.encode() in head + (file.read() if head.startswith(b"%PDF-") else b"")
    if not is_own:
        raise StorageError(
            given=f"{target}, which already exists and was not written by pcsim",
            expected="a new path, or a file written by pcsim",
            remedy="choose another path, or move the existing file",
        )


def _unwritable(path: Path, reason: OSError) -> StorageError:
    with suppress(OSError):
        free = shutil.disk_usage(path.parent).free
        return StorageError(
            given=f"{path}, which cannot be written ({reason.strerror or reason}; {free / 1e6:,.0f} MB are free)",
            expected="a writable directory with enough free space",
            remedy="choose another path or free some space; any existing file at this path is unchanged",
        )
    return StorageError(
        given=f"{path}, which cannot be written ({reason.strerror or reason})",
        expected="a writable directory",
        remedy="choose another path, such as results/run",
    )


def make_folder(path: str | Path) -> Path:
    """Create a directory and its parents, and return its path. Raises StorageError if it cannot be created."""
    folder = full_path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as reason:
        raise _unwritable(folder, reason) from reason
    return folder


def remove_partials(folder: Path) -> None:
    """Remove temporary files left in `folder` or its subfolders by killed processes on this machine."""
    for partial in folder.rglob(".*.pcsim-part"):
        parts = _PARTIAL.fullmatch(partial.name)
        if parts is not None and parts["host"] == _HOST and not _is_alive(int(parts["pid"])):
            with suppress(OSError):
                partial.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    """Return whether a process is running on this machine."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # the process belongs to another user
        return True
    return True


# ---------------------------------------------------------------------- JSON


def plain(value: Any) -> Any:
    """Convert a configuration to JSON types: dataclasses to dicts, tuples to lists, and paths to strings."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return str(value) if isinstance(value, Path) else value


def write_text(path: str | Path, text: str) -> None:
    """Write a text file atomically. It can be replaced later only if `MARK` occurs near its start."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file atomically, with a checksum and the keys in the given order.

    Raises StorageError for NaN, infinity and types that JSON does not support.
    """
    try:
        text = json.dumps({MARK: NO_DIGEST.decode(), **content}, indent=1, allow_nan=False) + "\n"
    except (TypeError, ValueError) as reason:
        raise StorageError(
            given=f"a value for {path} that JSON cannot represent ({reason})",
            expected="finite numbers, strings, lists and dicts",
            remedy="replace NaN with None, and arrays with array.tolist()",
        ) from reason
    with replacing(path) as partial:
        partial.write_bytes(_signed(text.encode()))


def read_json(path: str | Path) -> dict[str, Any]:
    """Read a file written by `write_json`. Raises StorageError if it is missing, altered or not a pcsim file."""
    path = require_file(path)
    try:
        if path.stat().st_size > MOST_JSON_BYTES:
            raise ValueError(f"it has more than storage.MOST_JSON_BYTES = {MOST_JSON_BYTES:,} bytes")
        content = path.read_bytes()
        if MARK.encode() not in content[:HEAD_BYTES]:
            raise _foreign(path)
        if _signed(content.replace(_digest_in(content), NO_DIGEST, 1)) != content:
            raise ValueError(CHANGED)
        parsed: dict[str, Any] = json.loads(content, parse_constant=_refuse_constant)
    except StorageError:
        raise
    except (OSError, ValueError, RecursionError) as reason:
        raise _damaged(path, reason) from reason
    del parsed[MARK]
    return parsed


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"it contains {name}")


def _signed(content: bytes) -> bytes:
    """Return `content` with the first run of 64 zeros replaced by the SHA-256 of `content`."""
    return content.replace(NO_DIGEST, hashlib.sha256(content).hexdigest().encode(), 1)


def _digest_in(head: bytes) -> bytes:
    """Return the SHA-256 stored near the start of a file."""
    found = _DIGEST.search(head[:HEAD_BYTES])
    if found is None:
        raise ValueError("it has no checksum")
    return found[1]


def _foreign(path: Path) -> StorageError:
    return StorageError(
        given=f"{path}, which is not a pcsim file",
        expected=f"a file written by pcsim, with format version {FORMAT}",
        remedy="pass another path; to load weights from other packages, use pcsim.models.published",
    )


def _damaged(path: Path, reason: Exception) -> StorageError:
    return StorageError(
        given=f"{path}, which cannot be read ({type(reason).__name__}: {str(reason)[:200]})",
        expected="a complete file written by pcsim",
        remedy="restore it from a backup, or delete and recreate it; damaged files are never used",
    )


# ---------------------------------------------------------------------- tensors


def write_tensors(path: str | Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write tensors and JSON-serialisable `facts`, including a "kind", to a single file with a checksum."""
    # Copy the tensors, because safetensors rejects tensors that share memory, as stored past values may.
    dense = {n: t.detach().cpu().clone(memory_format=torch.contiguous_format) for n, t in tensors.items()}
    try:
        described = json.dumps({"sha256": NO_DIGEST.decode(), "format": FORMAT, **facts})
    except (TypeError, ValueError) as reason:
        raise StorageError(
            given=f"a value for {path} that JSON cannot represent ({reason})",
            expected="tensors, and metadata consisting of numbers, strings, lists and dicts",
            remedy="pass arrays as tensors, and other objects as strings",
        ) from reason
    with replacing(path) as partial:
        partial.write_bytes(_signed(save(dense, {MARK: described})))


def read_tensors(path: str | Path, *kinds: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and metadata from a file written by `write_tensors`, whose kind must be one of `kinds`.

    Raises StorageError if the file is missing, truncated or altered, or if it has another kind or format version.
    """
    path = require_file(path)
    try:
        _check_tensors(path)
        with safe_open(str(path), "pt") as opened:
            facts: dict[str, Any] = json.loads(opened.metadata()[MARK])
            names = opened.keys()
            tensors = {name: opened.get_tensor(name) for name in names}
    except StorageError:
        raise
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RecursionError) as reason:
        raise _damaged(path, reason) from reason
    if facts.get("format") != FORMAT or facts.get("kind") not in kinds:
        wanted = " or ".join(map(repr, kinds))
        raise StorageError(
            given=f"{path}, a file of kind {facts.get('kind')!r} and format version {facts.get('format')}",
            expected=f"a file of kind {wanted} and format version {FORMAT}",
            remedy=f"pass a file of kind {wanted}, or load this file with the pcsim version that wrote it",
        )
    del facts["sha256"]
    return tensors, facts


def _check_tensors(path: Path) -> None:
    """Verify a checksum. Raises ValueError if the file is damaged, and StorageError if it is not a pcsim file."""
    with path.open("rb") as file:
        start = file.read(8)
        size = int.from_bytes(start, "little")
        if len(start) < 8 or size > min(MOST_HEADER_BYTES, path.stat().st_size - 8):
            raise ValueError("its header is damaged") if MARK.encode() in file.read(HEAD_BYTES) else _foreign(path)
        head = start + file.read(size)
        if MARK.encode() not in head[:HEAD_BYTES]:
            raise _foreign(path)
        known = _digest_in(head)
        digest = hashlib.sha256(head.replace(known, NO_DIGEST, 1))
        while part := file.read(CHUNK_BYTES):
            digest.update(part)
    if digest.hexdigest().encode() != known:
        raise ValueError(CHANGED)


@contextmanager
def content_of(path: str | Path, what: str, remedy: str) -> Iterator[None]:
    """Convert errors caused by missing or invalid content to a StorageError that names the path and the key."""
    try:
        yield
    except PcsimError:
        raise
    except (KeyError, IndexError, TypeError, AttributeError, ValueError, RuntimeError) as reason:
        raise StorageError(
            given=f"{path}, in which {reason} is missing or invalid ({type(reason).__name__})",
            expected=f"{what} written by this version of pcsim",
            remedy=remedy,
        ) from reason


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose names start with `prefix`, with the prefix removed."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
