"""Simulations: `simulate` for a single run, `Simulator` for repeated runs."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext

import torch
from torch import Tensor

from pcsim.core.checks import checked
from pcsim.core.clock import Clock
from pcsim.core.exceptions import RecordError, SolverError, WiringError, warn
from pcsim.core.progress import tqdm
from pcsim.core.state import State
from pcsim.network.network import Network
from pcsim.network.variants import current
from pcsim.simulation.checks import ERRORS, Records, checked_end, records_of
from pcsim.simulation.finish import finished, provenance
from pcsim.simulation.frozen import Places, frozen, without_compilers
from pcsim.simulation.gradient import Full, Gradient
from pcsim.simulation.layers import Layers
from pcsim.simulation.monitor import Monitor, Settled
from pcsim.simulation.plan import Plan
from pcsim.simulation.purity import has_global_hooks, walked
from pcsim.simulation.record import Recorder
from pcsim.simulation.regime import Regime, Regimes
from pcsim.simulation.replay import Replay, parts_of
from pcsim.simulation.run import Run, Snapshot
from pcsim.simulation.scan import Carry, Moment, scan
from pcsim.simulation.schedule import Schedule, steps_of, warn_of_end, warn_of_lesions
from pcsim.simulation.start import Beginning, require_state, spoken_before
from pcsim.solvers.base import Solver
from pcsim.stimuli.timeline import Stimulus, as_timelines, labels_of

TRACED_FROM = 5_000
"""minimum number of steps for tracing a single run; tracing takes 0.1 to 0.5 s and saves 10 to 400 us per step"""
PLANS = 1_000
"""maximum number of plans to keep; each new value of a learned conduction delay adds a plan"""


@checked(SolverError, network=WiringError, record=RecordError)
class Simulator:
    """A prepared simulation for repeated runs of a network; steps are traced or compiled once.

    Runs use the current values of parameters and buffers. Everything else about the network is fixed when the Simulator
    is created: modules, hooks, lesions, and attributes including lists, dicts and other tensors. Globals, closures and
    class attributes used by modules are evaluated on the first run with inputs of a given shape; create a new Simulator
    if they change.

    record    the values that each run keeps; by default the readout at every step
    gradient  `Full()` or another gradient through time from `pcsim.training`; by default, no gradients are computed
    compile   whether to compile a step and the loop over time with torch's compiler. This takes 3 to 20 s on the first
              run; later runs are up to three times as fast, and results agree up to rounding

    If `gradient` is set, the network runs in its current mode, otherwise in evaluation mode. `run.about["how"]` reports
    how the steps were run. Raises SolverError if the solver cannot advance the network, or if a module cannot be
    copied.

        sim = pcsim.Simulator(net, solver=pcsim.RK4(dt=1.0), record=Record(states=["v2"]))
        runs = [sim(images, until=200.0) for images in batches]
    """

    _replay: Replay | None
    _places: Places | None

    def __init__(
        self,
        network: Network,
        *,
        solver: Solver,
        record: Records = None,
        gradient: Gradient | None = None,
        compile: bool = False,  # noqa: A002
    ) -> None:
        own, self._chooses = frozen(network), gradient is None
        if compile:
            without_compilers(own)
        self._prepare(own, solver, record, gradient)
        self._places = Places(own)
        if compile and gradient is not None:
            raise SolverError(
                given=f"compile=True with gradient={gradient}",
                expected="only one of the two, because compiled steps compute no gradients",
                remedy="omit either compile=True or gradient=...",
            )
        if gradient is None:
            own.eval()
            self._replay = Replay(self.wiring, self.solver, self._places, compile)

    def _prepare(self, network: Network, solver: Solver, record: Records, gradient: Gradient | None) -> None:
        self.network = current(network)
        self.wiring = self.network.wiring()
        self.gradient = gradient
        self.solver = solver if gradient is None else gradient.solver(solver)
        self.solver.check(self.wiring)
        self.records, self._kept = records_of(record, self.wiring)
        self._regimes = Regimes(self.wiring, self.solver.step_ms(self.wiring))
        self._lower_anew()
        self._replay = None
        self._places = None
        self._device = self.wiring.device
        is_ambient = torch.is_autocast_enabled(self._device)
        self._amp = torch.get_autocast_dtype(self._device) if is_ambient else None

    def _lower_anew(self) -> None:
        """Discard the cached functions and plans of the network."""
        self._is_watched = has_global_hooks()
        self._layers = Layers(self._chooses)
        self._beginning = Beginning(self.wiring, self.solver.step_ms(self.wiring), self._layers)
        self._plans: dict[tuple[Regime, tuple[str, ...]], Plan] = {}

    @classmethod
    def once(
        cls,
        network: Network,
        solver: Solver,
        record: Records = None,
        gradient: Gradient | None = None,
        chooses: bool | None = None,
    ) -> Simulator:
        """Return a Simulator for a single run, which uses the network itself instead of a copy.

        chooses  whether convolutions use the kernel selected for their size; by default, only if there is no `gradient`
        """
        made = cls.__new__(cls)
        made._chooses = gradient is None if chooses is None else chooses
        made._prepare(network, solver, record, gradient)
        return made

    @checked(SolverError, **ERRORS)
    def __call__(
        self,
        stimulus: Stimulus,
        *,
        until: float | Settled | None = None,
        steps: int | None = None,
        initial: Mapping[str, Tensor] | None = None,
        start: Snapshot | None = None,
        progress: bool = False,
    ) -> Run:
        """Run the network; the arguments are those of `simulate`."""
        return self._run(stimulus, until, steps, initial, start, progress)

    def _run(
        self,
        stimulus: Stimulus,
        until: float | Settled | None,
        steps: int | None,
        initial: Mapping[str, Tensor] | None,
        start: Snapshot | None,
        progress: bool,
    ) -> Run:
        network, solver = self.wiring, self.solver
        settled = until if isinstance(until, Settled) else None
        labels = labels_of(stimulus)
        stimulus = as_timelines(stimulus, list(network.inputs))
        first, dt = start.clock.step if start else 0, solver.step_ms(network)
        if settled is not None:
            most = max(1, int(settled.at_most / dt * (1 + 1e-12)))
            end = steps_of(network, stimulus, solver, None, most if steps is None else -1)
        else:
            end = steps_of(network, stimulus, solver, until, steps)  # type: ignore[arg-type]
            warn_of_end(network, stimulus, end * dt, dt)
            warn_of_lesions(network, end, dt)
        begun, random = time.perf_counter(), _random_state()
        # The mode of a frozen copy is already set.
        mode = nullcontext() if self._places is not None else _mode(self.network, self.gradient)
        with self._own_settings(), mode:
            # Replayed steps return only the final state. If a sample has diverged, they are repeated one at a time.
            quick = None if settled else self._replay or self._worth_tracing(end - first)
            if self._places is not None and quick is None:
                self._places.now()  # raises if a tensor has been removed; traced steps check this themselves
            for replay in (quick, None) if quick is not None else (None,):
                recorder = Recorder(self.records, self._kept, first, checked_end(first, end), dt)
                schedule, carry = self.begin(stimulus, end, recorder.names, initial, start)
                last_change = schedule.last_change if settled else 0
                monitor = Monitor(network, schedule.batch, settled, dt if network.is_flow else 1.0, last_change)
                if any(record.initial for record in self.records):
                    recorder.keep(first, self._initial_row(schedule, carry, recorder.names))
                if replay is not None:
                    replay.begin(monitor, recorder)
                with tqdm(total=end - first, unit="step", disable=None) if progress else nullcontext() as bar:
                    for clock, values in self._moments(schedule, carry, recorder, monitor, replay):
                        recorder.keep(clock.step, values)
                        if bar is not None:
                            bar.update(clock.step - first - bar.n)
                if replay is not None:
                    replay.end()
                if replay is None or not replay.was_used or not monitor.has_diverged:
                    break
                torch.set_rng_state(random[0])
                torch.cuda.set_rng_state_all(random[1])
        about = provenance(network, solver, carry.step, time.perf_counter() - begun, schedule, self.records)
        at_once = {kind: count for kind, count in replay.steps.items() if count} if replay is not None else {}
        single = carry.step - first - sum(at_once.values())
        about |= {"how": self._how(settled, quick) if replay is None else replay.how()}
        about |= {"steps_by": at_once | ({"step by step": single} if single else {})}
        about |= {"compile_seconds": round(replay.compile_seconds if replay else 0.0, 3)}
        spoken = tuple(sorted(spoken_before(network, initial) | set(start.spoken if start else ())))
        final = Snapshot(Clock(dt, carry.step), carry.state, spoken)
        return finished(network, recorder, monitor, final, labels, about)

    def begin(
        self,
        stimulus: Stimulus,
        end: int,
        wanted: Sequence[str],
        initial: Mapping[str, Tensor] | None = None,
        start: Snapshot | None = None,
    ) -> tuple[Schedule, Carry]:
        """Return the schedule of a run up to step `end`, and its initial state."""
        network, dt = self.wiring, self.solver.step_ms(self.wiring)
        if (device := self.wiring.device) != self._device or has_global_hooks() != self._is_watched:
            self._device = device
            self._lower_anew()
        spoken = spoken_before(network, initial) | frozenset(start.spoken if start else ())
        begin = start.clock.step if start else 0

        def plan_of(regime: Regime) -> Plan:
            key = (regime, tuple(wanted))
            if key not in self._plans:
                if len(self._plans) >= PLANS:
                    self._plans.clear()
                self._plans[key] = Plan(network, regime, self.solver, wanted, self._amp, self._layers)
            return self._plans[key]

        schedule = Schedule(network, stimulus, self.solver, self._regimes, plan_of, begin, end, spoken)
        if start is None:
            return schedule, Carry(0, self._beginning.state(schedule.first, initial))
        if initial or start.clock.dt != dt:
            raise SolverError(
                given=f"a start from a run with dt = {start.clock.dt:g} ms, a solver with dt = {dt:g} ms, "
                f"and initial={list(initial or ())}",
                expected="the same dt, and no other initial values",
                remedy="continue with the solver of that run, or pass initial={...} without start",
            )
        like = next(iter(schedule.first.values()))
        require_state(network, start.state, dt, len(like))
        return schedule, Carry(begin, {k: v.to(device=like.device, dtype=like.dtype) for k, v in start.state.items()})

    def windows(self, stimulus: Stimulus, steps: int, names: Sequence[str]) -> Iterator[Iterable[Moment]]:
        """Yield (clock, values of `names`) after every step, in windows and with gradients.

        A loss can be backpropagated through each window separately. A window contains all steps or, for `Truncated`,
        one span.
        """
        gradient = self.gradient or Full()
        if self._places is not None:
            self._places.now()
        dt, stimulus = self.solver.step_ms(self.wiring), as_timelines(stimulus, list(self.wiring.inputs))
        warn_of_end(self.wiring, stimulus, steps * dt, dt)
        warn_of_lesions(self.wiring, steps, dt)
        schedule, carry = self.begin(stimulus, steps, names)
        yield from gradient.windows(schedule, carry, gradient.taps(schedule))

    def _moments(
        self, schedule: Schedule, carry: Carry, recorder: Recorder, monitor: Monitor, replay: Replay | None
    ) -> Iterable[Moment]:
        """Return the time points of a run at which values are recorded."""
        if self.gradient is None:
            return scan(schedule, carry, recorder, monitor, replay)
        return (m for window in self.gradient.windows(schedule, carry, recorder, monitor) for m in window)

    @contextmanager
    def _own_settings(self) -> Iterator[None]:
        """Disable inference mode, enclosing autocast contexts and, unless there is a `Gradient`, gradients."""
        with ExitStack() as settings:
            if torch.is_inference_mode_enabled():
                settings.enter_context(torch.inference_mode(False))
            if torch.is_autocast_enabled(self._device):
                settings.enter_context(torch.autocast(self._device, enabled=False))
            if self.gradient is None:
                settings.enter_context(torch.no_grad())
            yield

    def _worth_tracing(self, steps: int) -> Replay | None:
        """Return a Replay if a single run is long enough to benefit from tracing, and None otherwise.

        All modules must be of known types, because user-defined modules are called at every step.
        """
        if steps < TRACED_FROM or self.gradient is not None:
            return None
        if any(not self._layers.nature(part).is_plain for part in parts_of(self.wiring).values()):
            return None
        return Replay(self.wiring, self.solver, Places(self.network), compile=False)

    def _how(self, settled: Settled | None, quick: Replay | None) -> str:
        """Return a description of a step-by-step run, with the reason, if any, why it was not faster."""
        if self._replay is None and quick is None:
            return "step by step"
        reason = "Settled checks every step" if settled else "a sample diverged"
        if settled and self._replay is not None and self._replay.compile:
            warn(f"{self.wiring.name!r} is not compiled: {reason}.")
        return f"step by step: {reason}"

    def _initial_row(self, schedule: Schedule, carry: Carry, names: Sequence[str]) -> State:
        """Return the values of `names` before the first step."""
        segment = next(schedule.segments())
        if self.wiring.is_flow:
            return segment.plan.observe(segment.plan.precompute(segment.inputs), carry.state)
        known = self._beginning.first_values(segment.inputs) | carry.state
        if missing := [name for name in names if name not in known]:
            raise RecordError(
                given=f"initial=True and a record of {', '.join(missing)}",
                expected=f"a name that has a value before the first step of a discrete network: {', '.join(known)}",
                remedy="record these values in a separate Record without initial=True",
            )
        return {name: known[name] for name in names}


@checked(SolverError, **ERRORS)
def simulate(
    network: Network,
    stimulus: Stimulus,
    *,
    solver: Solver,
    until: float | Settled | None = None,
    steps: int | None = None,
    record: Records = None,
    initial: Mapping[str, Tensor] | None = None,
    start: Snapshot | None = None,
    gradient: Gradient | None = None,
    compile: bool = False,  # noqa: A002
    progress: bool = False,
) -> Run:
    """Run `network` on `stimulus` and return the values selected by `record` (by default the readout at every step).

    until    end of the run in ms, a multiple of the solver's dt (for a discrete network, of `net.step_ms`), or
             `Settled(...)`; by default the end of the stimulus or, for a discrete model on a static image, the number
             of steps in its paper
    steps    number of steps, as an alternative to `until`
    initial  key -> (batch, ...), initial values of memories such as "r1" or "r0.c", which replace zeros or the values
             of the initialiser. Delayed edges deliver these values from the first step on
    start    the `final` snapshot of an earlier run, from which the new run continues
    gradient  `Full()` or another gradient through time from `pcsim.training`; by default, no gradients are computed
    compile  whether to compile the steps with torch's compiler, which takes 3 to 20 s and pays off only for a very
             long run. A `Simulator` reuses the compiled code

    The network runs in evaluation mode, or in its current mode if `gradient` is set. If a sample becomes NaN or
    infinite, `run.status` reports it and its later values are NaN; other samples are unaffected. `run.times` are in ms.

        run = pcsim.simulate(net, images, solver=pcsim.RK4(dt=1.0), until=200.0)
    """
    if compile:
        sim = Simulator(network, solver=solver, record=record, gradient=gradient, compile=True)
    else:
        sim = Simulator.once(network, solver, record, gradient)
    return sim._run(stimulus, until, steps, initial, start, progress)


@contextmanager
def _mode(network: Network, gradient: Gradient | None) -> Iterator[None]:
    """Run in evaluation mode if there is no `Gradient`, and restore the mode afterwards."""
    training = [] if gradient is not None else [module for module in walked(network) if module.training]
    for module in training:
        vars(module)["training"] = False  # equivalent to setting the attribute, but ten times as fast
    try:
        yield
    finally:
        for module in training:
            vars(module)["training"] = True


def _random_state() -> tuple[Tensor, list[Tensor]]:
    """Return the states of torch's random number generators on the CPU and all GPUs."""
    return torch.get_rng_state(), torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
