"""Networks of populations joined by projections, and variants of these networks."""

from pcsim.network.network import Network
from pcsim.network.parts import ALWAYS, Population, Projection
from pcsim.network.side_by_side import Batched, batched

__all__ = ["ALWAYS", "Batched", "Network", "Population", "Projection", "batched"]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
