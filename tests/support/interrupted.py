"""A separate program that runs a training, a sweep or a search, which tests kill and restart."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import torch

from pcsim import models
from pcsim.sweeps.search import Search
from pcsim.sweeps.sweep import Sweep
from pcsim.training import Training, train

UPDATES, POINTS, TRIALS = 4_000, 120, 40


def training(folder: Path) -> dict[str, torch.Tensor]:
    """Train a small network with a checkpoint every 20 updates, and return its tensors."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    net = models.blt(channels=(2, 2))
    images, targets = torch.rand(16, 1, 32, 32), torch.eye(10)[torch.arange(16) % 10]
    settings = Training(updates=UPDATES, batch=4)
    train(net, images, targets, settings, checkpoint=folder / "checkpoint", every=20)
    return dict(net.state_dict())


def sweep(folder: Path) -> Sweep:
    """Return a sweep whose points take PCSIM_SLOWLY seconds each."""
    from support import swept

    return Sweep(swept.slowly, swept.Setting(), [{"seed": seed} for seed in range(POINTS)], folder)


def search(folder: Path) -> Search:
    """Return a search whose stages take PCSIM_SLOWLY seconds each."""
    from support import searched

    return Search(searched.score, partial(searched.propose, folder), folder, count=TRIALS, stages=3)


if __name__ == "__main__":
    kind, where = sys.argv[1], Path(sys.argv[2])
    where.mkdir(parents=True, exist_ok=True)
    if kind == "training":
        torch.save(training(where), where / "weights.pt")
    elif kind == "sweep":
        sweep(where).run("processes:2", tries=30, progress=False)
    else:
        search(where).run("here", tries=30, progress=False)
