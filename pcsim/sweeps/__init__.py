"""Sweeps and searches: one function evaluated at many configurations, locally or on a cluster."""

from pcsim.sweeps import executors
from pcsim.sweeps.search import Search, Trial
from pcsim.sweeps.sweep import Sweep, changed, grid, sample
from pcsim.sweeps.table import Table

__all__ = ["Search", "Sweep", "Table", "Trial", "changed", "executors", "grid", "sample"]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
