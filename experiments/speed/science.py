"""Timing of the workloads of `experiments.speed`."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from experiments.base import device_of
from experiments.speed.contenders import PACKAGES, Worker, is_installed, others
from experiments.speed.options import WORKS, Speed
from experiments.speed.work import Contender
from pcsim import PcsimError
from pcsim.core import storage

FEWEST, LONGEST = 3, 60.0
"""fewest rounds, and seconds after which a workload gets no more than these"""


def check(config: Speed) -> None:
    """Raise SystemExit for unknown names; print which packages are left out."""
    for option, given, known in (("works", config.works, WORKS), ("against", config.against, PACKAGES)):
        if unknown := [name for name in given if name not in known]:
            raise SystemExit(f"--{option} {' '.join(unknown)}: unknown; choose from {', '.join(known)}")
    for package in config.against:
        if package == "pcx" and not config.pcx_python:
            tqdm.write("pcx is left out: pass the Python of an environment that has it, --pcx-python PCX/bin/python")
        elif package != "pcx" and not is_installed(package):
            tqdm.write(f"{package} is left out: pip install {package}")


def find(config: Speed) -> dict[str, Any]:
    """Time the workloads that are not in the folder; return the rows of all."""
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
    """Return the name of this machine's CPU, "" if the system does not report it."""
    path = Path("/proc/cpuinfo")
    names = [line for line in path.read_text().splitlines() if line.startswith("model name")] if path.exists() else []
    return names[0].split(":")[1].strip() if names else ""


def measure(name: str, config: Speed, device: torch.device) -> dict[str, Any]:
    """Time every contender of one workload, round by round."""
    torch.compiler.reset()
    torch.manual_seed(config.seed)
    with torch.device(device):  # only while they are built: in it, every call of torch passes through Python
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
            given=f"{name}: answers that differ from the plain loop's by {wrong} of its largest value",
            expected=f"at most {work.tolerance:g}",
            remedy="open an issue with this message, and leave the workload out of --works",
        )
    return {"what": work.what, "baseline": baseline, "seconds": times, "first_call_s": first, "differs_by": off}


def first_call(contender: Contender) -> float:
    """Return the duration of the first call in seconds, during which a Simulator traces or compiles its steps."""
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
    """Return the largest difference over the largest value; 0 for a contender that computes no answer."""
    return max((float((answer[n] - plain[n]).abs().max() / plain[n].abs().max()) for n in answer), default=0.0)


@contextmanager
def on_threads(threads: int) -> Iterator[None]:
    """Run the block on so many threads of PyTorch; a single one is pinned to one core."""
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
