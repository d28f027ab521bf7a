"""The step of a discrete network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pcsim.core.exceptions import SolverError
from pcsim.network.wiring import Wiring
from pcsim.solvers.base import Solver


@dataclass(frozen=True)
class Iterate(Solver):
    """h(t + 1) = F(h(t), u(t)): a discrete network, run as published. A step stands for `network.step_ms` ms."""

    is_one_stage: ClassVar[bool] = True

    def step_ms(self, network: Wiring) -> float:
        """Return what the network says of itself."""
        return network.step_ms

    def check(self, network: Wiring) -> None:
        """Raise SolverError for a flow."""
        if network.is_flow:
            raise SolverError(
                given=f"Iterate for {network.name!r}, whose populations say how fast they change (flows)",
                expected="a discrete network, whose populations say what comes next",
                remedy="use Euler, Heun, RK4, ExponentialEuler, Dopri5 or TorchDiffEq with a dt in ms",
            )
