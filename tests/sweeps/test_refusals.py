"""What sweeps and searches refuse, and what they say of a worker that wrote elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support import searched, swept

from pcsim import SweepError
from pcsim.sweeps import Search, Sweep, grid


class Elsewhere:
    """An executor whose workers see another folder: its calls end well, and nothing is there."""

    def submit(self, _: Callable[..., Any], *__: Any) -> Future[None]:
        done: Future[None] = Future()
        done.set_result(None)
        return done


def test_sweep_names_a_worker_that_wrote_elsewhere(tmp_path: Path) -> None:
    sweep = Sweep(swept.measure, swept.Setting(), grid({"seed": range(2)}), tmp_path)
    with pytest.raises(SweepError, match="shared file system"):
        sweep.run(Elsewhere(), progress=False)


@pytest.mark.parametrize(
    "wrong",
    [
        {"count": 0},
        {"stages": 0},
        {"random": 0},
        {"random": 7},
        {"keep": 0.0},
        {"keep": 1.1},
        {"count": -3},
    ],
)
def test_search_refuses_numbers_that_mean_nothing(wrong: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason="optuna is not installed (extra sweep)")
    with pytest.raises(SweepError, match="trials of"):
        Search(searched.score, partial(searched.propose, tmp_path), tmp_path, **{"count": 6} | wrong)


def test_search_takes_its_smallest_and_largest_settings(tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason="optuna is not installed (extra sweep)")
    propose = partial(searched.propose, tmp_path)
    assert Search(searched.score, propose, tmp_path, count=1, stages=1, random=1, keep=1.0).random == 1
    assert Search(searched.score, propose, tmp_path, count=120).random == 40, "a third"
