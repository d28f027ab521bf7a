"""Files of public data sets: read from a local folder or downloaded once, and always verified."""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from collections.abc import Sequence
from pathlib import Path

from pcsim.core.exceptions import StimulusError, StorageError, needs_extra
from pcsim.core.storage import full_path

MOST_BYTES = 2**31
"""maximum memory in bytes for the frames of one file; increase it to load larger files"""
MOST_DATA_BYTES = 2**26
"""maximum size in bytes of an unpacked file from a public data set; MNIST's training images take 47 MB"""


def require_affordable(size: int, path: Path) -> None:
    """Raise StimulusError if the decompressed content of a file takes more than `MOST_BYTES`."""
    if size > MOST_BYTES:
        raise StimulusError(
            given=f"{path}, whose content takes {size:,} bytes of memory",
            expected=f"at most pcsim.stimuli.files.MOST_BYTES = {MOST_BYTES:,} bytes",
            remedy=f"split the file, or set pcsim.stimuli.files.MOST_BYTES = {size} if you trust it",
        )


def folder_of(given: Path | str | None, variable: str) -> Path | None:
    """Return the full path of `given`, or of the folder in the environment variable, or None if neither is set."""
    folder = given or os.environ.get(variable)
    return full_path(folder) if folder else None


def local(folder: Path, names: Sequence[str], variable: str, what: str) -> Path:
    """Return the path of the first of `names` that exists in `folder`. Raises StorageError if none exists."""
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise StorageError(
        given=f"folder {folder}",
        expected=f"a folder that contains {' or '.join(names)}",
        remedy=f"set {variable} or folder=... to the folder with {what}, or leave both unset to download the data",
    )


def cached(data_set: str, name: str, mirrors: Sequence[str], variable: str, what: str) -> Path:
    """Return the path of a file in the user's cache, downloading it with pooch from the first mirror that answers.

    Raises StorageError if no mirror answers or if pooch (`data` extra) is not installed.
    """
    with needs_extra("data", StorageError, f"no local copy of {data_set}", f"set {variable} to a folder with {what}"):
        import pooch
    cache, failures = pooch.os_cache("pcsim") / data_set, []
    for mirror in mirrors:
        try:
            # pooch is given no hash, because files may be compressed differently; `checked` verifies their content.
            return Path(pooch.retrieve(f"{mirror}{name}", known_hash=None, fname=name, path=cache))
        except (OSError, ValueError) as reason:  # includes network and HTTP errors from requests
            failures.append(f"{mirror}: {reason}")
    raise StorageError(
        given=f"no local copy of {data_set}, and no response from any mirror ({'; '.join(failures)})",
        expected=f"the file {name}",
        remedy=f"put {what} into a folder and set {variable} to it",
    )


def unpacked(path: Path) -> bytes:
    """Return the content of a file, decompressing .gz files.

    Raises StorageError if the file cannot be read or contains more than `MOST_DATA_BYTES`.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read(MOST_DATA_BYTES + 1)
        if len(content) > MOST_DATA_BYTES:
            raise EOFError(f"it is larger than MOST_DATA_BYTES = {MOST_DATA_BYTES:,}")
    except (OSError, EOFError, zlib.error) as reason:
        raise StorageError(
            given=f"{path}, which cannot be read: {reason}",
            expected="a complete file",
            remedy=f"delete {path} and download it again",
        ) from reason
    return content


def checked(path: Path, content: bytes, name: str, digest: str) -> bytes:
    """Return `content` if its SHA-256 is `digest`. Raises StorageError otherwise."""
    found = hashlib.sha256(content).hexdigest()
    if found != digest:
        raise StorageError(
            given=f"{path}, whose content has the SHA-256 {found[:12]}...",
            expected=f"{name} with the SHA-256 {digest[:12]}...",
            remedy=f"delete {path} and download it again: the file is damaged or has the wrong content",
        )
    return content
