"""Settings that searches refuse, and sweeps whose workers write to another folder."""

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
    """An executor whose workers write to another folder: calls succeed, but no files appear."""

    def submit(self, _: Callable[..., Any], *__: Any) -> Future[None]:
        done: Future[None] = Future()
        done.set_result(None)
        return done


def test_sweep_reports_worker_without_shared_files(tmp_path: Path) -> None:
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
def test_search_refuses_invalid_numbers(wrong: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason="optuna is not installed (extra sweep)")
    with pytest.raises(SweepError, match=next(iter(wrong))):
        Search(searched.score, partial(searched.propose, tmp_path), tmp_path, **{"count": 6} | wrong)


def test_search_accepts_smallest_settings_and_default_random(tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason="optuna is not installed (extra sweep)")
    propose = partial(searched.propose, tmp_path)
    assert Search(searched.score, propose, tmp_path, count=1, stages=1, random=1, keep=1.0).random == 1
    assert Search(searched.score, propose, tmp_path, count=120).random == 40, "the default must be a third"
