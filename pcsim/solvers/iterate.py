"""The solver for discrete networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pcsim.core.exceptions import SolverError
from pcsim.network.wiring import Wiring
from pcsim.solvers.base import Solver


@dataclass(frozen=True)
class Iterate(Solver):
    """h(t + 1) = F(h(t), u(t)): a discrete network, run as published. One step represents `network.step_ms` ms."""

    is_one_stage: ClassVar[bool] = True

    def step_ms(self, network: Wiring) -> float:
        """Return `network.step_ms`."""
        return network.step_ms

    def check(self, network: Wiring) -> None:
        """Raise SolverError for a flow."""
        if network.is_flow:
            raise SolverError(
                given=f"Iterate for {network.name!r}, whose populations return their rate of change (flows)",
                expected="a discrete network, whose populations return their next value",
                remedy="pass solver=pcsim.RK4(dt=1.0), or use Euler, Heun, ExponentialEuler, Dopri5 or TorchDiffEq",
            )
