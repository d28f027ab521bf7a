"""Settings and functions for tests of sweeps, in a separate module that other processes can import."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Solver:
    dt: float = 1.0


@dataclass(frozen=True)
class Setting:
    tau: tuple[float, ...] = (10.0, 20.0)
    solver: Solver = field(default_factory=Solver)
    options: dict[str, Any] = field(default_factory=lambda: {"gain": 1.0})
    lesion: str | None = None
    seed: int = 0
    kept: Path = field(default=Path(), compare=False)


def measure(setting: Setting) -> dict[str, Any]:
    drawn = np.random.default_rng(setting.seed).random(3)
    return {"ratio": setting.solver.dt / setting.tau[0], "curve": drawn * setting.tau[1], "lesion": str(setting.lesion)}


def scaled(by: float, setting: Setting) -> dict[str, Any]:
    return {"ratio": by * setting.solver.dt / setting.tau[0]}


def slowly(setting: Setting) -> dict[str, Any]:
    if calls := os.environ.get("PCSIM_CALLS"):
        with Path(calls).open("a") as file:
            file.write(f"{os.getpid()}\n")
    time.sleep(float(os.environ.get("PCSIM_SLOWLY", "0")))  # not part of the setting, so the points stay the same
    return measure(setting)


def together(settings: list[Setting]) -> list[dict[str, Any]]:
    assert len(settings) <= 4
    return [measure(setting) for setting in settings]


def odd_ones_fail(setting: Setting) -> dict[str, Any]:
    if setting.seed % 2:
        raise ValueError(f"seed {setting.seed} is odd")
    return measure(setting)


def names_unknown(setting: Setting) -> dict[str, Any]:
    """Contain a bug that only some points reach."""
    return {"x": undefined} if setting.seed == 1 else measure(setting)  # type: ignore[name-defined]  # noqa: F821


def together_unless_odd(settings: list[Setting]) -> list[dict[str, Any]]:
    return [odd_ones_fail(setting) for setting in settings]


def longer(setting: Setting) -> dict[str, Any]:
    """Return a curve whose length depends on the seed."""
    if setting.seed == 3:
        raise ZeroDivisionError("seed 3")
    return {"curve": np.arange(1.0, 2.0 + setting.seed), "count": setting.seed, "name": f"seed {setting.seed}"}


def dies_at_first(marker: Path, value: int) -> int:
    """Kill the current process the first time that a value occurs."""
    mark = marker / str(value)
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return value * value


def always_dies(value: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return value


def returns_a_list_of_lists(setting: Setting) -> dict[str, Any]:
    return {"ragged": [[1.0], [1.0, 2.0]]}


if __name__ == "__main__":
    import sys

    from support import swept  # imported, because functions in __main__ would be different objects

    from pcsim.sweeps import Sweep, grid

    POINTS = grid({"tau.0": [5.0, 10.0, 20.0, 40.0], "solver.dt": [0.1, 0.2, 0.5], "seed": range(5)})
    if len(sys.argv) > 3:
        POINTS = grid({"seed": range(int(sys.argv[3]))})
    Sweep(swept.slowly, swept.Setting(), POINTS, sys.argv[1]).run(sys.argv[2], tries=30, progress=False)
