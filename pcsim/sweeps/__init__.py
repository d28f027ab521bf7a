"""One function over many configurations: sweeps, searches, and where their calls run."""

from pcsim.sweeps import executors
from pcsim.sweeps.search import Search, Trial
from pcsim.sweeps.sweep import Sweep, Table, changed, grid, sample

__all__ = ["Search", "Sweep", "Table", "Trial", "changed", "executors", "grid", "sample"]
