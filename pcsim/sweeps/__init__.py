"""Sweeps and searches: one function evaluated at many configurations, locally or on a cluster."""

from pcsim.sweeps import executors
from pcsim.sweeps.points import grid, sample
from pcsim.sweeps.search import Search, Trial
from pcsim.sweeps.sweep import Sweep, Table, changed

__all__ = ["Search", "Sweep", "Table", "Trial", "changed", "executors", "grid", "sample"]
