"""Exit statuses of command-line programs, which print messages instead of tracebacks.

    0    success
    1    a bug; the traceback is printed. From `pcsim reproduce`: a score differs by more than its tolerance
    2    invalid input, or a file or directory that cannot be read or written
    130  stopped by Ctrl-C; run the same command again to resume
    143  stopped by SIGTERM; run the same command again to resume

Import this module before PyTorch, so that signals are handled while PyTorch is imported, which takes over a second.
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

COMMAND = "pcsim"
"""the command that pip installs"""
PROGRAMS = ("pcsim", "experiments")
"""packages whose modules can be run with `python -m`"""
STOPPED = "stopped: run the same command again to resume"
PATIENCE_S = 10.0
"""maximum time for cleaning up after a program is stopped"""
_NO_MEMORY = re.compile("can't allocate memory|out of memory|Storage size calculation overflowed")
"""messages of the RuntimeErrors that PyTorch raises when it runs out of memory"""
_received = 0
"""number of the signal that stopped the program"""


class _Stopped(KeyboardInterrupt):
    """Raised on Ctrl-C or SIGTERM."""


@contextmanager
def program() -> Iterator[None]:
    """Run the block as a program that exits with one of this module's statuses.

    If its output is no longer read, as in `... | head -1`, the program continues and its output is discarded.
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
        if _received:  # a library may have replaced _Stopped with another exception
            status = 128 + _received
        elif isinstance(reason, PcsimError):
            status = 2
            _say(f"error: {reason}")
        elif isinstance(reason, MemoryError) or _NO_MEMORY.search(str(reason)):
            status = 2
            _say(f"error: given: a run that needs too much memory ({reason})\nremedy: reduce the size of the run")
        else:
            raise
        _release(reason)
    _on_signals(signal.SIG_IGN)
    if status:
        raise SystemExit(status)


@contextmanager
def importing() -> Iterator[None]:
    """Let signals end the program immediately during imports, which could swallow an exception."""
    _on_signals(_leave)
    yield
    _on_signals(_stop)


def _release(reason: BaseException) -> None:
    """Clear the frames of an exception, which closes generators with workers, and terminate all child processes."""
    import multiprocessing
    import traceback

    traceback.clear_frames(reason.__traceback__)
    for process in multiprocessing.active_children():
        process.terminate()


def _on_signals(handler: Callable[..., None] | signal.Handlers) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handler)


def _stop(number: int, *_: object) -> None:
    """Raise _Stopped. Ignore further signals: `timeout` sends two, and the second would interrupt the clean-up."""
    global _received
    _on_signals(signal.SIG_IGN)
    _say(STOPPED)
    _received = number
    patience = threading.Timer(PATIENCE_S, os._exit, (128 + number,))  # a library may swallow the exception
    patience.daemon = True
    patience.start()
    raise _Stopped


def _leave(number: int, *_: object) -> None:
    """End the program immediately."""
    _say(STOPPED)
    os._exit(128 + number)


def _leave_if_swallowed(unraisable: UnraisableHookArgs) -> None:
    """End the program if _Stopped was raised in a destructor or callback, from which exceptions do not propagate."""
    if isinstance(unraisable.exc_value, _Stopped):
        os._exit(128 + _received)
    sys.__unraisablehook__(unraisable)


# ---------------------------------------------------------------------- standard streams


class _Output(io.FileIO):
    """Standard output that discards everything written to a closed pipe. Raises StorageError if the disk is full."""

    def write(self, content: Any) -> int:
        try:
            return super().write(content)
        except OSError as reason:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())  # flushing the buffers would fail again
            if isinstance(reason, BrokenPipeError):
                return super().write(content)
            raise StorageError(
                given=f"standard output, which cannot be written ({reason.strerror})",
                expected="a terminal, a pipe, or a file on a disk with enough space",
                remedy="free some space, or redirect the output to another file",
            ) from reason


def _open_streams() -> None:
    """Replace closed streams with the null device, and wrap standard output in `_Output`."""
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115 - open until the program ends
    old = sys.stdout
    if old is None:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    elif isinstance(old, io.TextIOWrapper):
        raw = _Output(old.fileno(), "w", closefd=False)
        is_unbuffered = old.write_through  # set by `python -u`
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


def _is_program() -> bool:
    """Return whether Python is starting the `pcsim` command, or a module of one of `PROGRAMS` with `python -m`."""
    if sys.argv[:1] != ["-m"]:
        return os.path.basename(sys.argv[0] if sys.argv else "").removesuffix(".exe") == COMMAND
    return sys.orig_argv[-len(sys.argv)].removeprefix("-m").partition(".")[0] in PROGRAMS


if _is_program():
    _on_signals(_leave)  # Python is still importing packages; there is nothing to clean up yet
