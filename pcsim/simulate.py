"""The only loop over time."""

from __future__ import annotations

import math
import platform
import time
import warnings
from collections.abc import Iterator, Sequence
from importlib.metadata import version

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from pcsim.clock import Clock, dividing_step, whole_steps
from pcsim.exceptions import PcsimWarning, SolverError, StimulusError, WiringError
from pcsim.graph import Network
from pcsim.recording import Record, Recorder, Run, Snapshot, Status
from pcsim.solvers import Solver
from pcsim.state import State, finite
from pcsim.stimuli.timeline import Timeline, as_timelines

Stimulus = Timeline | Tensor | dict[str, Timeline | Tensor]
CHUNK = 32


def rollout(
    network: Network, stimulus: Stimulus, solver: Solver, steps: int, start: Snapshot | None = None
) -> Iterator[tuple[Clock, State, State]]:
    """Advance `steps` steps, yielding (clock, state, inputs) after each: the loop under `simulate` and `train`.

    clock is the time reached, state the values there, inputs what was shown during the step. Differentiable.
    Everything is checked before the first step: the solver against the network, the stimulus against the inputs,
    change times against the step.
    """
    _require_solver(solver)
    solver.check(network)
    timelines = as_timelines(stimulus, list(network.inputs))
    until = (steps + (start.clock.step if start else 0)) * solver.dt
    _check_change_times(network, timelines, solver.dt, until)
    clock = start.clock if start else Clock(solver.dt)
    if clock.dt != solver.dt:
        raise SolverError(
            given=f"a start made with dt = {clock.dt:g} ms and a solver with dt = {solver.dt:g} ms",
            expected="the same dt",
            remedy="go on with the solver that the run was made with",
        )
    inputs = _shown(network, timelines, clock.time)
    state = start.state if start else network.initial_state(inputs)
    seen = network.held(inputs) if solver.holds_inputs else inputs
    changes = {whole_steps(change, solver.dt) for line in timelines.values() for change in line.change_times(until)}
    for _ in range(steps):
        if clock.step in changes:
            inputs = _shown(network, timelines, clock.time)
            seen = network.held(inputs) if solver.holds_inputs else inputs
        state = solver.advance(network, clock, state, seen)
        clock = clock.tick()
        yield clock, state, seen


def simulate(
    network: Network,
    stimulus: Stimulus,
    *,
    solver: Solver,
    until: float | None = None,
    record: Record | None = None,
    start: Snapshot | None = None,
    progress: bool = False,
) -> Run:
    """Run `network` on `stimulus` and keep what `record` asks for (by default the read-out at every step).

    until  ms, a multiple of the solver's dt; by default the end of the stimulus, or for a discrete model on a
           held image the number of steps of its paper
    start  the `final` of an earlier run, to go on from there (the clock goes on too)

    No gradients are kept; to train, see `pcsim.training`. A sample that becomes NaN or infinite is reported in
    the run's status and is NaN from there on; it does not touch the others.

        run = pcsim.simulate(net, images, solver=pcsim.RK4(dt=1.0), until=200.0)
    """
    _require_solver(solver)
    if not isinstance(record, Record | None):
        raise WiringError(
            given=f"record={record!r}", expected="a Record", remedy="write record=Record(states=[...], errors='all')"
        )
    steps = _steps(network, stimulus, solver, until) - (start.clock.step if start else 0)
    if steps < 1:
        raise SolverError(
            given=f"until = {until} ms, which the start has reached",
            expected="a later time",
            remedy="raise until: it counts from the first start",
        )
    recorder = Recorder(record or _readout_record(network), network, steps)
    watch = _Watch(network.memories)
    begun = time.perf_counter()
    training = {module: module.training for module in network.modules()}
    network.eval()
    bar = tqdm(total=steps, unit="step", disable=None if progress else True)
    try:
        with torch.no_grad(), bar:
            clock, state = Clock(solver.dt), start.state if start else {}
            for count, (clock, state, inputs) in enumerate(rollout(network, stimulus, solver, steps, start), 1):
                watch.look(clock.step, state)
                if recorder.due(count):
                    recorder.keep(clock.step, network.observe(clock, state, inputs, recorder.names))
                bar.update()
                if count % CHUNK == 0 and watch.all_diverged():
                    break
    finally:
        for module, mode in training.items():
            module.training = mode
    about = _provenance(network, solver, clock, time.perf_counter() - begun, state)
    return _finish(recorder, watch, Snapshot(clock, state), stimulus, about)


def _require_solver(solver: object) -> None:
    if not isinstance(solver, Solver):
        raise SolverError(
            given=f"solver={solver!r}",
            expected="a solver with its step, such as pcsim.RK4(dt=1.0)",
            remedy="use Iterate() for a discrete network; Euler, Heun, RK4, ExponentialEuler or TorchDiffEq for a flow",
        )


class _Watch:
    """Notes, without reading anything back, at which step and in which population each sample stopped being finite."""

    def __init__(self, memories: Sequence[str]) -> None:
        self.memories = memories
        self.step: Tensor | None = None
        self.population: Tensor | None = None

    def look(self, step: int, state: State) -> None:
        """One look at the state after `step` steps."""
        bad = ~finite({name: state[name] for name in self.memories or state})
        if self.step is None or self.population is None:
            self.step = torch.full_like(bad[0], -1, dtype=torch.int64)
            self.population = torch.zeros_like(self.step)
        new = bad.any(0) & (self.step < 0)
        self.step = torch.where(new, step, self.step)
        self.population = torch.where(new, bad.int().argmax(0), self.population)

    def all_diverged(self) -> bool:
        """Whether nothing finite is left."""
        return self.step is not None and bool((self.step >= 0).all())


def _finish(recorder: Recorder, watch: _Watch, final: Snapshot, stimulus: Stimulus, about: dict) -> Run:
    dt = final.clock.dt
    bad = watch.step.cpu().numpy() if watch.step is not None else np.zeros(0, np.int64)
    where = watch.population.cpu().numpy() if watch.population is not None else bad
    rows = np.asarray(recorder.rows, dtype=np.int64)
    values = recorder.arrays()
    for sample in np.flatnonzero(bad >= 0):
        for value in values.values():
            value[torch.from_numpy(rows >= bad[sample]), sample] = math.nan
    names = list(watch.memories or final.state)
    if (bad >= 0).any():
        first = int(np.flatnonzero(bad >= 0)[0])
        warnings.warn(
            f"{int((bad >= 0).sum())} of {len(bad)} samples diverged; sample {first} in {names[where[first]]!r} at "
            f"{bad[first] * dt:g} ms. They are NaN from there on. Take a smaller dt or weaker feedback.",
            PcsimWarning,
            stacklevel=3,
        )
    return Run(
        values=values,
        times=(rows * dt).astype(np.float64),
        status=tuple(Status.COMPLETED if step < 0 else Status.DIVERGED for step in bad),
        valid_until=np.where(bad < 0, final.clock.time, (bad - 1) * dt),
        diverged_in=tuple("" if step < 0 else names[index] for step, index in zip(bad, where, strict=True)),
        about=about,
        final=final,
        labels=stimulus.labels if isinstance(stimulus, Timeline) else None,
    )


def _steps(network: Network, stimulus: Stimulus, solver: Solver, until: float | None) -> int:
    if until is None:
        lines = as_timelines(stimulus, list(network.inputs)).values()
        until = max((line.duration for line in lines), default=math.inf)
        if not math.isfinite(until):
            if network.is_flow or network.steps is None:
                raise SolverError(
                    given="no end: until is None and the stimulus is held for ever",
                    expected="a time in ms at which to stop",
                    remedy="pass until=..., or give the stimulus a duration",
                )
            return network.steps
    steps = whole_steps(until, solver.dt) if math.isfinite(until) and until > 0 else None
    if not steps:
        near = dividing_step(solver.dt, [until]) if math.isfinite(until) and until > 0 else solver.dt
        raise SolverError(
            given=f"until = {until:g} ms with dt = {solver.dt:g} ms",
            expected="a positive whole number of steps",
            remedy=f"dt = {near:.12g} ms would divide it; or change until",
        )
    return steps


def _check_change_times(network: Network, timelines: dict[str, Timeline], dt: float, until: float) -> None:
    changes = [change for line in timelines.values() for change in line.change_times(until)]
    changes += [change for change in network.change_times if change < until]
    for change in changes:
        if whole_steps(change, dt) is None:
            raise SolverError(
                given=f"a change of the stimulus (or a lesion) at {change:g} ms and dt = {dt:g} ms",
                expected="steps that land on every change",
                remedy=f"dt = {dividing_step(dt, [*changes, until]):.12g} ms would; or move the change",
            )


def _shown(network: Network, timelines: dict[str, Timeline], at: float) -> State:
    parameter = next(network.parameters(), None)
    shown: State = {}
    for name, line in timelines.items():
        image, shape = line.at(at), network.shape(name)
        if tuple(image.shape[1:]) != shape:
            raise StimulusError(
                given=f"input {name!r} of shape {tuple(image.shape)}",
                expected=f"(batch, {', '.join(map(str, shape))}): (batch, channel, height, width)",
                remedy="resize or pad the images, add the missing axis (a film: stimuli.sequence), or build the "
                "network for this size",
            )
        if not image.is_floating_point():
            raise StimulusError(
                given=f"input {name!r} of type {image.dtype}",
                expected="floating-point values, images usually in [0, 1]",
                remedy="write images.float() / 255 for 8-bit images",
            )
        if not bool(torch.isfinite(image).all()):
            raise StimulusError(
                given=f"input {name!r} with NaN or infinite values at {at:g} ms",
                expected="finite values",
                remedy="clean the images: torch.nan_to_num, or leave the bad ones out",
            )
        if parameter is not None:
            image = image.to(device=parameter.device, dtype=parameter.dtype)
        shown[name] = image.contiguous(memory_format=torch.channels_last) if image.dim() == 4 else image
    batches = {name: len(image) for name, image in shown.items()}
    if len(set(batches.values())) > 1:
        raise StimulusError(
            given=", ".join(f"{count} samples for input {name!r}" for name, count in batches.items()),
            expected="as many for each input",
            remedy="repeat the shorter one: images.expand(count, -1, -1, -1)",
        )
    return shown


def _readout_record(network: Network) -> Record:
    return Record(states=[network.readout] if network.readout else list(network.populations))


def _provenance(network: Network, solver: Solver, clock: Clock, seconds: float, state: State) -> dict[str, object]:
    value = next(iter(state.values()))
    return {
        "network": network.name,
        "errors": list(network.errors),
        "solver": repr(solver),
        "steps": clock.step,
        "device": str(value.device),
        "dtype": str(value.dtype),
        "threads": torch.get_num_threads(),
        "tf32": torch.backends.cuda.matmul.allow_tf32,
        "seconds": round(seconds, 3),
        "versions": {"pcsim": version("pcsim"), "torch": torch.__version__, "python": platform.python_version()},
    }
