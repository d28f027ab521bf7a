"""Simulation of networks: each network is converted to a plan, which advances its state step by step."""

from pcsim.simulation.forecasting import Forecast, predict
from pcsim.simulation.gradient import Full, Gradient
from pcsim.simulation.monitor import Settled
from pcsim.simulation.record import Record
from pcsim.simulation.run import Run, Snapshot, Status
from pcsim.simulation.simulator import Simulator, simulate
from pcsim.simulation.start import initial_state
from pcsim.simulation.stepwise import rollout

__all__ = [
    "Forecast",
    "Full",
    "Gradient",
    "Record",
    "Run",
    "Settled",
    "Simulator",
    "Snapshot",
    "Status",
    "initial_state",
    "predict",
    "rollout",
    "simulate",
]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
