"""Files of public data sets: from a local folder first, else downloaded once, and checked either way."""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from collections.abc import Sequence
from pathlib import Path

from pcsim.core.exceptions import StorageError, needs_extra


def folder_of(given: Path | None, variable: str) -> Path | None:
    """Return `given`, or the folder in an environment variable, or None."""
    return given or (Path(os.environ[variable]) if variable in os.environ else None)


def local(folder: Path, names: Sequence[str], variable: str, what: str) -> Path:
    """Return the first of `names` that is in `folder`. Raises StorageError if none is."""
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise StorageError(
        given=f"folder {folder}",
        expected=f"{' or '.join(names)} in it",
        remedy=f"set {variable} or pass folder=... to the folder with {what}; leave both out to download it",
    )


def cached(data_set: str, name: str, mirrors: Sequence[str], variable: str, what: str) -> Path:
    """Return the file in the user's cache, downloaded by pooch from the first mirror that answers.

    Raises StorageError if none does, or pooch is missing (extra `data`).
    """
    with needs_extra("data", StorageError, f"no local {data_set}", f"set {variable} to a folder with {what}"):
        import pooch
    cache, failures = pooch.os_cache("pcsim") / data_set, []
    for mirror in mirrors:
        try:
            # `checked` compares the hash of the content: local files may be packed differently.
            return Path(pooch.retrieve(f"{mirror}{name}", known_hash=None, fname=name, path=cache))
        except (OSError, ValueError) as reason:  # also those of requests: no answer, or an HTTP error
            failures.append(f"{mirror}: {reason}")
    raise StorageError(
        given=f"no local {data_set}, and no mirror answered ({'; '.join(failures)})",
        expected=name,
        remedy=f"put {what} into a folder and set {variable} to it",
    )


def unpacked(path: Path) -> bytes:
    """Return the content of a file, decompressed if it is a .gz. Raises StorageError if it cannot be read."""
    try:
        return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as reason:
        raise StorageError(
            given=f"{path}, which cannot be read: {reason}",
            expected="a complete file",
            remedy=f"delete {path} and download it again",
        ) from reason


def checked(path: Path, content: bytes, name: str, digest: str) -> bytes:
    """Return `content` if it has that SHA-256. Raises StorageError otherwise."""
    found = hashlib.sha256(content).hexdigest()
    if found != digest:
        raise StorageError(
            given=f"{path} with SHA-256 {found[:12]}... when unpacked",
            expected=f"{name} with {digest[:12]}...",
            remedy=f"delete {path} and download it again: it is damaged, or another file",
        )
    return content
