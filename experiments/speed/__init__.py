"""How long does pcsim take, in units of a plain PyTorch loop and of its convolutions alone?

Every workload is run by pcsim (a Simulator that has run before, the same compiled, and `simulate` afresh), by a plain
hand-written loop of the same arithmetic, by torch.compile and torchdiffeq on that loop, and as its convolutions (by
oneDNN) or matrix products alone. All take turns in one process; a number is the median over rounds of a contender's
time over that of the plain loop in the same round.

    python -m experiments.speed                      one thread, nothing compiled, some minutes
    python -m experiments.speed --preset standard    every workload, also compiled, beside other packages; an hour
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from matplotlib.figure import Figure
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from tqdm.auto import tqdm

from experiments import common
from experiments.speed.options import batches, checkpointing, late, recording, rounding, time_constants
from experiments.speed.others import PACKAGES, Worker, against, areas_by_jax, is_installed
from experiments.speed.vision import local_learning, pcn, prednet, stimulus
from experiments.speed.work import (
    IMAGES,
    Contender,
    Work,
    adaptive,
    higher_order,
    leaky_blt,
    ode,
    relaxation,
    three_areas,
    trained,
)
from pcsim import PcsimError
from pcsim.core import storage

DENSE_LARGE, DENSE_SMALL = ((784,), (512,), (512,), (10,)), ((32,), (64,), (64,), (10,))
PUBLISHED = (64, 64, 128, 128, 256, 256, 256, 256)

WORKS: dict[str, Callable[[], Work]] = {
    "W1 large": lambda: relaxation(DENSE_LARGE, 64, steps=20),
    "W1 small": lambda: relaxation(DENSE_SMALL, 16, steps=100),
    "W2b batch 16": lambda: relaxation(IMAGES, 16, steps=20),
    "W2b batch 1": lambda: relaxation(IMAGES, 1, steps=20),
    "W4 batch 16": lambda: ode(*three_areas((16, 32, 64), 28, 16), steps=50),
    "W4 batch 1": lambda: ode(*three_areas((16, 32, 64), 28, 1), steps=50),
    "W4 tiny": lambda: ode(*three_areas((4, 8, 8), 8, 4), steps=50),
    "a batch 1": lambda: ode(*leaky_blt(1), steps=100),
    "a batch 32": lambda: ode(*leaky_blt(32), steps=100),
    "a batch 256": lambda: ode(*leaky_blt(256), steps=100),
    "b 8 steps": lambda: trained(*leaky_blt(32), steps=8),
    "b 100 steps": lambda: trained(*leaky_blt(32), steps=100),
    "W4 training": lambda: trained(*three_areas((16, 32, 64), 28, 16), steps=50),
    "W5": lambda: pcn((32, 32, 64, 64, 128), (3, 5), 5, 8),
    "c": lambda: pcn(PUBLISHED, (3, 5), 6, 8),
    "d": lambda: prednet(4, 10),
    "e": lambda: local_learning(64, 20),
    "f RK4": lambda: higher_order(*three_areas((16, 32, 64), 28, 16)),
    "f dopri5": lambda: adaptive(*three_areas((16, 32, 64), 28, 16)),
    "g": lambda: stimulus(256),
    "records": lambda: recording(16, 100),
    "checkpointed": lambda: checkpointing(4, 400),
    "rounded": lambda: rounding(32, 100),
    "batches": lambda: batches(32, 128, 50),
    "time constants": lambda: time_constants(64, 4, 50),
    "late": lambda: late(4, 200, 99_800),
}


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Speed:
    """Options of the experiment; a preset gives the defaults."""

    out: Path = Path("results/speed")
    """folder for everything that comes out"""
    seed: int = 0
    """of weights and images"""
    works: tuple[str, ...] = (
        "W1 large",
        "W1 small",
        "W2b batch 16",
        "W4 batch 16",
        "W4 batch 1",
        "a batch 1",
        "W5",
        "e",
    )
    """rows of the table"""
    threads: tuple[Annotated[int, Field(gt=0)], ...] = (1,)
    """of PyTorch; one is pinned to one core"""
    rounds: Annotated[int, Field(gt=0)] = 5
    """turns of every contender"""
    seconds: Annotated[float, Field(gt=0)] = 0.2
    """of the plain loop in one turn, at least one call"""
    compiled: bool = False
    """also what has to be compiled first, 5 to 60 s for each contender"""
    against: tuple[str, ...] = ()
    """other packages, if they are installed: fabricpc, ngclearn and pcx on W1 and W2b, jax (by hand) there and on W4"""
    pcx_python: str = ""
    """Python of an environment with pcx 0.6.3, which needs JAX below 0.5"""
    device: str = "auto"
    """auto, cpu or cuda"""


PRESETS = {
    "smoke": Speed(out=Path("results/speed-smoke"), works=("W1 small", "e"), rounds=2, seconds=0.01),
    "quick": Speed(),
    "standard": Speed(
        out=Path("results/speed-standard"), works=tuple(WORKS), rounds=5, compiled=True, against=PACKAGES
    ),
    "paper": Speed(
        out=Path("results/speed-paper"),
        works=tuple(WORKS),
        threads=(1, 2),
        rounds=15,
        compiled=True,
        against=PACKAGES,
    ),
}
FEWEST, LONGEST = 3, 60.0
"""rounds, of a workload that takes more than so many seconds"""


def run(config: Speed) -> None:
    """Time what is not timed yet, then write the table and the figure."""
    begun = time.perf_counter()
    if unknown := [work for work in config.works if work not in WORKS]:
        raise SystemExit(f"--works {' '.join(unknown)}: choose from {', '.join(WORKS)}")
    if unknown := [package for package in config.against if package not in PACKAGES]:
        raise SystemExit(f"--against {' '.join(unknown)}: choose from {', '.join(PACKAGES)}")
    for package in config.against:
        if package == "pcx" and not config.pcx_python:
            tqdm.write("pcx is left out: it needs an environment of its own, whose Python --pcx-python names")
        elif package != "pcx" and not is_installed(package):
            tqdm.write(f"{package} is not installed: left out (pip install {package})")
    device = common.pick_device(config.device)
    common.claim(config.out, config)
    rows = []
    jobs = [(work, threads) for threads in config.threads for work in config.works]
    for work, threads in tqdm(jobs, desc="workloads", disable=None):
        part = config.out / "parts" / f"{work.replace(' ', '_')}-{threads}.json"
        if not part.exists():
            with on_threads(threads):
                storage.write_json(part, {"work": work, "threads": threads, **measured(work, config, device)})
        rows.append(storage.read_json(part))
    seconds = time.perf_counter() - begun
    facts = environment(device)
    results = {"config": common.recorded(config), **facts, "rows": rows, "wall_time_s": round(seconds, 1)}
    storage.write_json(config.out / "results.json", results)
    tables = [made for threads in config.threads for made in tables_of(rows, threads)]
    storage.write_text(config.out / "speed.md", markdown(tables, rows, facts))
    against_plain = [row for row in rows if "pcsim" in row["seconds"] and row["baseline"] == "plain"]
    sentence = "Time over that of the plain loop; bars span the quartiles of the rounds."
    common.publish(
        config.out,
        "Speed",
        "Times are ratios: 1 is a plain PyTorch loop of the same arithmetic, measured in turns with it. "
        + measured_on(facts),
        [("speed", figure(against_plain), sentence)] if against_plain else [],
        [*tables, ("What the workloads are", ["workload", "what it is"], what_they_are(rows))],
        seconds,
    )


def measured(name: str, config: Speed, device: torch.device) -> dict[str, Any]:
    """The times of every contender of one workload, round by round."""
    torch.compiler.reset()
    torch.manual_seed(config.seed)
    with torch.device(device):  # while they are made only: it makes every call of torch pass through Python
        work = WORKS[name]()
    contenders = {n: c for n, c in work.contenders.items() if config.compiled or "compiled" not in n}
    baseline = "plain" if "plain" in contenders else next(iter(contenders))
    with ExitStack() as ended, torch.set_grad_enabled(work.gradient):
        contenders |= others(work, config, ended)
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
            remedy="this is a mistake in a contender: please report it",
        )
    return {"what": work.what, "baseline": baseline, "seconds": times, "first_call_s": first, "differs_by": off}


def others(work: Work, config: Speed, ended: ExitStack) -> dict[str, Contender]:
    """The packages asked for that can do this workload; their processes end with `ended`."""
    found: dict[str, Contender | None] = {}
    for package in config.against:
        if package == "pcx":
            if work.relaxation and config.pcx_python and work.relaxation[1].device.type == "cpu":
                found[package] = ended.enter_context(closing(Worker(config.pcx_python, *work.relaxation)))
        elif is_installed(package):
            if work.relaxation:
                found[package] = against(package, *work.relaxation)
            elif package == "jax" and work.areas:
                found[package] = areas_by_jax(*work.areas)
    return {package: contender for package, contender in found.items() if contender is not None}


def first_call(contender: Contender) -> float:
    """Seconds of the first call, in which a Simulator traces or compiles its steps."""
    begun = time.perf_counter()
    contender()
    return time.perf_counter() - begun


def timed(contender: Contender, calls: int, device: torch.device) -> float:
    """Seconds of one call."""
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
    """Largest difference over the largest value; 0 for a contender that computes no answer."""
    return max((float((answer[n] - plain[n]).abs().max() / plain[n].abs().max()) for n in answer), default=0.0)


@contextmanager
def on_threads(threads: int) -> Iterator[None]:
    """So many threads, and for one thread one core."""
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


def ratios(row: dict[str, Any], name: str) -> np.ndarray:
    """A contender's times over those of the plain loop, round by round."""
    return np.array(row["seconds"][name]) / np.array(row["seconds"][row["baseline"]])


MARKS = {
    "pcsim": ("o", "C3"),
    "pcsim first run": ("x", "C3"),
    "pcsim compiled": ("s", "C1"),
    "plain channels_last": ("D", "C2"),
    "plain compiled": ("v", "C4"),
    "torchdiffeq": ("^", "C0"),
    "fabricpc": ("P", "C5"),
    "ngclearn": ("X", "C6"),
    "pcx": ("h", "C8"),
    "jax": ("*", "C7"),
    "torch's products": ("|", "k"),
}
"""contender -> marker and colour, in the order of the columns"""


def tables_of(rows: list[dict[str, Any]], threads: int) -> list[common.Table]:
    """Workloads against the plain loop, and what options cost against pcsim without them."""
    mine = [row for row in rows if row["threads"] == threads]
    by = f", {threads} thread{'s' * (threads > 1)}"
    against = [row for row in mine if "pcsim" in row["seconds"]]
    options = [row for row in mine if "pcsim" not in row["seconds"]]
    made = [table(against, f"Time over that of the plain loop{by}")] if against else []
    return made + ([table(options, f"What options cost: time over that without{by}")] if options else [])


def table(rows: list[dict[str, Any]], caption: str) -> common.Table:
    """One row for each workload."""
    others = sorted({name for row in rows for name in row["seconds"]} - {*MARKS, "plain"})
    columns = [name for name in (*MARKS, *others) if any(name in row["seconds"] for row in rows)]
    head = ("workload", "plain, ms", *columns)

    def cell(row: dict[str, Any], name: str) -> str:
        if name not in row["seconds"]:
            return ""
        if row["baseline"] != "plain":
            return f"{statistics.median(row['seconds'][name]) * 1e3:.3g} ms"
        low, middle, high = np.quantile(ratios(row, name), (0.25, 0.5, 0.75))
        return f"{middle:.2f} ({low:.2f}-{high:.2f})"

    body = [
        (
            row["work"],
            f"{statistics.median(row['seconds']['plain']) * 1e3:.3g}" if "plain" in row["seconds"] else "",
            *(cell(row, name) for name in columns),
        )
        for row in rows
    ]
    return caption, head, body


def markdown(tables: list[common.Table], rows: list[dict[str, Any]], facts: dict[str, Any]) -> str:
    """The tables as a page for the docs."""
    lines = [measured_on(facts), ""]
    for caption, head, body in tables:
        lines += [f"**{caption}** (median, quartiles)", "", "| " + " | ".join(head) + " |"]
        lines += ["|" + "---|" * len(head), *("| " + " | ".join(row) + " |" for row in body), ""]
    lines += ["| workload | what it is |", "|---|---|"]
    return "\n".join([*lines, *(f"| {name} | {what} |" for name, what in what_they_are(rows)), ""])


def measured_on(facts: dict[str, Any]) -> str:
    """When and where, with which versions."""
    versions = ", ".join(f"{package} {number}" for package, number in facts["versions"].items())
    return f"{facts['date']}, {facts['device']} ({facts['cpu']}), {versions}."


def what_they_are(rows: list[dict[str, Any]]) -> list[list[str]]:
    """Each workload once, in words."""
    return [[name, what] for name, what in {row["work"]: row["what"] for row in rows}.items()]


def environment(device: torch.device) -> dict[str, Any]:
    """Machine, versions and date."""
    facts = common.environment(device)
    facts.pop("threads_per_job")
    model = ""
    if Path("/proc/cpuinfo").exists():
        names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        model = names[0].split(":")[1].strip() if names else ""
    return {**facts, "cpu": model, "date": time.strftime("%Y-%m-%d")}


def figure(rows: list[dict[str, Any]]) -> Figure:
    """A dot for each contender of each workload, logarithmic."""
    rows = [row for row in rows if row["threads"] == rows[0]["threads"]][::-1]
    names = [name for name in MARKS if any(name in row["seconds"] for row in rows)]
    picture = Figure(figsize=(8.0, 0.36 * len(rows) + 1.6), layout="constrained")
    axes = picture.subplots()
    for name in names:
        marker, colour = MARKS[name]
        places = [place for place, row in enumerate(rows) if name in row["seconds"]]
        low, middle, high = np.array([np.quantile(ratios(rows[p], name), (0.25, 0.5, 0.75)) for p in places]).T
        spread = (middle - low, high - middle)
        axes.errorbar(middle, places, xerr=spread, fmt=marker, color=colour, label=name, ms=9 if marker == "|" else 5)
    axes.axvline(1.0, color="0.6", lw=1)
    axes.set_yticks(range(len(rows)), [row["work"] for row in rows])
    axes.set_xscale("log")
    ticks = (0.05, 0.07, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0)
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("time over that of a plain PyTorch loop")
    axes.grid(axis="both", color="0.92")
    picture.legend(loc="outside upper center", ncols=3, frameon=False)
    return picture
