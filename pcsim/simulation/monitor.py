"""Detection of samples that have diverged or settled."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from pcsim.core.checks import Count, Positive, checked
from pcsim.core.exceptions import SolverError
from pcsim.core.state import State, finite, norm
from pcsim.network.wiring import Wiring

LOOK, MOST_BYTES = 64, {"cpu": 2**20, "cuda": 2**28}
"""maximum number of states and bytes to check together; more would not fit into a CPU cache"""


@checked(SolverError)
@dataclass(frozen=True)
class Settled:
    """A stopping criterion: the run ends once every sample has settled, as in `until=Settled(1e-4, at_most=2000.0)`.

    tolerance  maximum relative change |x(t+1) - x(t)| / |x| of any variable of a settled sample, per step of a
               discrete network or per ms of a flow (regardless of dt)
    at_most    maximum duration of the run in ms; a warning reports samples that have not settled by this time
    every      number of steps between checks; the run ends at the first check at which all samples have settled

    Samples are considered settled only after the last change of stimulus, window, lesion or phase within `at_most`, and
    only once a stimulus onset has had time to reach every area.

    `run.settled_at` is the time at which each sample first settled, or NaN if it did not settle.
    """

    tolerance: Positive
    at_most: Positive
    every: Count = 10


@dataclass
class Monitor:
    """A monitor of the states of a run, which checks several states at a time to reduce transfers to the host.

    step, population  (batch,): the first step after which a sample was not finite, and its population; -1 if none
    settled_step      (batch,): the first step after which a sample had settled; -1 if it has not
    """

    network: Wiring
    batch: int
    settled: Settled | None = None
    span: float = 1.0
    """duration of a step in the unit of the tolerance: 1 for a map, dt in ms for a flow"""
    last_change: float = 0
    """samples are considered settled only after this step"""
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
        """Store the state after a step for the next check; return whether the run is over.

        A run is over when a check finds that every sample has diverged or settled.
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
        """Check all stored states; return whether the run is over."""
        waiting, self._waiting = self._waiting, []
        if not waiting or not self._keys:
            return False
        # A flow adds to its state, so non-finite values remain non-finite, and checking the last state is enough.
        latest = waiting[-1:] if self.network.is_flow else waiting
        # A sum is the fastest check: it is not finite if a value is not. As it may overflow, values are then checked.
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
        """Record divergence after a step, where `fine` (variable, batch) is True for finite variables."""
        bad = ~fine.cpu().numpy()
        new = bad.any(0) & (self.step < 0)
        self.step[new] = step
        self.population[new] = np.asarray(populations)[bad.argmax(0)][new]
        self.has_diverged |= bool(new.any())

    def look_at_rows(self, key: str, rows: np.ndarray, values: Tensor) -> None:
        """Also check a population's recorded values (time, batch, ...); `rows` gives the step of each row."""
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
        """Mark samples as diverged where `fine` (batch,) is False. A second run then determines the step."""
        self.step[~fine.cpu().numpy()], self.has_diverged = 0, True

    def _movement(self, before: State, after: State) -> Tensor:
        """Return the largest relative change of any variable in a step, (batch,)."""
        shares = []
        for _, key in self._keys:
            moved, size = norm(after[key] - before[key]), norm(after[key])
            shares.append(moved / size.clamp_min(torch.finfo(size.dtype).tiny) / self.span)
        return torch.stack(shares).amax(0)
