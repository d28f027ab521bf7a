"""Plastic projections: local learning rules applied to the activities of a run.

    w <- w + eta dw( pre, post, reward, state )                for every projection that has a rule

The rules and their equations are in `pcsim.training.local_rules`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor
from tqdm.auto import tqdm

from pcsim.core import storage
from pcsim.core.checks import Count, NonNegative, Positive, Whole, checked
from pcsim.core.exceptions import StorageError, TrainingError
from pcsim.core.nested import flatten_nested, restore_nested
from pcsim.core.state import State
from pcsim.network import Network, Projection
from pcsim.network.weights import load_tensors, trained_tensors
from pcsim.simulation.record import Record
from pcsim.simulation.run import Run
from pcsim.simulation.simulator import Simulator
from pcsim.solvers import Solver
from pcsim.training.batches import batch_of, seeded
from pcsim.training.local_rules import Activity, LocalRule
from pcsim.training.settings import Training
from pcsim.training.synapses import checked_values, synapses_of

Pairs = Mapping[str, tuple[Tensor, Tensor]]
"""pre- and postsynaptic values by projection"""
Reward = Callable[[State, Tensor], Tensor]
"""a function that maps the values at the end of a trial and the sample indices to the reward (batch,)"""


def presented(value: Tensor) -> Tensor:
    """Return the value unchanged. As a reduction, this makes a `Record` keep an input."""
    return value


@checked(TrainingError)
class Plasticity:
    """Local learning rules for some projections of a network, which change its weights in place.

    rules  projection -> rule, such as {"image->v1": local.Oja(rate=1e-2)}

    The presynaptic activity is the value of the source after any layers that precede the weight, such as pooling. The
    postsynaptic activity is the value of the target, unless the rule states otherwise. Changes are averaged over the
    samples of the batch; eligibility traces and rewards are per sample. All changes of an update are computed from the
    weights before it. Signs fixed by `connections.signed` are kept.

    names  the populations and inputs whose values the rules need
    state  the variables of each rule, such as thresholds, by projection

    Raises WiringError for unknown projections, and for those whose transform has no weight or more than one.

        plasticity = local.Plasticity(net, {"image->v1": local.Hebb(rate=1e-3)})
        run = simulate(net, images, solver=Euler(1.0), until=50.0, record=plasticity.record(at=[50.0]))
        plasticity.follow(run)
    """

    def __init__(self, network: Network, rules: Annotated[Mapping[str, LocalRule], Field(min_length=1)]) -> None:
        self.network, self.rules = network, dict(rules)
        found = {name: synapses_of(network, name) for name in rules}
        self._edges: dict[str, Projection] = {name: edge for name, (edge, _) in found.items()}
        self._synapses = {name: synapses for name, (_, synapses) in found.items()}
        self._posts: dict[str, str] = {}
        for name, rule in self.rules.items():
            rule.check(self._edges[name], self._synapses[name])
            self._posts[name] = rule.post_of(network, self._edges[name])
        self.names = tuple(dict.fromkeys([*(e.source for e in self._edges.values()), *self._posts.values()]))
        self.state: dict[str, dict[str, Tensor]] = {name: {} for name in rules}

    @checked(TrainingError)
    def record(self, every: Count = 1, at: Sequence[NonNegative] | None = None) -> Record:
        """Return a `Record` of `names`, at every step or at the given times in ms, from which `follow` learns.

        The values of an input "image" are stored under the key "image.presented".
        """
        inputs = {name: presented for name in self.names if name in self.network.inputs}
        states = tuple(name for name in self.names if name not in inputs)
        return Record(states=states, reduce=inputs, every=every, at=at)

    @checked(TrainingError)
    def values(self, run: Run, row: int = -1) -> State:
        """Return the values of `names` in a row of a run, as arguments of `step`."""
        found = {name: run[self._key(name)] for name in self.names}
        count = min(map(len, found.values()))
        if not -count <= row < count:
            raise TrainingError(
                given=f"row={row} of a run with {count} rows",
                expected="a row that was recorded",
                remedy="pass row=-1 for the last row",
            )
        return {name: rows[row] for name, rows in found.items()}

    def start_trial(self) -> None:
        """Discard the variables that are per sample, such as eligibility traces."""
        for name, rule in self.rules.items():
            kept = {key: value for key, value in self.state[name].items() if key not in rule.traces}
            self.state[name] = kept

    @checked(TrainingError)
    @torch.no_grad()
    def step(self, values: State, reward: Tensor | float | None = None) -> dict[str, Tensor]:
        """Update the weights once from values (batch, ...); return the changes eta dw by projection.

        values  the value of each name in `names`, for example from `local.relax` or from rows of a run. Pre- and
                postsynaptic values are paired without shifting them by the delay of the projection
        reward  (batch,), or one number for all samples; only `ThreeFactor` uses it

        Raises TrainingError for values of the wrong shape or type, and if weights would become infinite or NaN; the
        weights are then unchanged.
        """
        if missing := [name for name in self.names if name not in values]:
            raise TrainingError(
                given=f"values of {', '.join(values) or 'nothing'}",
                expected=f"values of {', '.join(missing)} as well",
                remedy="call step(plasticity.values(run)) after a run with record=plasticity.record()",
            )
        pairs = {name: (values[e.source], values[self._posts[name]]) for name, e in self._edges.items()}
        return self._update(pairs, reward)

    @checked(TrainingError)
    @torch.no_grad()
    def follow(self, run: Run, reward: Tensor | float | None = None, at: Sequence[NonNegative] | None = None) -> None:
        """Update the weights once for each row of a run, in temporal order. The run starts a new trial.

        run     a run with record=plasticity.record(). The source of a delayed projection is read at the time when it
                sent the activity; this time must also be recorded. The first rows, for which no past values exist,
                are skipped
        reward  (batch,) or a number, at the last row only; or (rows, batch)
        at      times of the rows in ms at which the weights are updated; by default all rows

        Raises the same errors as `step`, and TrainingError if the run lacks required values.
        """
        rows = self._rows(run, at)
        rewards: list[Any] = [None] * len(rows)
        if isinstance(reward, Tensor) and reward.dim() == 2:
            if len(reward) != len(rows):
                raise TrainingError(
                    given=f"rewards {tuple(reward.shape)} for a run with {len(rows)} rows",
                    expected="rewards (rows, batch), or (batch,) at the last row",
                    remedy=f"pass a tensor with {len(rows)} rows",
                )
            rewards = list(reward)
        elif reward is not None:
            rewards[-1] = reward
        self.start_trial()
        for row, received in zip(rows, rewards, strict=True):
            pairs = {
                name: (run[self._key(self._edges[name].source)][before], run[self._key(self._posts[name])][after])
                for name, (before, after) in row.items()
            }
            self._update(pairs, received)

    @checked(TrainingError)
    def learn(
        self,
        shown: Mapping[str, Tensor],
        *,
        solver: Solver,
        until: Positive,
        updates: Count,
        batch: Count = 20,
        seed: Whole = 0,
        reward: Reward | None = None,
        at: Sequence[Positive] | None = None,
        checkpoint: str | Path | None = None,
        every: Count = 200,
        bar: Callable[..., tqdm] = tqdm,
    ) -> list[float]:
        """Simulate a batch for `until` ms and apply the rules, `updates` times; return the mean reward of each trial.

        shown   data (n, ...) for each input of the network, from which batches are drawn
        seed    determines the order of the samples, and random numbers drawn in an update
        reward  function that maps the values at the last row and the sample indices to rewards (batch,)
        at      times in ms at which the rules are applied; by default only at the end
        checkpoint, every, bar  as for `training.train`: repeating the call resumes with bitwise equal results
        """
        count = self._count(shown)
        times = [until] if at is None else sorted(at)
        dt = solver.step_ms(self.network.wiring())
        lags = {self._lag(edge, dt) * dt for edge in self._edges.values()}
        rows = sorted({round(t - lag, 9) for t in times for lag in (0.0, *lags) if t - lag > 0})
        sim = Simulator(self.network, solver=solver, record=self.record(at=rows))
        settings = Training(updates=updates, batch=batch, seed=seed)
        facts = {
            "network": self.network.name,
            "rules": {name: repr(rule) for name, rule in self.rules.items()},
            "options": repr((sorted(shown), count, repr(solver), until, batch, seed, times, reward is not None)),
        }
        path = None if checkpoint is None else storage.full_path(checkpoint)
        rewards = self._resume(path, facts, updates)
        with bar(total=updates, initial=len(rewards), unit="update") as progress:
            for update in range(len(rewards), updates):
                chosen = batch_of(count, settings, update)
                with seeded(seed, update, next(self.network.parameters()).device):
                    run = sim({name: values[chosen] for name, values in shown.items()}, until=until)
                    received = None if reward is None else reward(self.values(run), chosen)
                self.follow(run, received, times)
                rewards.append(math.nan if received is None else float(received.mean()))
                progress.update()
                if path is not None and ((update + 1) % every == 0 or update + 1 == updates):
                    self._save(path, facts, rewards)
        return [] if reward is None else rewards

    def _update(self, pairs: Pairs, reward: Tensor | float | None) -> dict[str, Tensor]:
        """Apply the rules to the given pairs of values (batch, ...); return the changes by projection."""
        changes, states = {}, {}
        for name, (before, after) in pairs.items():
            rule, synapses, edge = self.rules[name], self._synapses[name], self._edges[name]
            pre = synapses.presynaptic(checked_values(synapses, self.network, edge.source, before))
            post = synapses.postsynaptic(checked_values(synapses, self.network, self._posts[name], after), pre)
            received = None if reward is None else _checked_reward(reward, post)
            change, states[name] = rule.change(synapses, Activity(pre, post, received), dict(self.state[name]))
            changes[name] = rule.rate * change
            if not (synapses.strength + changes[name]).isfinite().all():
                raise TrainingError(
                    given=f"a change of {name!r} by {type(rule).__name__} that is infinite or NaN",
                    expected="finite weights; they have grown too large",
                    remedy=f"lower rate={rule.rate:g}, or use a rule with a decay, such as local.Oja",
                )
        for name, change in changes.items():
            self._synapses[name].set_strength(self._synapses[name].strength + change)
        self.state |= states
        return changes

    def _rows(self, run: Run, at: Sequence[float] | None) -> list[dict[str, tuple[int, int]]]:
        """Return, for each time, the source and target rows of every projection that uses past values."""
        dt = run.final.clock.dt
        if missing := [name for name in self.names if self._key(name) not in run]:
            raise TrainingError(
                given=f"a run without values of {', '.join(missing)}",
                expected=f"rows of {', '.join(self.names)}",
                remedy="run simulate(..., record=plasticity.record())",
            )
        times = {name: run.times_of[self._key(name)] for name in self.names}
        rows_of = {name: {round(float(t) / dt): row for row, t in enumerate(times[name])} for name in times}
        wanted = [round(t / dt) for t in at] if at is not None else sorted(set().union(*rows_of.values()))
        found: list[dict[str, tuple[int, int]]] = []
        for step in wanted:
            pairs = {}
            for name, edge in self._edges.items():
                sent = step - self._lag(edge, dt)
                sources, targets = rows_of[edge.source], rows_of[self._posts[name]]
                if sent < min(sources, default=0) and sent < step:
                    continue
                if sent not in sources or step not in targets:
                    raise _unrecorded(name, sent * dt, step * dt)
                pairs[name] = (sources[sent], targets[step])
            found.append(pairs)
        for name in self._edges:
            if not any(name in pairs for pairs in found):
                raise _unrecorded(name, -dt * self._lag(self._edges[name], dt), wanted[-1] * dt if wanted else 0.0)
        return found

    def _key(self, name: str) -> str:
        return f"{name}.{presented.__name__}" if name in self.network.inputs else name

    def _lag(self, edge: Projection, dt: float) -> int:
        """Return the delay of a projection in steps."""
        if not self.network.is_flow:
            return edge.delay or 0
        if edge.delay_ms is None:
            return 0
        lag = float(edge.delay_ms) / dt if isinstance(edge.delay_ms, int | float) else math.nan
        if not abs(lag - round(lag, 0) if math.isfinite(lag) else math.inf) < 1e-9:
            raise TrainingError(
                given=f"{edge.name!r} with the delay {edge.delay_ms} at dt={dt:g} ms",
                expected="a constant delay that is a multiple of dt, so that its presynaptic activity is recorded",
                remedy="choose a dt that divides delay_ms, or call step(values) with matching activities",
            )
        return round(lag)

    def _count(self, shown: Mapping[str, Tensor]) -> int:
        counts = {name: len(values) if values.dim() else 0 for name, values in shown.items()}
        if set(counts) != set(self.network.inputs) or len(set(counts.values())) != 1 or not max(counts.values()):
            raise TrainingError(
                given=f"shown with the sample counts {counts}",
                expected=f"the same number of samples for each input: {', '.join(self.network.inputs)}",
                remedy="pass a tensor (n, ...) for each input",
            )
        return next(iter(counts.values()))

    def _save(self, path: Path, facts: dict[str, Any], rewards: list[float]) -> None:
        self.start_trial()
        weights = {f"network/{name}": tensor for name, tensor in trained_tensors(self.network).items()}
        states, skeleton = flatten_nested(self.state, "state")
        kept = {"rewards": torch.tensor(rewards, dtype=torch.float64)}
        storage.write_tensors(path, weights | states | kept, {"kind": "plasticity", "state": skeleton, **facts})

    def _resume(self, path: Path | None, facts: dict[str, Any], updates: int) -> list[float]:
        """Load a checkpoint, if there is one; return the rewards of the completed updates."""
        if path is None or not path.exists():
            return []
        tensors, theirs = storage.read_tensors(path, "plasticity")
        with storage.content_of(path, "a checkpoint of plasticity", "delete this file and learn again"):
            differing = [f"{key} {theirs[key]}" for key in facts if theirs[key] != facts[key]]
            rewards: list[float] = tensors["rewards"].tolist()
        if differing or len(rewards) > updates:
            raise StorageError(
                given=f"{path}, a checkpoint after {len(rewards)} updates"
                + (f" with {'; '.join(differing)}" if differing else ""),
                expected=f"at most {updates} updates with "
                + "; ".join(f"{key} {value}" for key, value in facts.items()),
                remedy="use another path, or the options with which learning was started; only updates may increase",
            )
        load_tensors(self.network, storage.under("network/", tensors), str(path))
        with storage.content_of(path, "a checkpoint of plasticity", "delete this file and learn again"):
            restored: dict[str, dict[str, Tensor]] = restore_nested(tensors, theirs["state"])
        device = next(self.network.parameters()).device
        self.state = {name: {k: v.to(device) for k, v in state.items()} for name, state in restored.items()}
        return rewards


def _checked_reward(reward: Tensor | float, post: Tensor) -> Tensor:
    """Return the reward (batch,) in the dtype of the activities. Raises TrainingError for other shapes or NaN."""
    given = torch.as_tensor(reward, dtype=post.dtype, device=post.device)
    if given.shape not in ((), (len(post),)) or not given.isfinite().all():
        raise TrainingError(
            given=f"a reward {tuple(given.shape)}" + ("" if given.isfinite().all() else " with NaN or infinite values"),
            expected=f"one finite number, or one for each of {len(post)} samples, ({len(post)},)",
            remedy="pass reward=torch.zeros(batch) with 1 where a sample was rewarded, or None",
        )
    return given.expand(len(post))


def _unrecorded(name: str, sent: float, received: float) -> TrainingError:
    past = f"its source at {sent:g} ms and its target at {received:g} ms" if sent >= 0 else "a row with past values"
    return TrainingError(
        given=f"a run without the values that {name!r} needs",
        expected=past,
        remedy="record every step with record=plasticity.record(), or include these times in at=[...]",
    )
