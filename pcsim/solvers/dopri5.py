"""An adaptive solver in which every sample has its own step size.

k_i = G(r + h sum_j a_ij k_j),   r' = r + h sum_i b_i k_i,   error = h sum_i e_i k_i
ratio = rms( error / (atol + rtol max(|r|, |r'|)) );   h <- 0.9 h ratio^(-1/5) after each attempt
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pcsim.core.checks import Count, Positive, checked
from pcsim.core.exceptions import SolverError
from pcsim.core.state import State, units
from pcsim.network.wiring import Wiring
from pcsim.solvers.base import FlowSolver, Plan, integration_failed, refuse_delays

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


@checked(SolverError)
@dataclass(frozen=True)
class Dopri5(FlowSolver):
    """The Dormand-Prince pair of orders 5 and 4, with adaptive steps inside each interval of `dt` ms.

    rtol, atol  tolerances for each sample; as every sample has its own step size, samples do not affect each other
    max_evaluations  maximum number of rate evaluations per interval; exceeding it raises SolverError

    `dt` is the interval at which the state can be recorded and the stimulus can change. The last adaptive step ends
    exactly at the end of the interval. The solver is differentiable, with step sizes treated as constants.
    Source: Dormand & Prince 1980; step-size control and first step as in Hairer, Norsett & Wanner 1993, section II.4.
    """

    is_traceable: ClassVar[bool] = False

    rtol: Positive = math.nan
    atol: Positive = math.nan
    max_evaluations: Count = 100_000

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.rtol > 0 and self.atol > 0):
            raise SolverError(
                given=f"Dopri5(rtol={self.rtol}, atol={self.atol})",
                expected="positive numbers for both tolerances",
                remedy=f"use Dopri5(dt={self.dt:g}, rtol=1e-5, atol=1e-7)",
            )

    def check(self, network: Wiring) -> None:
        """Also raise SolverError for conduction delays, because no values between steps are stored."""
        super().check(network)
        refuse_delays(self, network)

    def step(self, plan: Plan, precomputed: State, state: State) -> State:
        """Integrate over one interval `dt`."""
        now = {name: state[name] for name in plan.flow_keys}

        def rates(values: State) -> State:
            found = plan.evaluate(plan.rates(), precomputed, state | values)
            return {name: found[name] for name in plan.flow_keys}

        rate = rates(now)
        size = self._first(rates, now, rate)
        time, evaluations = torch.zeros_like(size), 2
        while True:
            left = self.dt - time
            moving = left > 1e-12 * self.dt
            stuck = moving & ~(size > 1e-12 * self.dt)
            goes_on, is_stuck = torch.stack([moving.any(), stuck.any()]).tolist()
            if not goes_on:
                return plan.complete(precomputed, state, now)
            if is_stuck or evaluations > self.max_evaluations:
                sample = int((stuck if is_stuck else moving).int().argmax())
                reason = (
                    f"{evaluations} evaluations were not enough for sample {sample}, with a step of {size[sample]:g} ms"
                )
                raise integration_failed("Dopri5", plan.network, reason)
            size = torch.minimum(size, left).clamp_min(0.0)
            trial, ks = now, [rate]
            for row in STAGES:
                trial = {name: _ahead(now[name], size, row, [k[name] for k in ks]) for name in now}
                ks.append(rates(trial))
            evaluations += len(STAGES)
            ratio = self._ratio(now, trial, size, ks)
            taken = moving & (ratio <= 1.0)
            time = time + torch.where(taken, size, 0.0)
            now = {name: torch.where(_beside(taken, value), trial[name], value) for name, value in now.items()}
            rate = {name: torch.where(_beside(taken, value), ks[-1][name], value) for name, value in rate.items()}
            factor = (SAFETY * ratio.clamp_min(1e-10) ** -0.2).clamp(SMALLEST, LARGEST)
            size = size * torch.where(torch.isfinite(ratio), factor, SMALLEST)

    @torch.no_grad()
    def _ratio(self, state: State, trial: State, size: Tensor, ks: list[State]) -> Tensor:
        """Return the error of each sample relative to the tolerance, (batch,)."""
        total, count = torch.zeros_like(size), 0
        for name in state:
            scale = torch.maximum(state[name].abs(), trial[name].abs()).mul_(self.rtol).add_(self.atol)
            error = _weighted(ERROR, [k[name] for k in ks]) / scale
            total = total + error.square().sum(units(error)).to(total)
            count += error[0].numel()
        return size * (total / count).sqrt()

    @torch.no_grad()
    def _first(self, rates: object, state: State, rate: State) -> Tensor:
        """Return the first step size, (batch,), using one evaluation of the rates to estimate the second derivative."""
        size, speed = self._largest(state, state), self._largest(state, rate)
        guess = torch.where(torch.minimum(size, speed) < 1e-5, 1e-6, 0.01 * size / speed)
        after = rates({n: torch.addcmul(state[n], _beside(guess, state[n]), rate[n]) for n in state})  # type: ignore[operator]
        curvature = self._largest(state, {name: after[name] - rate[name] for name in rate}) / guess
        most = torch.maximum(speed, curvature)
        better = torch.where(most <= 1e-15, (1e-3 * guess).clamp_min(1e-6), (0.01 / most) ** 0.2)
        return torch.minimum(100.0 * guess, better).clamp_max(self.dt)

    def _largest(self, state: State, values: State) -> Tensor:
        """Return the rms of `values` relative to the tolerance, (batch,), in double precision."""
        squares = [
            (v / (self.atol + self.rtol * state[name].abs())).square().sum(units(v)).double()
            for name, v in values.items()
        ]
        count = sum(value[0].numel() for value in values.values())
        return (torch.stack(squares).sum(0) / count).sqrt()


def _beside(values: Tensor, like: Tensor) -> Tensor:
    """Reshape `values`, (batch,), to broadcast against the activity `like`; booleans stay booleans."""
    other = values if values.dtype == torch.bool else values.to(like.dtype)
    return other.reshape(-1, *(1,) * (like.dim() - 1))


def _weighted(weights: tuple[float, ...], values: list[Tensor]) -> Tensor:
    """Return sum_i w_i x_i, accumulated in one tensor."""
    terms = [(weight, value) for weight, value in zip(weights, values, strict=True) if weight]
    result = terms[0][0] * terms[0][1]
    for weight, value in terms[1:]:
        result = result.add_(value, alpha=weight)
    return result


def _ahead(value: Tensor, size: Tensor, row: tuple[float, ...], ks: list[Tensor]) -> Tensor:
    """Return value + h sum_j a_j k_j."""
    return torch.addcmul(value, _beside(size, value), _weighted(row, ks))
