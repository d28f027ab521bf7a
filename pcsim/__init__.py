"""pcsim: recurrent models of vision, simulated as dynamical systems.

net = pcsim.models.leaky_rcnn(tau=(10.0, 20.0, 40.0))
run = pcsim.simulate(net, pcsim.stimuli.digit_debris(fragments=10), solver=pcsim.RK4(dt=1.0), until=200.0)
"""

from __future__ import annotations

from pcsim.core import command_line  # noqa: F401 - first, so that programs can be stopped during the other imports

# isort: split

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pcsim.core.renamed import names_of
from pcsim.core.version import VERSION

if TYPE_CHECKING:
    from pcsim import (
        analysis,
        brain,
        connections,
        core,
        dynamics,
        models,
        plots,
        rules,
        stimuli,
        sweeps,
        training,
    )
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
    from pcsim.saved import load
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

__version__ = VERSION
_PACKAGES = (
    *("analysis", "brain", "connections", "core", "dynamics", "models", "network", "plots", "rules", "simulation"),
    *("solvers", "stimuli", "sweeps", "training"),
)
_HOMES = ("core.exceptions", "core.clock", "network", "solvers", "simulation", "saved")
"""modules that define the public names other than packages"""


if not TYPE_CHECKING:  # otherwise, type checkers would accept any name

    def __getattr__(name: str) -> Any:
        """Import packages on first use, because importing PyTorch takes more than a second."""
        if name in _PACKAGES:
            return import_module(f"pcsim.{name}")
        if name in __all__:
            homes = (import_module(f"pcsim.{home}") for home in _HOMES)
            value = globals()[name] = next(getattr(home, name) for home in homes if hasattr(home, name))
            return value
        return names_of("pcsim")(name)


def __dir__() -> list[str]:
    """List the public names, including those not yet imported."""
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
    "load",
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
