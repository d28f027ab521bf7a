"""Learning by local rules: what a synapse changes by depends on the activity before and the error after it.

    dW_l = e_l f( r_{l+1} )^T ,   db_l = e_l                            at the relaxed state

This is minus the gradient of E = sum pi/2 |r - p|^2 with respect to the weights of the predictions, the activities
held: Rao & Ballard 1999 eq. 9, Whittington & Bogacz 2017 eq. 2.19.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor
from tqdm.auto import tqdm

from pcsim.core.clock import Clock, whole_steps
from pcsim.core.exceptions import SolverError, TrainingError, WiringError
from pcsim.network.graph import Network
from pcsim.simulation.simulator import settled
from pcsim.solvers.base import Solver
from pcsim.core.state import State, units
from pcsim.training.train import Training, optimise


def relax(network: Network, shown: Mapping[str, Tensor], solver: Solver, until: float) -> tuple[Clock, State, State]:
    """(clock, state, inputs) after `until` ms under what is shown, without gradients."""
    steps = whole_steps(until, solver.dt)
    if not steps:
        raise SolverError(
            given=f"until = {until:g} ms with dt = {solver.dt:g} ms",
            expected="a positive whole number of steps",
            remedy="choose a dt that divides until",
        )
    return settled(network, dict(shown), solver, steps)


def local_gradient(network: Network, clock: Clock, state: State, inputs: State) -> Tensor:
    """Add dE/dW to `grad` of the weights that make predictions; returns E, (batch,), with the errors of `state`.

    E is the mean over the batch of what each sample contributes. Only the activity that a prediction is made from
    and its error enter: no error passes through another population. Raises WiringError without prediction errors.
    """
    if not network.errors:
        raise WiringError(
            given=f"{network.name!r}, which has no prediction errors",
            expected="populations whose rule is PredictionError",
            remedy="train it through time: pcsim.training.train",
        )
    # Without what the solver computed of held inputs once: that has no gradient.
    shown = {name: inputs[name] for name in network.inputs}
    with torch.no_grad():
        values = shown | state | network.observe(clock, state, shown, network.errors)
    energy = torch.zeros(())
    for name in network.errors:
        error = values[name]
        precision = getattr(network.populations[name].rule, "precision", 1.0)
        energy = energy + error.square().sum(units(error)) / (2.0 * precision)
        predictions = [edge.source for edge in network.incoming[name] if edge.port == "prediction"]
        for source in predictions:
            with torch.enable_grad():
                made = network.respond(source, clock, values)
            if made.requires_grad:
                made.backward(-error / len(error))
    return energy


def learn(
    network: Network,
    shown: Mapping[str, Tensor],
    settings: Training,
    *,
    solver: Solver,
    until: float,
    checkpoint: Path | None = None,
    every: int = 200,
    bar: Callable[..., tqdm] = tqdm,
) -> list[float]:
    """Train in place by the local rule; returns the mean energy after relaxation of every 20 updates.

    shown   for each input of the network (its clamped layers), (n, ...): images for inference and generation,
            images and one-hot targets for supervised learning
    until   ms for which every batch is relaxed before its weights change
    settings  batch, updates, optimiser, rates, clipping, seed; its loss and over_time are not used
    checkpoint, every  as for `training.train`: a file from which training goes on

        learn(net.clamped("r0"), {"r2": images, "r0": targets}, Training(updates=1000), solver=Euler(1.0), until=40.0)
    """
    sizes = {name: len(values) for name, values in shown.items()}
    if len(set(sizes.values())) != 1 or set(sizes) != set(network.inputs):
        raise TrainingError(
            given=f"shown: {sizes}",
            expected=f"the same number of samples for each input: {', '.join(network.inputs)}",
            remedy="clamp the layers you show with net.clamped(...), and give one sample for each image",
        )

    def gradient(chosen: Tensor, _: int) -> Tensor:
        batch = {name: values[chosen] for name, values in shown.items()}
        return local_gradient(network, *relax(network, batch, solver, until)).mean()

    return optimise(
        network, next(iter(sizes.values())), settings, gradient, checkpoint=checkpoint, every=every, bar=bar
    )
