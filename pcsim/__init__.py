"""pcsim: recurrent models of vision, simulated as dynamical systems.

net = pcsim.models.leaky_rcnn(tau=(10.0, 20.0, 40.0))
run = pcsim.simulate(net, pcsim.stimuli.digit_debris(fragments=10), solver=pcsim.RK4(dt=1.0), until=200.0)
"""

from __future__ import annotations

from pcsim.core import command_line  # noqa: F401 - first, so that programs can be stopped while they import the rest

# isort: split

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pcsim import analysis, brain, connections, core, dynamics, models, rules, stimuli, sweeps, training
from pcsim.core.clock import Clock
from pcsim.core.exceptions import (
    PcsimError,
    PcsimWarning,
    RecordError,
    SolverError,
    StimulusError,
    StorageError,
    SweepError,
    TrainingError,
    WiringError,
)
from pcsim.network import Batched, Network, Population, Projection, batched
from pcsim.simulation import (
    Forecast,
    Full,
    Record,
    Run,
    Settled,
    Simulator,
    Snapshot,
    Status,
    initial_state,
    predict,
    rollout,
    simulate,
)
from pcsim.solvers import RK4, Dopri5, Euler, ExponentialEuler, Heun, Iterate, TorchDiffEq

if TYPE_CHECKING:
    from pcsim import plots


def __getattr__(name: str) -> Any:
    """Import `plots` on first use, because importing matplotlib takes as long as importing the rest of pcsim."""
    if name == "plots":
        return import_module("pcsim.plots")
    raise AttributeError(f"module 'pcsim' has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names, including `plots` before it is imported."""
    return sorted(__all__)


__all__ = [
    "RK4",
    "Batched",
    "Clock",
    "Dopri5",
    "Euler",
    "ExponentialEuler",
    "Forecast",
    "Full",
    "Heun",
    "Iterate",
    "Network",
    "PcsimError",
    "PcsimWarning",
    "Population",
    "Projection",
    "Record",
    "RecordError",
    "Run",
    "Settled",
    "Simulator",
    "Snapshot",
    "SolverError",
    "Status",
    "StimulusError",
    "StorageError",
    "SweepError",
    "TorchDiffEq",
    "TrainingError",
    "WiringError",
    "analysis",
    "batched",
    "brain",
    "connections",
    "core",
    "dynamics",
    "initial_state",
    "models",
    "plots",
    "predict",
    "rollout",
    "rules",
    "simulate",
    "stimuli",
    "sweeps",
    "training",
]
