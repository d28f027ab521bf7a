"""The only loop over time."""

from __future__ import annotations

import math
import platform
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from functools import lru_cache, partial
from importlib import metadata

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from pcsim.core.clock import Clock, dividing_step, whole_steps
from pcsim.core.exceptions import PcsimWarning, SolverError, StimulusError, WiringError
from pcsim.network.graph import Network
from pcsim.simulation.record import Record, Recorder, Run, Snapshot, Status
from pcsim.solvers.base import Solver
from pcsim.core.state import State, laid_out
from pcsim.simulation.scan import Stepper, Watch, walk
from pcsim.stimuli.timeline import Timeline, as_timelines

Stimulus = Timeline | Tensor | dict[str, Timeline | Tensor]


def rollout(
    network: Network, stimulus: Stimulus, solver: Solver, steps: int, start: Snapshot | None = None
) -> Iterator[tuple[Clock, State, State]]:
    """Advance `steps` steps, yielding (clock, state, inputs) after each. Differentiable.

    clock is the time reached, state the values there, inputs what was shown during the step. Everything is checked
    before the first step: the solver against the network, the stimulus against the inputs, change times against the
    step.
    """
    course = Course(network, stimulus, solver, steps, start)
    stepper = Stepper(network, solver)
    clock, state = course.clock, course.state
    for _ in range(steps):
        if clock.step in course.changes:
            stepper.show(course.inputs(clock))
        clock, state = stepper.stretch(clock, state, 1, 0)
        yield clock, state, stepper.inputs


class Course:
    """What a run goes through: where it starts, what is shown when. Checks everything there is to check."""

    def __init__(
        self, network: Network, stimulus: Stimulus, solver: Solver, steps: int, start: Snapshot | None = None
    ) -> None:
        _require_solver(solver)
        solver.check(network)
        self.network, self.solver = network, solver
        self.timelines = as_timelines(stimulus, list(network.inputs))
        self.clock = start.clock if start else Clock(solver.dt)
        if self.clock.dt != solver.dt:
            raise SolverError(
                given=f"a start made with dt = {self.clock.dt:g} ms and a solver with dt = {solver.dt:g} ms",
                expected="the same dt",
                remedy="go on with the solver that the run was made with",
            )
        self.end = steps + self.clock.step
        until = self.end * solver.dt
        changes = _changes(network, self.timelines, until)
        _check_change_times(changes, solver.dt, until)
        self.changes = {self.clock.step, *(whole_steps(change, solver.dt) or 0 for change in changes)}
        self._shown = _shown(network, self.timelines, self.clock.time)
        self.state = start.state if start else network.initial_state(self._shown)

    def inputs(self, clock: Clock) -> State:
        """What is shown from that time on, with what the solver may hold of it."""
        if clock is not self.clock:
            self._shown = _shown(self.network, self.timelines, clock.time)
        return self.network.held(self._shown) if self.solver.holds_inputs else self._shown

    def left(self, clock: Clock) -> int:
        """How many steps there are before something changes, or the end."""
        return min((change for change in self.changes if change > clock.step), default=self.end) - clock.step


def settled(network: Network, stimulus: Stimulus, solver: Solver, steps: int) -> tuple[Clock, State, State]:
    """(clock, state, inputs) after `steps` steps of which nothing is kept."""
    with torch.no_grad():
        course = Course(network, stimulus, solver, steps)
        stepper = Stepper(network, solver)
        clock, state = course.clock, course.state
        while clock.step < course.end:
            if clock.step in course.changes:
                stepper.show(course.inputs(clock))
            clock, state = stepper.stretch(clock, state, course.left(clock), clock.step)
    return clock, state, stepper.inputs


def simulate(
    network: Network,
    stimulus: Stimulus,
    *,
    solver: Solver,
    until: float | None = None,
    record: Record | None = None,
    start: Snapshot | None = None,
    compile: bool = False,  # noqa: A002
    progress: bool = False,
) -> Run:
    """Run `network` on `stimulus` and keep what `record` asks for (by default the read-out at every step).

    until  ms, a multiple of the solver's dt; by default the end of the stimulus, or for a discrete model on a
           held image the number of steps of its paper
    start  the `final` of an earlier run, to go on from there (the clock goes on too)
    compile  the steps by torch.compile: 10 to 40 s once, then up to three times as fast; the same to rounding only

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
    begun = time.perf_counter()
    modules = walk(network)
    training = [module for _, module in modules if module.training]
    _set_training(training, False)
    watch = Watch(network)
    try:
        with torch.no_grad(), tqdm(total=steps, unit="step", disable=None) if progress else nullcontext() as bar:
            course = Course(network, stimulus, solver, steps, start)
            stepper = Stepper(network, solver, recorder.note, recorder.every, recorder.keys, watch, compile, modules)
            clock, state = _run(course, stepper, recorder, bar)
    finally:
        _set_training(training, True)
    about = _provenance(network, solver, clock, time.perf_counter() - begun, state)
    about |= {"compiled": compile, "compile_seconds": round(stepper.compile_seconds, 3)}
    return _finish(network, recorder, watch, Snapshot(clock, state), stimulus, about)


def _run(course: Course, stepper: Stepper, recorder: Recorder, bar: tqdm | None) -> tuple[Clock, State]:
    """The loop over time."""
    clock, state, first = course.clock, course.state, course.clock.step
    while clock.step < course.end and not (stepper.watch and stepper.watch.all_diverged()):
        if clock.step in course.changes:
            stepper.show(course.inputs(clock))
        keep = partial(recorder.keep, first)
        then, state = stepper.stretch(clock, state, course.left(clock), clock.step - first, keep)
        if bar is not None:
            bar.update(then.step - clock.step)
        clock = then
    return clock, state


def _set_training(modules: Sequence[nn.Module], mode: bool) -> None:
    for module in modules:
        vars(module)["training"] = mode  # what setting the attribute does, at a tenth of the cost


def _require_solver(solver: object) -> None:
    if not isinstance(solver, Solver):
        raise SolverError(
            given=f"solver={solver!r}",
            expected="a solver with its step, such as pcsim.RK4(dt=1.0)",
            remedy="use Iterate() for a discrete network; Euler, Heun, RK4, ExponentialEuler or TorchDiffEq for a flow",
        )


def _finish(
    network: Network, recorder: Recorder, watch: Watch, final: Snapshot, stimulus: Stimulus, about: dict
) -> Run:
    dt = final.clock.dt
    bad = watch.step.cpu().numpy() if watch.step is not None else np.full(len(next(iter(final.state.values()))), -1)
    where = watch.population.cpu().numpy() if watch.population is not None else bad
    rows = np.asarray(recorder.rows, dtype=np.int64)
    values = recorder.arrays()
    for sample in np.flatnonzero(bad >= 0):
        for value in values.values():
            value[torch.from_numpy(rows >= bad[sample]), sample] = math.nan
    names = list(watch.memories or final.state)
    if (bad >= 0).any():
        first = int(np.flatnonzero(bad >= 0)[0])
        spoiled = [name for name, value in network.named_parameters() if not bool(torch.isfinite(value).all())]
        remedy = (
            f"{spoiled[0]} is not finite: load or train it anew" if spoiled else "Take a smaller dt or weaker feedback"
        )
        warnings.warn(
            f"{int((bad >= 0).sum())} of {len(bad)} samples diverged; sample {first} in {names[where[first]]!r} at "
            f"{bad[first] * dt:g} ms. They are NaN from there on. {remedy}.",
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


def _changes(network: Network, timelines: dict[str, Timeline], until: float) -> list[float]:
    """Times in ms at which the stimulus or the network changes."""
    changes = [change for line in timelines.values() for change in line.change_times(until)]
    return changes + [change for change in network.change_times if change < until]


def _check_change_times(changes: Sequence[float], dt: float, until: float) -> None:
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
        # One pass; a sum may also overflow.
        if not math.isfinite(image.detach().sum()) and not bool(torch.isfinite(image).all()):
            raise StimulusError(
                given=f"input {name!r} with NaN or infinite values at {at:g} ms",
                expected="finite values",
                remedy="clean the images: torch.nan_to_num, or leave the bad ones out",
            )
        if parameter is not None:
            image = image.to(device=parameter.device, dtype=parameter.dtype)
        shown[name] = laid_out(image)
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


version = lru_cache(metadata.version)


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
