"""Run many command lines quickly by importing everything once and forking for each line.

    python command_lines.py SECONDS < lines.json     [[module, argument, ...], ...] -> one JSON row per line

A command line that takes longer than SECONDS is terminated with SIGTERM.
"""

from __future__ import annotations

import json
import os
import resource
import runpy
import signal
import sys
import tempfile
import threading
import warnings

MOST_BYTES = 2**33
"""maximum memory that a command line may reserve"""


def run(words: list[str], seconds: float) -> dict:
    """Run one command line in a separate process, and return its exit status and output."""
    with tempfile.TemporaryFile() as printed, tempfile.TemporaryFile() as said:
        child = os.fork()
        if child == 0:
            as_program(words, printed.fileno(), said.fileno())
        timer = threading.Timer(seconds, os.kill, (child, signal.SIGTERM))
        timer.start()
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        timer.cancel()
        printed.seek(0)
        said.seek(0)
        return {"status": status, "printed": printed.read().decode(), "said": said.read().decode()}


def as_program(words: list[str], out: int, err: int) -> None:
    """Make this process act as `python -m WORDS`."""
    os.setsid()
    os.dup2(out, 1)
    os.dup2(err, 2)
    resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
    warnings.simplefilter("ignore", RuntimeWarning)  # about running a module that has already been imported
    sys.argv = [words[0], *words[1:]]
    status = 1
    try:
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        os._exit(status)


if __name__ == "__main__":
    lines = json.load(sys.stdin)
    sys.path.insert(0, os.getcwd())
    for name in {words[0] for words in lines}:
        __import__(name)
    for words in lines:
        print(json.dumps(run(words, float(sys.argv[1]))), flush=True)
