"""File locks that keep processes sharing a folder from computing the same result twice.

The operating system releases a lock when its process exits or is killed, so stale locks cannot occur. If the
system or the file system does not support locks, every attempt to acquire a lock succeeds. Results are still written
atomically, but two processes may compute the same result.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from pcsim.core.log import logger

try:
    import fcntl
except ImportError:  # not a Unix system
    fcntl = None  # type: ignore[assignment]


@contextmanager
def waiting_for(file: IO[bytes]) -> Iterator[None]:
    """Lock an open file for the duration of a block, waiting while another process holds the lock."""
    if fcntl is not None:
        with suppress(OSError):  # the file system does not support locks
            fcntl.flock(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        if fcntl is not None:
            with suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_UN)


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Lock a file for the duration of a block, then remove it. Yield whether this process holds the lock."""
    file = _acquire(path)
    try:
        yield file is not None
    finally:
        if file is not None:
            with suppress(OSError):
                path.unlink(missing_ok=True)
            os.close(file)


def _acquire(path: Path) -> int | None:
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        file = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
        try:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return None
        except OSError as reason:
            logger.warning("%s cannot be locked (%s): two processes may compute the same result", path, reason)
            return file
        # The previous owner may have removed the file after we opened it. The lock is then useless, so try again.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file), path.stat()):
                return file
        os.close(file)
