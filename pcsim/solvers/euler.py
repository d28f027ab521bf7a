"""One-stage solvers, which evaluate every rate once per step, sequentially in evaluation order.

An edge between two memories transmits the newly updated value if its delay is 0 (a semi-implicit step), and the
previous value if its delay is 1. In a network built from flows, every edge between memories has delay 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from pcsim.core.checks import checked
from pcsim.core.exceptions import SolverError
from pcsim.network.wiring import Wiring
from pcsim.rules.base import Leaky, Rule
from pcsim.solvers.base import FlowSolver


@checked(SolverError)
@dataclass(frozen=True)
class Euler(FlowSolver):
    """r(t + dt) = r + dt G(r, u); for a leak, r + dt/tau (F - r), which equals F exactly if dt = tau. Order 1."""

    is_one_stage: ClassVar[bool] = True

    @property
    def stability_limit(self) -> float:
        """The largest stable dt / tau, 2, from |1 - dt/tau| < 1."""
        return 2.0

    def update(self, rule: Rule) -> Callable[[Tensor, Tensor, Any], Tensor]:
        """Return the update r + dt/tau (F - r) for a `Leaky` rule, or r + dt/tau G for other flows."""
        return torch.lerp if isinstance(rule, Leaky) else _add

    def ratio(self, tau: float | Tensor) -> float | Tensor:
        """Return dt / tau."""
        return self.dt / tau


@checked(SolverError)
@dataclass(frozen=True)
class ExponentialEuler(FlowSolver):
    """r(t + dt) = F + (r - F) exp(-dt / tau): exact if F is constant during the step and stable for any dt. Order 1."""

    is_one_stage: ClassVar[bool] = True

    def check(self, network: Wiring) -> None:
        """Also raise SolverError unless every population leaks towards a target."""
        super().check(network)
        if others := [name for name, rule in network.flows.items() if not isinstance(rule, Leaky)]:
            raise SolverError(
                given=f"ExponentialEuler for {', '.join(others)} of {network.name!r}",
                expected="populations that leak towards a target, tau dr/dt = F - r",
                remedy=f"pass solver=pcsim.RK4(dt={self.dt:g}), or use Euler, Heun or TorchDiffEq",
            )

    def update(self, rule: Rule) -> Callable[[Tensor, Tensor, Any], Tensor]:
        """Return the update r + (1 - exp(-dt / tau)) (F - r)."""
        return torch.lerp

    def ratio(self, tau: float | Tensor) -> float | Tensor:
        """Return 1 - exp(-dt / tau)."""
        share = self.dt / tau
        return -torch.expm1(-share) if isinstance(share, Tensor) else -math.expm1(-share)


def _add(value: Tensor, push: Tensor, ratio: float | Tensor) -> Tensor:
    """Return value + ratio push."""
    if isinstance(ratio, Tensor):
        return torch.addcmul(value, ratio, push)
    return torch.add(value, push, alpha=ratio)
