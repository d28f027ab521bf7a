"""Training in several processes: each handles an equal shard of every batch, and the gradients are averaged.

    torchrun --nproc-per-node 2 -m experiments.occlusion           runs a script on two GPUs, or in two CPU processes

Because all shards have the same size, the averaged gradient is that of the full batch, and results equal those of a
single process up to rounding. Normalisation layers use the statistics of their own shard, and running statistics are
averaged. Only the first process writes files.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import torch
from torch import Tensor
from torch import distributed as dist

from pcsim.core.checks import Axes, checked
from pcsim.core.exceptions import TrainingError
from pcsim.core.renamed import names_of


def rank() -> int:
    """Return the rank of this process, counted from 0."""
    return dist.get_rank() if _is_joined() else 0


def size() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if _is_joined() else 1


def _is_joined() -> bool:
    return dist.is_available() and dist.is_initialized()


@contextmanager
def process_group() -> Iterator[int]:
    """Join the process group that torchrun started, if any, and yield the rank of this process."""
    if int(os.environ.get("WORLD_SIZE", "1")) <= 1 or _is_joined():
        yield rank()
        return
    # When the following module is imported, by default at the first optimiser step, it stores the current process group
    # in default arguments. Import it before a group exists, because a stored group keeps gloo's threads alive until
    # Python exits, and a thread that is freeing a tensor at that point aborts the process.
    importlib.import_module("torch.distributed.nn.functional")
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group("nccl" if on_gpu else "gloo")
    try:
        yield rank()
        # No process may leave while another is still communicating.
        barrier()
    finally:
        dist.destroy_process_group()


def barrier() -> None:
    """Wait until all processes have reached this point."""
    if size() > 1:
        dist.barrier()


@checked(TrainingError)
def broadcast(tensors: Iterable[Tensor]) -> None:
    """Copy the values of the first process to all others."""
    if size() > 1:
        for tensor in tensors:
            dist.broadcast(tensor.data, 0)


@checked(TrainingError)
def shard(chosen: Annotated[Tensor, Axes("sample", is_float=False)]) -> Tensor:
    """Return this process's shard of a batch. Raises TrainingError if the batch does not divide evenly."""
    if len(chosen) % size():
        raise TrainingError(
            given=f"a batch of {len(chosen)} for {size()} processes",
            expected="the same number of samples for each process",
            remedy=f"set Training(batch={max(1, len(chosen) // size()) * size()}), a multiple of {size()}",
        )
    return chosen[rank() :: size()]


@checked(TrainingError)
def all_reduce_mean(tensors: Iterable[Tensor]) -> None:
    """Replace each floating-point tensor with its mean over all processes, using a single message."""
    own = [tensor for tensor in tensors if tensor.is_floating_point()]
    if size() == 1 or not own:
        return
    row = torch.cat([tensor.detach().reshape(-1) for tensor in own])
    dist.all_reduce(row)
    with torch.no_grad():
        for tensor, part in zip(own, (row / size()).split([tensor.numel() for tensor in own]), strict=True):
            tensor.copy_(part.view_as(tensor))


if not TYPE_CHECKING:
    __getattr__ = names_of(__name__)

__all__ = ["all_reduce_mean", "barrier", "broadcast", "process_group", "rank", "shard", "size"]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
