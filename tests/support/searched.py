"""The score that is maximised in tests of searches, in a separate module that other processes can import."""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Place:
    x: float
    kind: str
    folder: Path


def propose(folder: Path, trial: Any) -> Place:
    kind = trial.suggest_categorical("kind", ("round", "sharp", "none"))
    return Place(trial.suggest_float("x", -1.0, 1.0) if kind != "none" else 0.0, kind, folder)


def propose_round(trial: Any) -> Place:
    return Place(trial.suggest_float("x", -1.0, 1.0), "round", Path())


def score(place: Place, number: int, stage: int) -> float:
    """Return a score with its maximum at x = 0.3, higher for the sharp kind; each stage adds a third."""
    with (place.folder / "calls").open("a") as calls:
        calls.write(f"{number} {stage}\n")
    time.sleep(float(os.environ.get("PCSIM_SLOWLY", "0")))
    if place.kind == "none":
        return math.nan
    height = -abs(place.x - 0.3) if place.kind == "sharp" else -((place.x - 0.3) ** 2) - 0.1
    return (stage + 1) / 3 + height


def fails_for_round_ones(place: Place, number: int, stage: int) -> float | str:
    """Fail for round trials until the file `mended` exists."""
    if place.kind == "round" and not (place.folder / "mended").exists():
        if number % 2:
            return "round"
        raise ValueError(f"trial {number} is round")
    return score(place, number, stage)


if __name__ == "__main__":
    import sys
    from functools import partial

    from support import searched  # imported, because functions in __main__ would be different objects

    from pcsim.sweeps.search import Search

    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    search = Search(searched.score, partial(searched.propose, out), out, count=int(sys.argv[3]), stages=3)
    search.run(sys.argv[2], at_once=int(sys.argv[4]), tries=30, progress=False)
