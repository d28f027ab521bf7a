"""Detection of samples that are no longer finite, and of samples that have settled."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from pcsim.core.exceptions import SolverError
from pcsim.core.state import State, finite
from pcsim.network.wiring import Wiring

LOOK, MOST_BYTES = 64, {"cpu": 2**20, "cuda": 2**28}
"""most states and bytes that are checked together: more do not fit the cache of a CPU"""


@dataclass(frozen=True)
class Settled:
    """Run until every sample has settled: `until=Settled(1e-4, at_most=2000.0)`.

    tolerance  a sample has settled when no memory moves by more than this share of its size, |x(t+1) - x(t)| / |x|: in
               a step of a discrete network, per ms in a flow, whatever its dt
    at_most    ms after which the run ends in any case; samples that have not settled are reported
    every      steps between two checks; the run ends at the first check at which all have settled

    Nothing counts as settled before the last change of stimulus, window, lesion or phase within
    `at_most`, nor before an onset can have reached every area.

    `run.settled_at` is the time at which each sample settled first, NaN if it did not.
    """

    tolerance: float
    at_most: float
    every: int = 10

    def __post_init__(self) -> None:
        if not (0 < self.tolerance < math.inf and 0 < self.at_most < math.inf) or self.every < 1:
            raise SolverError(
                given=repr(self),
                expected="a positive tolerance, a positive at_most in ms, every >= 1",
                remedy="write Settled(1e-4, at_most=2000.0)",
            )


@dataclass
class Monitor:
    """Checks the states of a run, many at a time, so that nothing is read back to the host in between.

    step, population  (batch,): the step after which a sample was not finite, and where; -1 where it is
    settled_step      (batch,): the step after which it moved no more; -1
    """

    network: Wiring
    batch: int
    settled: Settled | None = None
    span: float = 1.0
    """unit of a step in the tolerance: 1 for a map, dt in ms for a flow"""
    last_change: float = 0
    """the step up to which nothing counts as settled"""
    step: np.ndarray = field(init=False)
    population: np.ndarray = field(init=False)
    settled_step: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.step, self.population = np.full(self.batch, -1), np.full(self.batch, -1)
        self.settled_step = np.full(self.batch, -1)
        self.has_diverged = False
        """whether a sample has diverged in the states checked so far"""
        self.names = tuple(self.network.shapes.variables)
        self._keys = self.network.memory_keys
        self._waiting: list[tuple[int, State]] = []
        self._moved: list[tuple[int, Tensor]] = []
        self._most = 0

    def update(self, step: int, before: State, after: State) -> bool:
        """Note the state after a step; return whether the run is over.

        It is over when no sample is finite or all have settled, found at the next check.
        """
        if not self._most:
            size = sum(after[key].numel() * after[key].element_size() for _, key in self._keys)
            most = next((MOST_BYTES.get(after[key].device.type, 2**20) for _, key in self._keys), 0)
            self._most = self.settled.every if self.settled else max(1, min(LOOK, most // max(size, 1)))
        self._waiting.append((step, after))
        if self.settled is not None:
            self._moved.append((step, self._movement(before, after)))
        return len(self._waiting) >= self._most and self.look()

    def look(self) -> bool:
        """Check all recorded states; return whether the run is over."""
        waiting, self._waiting = self._waiting, []
        if not waiting or not self._keys:
            return False
        # A flow adds to its state, so a value that is not finite stays so: its last state is enough.
        latest = waiting[-1:] if self.network.is_flow else waiting
        # The fastest check: a sum is not finite if a value is not. A sum may also overflow, so values decide.
        sums = [state[key].sum() for _, state in latest for _, key in self._keys]
        if not math.isfinite((torch.stack(sums).sum() if len(sums) > 1 else sums[0]).item()):
            for step, state in waiting:
                self.note(step, torch.stack([finite(state[key]) for _, key in self._keys]), [p for p, _ in self._keys])
        moved, self._moved = self._moved, []
        if self.settled is not None:
            for step, distance in moved:
                if step > self.last_change:
                    now = (distance <= self.settled.tolerance).cpu().numpy() & (self.settled_step < 0)
                    self.settled_step[now] = step
        if self.settled is None and not self.has_diverged:
            return False
        done = (self.step >= 0) | (self.settled_step >= 0)
        return bool(done.all())

    def note(self, step: int, fine: Tensor, populations: Sequence[int]) -> None:
        """Note which variables were finite after a step, (variable, batch)."""
        bad = ~fine.cpu().numpy()
        new = bad.any(0) & (self.step < 0)
        self.step[new] = step
        self.population[new] = np.asarray(populations)[bad.argmax(0)][new]
        self.has_diverged |= bool(new.any())

    def look_at_rows(self, key: str, rows: np.ndarray, values: Tensor) -> None:
        """Check the records of a variable too: (time, batch, ...), after the steps `rows`."""
        if not values.is_floating_point() or math.isfinite(values.detach().sum()):
            return
        fine = finite(values.detach(), 2)
        if bool(fine.all()):
            return
        place = self.names.index(key.split(".")[0])
        bad = ~fine.cpu().numpy()
        steps = rows[bad.argmax(0)]
        earlier = bad.any(0) & ((self.step < 0) | (steps < self.step))
        self.step[earlier], self.population[earlier] = steps[earlier], place
        self.has_diverged |= bool(earlier.any())

    def mark(self, fine: Tensor) -> None:
        """Note samples, (batch,), that were not finite at some step: another run finds out where."""
        self.step[~fine.cpu().numpy()], self.has_diverged = 0, True

    def _movement(self, before: State, after: State) -> Tensor:
        """Return the largest share of its size by which a memory moved, (batch,)."""
        shares = []
        for _, key in self._keys:
            axes = tuple(range(1, after[key].dim()))
            moved = torch.linalg.vector_norm(after[key] - before[key], dim=axes)
            size = torch.linalg.vector_norm(after[key], dim=axes).clamp_min(torch.finfo(moved.dtype).tiny)
            shares.append(moved / size / self.span)
        return torch.stack(shares).amax(0)
