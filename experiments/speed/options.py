"""Options and workloads of `experiments.speed`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from ..base import OPTIONS, Count, Device, Options, Some
from .areas import adaptive, higher_order, leaky_blt, ode, three_areas, trained
from .contenders import PACKAGES
from .costs import batches, checkpointing, late, recording, rounding, time_constants
from .relaxing import IMAGES, relaxation
from .vision import local_learning, pcn, prednet, stimulus
from .work import Work

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


@dataclass(frozen=True, config=OPTIONS)
class Speed(Options):
    """Options of the experiment, whose defaults depend on the preset."""

    out: Path = Path("results/speed")
    """output folder"""
    works: Some[str] = (
        "W1 large",
        "W1 small",
        "W2b batch 16",
        "W4 batch 16",
        "W4 batch 1",
        "a batch 1",
        "W5",
        "e",
    )
    """workloads to time; each is one row of the table"""
    threads: Some[Count] = (1,)
    """numbers of PyTorch threads to test; with one thread, the process is pinned to one core"""
    rounds: Count = 5
    """number of rounds; each implementation is timed once per round"""
    seconds: Annotated[float, Field(gt=0)] = 0.2
    """approximate total duration of the plain loop's calls in each round, s; there is at least one call"""
    compiled: bool = False
    """also time compiled implementations; each takes 5 to 60 s to compile"""
    against: tuple[str, ...] = ()
    """other packages to time if installed: fabricpc, ngclearn, pcx (W1, W2b), jax (hand-written; W1, W2b, W4)"""
    pcx_python: str = ""
    """Python interpreter of an environment with pcx 0.6.3, which needs JAX below 0.5"""
    device: Device = "auto"
    """device on which to run the workloads"""


PRESETS = {
    "smoke": Speed(smoke=True, out=Path("results/speed-smoke"), works=("W1 small", "e"), rounds=2, seconds=0.01),
    "quick": Speed(),
    "standard": Speed(
        out=Path("results/speed-standard"), works=tuple(WORKS), rounds=5, compiled=True, against=PACKAGES
    ),
    "large": Speed(
        out=Path("results/speed-large"),
        works=tuple(WORKS),
        threads=(1, 2),
        rounds=15,
        compiled=True,
        against=PACKAGES,
    ),
}
