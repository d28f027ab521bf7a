"""Step-by-step runs: `rollout`, and networks called as modules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from pcsim.core.checks import checked
from pcsim.core.exceptions import SolverError
from pcsim.network.network import Network
from pcsim.network.wiring import Wiring
from pcsim.simulation.checks import ERRORS
from pcsim.simulation.finish import warn_of_divergence
from pcsim.simulation.gradient import Full
from pcsim.simulation.monitor import Monitor
from pcsim.simulation.record import Names, Record, names_of
from pcsim.simulation.run import Snapshot
from pcsim.simulation.scan import Moment, scan
from pcsim.simulation.schedule import Schedule, steps_of
from pcsim.simulation.simulator import Simulator
from pcsim.solvers.base import Solver
from pcsim.solvers.iterate import Iterate
from pcsim.stimuli.timeline import Stimulus


@checked(SolverError, **ERRORS)
def rollout(
    network: Network,
    stimulus: Stimulus,
    solver: Solver,
    steps: int,
    names: Names | None = None,
    *,
    initial: Mapping[str, Tensor] | None = None,
    start: Snapshot | None = None,
) -> Iterator[Moment]:
    """Yield (clock, values) after each of `steps` steps: the time reached, and the values of `names`.

    names  populations, other variables and gates, as in a `Record`; by default all populations

    The network runs in its current mode. All arguments are checked before the first step. The values are
    differentiable, and `rollout` supports vmap, jacfwd, jacrev and functional_call from torch.func. If samples
    diverge, a warning at the end reports them.
    """
    chooses = not torch.is_grad_enabled() and not _is_transformed(network, stimulus)
    sim = Simulator.once(network, solver, Record(), Full(), chooses)
    wanted = names_of("all" if names is None else names, tuple(sim.wiring.populations))
    Record(states=wanted).kept(sim.wiring)
    steps = steps_of(sim.wiring, stimulus, solver, None, steps)
    schedule, carry = sim.begin(stimulus, steps + (start.clock.step if start else 0), wanted, initial, start)
    monitor = _monitor(sim.wiring, schedule)
    yield from scan(schedule, carry, Full().taps(schedule), monitor)
    if monitor is not None:
        warn_of_divergence(sim.wiring, monitor, schedule.dt)


def _is_transformed(network: Network, stimulus: Stimulus) -> bool:
    """Return whether torch.func (vmap, jvp) transforms the network's tensors or its images."""
    images = stimulus.values() if isinstance(stimulus, Mapping) else [stimulus]
    tensors = [*network.parameters(), *network.buffers(), *(image for image in images if isinstance(image, Tensor))]
    return any(torch.func.debug_unwrap(tensor) is not tensor for tensor in tensors)


def _monitor(network: Wiring, schedule: Schedule) -> Monitor | None:
    """Return a monitor, or None under torch.func.vmap, where values cannot be read."""
    like = next(iter(schedule.first.values()))
    try:
        bool(like.detach().sum() >= 0)
    except RuntimeError:
        return None
    return Monitor(network, len(like))


def _read_out(network: Network, inputs: Tensor | Mapping[str, Tensor]) -> Tensor:
    """Return the readout of a discrete network after its default number of steps (`Network.forward`)."""
    stimulus: Any = dict(inputs) if isinstance(inputs, Mapping) else inputs
    readout = network.readout or ""
    *_, (_, values) = rollout(network, stimulus, Iterate(), network.steps or 1, [readout])
    return values[readout]


Network.runner = staticmethod(_read_out)
