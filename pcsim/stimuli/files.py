"""Files of public data sets: from a local folder first, else downloaded once, and checked either way."""

from __future__ import annotations

import hashlib
import os
import urllib.error
import urllib.request
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
    """The file in the user's cache, downloaded from the first mirror that answers. Raises StorageError for none."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "pcsim" / data_set
    path = cache / name
    if path.is_file():
        return path
    failures = []
    for mirror in mirrors:
        try:
            with urllib.request.urlopen(f"{mirror}{name}", timeout=60) as answer:
                content = answer.read()
        except (urllib.error.URLError, TimeoutError) as reason:
            failures.append(f"{mirror}: {reason}")
            continue
        cache.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".part")
        partial.write_bytes(content)
        partial.replace(path)
        return path
    raise StorageError(
        given=f"no local {data_set}, and no mirror answered ({'; '.join(failures)})",
        expected=name,
        remedy=f"put {what} into a folder and set {variable} to it",
    )


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
