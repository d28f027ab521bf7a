"""The journal of a search, in Optuna's own format: one JSON object per line, each with a checksum.

Optuna's tools can read the file, because they ignore the checksum.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pcsim.core.exceptions import StorageError
from pcsim.core.storage import require_file
from pcsim.sweeps.lock import waiting_for

START = b'{"check":"'


class Journal:
    """A file of log entries that serves as an Optuna journal backend.

    Raises StorageError if the file was written by another program, or if a line was modified.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read = (0, 0)
        """number and position of the first line that has not been verified by this object"""
        if path.exists():
            _require_own(path)

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Yield the entries from number `log_number_from` on, ignoring an incomplete last line."""
        if not self.path.exists():
            return
        first, position = self._read if self._read[0] <= log_number_from else (0, 0)
        with self.path.open("rb") as file:
            file.seek(position)
            for number, line in enumerate(file, first):
                if not line.endswith(b"\n"):
                    return
                entry = _checked(line, number)
                if entry is None:
                    raise StorageError(
                        given=f"{self.path}, in which line {number + 1} was modified",
                        expected="lines that match their checksums",
                        remedy="restore the file from a backup, or use another folder for the search",
                    )
                position += len(line)
                self._read = max(self._read, (number + 1, position))
                if number >= log_number_from:
                    yield entry

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append entries and wait until they are on disk."""
        with self.path.open("ab+") as file, waiting_for(file):  # no line number may be used twice
            first, position = self._read
            file.seek(position)
            first += file.read().count(b"\n")
            file.write(b"".join(_line(log, first + n) for n, log in enumerate(logs)))
            file.flush()
            os.fsync(file.fileno())

    def cut_off_half_a_line(self) -> None:
        """Remove an incomplete last line, left by a killed process, which would make the next entry unreadable."""
        if self.path.exists() and not (content := self.path.read_bytes()).endswith(b"\n"):
            with self.path.open("rb+") as file:
                file.truncate(content.rfind(b"\n") + 1)


def _require_own(path: Path) -> None:
    with require_file(path).open("rb") as file:
        line = file.readline(2**20)
    complete = line.endswith(b"\n")
    if _checked(line, 0) is None if complete else not START.startswith(line[: len(START)]):
        raise StorageError(
            given=f"{path}, which is not the journal of a pcsim search or has a modified first line",
            expected="a journal written by pcsim, or no file",
            remedy="use another folder for the search; the file was not modified",
        )


def _line(log: dict[str, Any], number: int) -> bytes:
    text = json.dumps(log, separators=(",", ":"))
    return START + _check_of(text.encode(), number) + b'",' + text.encode()[1:] + b"\n"


def _check_of(text: bytes, number: int) -> bytes:
    return hashlib.sha256(b"%d " % number + text).hexdigest()[:16].encode()


def _checked(line: bytes, number: int) -> dict[str, Any] | None:
    """Return the entry of a complete line, or None if the line does not match its checksum."""
    check, rest = line[len(START) : len(START) + 16], line[len(START) + 18 : -1]
    text = b"{" + rest
    if line != START + check + b'",' + rest + b"\n" or _check_of(text, number) != check:
        return None
    entry: dict[str, Any] = json.loads(text)
    return entry
