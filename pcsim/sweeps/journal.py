"""The journal of a search: Optuna's own format, one JSON object a line, with a checksum in each.

Optuna's tools read it as it is: they ignore the checksum.
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

START = b'{"check":"'


class Journal:
    """A file of log entries, in the form of an Optuna journal backend. One process at a time may append.

    Raises StorageError for a file that another program wrote, and for a line that was changed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.exists():
            _require_own(path)

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Yield the entries from one number on; an incomplete last line is not an entry."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            for number, line in enumerate(file):
                if not line.endswith(b"\n"):
                    return
                entry = _checked(line, number)
                if entry is None:
                    raise StorageError(
                        given=f"{self.path}, whose line {number + 1} was changed",
                        expected="lines that match their checksums",
                        remedy="restore the file from a copy, or search in another folder",
                    )
                if number >= log_number_from:
                    yield entry

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append entries, and wait until they are on disk."""
        content = self.path.read_bytes() if self.path.exists() else b""
        first = content.count(b"\n")
        with self.path.open("ab") as file:
            file.write(b"".join(_line(log, first + n) for n, log in enumerate(logs)))
            file.flush()
            os.fsync(file.fileno())

    def cut_off_half_a_line(self) -> None:
        """Remove an incomplete last line, which would make the next one unreadable: its writer was killed."""
        if self.path.exists() and not (content := self.path.read_bytes()).endswith(b"\n"):
            with self.path.open("rb+") as file:
                file.truncate(content.rfind(b"\n") + 1)


def _require_own(path: Path) -> None:
    with require_file(path).open("rb") as file:
        line = file.readline(2**20)
    complete = line.endswith(b"\n")
    if _checked(line, 0) is None if complete else not START.startswith(line[: len(START)]):
        raise StorageError(
            given=f"{path}, which is not the journal of a search of pcsim, or was changed at its start",
            expected="a journal that pcsim wrote, or none",
            remedy="search in another folder; the file was left as it was",
        )


def _line(log: dict[str, Any], number: int) -> bytes:
    text = json.dumps(log, separators=(",", ":"))
    return START + _check_of(text.encode(), number) + b'",' + text.encode()[1:] + b"\n"


def _check_of(text: bytes, number: int) -> bytes:
    return hashlib.sha256(b"%d " % number + text).hexdigest()[:16].encode()


def _checked(line: bytes, number: int) -> dict[str, Any] | None:
    """Return the entry in a complete line; None if it does not match its checksum."""
    check, rest = line[len(START) : len(START) + 16], line[len(START) + 18 : -1]
    text = b"{" + rest
    if line != START + check + b'",' + rest + b"\n" or _check_of(text, number) != check:
        return None
    entry: dict[str, Any] = json.loads(text)
    return entry
