"""Train and score the networks whose weights ship with pcsim, and compare with the stored scores."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pcsim import Network
from pcsim.analysis import estimate
from pcsim.core import storage
from pcsim.sweeps.executors import one_thread

from .. import base
from ..base import TEST_SEED
from .recipe import Recipe, Saving

Scores = dict[str, dict[str, Any]]
"""score -> "mean", "low" and "high" (95 % interval over test images or clips) and their number "n" """


def score(recipe: Recipe, network: Network, count: int, seed: int = TEST_SEED) -> Scores:
    """Return the scores of a network on `count` test images or clips drawn with `seed`."""
    with one_thread():
        found = recipe.score(network, seed, count)
    return {name: dataclasses.asdict(estimate(values)) | {"n": len(values)} for name, values in found.items()}


def train_and_score(name: str, recipe: Recipe, seed: int, out: Path, count: int) -> tuple[Network, dict[str, Any]]:
    """Train a network, or resume its training in `out`; return it with its "scores" and "training_cpu_s".

    Training runs on a single CPU thread, so the result does not depend on the number of cores. The time is that
    thread's CPU time in seconds since training was last resumed.
    """
    folder = storage.make_folder(out / f"{name}-{seed}")
    begun = time.process_time()
    with one_thread():
        network = recipe.fit(seed, Saving(folder, bar=base.job_bar(f"{name}, seed {seed}")))
    seconds = round(time.process_time() - begun, 1)
    path = folder / f"scores-{count}.json"
    return network, base.once(path, lambda: {"training_cpu_s": seconds, "scores": score(recipe, network, count)})


def compare(found: Scores, stored: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return, for each stored score, the stored and new means, the tolerance, and whether the means agree."""
    compared = {}
    for name, row in stored.items():
        now = found[name]["mean"] if name in found else None
        agrees = now is not None and abs(now - row["mean"]) <= row["tolerance"]
        compared[name] = {"stored": row["mean"], "now": now, "tolerance": row["tolerance"], "agrees": agrees}
    return compared


def table(compared: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the comparison as a table."""
    rows = [("score", "stored", "now", "tolerance", "")]
    for name, row in compared.items():
        now = "-" if row["now"] is None else f"{row['now']:.5g}"
        rows.append((name, f"{row['stored']:.5g}", now, f"{row['tolerance']:.2g}", "" if row["agrees"] else "DIFFERS"))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))]
        ).rstrip()
        for row in rows
    )
