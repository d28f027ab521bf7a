"""An adaptive solver of our own, for flows whose steps are few and dear.

k_i = G(r + h sum_j a_ij k_j),   r' = r + h sum_i b_i k_i,   error = h sum_i e_i k_i
ratio = max over samples of rms( error / (atol + rtol max(|r|, |r'|)) );   h <- 0.9 h ratio^(-1/5) after each attempt
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from pcsim.core.clock import Clock
from pcsim.core.exceptions import SolverError
from pcsim.network.graph import Network
from pcsim.solvers.base import Solver, gave_up, refuse_delays
from pcsim.core.state import State, axpy, units

STAGES = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
ERROR = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)
SAFETY, SMALLEST, LARGEST = 0.9, 0.2, 5.0


@dataclass(frozen=True)
class Dopri5(Solver):
    """The Dormand-Prince pair of order 5 and 4 with steps of its own choice inside every `dt` ms.

    rtol, atol  every sample meets them by itself: the sample with the largest error sets the step for all
    max_evaluations  of the right-hand side in one dt, after which it gives up

    `dt` is the interval after which the state can be recorded and the stimulus can change. The last step lands on its
    end. Differentiable; the sizes of the steps count as constants. Half the time of torchdiffeq's method of this name.
    Source: Dormand & Prince 1980; step control and first step as in Hairer, Norsett & Wanner 1993, section II.4.
    """

    rtol: float = math.nan
    atol: float = math.nan
    max_evaluations: int = 100_000

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.rtol > 0 and self.atol > 0):
            raise SolverError(
                given=f"Dopri5(rtol={self.rtol}, atol={self.atol})",
                expected="both tolerances, positive",
                remedy="for instance rtol=1e-5, atol=1e-7",
            )

    @property
    def replays(self) -> bool:
        """Not so: how many steps it takes depends on the numbers."""
        return False

    def check(self, network: Network) -> None:
        """Also refuse conduction delays: there is no past between the steps."""
        super().check(network)
        refuse_delays(self, network)

    def _step(self, network: Network, clock: Clock, state: State, inputs: State) -> State:
        """Integrate from clock.time to clock.time + dt."""
        rate = network.derivative(clock, state, inputs)
        size = self._first(network, clock, state, inputs, rate)
        now, evaluations = 0.0, 2
        while now < self.dt * (1.0 - 1e-12):
            if evaluations > self.max_evaluations or not size > 1e-12 * self.dt:
                raise gave_up(
                    self, network, clock, f"{evaluations} evaluations were not enough, at a step of {size:g} ms"
                )
            size = min(size, self.dt - now)
            rates, trial = [rate], state
            for row in STAGES:
                trial = _combined(state, [(size * a, k) for a, k in zip(row, rates, strict=True) if a])
                rates.append(network.derivative(clock, trial, inputs))
            evaluations += len(STAGES)
            ratio = self._ratio(state, trial, size, rates)
            if ratio <= 1.0:
                now, state, rate = now + size, trial, rates[-1]
            size *= (
                min(LARGEST, max(SMALLEST, SAFETY * max(ratio, 1e-10) ** -0.2)) if math.isfinite(ratio) else SMALLEST
            )
        return state

    def _ratio(self, state: State, trial: State, size: float, rates: list[State]) -> float:
        """The error of the worst sample in units of what is tolerated."""
        total, count = torch.zeros(()), 0
        for name in rates[0]:
            weights = [(size * e, k[name]) for e, k in zip(ERROR, rates, strict=True) if e]
            error = weights[0][0] * weights[0][1]
            for weight, value in weights[1:]:
                error = error.add_(value, alpha=weight)
            scale = torch.maximum(state[name].abs(), trial[name].abs()).mul_(self.rtol).add_(self.atol)
            total = total.to(error) + (error.detach() / scale.detach()).square().sum(units(error))
            count += error[0].numel()
        return float((total.max() / count).sqrt())

    def _first(self, network: Network, clock: Clock, state: State, inputs: State, rate: State) -> float:
        """A first step of which the second derivative says that it is small enough; one evaluation."""
        with torch.no_grad():
            size, speed = (self._largest(state, values) for values in (state, rate))
            guess = 1e-6 if min(size, speed) < 1e-5 else 0.01 * size / speed
            after = network.derivative(clock, axpy(state, [(guess, rate)]), inputs)
            bend = self._largest(state, {name: after[name] - rate[name] for name in rate}) / guess
        most = max(speed, bend)
        better = max(1e-6, 1e-3 * guess) if most <= 1e-15 else (0.01 / most) ** 0.2
        return min(self.dt, 100.0 * guess, better)

    def _largest(self, state: State, values: State) -> float:
        """The rms of `values`, in units of what is tolerated, of the sample where it is largest."""
        squares = torch.stack(
            [(v / (self.atol + self.rtol * state[name].abs())).square().sum(units(v)) for name, v in values.items()]
        )
        count = sum(value[0].numel() for value in values.values())
        return float((squares.sum(0).max() / count).sqrt())


def _combined(state: State, terms: list[tuple[float, State]]) -> State:
    """state + sum_i a_i x_i, in one tensor each: this solver is not replayed, so nobody else spares the memory."""
    result = axpy(state, terms[:1])
    for factor, other in terms[1:]:
        for name, value in other.items():
            result[name].add_(value, alpha=factor)
    return result
