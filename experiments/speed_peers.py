"""Other packages that relax the same predictive-coding networks, for `experiments.speed --against`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec

from tqdm.auto import tqdm

from experiments.speed_work import Contender

Sizes = Sequence[tuple[int, ...]]
PACKAGES: dict[str, Callable[[Sizes, int, int], Contender | None]] = {}


def contenders(package: str, problem: tuple[Sizes, int, int] | None) -> dict[str, Contender]:
    """{package: what it does of (layers, batch, steps)}; empty, with a word, where it is missing or does other work."""
    if package not in PACKAGES:
        raise SystemExit(f"--against {package}: choose from {', '.join(PACKAGES)}")
    if find_spec(package) is None:
        tqdm.write(f"{package} is not installed: left out")
        return {}
    found = PACKAGES[package](*problem) if problem else None
    return {} if found is None else {package: found}
