"""Learning by local rules: a synapse changes according to its presynaptic activity and postsynaptic error.

    dW_l = e_l f( r_{l+1} )^T ,   db_l = e_l                            at the relaxed state

This is the negative gradient of E = sum pi/2 |r - p|^2 with respect to the prediction weights, with activities fixed:
Rao & Ballard 1999 eq. 9, Whittington & Bogacz 2017 eq. 2.19.

`Plasticity` applies this and other local rules (Hebb, Oja, BCM, reward-modulated, inhibitory) to any projection.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from pcsim.core.checks import Count, Positive, checked
from pcsim.core.clock import dividing_step
from pcsim.core.exceptions import TrainingError, WiringError
from pcsim.core.progress import tqdm
from pcsim.core.state import State, units
from pcsim.network import Network, Population
from pcsim.simulation.plan import Plan
from pcsim.simulation.record import Record
from pcsim.simulation.regime import LATE, regime_of
from pcsim.simulation.run import Run
from pcsim.simulation.simulator import Simulator
from pcsim.solvers import FlowSolver, Heun, Solver
from pcsim.training.local_rules import BCM, Activity, Hebb, LocalRule, Oja, PredictiveCoding, ThreeFactor, Vogels
from pcsim.training.plasticity import Plasticity
from pcsim.training.settings import Training
from pcsim.training.updates import CHECK_EVERY, optimise

ITERATIONS = 16
"""steps of the power iteration that estimates the fastest rate of a relaxation"""


@checked(TrainingError)
class Relaxation:
    """Relaxation of a network for `until` ms with clamped inputs and without gradients, for repeated use.

    Each call uses the current weights, as with a `Simulator`. `relaxation(shown)` returns the final values (batch, ...)
    of the inputs, the memories, the prediction errors, and the populations from which predictions are computed.

    Raises TrainingError if dt exceeds the stability limit with the current weights, because the values then depend on
    dt. For a network with prediction errors, the limit is computed on the first call, on every 20th call after that,
    and whenever the energy has risen or the last steps have grown.
    """

    def __init__(self, network: Network, solver: Solver, until: Positive) -> None:
        self._sim = Simulator(network, solver=solver, record=_at_the_end(network, until, solver))
        self._until, self._network, self._plan = until, network, _plan(network) if network.errors else None
        self._solver, self._calls = solver, 0

    def __call__(self, shown: Mapping[str, Tensor]) -> State:
        """Return the values after relaxation."""
        run = self._sim(dict(shown), until=self._until)
        if self._plan is not None and (self._calls % CHECK_EVERY == 0 or _seems_unstable(self._network, run)):
            _require_stable(self._plan, shown, run, self._solver)
        self._calls += 1
        return _values(run, shown)

    @checked(TrainingError)
    def local_gradient(self, values: State) -> Tensor:
        """Add dE/dW to the `grad` of the prediction weights; see the function `local_gradient`."""
        return _local_gradient(self._plan or _plan(self._network), values)


@checked(TrainingError)
def relax(network: Network, shown: Mapping[str, Tensor], solver: Solver, until: Positive) -> State:
    """Return the values of one batch after relaxation for `until` ms on the inputs `shown`; see `Relaxation`."""
    run = Simulator.once(network, solver, _at_the_end(network, until))(dict(shown), until=until)
    if network.errors:
        _require_stable(_plan(network), shown, run, solver)
    return _values(run, shown)


def _at_the_end(network: Network, until: Positive, solver: Solver | None = None) -> Record:
    """Return a `Record` that keeps, at the last step, the values needed by the local rule.

    For the solver of a flow, it also keeps the values before the first step and at the three steps before the last.
    """
    incoming = network.incoming
    makers = [edge.source for name in network.errors for edge in incoming[name] if edge.port == "prediction"]
    read = [edge.source for maker in makers if maker in incoming for edge in incoming[maker]]
    names = dict.fromkeys((*network.memories, *network.errors, *(name for name in read if name in network.wires)))
    if not isinstance(solver, FlowSolver) or not network.errors or network.conduction_delays:
        return Record(states=tuple(names), at=[until])
    earlier = [until - back * solver.dt for back in (3, 2, 1)]
    return Record(states=tuple(names), at=[*(t for t in earlier if t > solver.dt / 2), until], initial=True)


def _seems_unstable(network: Network, run: Run) -> bool:
    """Return whether, in any sample, the energy has risen or steps are still growing at the end of a relaxation.

    The energy of a stable relaxation falls, and the second difference of its state shrinks. An overshooting mode, whose
    sign alternates, dominates the second difference long before it dominates the energy.
    """
    if any(len(rows) < 5 for rows in run.values.values()):
        return False
    ends = {name: run.values[name][[0, -1]].flatten(0, 1) for name in network.errors}
    energies = [_energy(network.populations[name], error) for name, error in ends.items()]
    before, after = torch.stack(energies).sum(0).view(2, -1)
    state = torch.cat([run.values[name][-4:].flatten(2) for name in network.memories], 2)
    earlier, later = state.diff(n=2, dim=0).norm(dim=2)
    grows = (later > earlier) & (later > 100.0 * torch.finfo(state.dtype).eps * state[-1].norm(dim=1))
    return not bool((after <= before).all()) or bool(grows.any())


def _energy(population: Population, error: Tensor) -> Tensor:
    """Return the energy of prediction errors (batch, ...) for each sample."""
    precision = getattr(population.rule, "precision", 1.0)
    return error.square().sum(units(error)) / (2.0 * precision)


def _values(run: Run, shown: Mapping[str, Tensor]) -> State:
    return {**shown, **{name: rows[-1] for name, rows in run.values.items()}}


def _require_stable(plan: Plan, shown: Mapping[str, Tensor], run: Run, solver: Solver) -> None:
    """Raise TrainingError if the solver's dt exceeds its stability limit at the end of a relaxation."""
    if not isinstance(solver, FlowSolver) or plan.network.conduction_delays:
        return
    inputs = {name: values.to(run.final.state[plan.flow_keys[0]]) for name, values in shown.items()}
    fastest = _fastest_rate(plan, inputs, run.final.state)
    limit = math.inf if fastest == 0 else solver.stability_limit / fastest
    if math.isnan(limit):
        raise TrainingError(
            given=f"a relaxation with {type(solver).__name__}(dt={solver.dt:g}), whose values become infinite",
            expected="dt below the stability limit, at which errors reach their minimum",
            remedy=f"pass solver={type(solver).__name__}(dt={solver.dt / 10:.12g}), or lower the learning rate if the "
            "weights have grown",
        )
    if solver.dt >= limit:
        near = dividing_step(limit / 2, [run.final.clock.time])
        raise TrainingError(
            given=f"a relaxation with {type(solver).__name__}(dt={solver.dt:g}), which overshoots with these weights "
            f"(fastest time constant {1 / fastest:.3g} ms)",
            expected=f"dt below {limit:.3g} ms, the stability limit; beyond it, errors do not reach their minimum",
            remedy=f"pass solver={type(solver).__name__}(dt={near:.12g}), or lower the learning rate if the weights "
            "have grown",
        )


@torch.no_grad()
def _fastest_rate(plan: Plan, inputs: State, state: State) -> float:
    """Return the largest |eigenvalue| of the Jacobian of the rates, per ms, over samples; NaN if any sample diverged.

    Power iteration with finite differences: v <- (f(x + h v) - f(x)) / h.
    """
    nodes, precomputed = plan.rates(), plan.precompute(inputs)
    shapes = [state[key].shape for key in plan.flow_keys]

    def rates(x: Tensor) -> Tensor:
        parts = zip(plan.flow_keys, shapes, x.split([math.prod(shape[1:]) for shape in shapes], 1), strict=True)
        found = plan.evaluate(nodes, precomputed, state | {key: part.reshape(shape) for key, shape, part in parts})
        return torch.cat([found[key].flatten(1) for key in plan.flow_keys], 1)

    x = torch.cat([state[key].flatten(1) for key in plan.flow_keys], 1)
    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(x.shape, generator=generator).to(x)
    step = 1e-2 * (1.0 + x.norm(dim=1, keepdim=True))
    here = rates(x)
    size = torch.ones_like(step)
    for _ in range(ITERATIONS):
        direction = direction / direction.norm(dim=1, keepdim=True).clamp(min=torch.finfo(x.dtype).tiny)
        direction = (rates(x + step * direction) - here) / step
        size = direction.norm(dim=1, keepdim=True)
    return float(size.max())


@checked(TrainingError)
def local_gradient(network: Network, values: State) -> Tensor:
    """Add dE/dW to the `grad` of the prediction weights; return the energy E of each sample, (batch,).

    The gradient is averaged over the batch. It depends only on each prediction's error and on the activity from which
    the prediction is computed; no error is propagated through other populations. Raises WiringError if the network has
    no prediction errors.
    """
    plan = _plan(network)
    shapes = {name: tuple(value.shape[1:]) for name, value in values.items()}
    counts = {len(value) if value.dim() else 0 for value in values.values()}
    wanted = {name: network.shape(name) for name in (*network.inputs, *network.memories, *network.errors)}
    types = {value.dtype for value in values.values()}
    if len(counts) != 1 or len(types) != 1 or any(shapes.get(name) != shape for name, shape in wanted.items()):
        raise TrainingError(
            given=f"values {', '.join(f'{name} {tuple(value.shape)} {value.dtype}' for name, value in values.items())}",
            expected=f"values (batch, ...) of {', '.join(f'{name} {shape}' for name, shape in wanted.items())}",
            remedy="pass the result of training.local.relax(network, shown, solver, until)",
        )
    return _local_gradient(plan, values)


def _plan(network: Network) -> Plan:
    if not network.errors:
        raise WiringError(
            given=f"{network.name!r}, which has no prediction errors",
            expected="populations whose rule is PredictionError",
            remedy="train it through time with pcsim.training.train(...)",
        )
    wiring = network.wiring()
    return Plan(wiring, regime_of(wiring, LATE, 1.0), Heun(1.0), network.wires)


def _local_gradient(plan: Plan, values: State) -> Tensor:
    network = plan.network
    incoming = network.incoming
    with torch.enable_grad():
        precomputed = plan.precompute({name: values[name] for name in network.inputs})
    energy = torch.zeros(())
    for name in network.errors:
        error = values[name]
        energy = energy + _energy(network.populations[name], error)
        predictions = [edge.source for edge in incoming[name] if edge.port == "prediction"]
        for source in predictions:
            with torch.enable_grad():
                made = plan.respond(source, precomputed, values)
            if made.requires_grad:
                made.backward(-error / len(error))
    return energy


@checked(TrainingError)
def learn(
    network: Network,
    shown: Mapping[str, Tensor],
    settings: Training,
    *,
    solver: Solver,
    until: Positive,
    checkpoint: str | Path | None = None,
    every: Count = 200,
    bar: Callable[..., tqdm] = tqdm,
) -> list[float]:
    """Train the network in place by the local rule; return the mean energy after relaxation for every 20 updates.

    shown   data (n, ...) for each input of the network, that is, its clamped layers: images for inference and
            generation, images and one-hot targets for supervised learning
    until   duration of the relaxation before each update, in ms
    settings  batch, updates, optimiser, rates, clipping and seed; loss and over_time are ignored
    checkpoint, every, bar  as for `training.train`

    Raises TrainingError at the update at which the relaxation becomes unstable because the weights have grown.

        learn(net.clamped("r0"), {"r2": images, "r0": targets}, Training(updates=1000), solver=Euler(1.0), until=40.0)
    """
    sizes = {name: len(values) if values.dim() else 0 for name, values in shown.items()}
    if len(set(sizes.values())) != 1 or set(sizes) != set(network.inputs):
        raise TrainingError(
            given=f"shown with the sample counts {sizes}",
            expected=f"the same number of samples for each input: {', '.join(network.inputs)}",
            remedy="clamp the layers that receive data, as in net.clamped('r0'), and pass the same number of samples",
        )
    if settings.precision != "float32":
        raise TrainingError(
            given=f"precision={settings.precision!r} for the local rule",
            expected="precision='float32', because relaxation converges only to the precision of the weights",
            remedy="omit precision=",
        )
    relaxation = Relaxation(network, solver, until)

    def gradient(chosen: Tensor, update: int) -> Tensor:
        try:
            values = relaxation({name: v[chosen] for name, v in shown.items()})
        except TrainingError as reason:
            given = f"{reason.given}, after {update} updates"
            raise TrainingError(given=given, expected=reason.expected, remedy=reason.remedy) from reason
        return relaxation.local_gradient(values).mean()

    return optimise(
        network, next(iter(sizes.values())), settings, gradient, checkpoint=checkpoint, every=every, bar=bar
    )


__all__ = [
    "BCM",
    "Activity",
    "Hebb",
    "LocalRule",
    "Oja",
    "Plasticity",
    "PredictiveCoding",
    "Relaxation",
    "ThreeFactor",
    "Vogels",
    "learn",
    "local_gradient",
    "relax",
]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
