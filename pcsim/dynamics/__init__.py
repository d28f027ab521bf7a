"""Networks as dynamical systems: stability, fixed points, eigenvalues, and the order of solvers."""

from pcsim.dynamics import stability
from pcsim.dynamics.order import Orders, check_order
from pcsim.dynamics.stability import largest_eigenvalue

__all__ = ["Orders", "check_order", "largest_eigenvalue", "stability"]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
