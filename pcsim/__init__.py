"""pcsim: recurrent models of vision as dynamical systems.

net = pcsim.models.leaky_rcnn(tau=(10.0, 20.0, 40.0))
run = pcsim.simulate(net, pcsim.stimuli.digit_debris(fragments=10), solver=pcsim.RK4(dt=1.0), until=200.0)
"""

from pcsim import analysis, connections, models, parallel, plasticity, plots, rules, stimuli, training
from pcsim.core import storage
from pcsim.solvers.dopri5 import Dopri5
from pcsim.analysis.order import check_order
from pcsim.core.clock import Clock
from pcsim.core.exceptions import (
    PcsimError,
    PcsimWarning,
    SolverError,
    StimulusError,
    StorageError,
    SweepError,
    TrainingError,
    WiringError,
)
from pcsim.network.graph import Network, Population, Projection
from pcsim.simulation.forecast import Forecast, predict
from pcsim.simulation.record import Record, Run, Snapshot, Status
from pcsim.simulation.simulator import rollout, simulate
from pcsim.solvers.base import RK4, Euler, ExponentialEuler, Heun, Iterate, TorchDiffEq
from pcsim.network.batched import Together, together

__all__ = [
    "RK4",
    "Clock",
    "Dopri5",
    "Euler",
    "ExponentialEuler",
    "Forecast",
    "Heun",
    "Iterate",
    "Network",
    "PcsimError",
    "PcsimWarning",
    "Population",
    "Projection",
    "Record",
    "Run",
    "Snapshot",
    "SolverError",
    "Status",
    "StimulusError",
    "StorageError",
    "SweepError",
    "Together",
    "TorchDiffEq",
    "TrainingError",
    "WiringError",
    "analysis",
    "check_order",
    "connections",
    "models",
    "parallel",
    "plasticity",
    "plots",
    "predict",
    "rollout",
    "rules",
    "simulate",
    "stimuli",
    "storage",
    "together",
    "training",
]
