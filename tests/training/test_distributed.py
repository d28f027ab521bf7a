"""Training on two processes results in the same weights as on one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support.paths import ROOT
from torch.distributed import group

from pcsim import TrainingError, models
from pcsim.core import storage
from pcsim.training import Training, distributed, train


def fit(checkpoint: Path | None, updates: int, batch: int = 8, model: str = "blt") -> dict[str, torch.Tensor]:
    """Train a small network in double precision and return its weights."""
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(4)
    net = models.build(model, width=2, size=8).double()
    images, targets = torch.rand(40, 1, 8, 8), torch.eye(10)[torch.arange(40) % 10]
    train(net, images, targets, Training(updates=updates, batch=batch), checkpoint=checkpoint, every=2)
    return {name: value.detach() for name, value in net.named_parameters()}


def main(folder: Path) -> None:
    """Run the training in each process."""
    torch.set_num_threads(1)
    with distributed.process_group() as rank:
        assert distributed.size() == 2
        gloo = group.WORLD
        writes: list[str] = []
        original = storage.write_tensors
        storage.write_tensors = lambda *arguments: (writes.append(str(arguments[0])), original(*arguments))[1]
        fit(folder / "checkpoint", 20)
        weights = fit(folder / "checkpoint", 20)  # already finished: loaded, not trained again
        (folder / f"writes-{rank}").write_text(str(len(writes)))
        torch.save(weights, folder / f"weights-{rank}.pt")
        with pytest.raises(TrainingError, match="a multiple of 2"):
            fit(None, 1, batch=5)
    # The only references are ours and the argument of getrefcount. A group referenced elsewhere would live until Python
    # exits, when its threads may abort the process on a busy machine.
    assert sys.getrefcount(gloo) == 2


def test_distributed_equals_single_process_and_writes_once(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"}
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", __file__, str(tmp_path)]
    done = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    alone = fit(None, 20)
    torch.set_default_dtype(torch.float32)
    for rank in (0, 1):
        weights = torch.load(tmp_path / f"weights-{rank}.pt", weights_only=True)
        assert all(torch.allclose(weights[name], value, rtol=0, atol=1e-10) for name, value in alone.items())
    # Written every two updates, by the first process only; the second call finds the training finished.
    assert [(tmp_path / f"writes-{rank}").read_text() for rank in (0, 1)] == ["10", "0"]


def test_distributed_helpers_do_nothing_in_single_process() -> None:
    assert (distributed.rank(), distributed.size()) == (0, 1)
    tensor = torch.ones(3)
    distributed.all_reduce_mean([tensor])
    assert torch.equal(distributed.shard(torch.arange(5)), torch.arange(5)) and torch.equal(tensor, torch.ones(3))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
