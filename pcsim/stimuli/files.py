"""Files of public data sets: from a local folder first, else downloaded once, and checked either way."""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from collections.abc import Sequence
from pathlib import Path

from pcsim.core.exceptions import StorageError


def folder_of(given: Path | None, variable: str) -> Path | None:
    """`given`, or what an environment variable says; None for neither."""
    return given or (Path(os.environ[variable]) if variable in os.environ else None)


def local(folder: Path, names: Sequence[str], variable: str, what: str) -> Path:
    """The first of `names` that is in `folder`. Raises StorageError where there is none."""
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise StorageError(
        given=f"folder {folder}",
        expected=f"{' or '.join(names)} in it",
        remedy=f"point {variable} or the option at the folder with {what}, or leave it out to download",
    )


def cached(data_set: str, name: str, mirrors: Sequence[str], variable: str, what: str) -> Path:
    """Return the file in the user's cache, downloaded by pooch from the first mirror that answers.

    Raises StorageError where none does, or pooch is missing (extra `data`).
    """
    try:
        import pooch
    except ImportError as reason:
        raise StorageError(
            given=f"no local {data_set}, and no pooch to download it",
            expected=what,
            remedy=f'pip install "pcsim[data]", or set {variable} to a folder with {what}',
        ) from reason
    cache, failures = pooch.os_cache("pcsim") / data_set, []
    for mirror in mirrors:
        try:
            # The hash is checked by `checked`, of what is inside: local files may be packed differently.
            return Path(pooch.retrieve(f"{mirror}{name}", known_hash=None, fname=name, path=cache))
        except (OSError, ValueError) as reason:  # of requests, too: no answer, or a page that says there is none
            failures.append(f"{mirror}: {reason}")
    raise StorageError(
        given=f"no local {data_set}, and no mirror answered ({'; '.join(failures)})",
        expected=name,
        remedy=f"put {what} into a folder and set {variable} to it",
    )


def unpacked(path: Path) -> bytes:
    """Return what is in a file, or inside of a .gz. Raises StorageError for one that cannot be read."""
    try:
        return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as reason:
        raise StorageError(
            given=f"{path}, which cannot be read: {reason}",
            expected="a whole file",
            remedy="delete it and get it again",
        ) from reason


def checked(path: Path, content: bytes, name: str, digest: str) -> bytes:
    """`content` if it has that SHA-256. Raises StorageError otherwise."""
    found = hashlib.sha256(content).hexdigest()
    if found != digest:
        raise StorageError(
            given=f"{path} with SHA-256 {found[:12]}... when unpacked",
            expected=f"{name} with {digest[:12]}...",
            remedy="the file is damaged or is another one: delete it and get it again",
        )
    return content
