"""Locks of files: of several processes that share a folder, one works at a time on what a lock stands for.

The operating system releases a lock when its process ends, however it ends; there is nothing to expire or to clean up.
Where the system or the file system has no such locks, every process gets them: results are still written whole, but
two processes may compute the same one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pcsim.core.log import logger

try:
    import fcntl
except ImportError:  # not a Unix
    fcntl = None  # type: ignore[assignment]


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Lock a file for the time of a block, and remove it at its end; yield False if another process has it."""
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
        # Its owner may have removed the file between our opening and our locking it: then the lock is worth nothing.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file), path.stat()):
                return file
        os.close(file)
