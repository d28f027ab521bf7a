"""Endings of programs: an exit status, and a message in place of a traceback.

    0    done
    1    a bug, with its traceback
    2    wrong input, or a file or folder that cannot be read or written
    130  stopped by Ctrl-C; the same command resumes
    143  stopped by SIGTERM; the same command resumes

Import this module before PyTorch, whose import takes more than a second: from then on, a program can be stopped.
"""

from __future__ import annotations

import io
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from pcsim.core.exceptions import PcsimError, StorageError

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

PROGRAMS = ("pcsim", "experiments")
"""packages whose modules are run by `python -m`"""
STOPPED = "stopped: run the same command again to resume"
PATIENCE_S = 10.0
"""time that a stopped program has for cleaning up"""
_NO_MEMORY = re.compile("can't allocate memory|out of memory|Storage size calculation overflowed")
"""how PyTorch says that it has too little memory, in a RuntimeError"""
_received = 0
"""number of the signal that stopped the program"""


class _Stopped(KeyboardInterrupt):
    """Ctrl-C or SIGTERM."""


@contextmanager
def program() -> Iterator[None]:
    """Run the block as a program that exits with one of the statuses above.

    If nobody reads its output any more, as in `... | head -1`, the program goes on and its output is discarded.
    """
    _open_streams()
    sys.unraisablehook = _leave_if_swallowed
    status = 0
    try:
        _on_signals(_stop)
        try:
            yield
        finally:
            sys.stdout.flush()
    except BaseException as reason:
        _on_signals(signal.SIG_IGN)
        if _received:  # whatever a library made of _Stopped
            status = 128 + _received
        elif isinstance(reason, PcsimError):
            status = 2
            _say(f"error: {reason}")
        elif isinstance(reason, MemoryError) or _NO_MEMORY.search(str(reason)):
            status = 2
            _say(f"error: given: a run for which the memory is too small ({reason})\nremedy: choose smaller options")
        else:
            raise
        _release(reason)
    _on_signals(signal.SIG_IGN)
    if status:
        raise SystemExit(status)


def _release(reason: BaseException) -> None:
    """End what the frames of an exception keep running: generators with worker processes, and processes that start."""
    import multiprocessing
    import traceback

    traceback.clear_frames(reason.__traceback__)
    for process in multiprocessing.active_children():
        process.terminate()


def _on_signals(handler: Callable[..., None] | signal.Handlers) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handler)


def _stop(number: int, *_: object) -> None:
    """Raise _Stopped. Ignore further signals: `timeout` sends two, of which the second would stop the clean-up."""
    global _received
    _on_signals(signal.SIG_IGN)
    _say(STOPPED)
    _received = number
    patience = threading.Timer(PATIENCE_S, os._exit, (128 + number,))  # a library may swallow the exception
    patience.daemon = True
    patience.start()
    raise _Stopped


def _leave(number: int, *_: object) -> None:
    """End the program at once."""
    _say(STOPPED)
    os._exit(128 + number)


def _leave_if_swallowed(unraisable: UnraisableHookArgs) -> None:
    """End the program if it was stopped in a destructor or callback, which no exception leaves."""
    if isinstance(unraisable.exc_value, _Stopped):
        os._exit(128 + _received)
    sys.__unraisablehook__(unraisable)


# ---------------------------------------------------------------------- standard streams


class _Output(io.FileIO):
    """Standard output, which discards everything once its reader is gone. Raises StorageError for a full disk."""

    def write(self, content: Any) -> int:
        try:
            return super().write(content)
        except OSError as reason:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())  # what is in buffers would fail again
            if isinstance(reason, BrokenPipeError):
                return super().write(content)
            raise StorageError(
                given=f"standard output, which cannot be written ({reason.strerror})",
                expected="a terminal, a pipe, or a file on a disk with enough space",
                remedy="free some space, or redirect the output to another file",
            ) from reason


def _open_streams() -> None:
    """Open the null device in place of closed streams, and standard output through `_Output`."""
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115 - open until the program ends
    old = sys.stdout
    if old is None:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    elif isinstance(old, io.TextIOWrapper):
        raw = _Output(old.fileno(), "w", closefd=False)
        is_unbuffered = old.write_through  # by `python -u`
        sys.stdout = io.TextIOWrapper(
            cast(BinaryIO, raw) if is_unbuffered else io.BufferedWriter(raw),
            old.encoding,
            errors="replace",
            line_buffering=old.line_buffering,
            write_through=is_unbuffered,
        )


def _say(message: str) -> None:
    """Write a line to standard error, even if a signal has interrupted another write."""
    if sys.stderr is not None:
        below_bars = "\n" if sys.stderr.isatty() else ""
        with suppress(OSError):
            os.write(sys.stderr.fileno(), f"{below_bars}{message}\n".encode())


if sys.argv[:1] == ["-m"] and sys.orig_argv[-len(sys.argv)].removeprefix("-m").partition(".")[0] in PROGRAMS:
    _on_signals(_leave)  # Python is importing the package of a program; there is nothing to clean up yet
