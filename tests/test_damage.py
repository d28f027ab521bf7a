"""Damaged files of every kind: 64 flipped bytes and 16 truncations, none of which is read as data."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from support import searched, swept

import pcsim
from pcsim import Iterate, PcsimError, Run, models, simulate
from pcsim.core import storage
from pcsim.sweeps.search import Search
from pcsim.sweeps.sweep import Sweep
from pcsim.training import Training, train


def run(folder: Path) -> tuple[Path, Callable[[], object]]:
    simulate(models.blt(width=2), torch.rand(1, 1, 32, 32), solver=Iterate()).save(folder / "f")
    return folder / "f", lambda: Run.load(folder / "f")


def trained(folder: Path) -> tuple[Path, Callable[[], object]]:
    models.blt(width=2).save(folder / "f")
    return folder / "f", lambda: pcsim.load(folder / "f")


def checkpoint(folder: Path) -> tuple[Path, Callable[[], object]]:
    def go_on() -> list[float]:
        net, images, targets = models.blt(width=2), torch.rand(2, 1, 32, 32), torch.eye(10)[:2]
        return train(net, images, targets, Training(updates=1, batch=2), checkpoint=folder / "f")

    go_on()
    return folder / "f", go_on


def point(folder: Path) -> tuple[Path, Callable[[], object]]:
    sweep = Sweep(swept.measure, swept.Setting(), [{"seed": 1}], folder)
    sweep.run(progress=False)
    return sweep.path(sweep.ids[0]), sweep.table


def numbers(folder: Path) -> tuple[Path, Callable[[], object]]:
    storage.write_json(folder / "f", {"tau": 10.0, "results": list(range(100))})
    return folder / "f", lambda: storage.read_json(folder / "f")


def journal(folder: Path) -> tuple[Path, Callable[[], object]]:
    pytest.importorskip("optuna", reason="optuna is not installed (extra sweep)")
    search = Search(searched.score, partial(searched.propose, folder), folder, count=3)
    search.run(progress=False)
    return search.journal, search.trials


@pytest.mark.parametrize("kind", [run, trained, checkpoint, point, numbers, journal])
def test_damaged_file_is_never_read_as_data(kind: Callable[[Path], tuple], tmp_path: Path) -> None:
    path, read = kind(tmp_path)
    good, dice = path.read_bytes(), np.random.default_rng(0)
    damaged = []
    for place, bit in zip(dice.integers(len(good) - 1, size=64), dice.integers(8, size=64), strict=True):
        damaged.append(good[:place] + bytes([good[place] ^ (1 << bit)]) + good[place + 1 :])
    # A journal that ends after a complete line is that of a search that was killed there.
    cuts = dice.integers(len(good) - 1, size=16) if kind is not journal else ()
    damaged += [good[:length] for length in cuts]
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(PcsimError, match=path.name):
            read()
        assert path.read_bytes() == content
    path.write_bytes(good)
    read()
