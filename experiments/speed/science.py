"""Timing of the workloads of `experiments.speed`."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch

from pcsim import PcsimError
from pcsim.core import storage
from pcsim.core.progress import tqdm

from ..base import device_of
from .contenders import PACKAGES, Worker, is_installed, others
from .options import WORKS, Speed
from .work import Contender

FEWEST, LONGEST = 3, 60.0
"""minimum number of rounds, and time in s after which no further round of a workload is started"""


def check(config: Speed) -> None:
    """Raise PcsimError for unknown names, and print which packages are skipped."""
    for option, given, known in (("works", config.works, WORKS), ("against", config.against, PACKAGES)):
        if unknown := [name for name in given if name not in known]:
            raise PcsimError(
                given=f"--{option} {' '.join(unknown)}",
                expected=f"names from this list: {', '.join(known)}",
                remedy=f"pass --{option} {next(iter(known))!r}, or omit the option",
            )
    for package in config.against:
        if package == "pcx" and not config.pcx_python:
            tqdm.write("skipping pcx; to include it, pass the Python of its environment: --pcx-python PCX/bin/python")
        elif package != "pcx" and not is_installed(package):
            tqdm.write(f"skipping {package}; to include it, run pip install {package}")


def find(config: Speed) -> dict[str, Any]:
    """Time the workloads that are missing from the output folder, and return the rows of all workloads."""
    rows, device = [], device_of(config)
    jobs = [(work, threads) for threads in config.threads for work in config.works]
    for work, threads in tqdm(jobs, desc="workloads", disable=None):
        part = config.out / "parts" / f"{work.replace(' ', '_')}-{threads}.json"
        if not part.exists():
            with on_threads(threads):
                storage.write_json(part, {"work": work, "threads": threads, **measure(work, config, device)})
        rows.append(storage.read_json(part))
    facts = {"cpu": processor(), "date": time.strftime("%Y-%m-%d"), "threads_per_job": list(config.threads)}
    return {"rows": rows} | facts


def processor() -> str:
    """Return the CPU name of this machine, or "" if the system does not report it."""
    path = Path("/proc/cpuinfo")
    names = [line for line in path.read_text().splitlines() if line.startswith("model name")] if path.exists() else []
    return names[0].split(":")[1].strip() if names else ""


def measure(name: str, config: Speed, device: torch.device) -> dict[str, Any]:
    """Time all implementations of a workload, taking turns over several rounds."""
    torch.compiler.reset()
    torch.manual_seed(config.seed)
    with torch.device(device):  # only while building, because this context slows down every torch call
        work = WORKS[name]()
    contenders = {n: c for n, c in work.contenders.items() if config.compiled or "compiled" not in n}
    baseline = "plain" if "plain" in contenders else next(iter(contenders))
    with ExitStack() as ended, torch.set_grad_enabled(work.gradient):
        contenders |= others(work, config.against, config.pcx_python, ended)
        answer = contenders[baseline]()
        first = {n: first_call(contender) for n, contender in contenders.items()}
        off = {n: differing(contender(), answer) for n, contender in contenders.items()}
        calls = max(1, int(config.seconds / timed(contenders[baseline], 1, device)))
        times: dict[str, list[float]] = {n: [] for n in contenders}
        begun = time.perf_counter()
        for turn in tqdm(range(config.rounds), desc=name, leave=False, disable=None):
            if turn >= FEWEST and time.perf_counter() - begun > LONGEST:
                break
            for n, contender in list(contenders.items())[:: -1 if turn % 2 else 1]:
                times[n].append(timed(contender, calls, device))
    if wrong := {n: value for n, value in off.items() if value > work.tolerance}:
        raise PcsimError(
            given=f"{name}: answers that differ from the plain loop by {wrong}, relative to its largest value",
            expected=f"differences of at most {work.tolerance:g}",
            remedy="open an issue with this message, and remove the workload from --works",
        )
    return {"what": work.what, "baseline": baseline, "seconds": times, "first_call_s": first, "differs_by": off}


def first_call(contender: Contender) -> float:
    """Return the duration of the first call in seconds, including any tracing or compilation."""
    begun = time.perf_counter()
    contender()
    return time.perf_counter() - begun


def timed(contender: Contender, calls: int, device: torch.device) -> float:
    """Return the seconds per call."""
    if device.type == "cuda":
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(calls):
            contender()
        end.record()
        torch.cuda.synchronize()
        return begin.elapsed_time(end) / 1e3 / calls
    if isinstance(contender, Worker):
        return contender.timed(calls)
    begun = time.perf_counter()
    for _ in range(calls):
        contender()
    return (time.perf_counter() - begun) / calls


def differing(answer: dict[str, torch.Tensor], plain: dict[str, torch.Tensor]) -> float:
    """Return the largest difference relative to the largest value, or 0 if there is no answer."""
    return max((float((answer[n] - plain[n]).abs().max() / plain[n].abs().max()) for n in answer), default=0.0)


@contextmanager
def on_threads(threads: int) -> Iterator[None]:
    """Run the block with the given number of PyTorch threads, pinned to one core if there is a single thread."""
    before = torch.get_num_threads()
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    torch.set_num_threads(threads)
    if cores and threads == 1:
        os.sched_setaffinity(0, {min(cores)})
    try:
        yield
    finally:
        torch.set_num_threads(before)
        if cores:
            os.sched_setaffinity(0, cores)
