"""The initial state of a run."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from pcsim.core.checks import checked
from pcsim.core.exceptions import StimulusError
from pcsim.core.state import State, laid_out, zeros
from pcsim.network.graph import Graph
from pcsim.network.wiring import Wiring
from pcsim.simulation.layers import Layers
from pcsim.simulation.past import state_shapes
from pcsim.simulation.plan import Plan
from pcsim.simulation.regime import regime_of
from pcsim.simulation.schedule import shown_at
from pcsim.solvers.iterate import Iterate
from pcsim.stimuli.timeline import Stimulus, as_timelines


class Beginning:
    """The initial state of runs: zeros, or the values of the initialiser after one step on the first input."""

    def __init__(self, network: Wiring, step_ms: float, layers: Layers | None = None) -> None:
        self.network, self.shapes, self._layers = network, state_shapes(network, step_ms), layers
        self._first: tuple[Plan, Beginning] | None = None

    def first_values(self, inputs: State) -> State:
        """Return the values of all populations of the initialiser, or {} if there is no initialiser."""
        first = self.network.initialiser
        if first is None:
            return {}
        if self._first is None:  # built on first use, when the network has already been set to the mode of the run
            regime = regime_of(first, 0, first.step_ms)
            plan = Plan(first, regime, Iterate(), tuple(first.populations), layers=self._layers)
            self._first = plan, Beginning(first, first.step_ms, self._layers)
        plan, inner = self._first
        return plan.step_and_observe(plan.precompute(inputs), inner.state(inputs))[1]

    def state(self, inputs: State, initial: Mapping[str, Tensor] | None = None) -> State:
        """Return the state before the first step, including the `initial` values."""
        like, known = next(iter(inputs.values())), self.first_values(inputs)
        state = {key: known[key] if key in known else zeros(shape, like) for key, shape in self.shapes.items()}
        return state | _given(self.network, state, initial, like) if initial else state


def spoken_before(network: Wiring, initial: Mapping[str, Tensor] | None = None) -> frozenset[str]:
    """Return the populations that have a value before the first step: those in the initialiser and in `initial`."""
    early = network.initialiser.populations if network.initialiser is not None else ()
    return frozenset([*early, *(key.split(".")[0] for key in initial or ())])


@checked(StimulusError)
def initial_state(network: Graph, inputs: Stimulus) -> State:
    """Return the initial state of a run on `inputs` (batch, ...): zeros, or the values of the initialiser.

    To start from other values, pass them to `pcsim.simulate(..., initial={...})`. Inputs are converted to the type and
    device of the network. Raises StimulusError for missing or unknown inputs, for wrong shapes, for values that are
    not floating-point or not finite, and for mismatched numbers of samples.
    """
    wiring = network.wiring()
    shown = shown_at(wiring, as_timelines(inputs, list(network.inputs)), 0.0)
    state = Beginning(wiring, network.step_ms).state(shown)
    return {key: value for key, value in state.items() if "@" not in key}


def _given(network: Wiring, state: State, initial: Mapping[str, Tensor], like: Tensor) -> State:
    known = [key for key in state if "@" not in key]
    found = {}
    for key, value in initial.items():
        if key not in known:
            raise StimulusError(
                given=f"an initial value of {key!r}",
                expected=f"one of the memories of {network.name!r}: {', '.join(known)}",
                remedy="omit it, because the first step computes all other values; to restore past values (name@n), "
                "pass start=run.final",
            )
        if not isinstance(value, Tensor) or value.shape != state[key].shape or not value.is_floating_point():
            what = f"{tuple(value.shape)} of {value.dtype}" if isinstance(value, Tensor) else type(value).__name__
            raise StimulusError(
                given=f"an initial value of {key!r}: {what}",
                expected=f"a floating-point tensor {tuple(state[key].shape)}: (batch, channel, height, width)",
                remedy="pass value.expand(batch, ...) to repeat one value for all samples",
            )
        if not bool(torch.isfinite(value).all()):
            raise StimulusError(
                given=f"an initial value of {key!r} with NaN or infinite values",
                expected="finite values",
                remedy="pass torch.nan_to_num(value), or omit the invalid samples",
            )
        found[key] = laid_out(value.to(device=like.device, dtype=like.dtype))
    return found


def require_state(network: Wiring, state: State, step_ms: float, batch: int) -> None:
    """Raise StimulusError unless a state matches this network and batch size."""
    wanted = {key: (batch, *shape) for key, shape in state_shapes(network, step_ms).items()}
    given = {key: tuple(value.shape) for key, value in state.items()}
    if wanted != given:
        different = [k for k in {**wanted, **given} if wanted.get(k) != given.get(k)][:4]
        raise StimulusError(
            given="a start with " + ", ".join(f"{key}: {given.get(key, 'missing')}" for key in different),
            expected=f"the state of {network.name!r}: " + ", ".join(f"{k}: {wanted.get(k, 'none')}" for k in different),
            remedy="continue with the same network, dt and number of samples as in the earlier run",
        )
