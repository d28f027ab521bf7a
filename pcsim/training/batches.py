"""The order of batches, either drawn from the training seed or determined by a DataLoader."""

from __future__ import annotations

import hashlib
import itertools
import random
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from pcsim.core.exceptions import TrainingError
from pcsim.training import distributed
from pcsim.training.settings import Training


@contextmanager
def seeded(seed: int, update: int, device: torch.device | None = None) -> Iterator[None]:
    """Seed torch, NumPy and `random` with a hash of the arguments and the rank, and restore their states afterwards.

    Dropout, noise and augmentation are then functions of the seed and the update, so resumed training repeats them.
    """
    key = hashlib.sha256(f"{seed} {update} {distributed.rank()}".encode()).digest()
    number, numpy_state, plain_state = int.from_bytes(key[:7]), np.random.get_state(), random.getstate()
    gpus = [device] if device is not None and device.type == "cuda" else []
    with torch.random.fork_rng(gpus):
        torch.manual_seed(number)
        np.random.seed(number % 2**32)
        random.seed(number)
        try:
            yield
        finally:
            np.random.set_state(numpy_state)
            random.setstate(plain_state)


def batch_of(count: int, settings: Training, update: int) -> Tensor:
    """Return the batch indices of an update. The order changes every epoch and is determined by the seed."""
    epoch, position = divmod(update, _updates_per_epoch(count, settings))
    generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + epoch)
    return torch.randperm(count, generator=generator)[position * settings.batch : (position + 1) * settings.batch]


def _updates_per_epoch(count: int, settings: Training) -> int:
    """Return the number of complete batches in `count` samples, at least 1."""
    return max(1, count // settings.batch)


class Batches(ABC):
    """A sequence of batches, one per update, that can resume in the middle of an epoch."""

    per_epoch: int | None
    """number of updates per epoch; None if unknown"""

    @abstractmethod
    def take(self, update: int) -> Any:
        """Return the batch for an update. Updates are consecutive."""

    def position(self) -> dict[str, Any]:
        """Return the values that a checkpoint must contain for `resume` to find the next batch."""
        return {}

    def resume(self, position: dict[str, Any], done: int) -> None:  # noqa: B027
        """Continue after `done` updates at a `position`. By default, the batch depends only on the update."""


class Drawn(Batches):
    """Indices of samples in an order drawn from the seed; each process receives its shard."""

    def __init__(self, count: int, settings: Training) -> None:
        self._count, self._settings = count, settings
        self.per_epoch = _updates_per_epoch(count, settings)

    def take(self, update: int) -> Tensor:
        """Return the indices of this process's shard of a batch."""
        return distributed.shard(batch_of(self._count, self._settings, update))


class Loaded(Batches):
    """The batches of a DataLoader, in the loader's order.

    Random numbers that the loader draws from the global generators are determined by the seed. The states of its own
    generators at the start of an epoch are stored, and resumed training reloads the batches of the current epoch.
    """

    def __init__(self, loader: DataLoader[Any], seed: int) -> None:
        self._loader, self._seed = loader, seed
        self._iterator: Iterator[Any] | None = None
        self._begun, self._next, self._states = 0, 0, self._own_states()
        try:
            self.per_epoch = len(loader)
        except TypeError:  # an iterable dataset of unknown length
            self.per_epoch = None
        if self.per_epoch == 0:
            raise _empty(loader)

    def take(self, update: int) -> Any:
        """Return the next batch; start a new epoch after the last one."""
        nothing = object()
        self._next = update + 1
        if self._iterator is not None:
            with seeded(self._seed, update):
                batch = next(self._iterator, nothing)
            if batch is not nothing:
                return batch
        self._begun, self._states = update, self._own_states()
        with seeded(self._seed, update):
            self._iterator = iter(self._loader)
            batch = next(self._iterator, nothing)
        if batch is nothing:
            raise _empty(self._loader)
        return batch

    def once(self) -> Iterator[Any]:
        """Yield the batches of one epoch, without affecting the order of other epochs."""
        nothing, states = object(), self._own_states()
        with self._apart(states), seeded(self._seed, 0):
            iterator = iter(self._loader)
        for number in itertools.count():
            with self._apart(states), seeded(self._seed, number):
                batch = next(iterator, nothing)
            if batch is nothing:
                return
            yield batch

    def position(self) -> dict[str, Any]:
        """Return the update at which the current epoch began and the states of the loader's generators at that time."""
        if self._next - self._begun == self.per_epoch:
            return {"begun": self._next, "generators": self._own_states()}
        return {"begun": self._begun, "generators": self._states}

    def resume(self, position: dict[str, Any], done: int) -> None:
        """Reload the batches of the current epoch, up to `done` updates."""
        self._restore(position["generators"])
        for update in range(position["begun"], done):
            self.take(update)

    def _generators(self) -> list[torch.Generator]:
        samplers = [getattr(self._loader, "sampler", None), getattr(self._loader, "batch_sampler", None)]
        owners = [self._loader, *samplers, getattr(samplers[1], "sampler", None)]
        found = [getattr(owner, "generator", None) for owner in owners]
        return list({id(each): each for each in found if isinstance(each, torch.Generator)}.values())

    def _own_states(self) -> list[Tensor]:
        return [generator.get_state() for generator in self._generators()]

    @contextmanager
    def _apart(self, states: list[Tensor]) -> Iterator[None]:
        """Run with the generators set to `states`, which is updated in place, then restore their previous states."""
        others = self._own_states()
        self._restore(states)
        try:
            yield
        finally:
            states[:] = self._own_states()
            self._restore(others)

    def _restore(self, states: list[Tensor]) -> None:
        generators = self._generators()
        if len(states) != len(generators):
            raise TrainingError(
                given=f"a DataLoader with {len(generators)} generators, and a checkpoint with {len(states)}",
                expected="the DataLoader with which training was started",
                remedy="pass the same DataLoader(..., generator=...), or another checkpoint",
            )
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)


def _empty(loader: DataLoader[Any]) -> TrainingError:
    return TrainingError(
        given=f"a {type(loader).__name__} without batches",
        expected="at least one batch",
        remedy="check the length of its dataset, and pass DataLoader(..., drop_last=False)",
    )
