"""Executors that run calls locally or on a cluster, selected by name:

    here                               sequentially in this process, on one thread
    processes:4                        in 4 single-threaded processes on this machine
    dask, dask:4, dask:tcp://host:8786   on a Dask cluster, either local or at the given address
    slurm:partition=cpu,timeout_min=60   as a SLURM job array, submitted through submitit with these options

All follow the interface of `concurrent.futures`: submit(function, *arguments) returns a future with done() and
result(). Any other executor with this interface can be passed instead of a name.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast, runtime_checkable

import cloudpickle
import torch

from pcsim.core.checks import Count, checked
from pcsim.core.exceptions import SweepError, needs_extra
from pcsim.core.renamed import names_of
from pcsim.sweeps.identity import is_interactive

LOST = ("KilledWorker", "UncompletedJobError", "FutureCancelledError")
"""names of the exceptions that Dask and submitit raise for a lost worker, so neither package has to be imported"""
POLL_S, QUEUE_S = 0.02, 5.0
START_TRIES = 3


@runtime_checkable
class SupportsSubmit(Protocol):
    """The interface of an executor."""

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Any:
        """Return a future with done() and result()."""


class Outcome(NamedTuple):
    """The outcome of a call: its arguments, and either its result or the exception it raised."""

    arguments: tuple
    result: Any
    reason: Exception | None


@checked(SweepError)
def completed(
    executor: SupportsSubmit, function: Callable[..., Any], calls: Sequence[tuple], tries: Count = 5
) -> Iterator[Outcome]:
    """Yield the outcome of function(*arguments) for each of `calls`, in order of completion.

    Calls may be appended during iteration. If a worker is lost, its call is retried, up to `tries` attempts in total;
    if they all fail, the outcome is a SweepError. An exception raised by the function is part of its outcome.
    """
    waiting: list[tuple[Any, tuple, int]] = []
    begun = 0
    while waiting or begun < len(calls):
        if begun < len(calls):
            with _as_one_array(executor):
                waiting += [(executor.submit(function, *arguments), arguments, 1) for arguments in calls[begun:]]
            begun = len(calls)
        is_done = [future.done() for future, _, _ in waiting]
        ended = list(compress(waiting, is_done))
        waiting = [entry for entry, done in zip(waiting, is_done, strict=True) if not done]
        for future, arguments, tried in ended:
            try:
                yield Outcome(arguments, future.result(), None)
            except (Exception, CancelledError) as reason:
                if _worker_died(reason) and tried < tries:
                    waiting.append((executor.submit(function, *arguments), arguments, tried + 1))
                else:
                    yield Outcome(arguments, None, _lost(reason, tried) if _worker_died(reason) else reason)
        if not ended:
            time.sleep(POLL_S)


def _worker_died(reason: BaseException) -> bool:
    """Return whether a call failed because its worker was lost, rather than by raising an exception itself."""
    return isinstance(reason, BrokenExecutor | CancelledError) or type(reason).__name__ in LOST


def _lost(reason: BaseException, tried: int) -> SweepError:
    """Return the exception for a call whose worker was lost in every attempt."""
    lost = SweepError(
        given=f"a call whose worker died {tried} time{'s' * (tried > 1)} ({type(reason).__name__}: {reason})",
        expected="workers that survive their calls; the system kills processes if memory runs out",
        remedy="use fewer workers, such as where='processes:1', or use smaller batches, and start again",
    )
    lost.__cause__ = reason
    return lost


@contextmanager
def one_thread() -> Iterator[None]:
    """Run torch on one thread, as worker processes do, so that results do not depend on where they are computed."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class SerialExecutor(Executor):
    """An executor that runs each call in this thread, when its result is requested."""

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **options: Any) -> Any:
        """Return a future that runs the call when its result is requested."""
        return _Later(lambda: function(*arguments, **options))


class _Later(NamedTuple):
    result: Callable[[], Any]

    def done(self) -> bool:
        return True


@checked(SweepError)
class Processes(Executor):
    """An executor that runs calls in single-threaded processes. If one dies, it is replaced, and only its call fails.

    prepare  function called with the arguments `with_` in every new process
    The processes must be able to import the functions and the types of the arguments, unless they were entered in an
    interactive session, such as a notebook.
    """

    def __init__(self, workers: Count, prepare: Callable[..., None] | None = None, with_: tuple = ()) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._threads = ThreadPoolExecutor(workers)
        self._own = threading.local()
        self._prepare, self._with = prepare, with_
        self._children: dict[int, ProcessPoolExecutor] = {}
        self._is_open, self._failed_starts = True, 0

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **options: Any) -> Future:
        """Return a future that raises BrokenExecutor if its process dies."""
        return self._threads.submit(self._in_child, function, arguments, options)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Stop the processes when their calls have finished, or immediately if `wait` is False."""
        self._is_open = wait
        if not wait:
            for child in list(self._children):
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGTERM)
        self._threads.shutdown(wait, cancel_futures=cancel_futures or not wait)
        for pool in list(self._children.values()):
            pool.shutdown(wait)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.shutdown(wait=kind is None)

    def _in_child(self, function: Callable[..., Any], arguments: tuple, options: dict) -> Any:
        # Each thread has its own pool of one process: a larger pool breaks completely when one of its processes dies.
        if not self._is_open:
            raise CancelledError
        try:
            child = getattr(self._own, "child", None) or self._begin()
            self._own.child = child
            return self._children[child].submit(*_portable(function, arguments, options)).result()
        except BrokenExecutor:
            self._children.pop(self._own.__dict__.pop("child", -1), None)
            raise

    def _begin(self) -> int:
        pool = ProcessPoolExecutor(1, self._context, _start, (self._prepare, self._with))
        # Child processes inherit this mask, so Ctrl-C, which reaches the whole terminal, interrupts only this process.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            child: int = pool.submit(os.getpid).result()
        except BrokenExecutor as reason:
            self._failed_starts += 1
            if self._failed_starts < START_TRIES:
                raise
            raise SweepError(
                given=f"{self._failed_starts} consecutive processes that died during start-up",
                expected="a script that worker processes can import without running it",
                remedy="guard the script with `if __name__ == '__main__':` and define its functions in a module",
            ) from reason
        self._failed_starts = 0
        self._children[child] = pool
        if not self._is_open:  # `shutdown` did not yet know about this process
            os.kill(child, signal.SIGTERM)
        return child


def _portable(function: Callable[..., Any], arguments: tuple, options: dict) -> tuple[Any, ...]:
    """Return a call in a form that can be sent to another process.

    Functions and classes are sent by name, which fails for those entered in a notebook; cloudpickle sends their code.
    """
    if is_interactive():
        return _unpacked, cloudpickle.dumps((function, arguments, options))
    return partial(function, **options), *arguments


def _unpacked(call: bytes) -> Any:
    function, arguments, options = cloudpickle.loads(call)
    return function(*arguments, **options)


def _start(prepare: Callable[..., None] | None, arguments: tuple) -> None:
    torch.set_num_threads(1)
    parent = multiprocessing.parent_process()

    def leave_with_parent() -> None:
        if parent is not None:
            parent.join()
        os._exit(1)  # an orphaned worker must not keep writing to a folder that another run may take over

    threading.Thread(target=leave_with_parent, daemon=True).start()
    if prepare is not None:
        prepare(*arguments)


@checked(SweepError)
@contextmanager
def executor_named(name: str, folder: Path) -> Iterator[SupportsSubmit]:
    """Open the executor with the given name; SLURM jobs write their output to `folder`.

    Raises SweepError for an unknown name or a missing package.
    """
    kind, _, detail = name.partition(":")
    match kind:
        case "here":
            with one_thread():
                yield SerialExecutor()
        case "processes":
            with Processes(_count(detail) if detail else os.cpu_count() or 1) as executor:
                yield executor
        case "dask":
            with _dask(detail) as executor:
                yield executor
        case "slurm":
            yield _slurm(detail, folder)
        case _:
            raise SweepError(
                given=f"where={name!r}",
                expected="here, processes, dask or slurm, with optional details after a colon",
                remedy="pass where='processes:2', or an executor object",
            )


@contextmanager
def _dask(detail: str) -> Iterator[SupportsSubmit]:
    with needs_extra("cluster", SweepError, "where='dask'"):
        from distributed import Client, LocalCluster
    if "/" in detail:
        with Client(detail) as client:
            yield client.get_executor()
    else:
        options: dict[str, Any] = {"threads_per_worker": 1, "dashboard_address": None}
        if detail:
            options["n_workers"] = _count(detail)
        with LocalCluster(**options) as cluster, Client(cluster) as client:
            client.run(torch.set_num_threads, 1)
            yield client.get_executor()


def _slurm(detail: str, folder: Path) -> SupportsSubmit:
    with needs_extra("cluster", SweepError, "where='slurm'"):
        from submitit import AutoExecutor
    given = dict(pair.partition("=")[::2] for pair in detail.split(",") if pair)
    cluster = given.pop("cluster", "slurm")
    executor = AutoExecutor(folder / "slurm", cluster=cluster)
    executor.update_parameters(**{_submitit_name(k): int(v) if v.isdigit() else v for k, v in given.items()})
    return _Slurm(executor) if cluster == "slurm" else cast(SupportsSubmit, executor)


class _Slurm:
    """An executor that extends submitit's executor to detect lost jobs.

    submitit itself queries `sacct` only every ten minutes, and waits indefinitely if SLURM has no accounting.
    """

    def __init__(self, executor: Any) -> None:
        self.batch = executor.batch
        self._executor, self._queue = executor, _Queue()

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> _SlurmCall:
        return _SlurmCall(self._executor.submit(function, *arguments), self._queue)


class _Queue:
    """The current user's pending and running SLURM jobs, queried at most every `QUEUE_S` seconds."""

    def __init__(self) -> None:
        self._asked, self._jobs = -math.inf, frozenset[str]()

    def has(self, job: str, since: float) -> bool:
        """Return whether a job is in the queue, according to a query made after it was submitted at time `since`."""
        if time.monotonic() - self._asked > QUEUE_S or self._asked < since:
            asked = time.monotonic()
            answer = subprocess.run(
                ["squeue", "--me", "-h", "-r", "-o", "%i"], capture_output=True, text=True, check=False
            )
            if answer.returncode:
                return True  # if the controller does not answer, assume that no job is lost
            self._asked, self._jobs = asked, frozenset(answer.stdout.split())
        return job in self._jobs


class _SlurmCall:
    """A submitted call, which is done when its result exists, or when its job has left the queue without a result."""

    def __init__(self, job: Any, queue: _Queue) -> None:
        self._job, self._queue, self._since = job, queue, time.monotonic()
        self._left: float | None = None

    def done(self) -> bool:
        if self._job.paths.result_pickle.exists():
            return True
        if self._left is None and not self._queue.has(self._job.job_id, self._since):
            self._left = time.monotonic()
        # On a shared file system, a result may appear some seconds after its job has ended.
        return self._left is not None and time.monotonic() - self._left > QUEUE_S

    def result(self) -> Any:
        if not self._job.paths.result_pickle.exists():
            raise BrokenExecutor(
                f"job {self._job.job_id} has left the queue without a result; see {self._job.paths.stderr}"
            )
        return self._job.result()


def _submitit_name(option: str) -> str:
    general = ("timeout_min", "mem_gb", "cpus_per_task", "gpus_per_node", "nodes", "tasks_per_node", "name")
    return option if option in general or option.startswith("slurm_") else f"slurm_{option}"


def _as_one_array(executor: Any) -> Any:
    """Return a context in which submitit collects calls into one job array."""
    return executor.batch() if hasattr(executor, "batch") else nullcontext()


def _count(text: str) -> int:
    if not text.isdigit():
        raise SweepError(given=f"{text!r} workers", expected="a whole number", remedy="pass where='processes:2'")
    return int(text)


if not TYPE_CHECKING:
    __getattr__ = names_of(__name__)

__all__ = ["Outcome", "Processes", "SerialExecutor", "SupportsSubmit", "completed", "executor_named", "one_thread"]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
