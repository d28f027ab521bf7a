"""Training in several processes: each takes its share of every batch, and the gradients are averaged.

    torchrun --nproc-per-node 2 -m experiments.occlusion           the same script, on two GPUs or in two processes

The mean over shares of the mean over a share is the mean over the batch, so the updates are those of one process (to
rounding). Normalisation layers use the statistics of their own shard of the batch; running statistics are averaged.
The first process alone writes files.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch import distributed as dist

from pcsim.core.exceptions import TrainingError


def rank() -> int:
    """Return the number of this process, from 0."""
    return dist.get_rank() if _is_joined() else 0


def size() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if _is_joined() else 1


def _is_joined() -> bool:
    return dist.is_available() and dist.is_initialized()


@contextmanager
def process_group() -> Iterator[int]:
    """Join the processes that torchrun started, if any; yield the rank of this one."""
    if int(os.environ.get("WORLD_SIZE", "1")) <= 1 or _is_joined():
        yield rank()
        return
    # The functions of this module keep the group of the time of import as a default argument, and the first step of an
    # optimiser imports it. So it is imported before there is a group: a group that is kept holds gloo's threads until
    # Python exits, and a thread that still frees a tensor then aborts the process.
    importlib.import_module("torch.distributed.nn.functional")
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group("nccl" if on_gpu else "gloo")
    try:
        yield rank()
        # No process leaves while another still communicates.
        barrier()
    finally:
        dist.destroy_process_group()


def barrier() -> None:
    """Wait until all processes have arrived."""
    if size() > 1:
        dist.barrier()


def broadcast(tensors: Iterable[Tensor]) -> None:
    """Give all processes the values of the first."""
    if size() > 1:
        for tensor in tensors:
            dist.broadcast(tensor.data, 0)


def shard(chosen: Tensor) -> Tensor:
    """Return this process's part of a batch. Raises TrainingError unless all parts have the same size."""
    if len(chosen) % size():
        raise TrainingError(
            given=f"a batch of {len(chosen)} for {size()} processes",
            expected="the same number of samples for each",
            remedy=f"set Training(batch={max(1, len(chosen) // size()) * size()}), which {size()} divides",
        )
    return chosen[rank() :: size()]


def all_reduce_mean(tensors: Iterable[Tensor]) -> None:
    """Replace each tensor by its mean over processes, all in one message."""
    own = [tensor for tensor in tensors if tensor.is_floating_point()]
    if size() == 1 or not own:
        return
    row = torch.cat([tensor.detach().reshape(-1) for tensor in own])
    dist.all_reduce(row)
    with torch.no_grad():
        for tensor, part in zip(own, (row / size()).split([tensor.numel() for tensor in own]), strict=True):
            tensor.copy_(part.view_as(tensor))
