"""Solvers: the published steps of discrete networks, and numerical methods for flows."""

from pcsim.solvers.base import FlowSolver, Solver
from pcsim.solvers.dopri5 import Dopri5
from pcsim.solvers.euler import Euler, ExponentialEuler
from pcsim.solvers.iterate import Iterate
from pcsim.solvers.runge_kutta import RK4, Heun, RungeKutta
from pcsim.solvers.torchdiffeq import ADAPTIVE, FIXED, TorchDiffEq

__all__ = [
    "ADAPTIVE",
    "FIXED",
    "RK4",
    "Dopri5",
    "Euler",
    "ExponentialEuler",
    "FlowSolver",
    "Heun",
    "Iterate",
    "RungeKutta",
    "Solver",
    "TorchDiffEq",
]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
