"""Execution of several steps per call in a Simulator, either traced (bitwise identical) or compiled.

A step is traced the first time it runs with inputs of a given shape and type. Steps with user-defined modules are
traced twice. If the traces differ, the step changes from call to call, so the network runs step by step instead; `how`
reports this.
"""

from __future__ import annotations

import copy
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import accumulate
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from pcsim.core.exceptions import warn
from pcsim.core.log import logger
from pcsim.core.state import State, units
from pcsim.network.wiring import Wiring
from pcsim.simulation.frozen import Places
from pcsim.simulation.kernels import products
from pcsim.simulation.loop import Loop
from pcsim.simulation.monitor import Monitor
from pcsim.simulation.plan import Plan
from pcsim.simulation.program import RECORDED, Program, Trace, UntraceableError
from pcsim.simulation.purity import HOOKS, has_global_hooks, has_spectators, nature
from pcsim.simulation.record import Recorder
from pcsim.simulation.scan import Carry, Taps
from pcsim.solvers.base import Solver

BLOCK = 32
"""number of steps in a long program"""
IN_A_ROW = {True: 5, False: 20}
"""steps in a compiled program for a GPU, with and without convolutions; more would slow down compilation"""
KEPT = 16
"""maximum number of programs per trace; once it is reached, other numbers of steps are run one step at a time"""
MOST_COMPILED = 4
"""maximum number of compiled programs or loops per trace"""
ROWS_BYTES = 2**23
"""maximum size of the rows per call in bytes; larger calls allocate memory, and smaller ones amortise less overhead"""
ROWS, GAP, CHUNK = 32, 8, 100
"""limits of compiled loops: rows per call (one if rows are over GAP steps apart), and steps before the first row"""
SHOWN = "shown "
"""prefix of the names of inputs among the fixed tensors"""
FINITE = "finite?"
"""key in the state of a map that stores whether all memories have been finite at every step, (batch,)"""

Due = tuple[bool, ...]
Made = tuple[State, list[State]]
Instead = Mapping[Any, Callable[..., Tensor]] | None


class _Unit(nn.Module):
    """A module that wraps a function, so that functional_call can replace the tensors of the network."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, function: Callable[[], State]) -> State:
        return function()


class _Traced:
    """Traces of a plan's step, with and without recorded values, for tensors of given shapes and types.

    for_loops  the corresponding traces for compiled loops, or None
    """

    def __init__(self, unrecorded: Trace, recording: Trace, for_loops: tuple[Trace, Trace] | None) -> None:
        self.unrecorded, self.recording, self._for_loops = unrecorded, recording, for_loops
        row = [value for name, value in recording.forms.items() if name.startswith(RECORDED)]
        self.most_rows = max(1, ROWS_BYTES // max(1, sum(value.numel() * value.element_size() for value in row)))
        self.programs: dict[tuple[Due, bool], Program] = {}
        self.loops: dict[tuple[int, bool], Loop] = {}

    def program(self, due: Due, compiled: bool) -> Program:
        """Return the program of len(due) steps that records values where `due` is True."""
        if (due, compiled) not in self.programs:
            self.programs[due, compiled] = Program(self.unrecorded, self.recording, due, compiled)
        return self.programs[due, compiled]

    def has_room(self, due: Due, compiled: bool) -> bool:
        """Return whether this program is cached or can be added to the cache."""
        count = sum(other == compiled for _, other in self.programs)
        return (due, compiled) in self.programs or count < (MOST_COMPILED if compiled else KEPT)

    def loop(self, rows: int, has_gap: bool) -> Loop | None:
        """Return the compiled loop with the most rows, at most `rows`, or None if there is none."""
        key = (rows, has_gap)
        if self._for_loops is not None and key not in self.loops and len(self.loops) < MOST_COMPILED:
            self.loops[key] = Loop(*self._for_loops, rows, has_gap)
        fewer = [known for known in self.loops if 0 < known[0] <= rows and known[1] == has_gap]
        return self.loops[max(fewer)] if fewer else self.loops.get(key)


class Replay:
    """The traces and programs of one Simulator."""

    def __init__(self, network: Wiring, solver: Solver, places: Places, compile: bool) -> None:  # noqa: A002
        self._places = places
        self.network, self.solver, self.compile, self.compile_seconds = network, solver, compile, 0.0
        self._unit, self._watched = _Unit(network.module), _watched(network)
        # Modules of known types do not change between calls, so one trace suffices. Otherwise, two traces must agree.
        unknown = [part for part in parts_of(network).values() if not nature(part).is_known]
        self._strangers = [module for part in unknown for module in part.modules()]
        self._traced: dict[tuple[object, ...], _Traced | None] = {}
        self._inputs: State = {}
        self._tensors: State = {}
        self._given: dict[Program | Loop, tuple[Tensor, ...]] = {}
        self._cannot = "" if solver.is_traceable else f"the steps of {type(solver).__name__} depend on computed values"
        self._has_images = any(isinstance(m, nn.Conv2d | nn.ConvTranspose2d) for m in network.module.modules())
        self._warned, self._no_loops = False, ""
        self.steps: dict[str, int] = {}

    def begin(self, monitor: Monitor, recorder: Recorder) -> None:
        """Prepare for a run."""
        self.steps, self._monitor = {"compiled": 0, "traced": 0}, monitor
        self._inputs, self._given, self._tensors = {}, {}, self._places.now()
        # A weight with a new shape, type or layout needs a new trace, because compiled code assumes its layout.
        self._tensor_forms = _forms(self._tensors)
        watched = "all modules" if has_global_hooks() else self._watched
        self._why = self._cannot or (f"a hook must receive every call of {watched}" if watched else "")
        # On a CPU, compiled steps run in a compiled loop; on other devices they are unrolled.
        self._loops = self.compile and self.network.device == "cpu"
        self._in_a_row = self.compile and not self._loops
        most = IN_A_ROW[self._has_images] if self._in_a_row else BLOCK
        self._block = _fitting(recorder.every, most) if recorder.every else most
        # If blocks end at a recorded step, two programs suffice; otherwise the position of that step would vary.
        self._ends_at_rows = recorder.every is not None and recorder.every > most and not self._in_a_row
        if self.compile and self._why:
            self._say_that_it_is_not_compiled()

    def end(self) -> None:
        """Release the tensors of a run."""
        if self.compile and self.steps["traced"] and not self.steps["compiled"]:
            self._warn(f"{self.network.name!r} is traced instead of compiled: no compiled program fits these steps.")
        self._inputs, self._given, self._tensors = {}, {}, {}
        del self._monitor

    @property
    def was_used(self) -> bool:
        """True if the last run used traced or compiled steps."""
        return any(self.steps.values())

    def how(self) -> str:
        """Return how the steps of the last run were executed."""
        if self.was_used:
            return "compiled" if self.steps["compiled"] else "traced"
        return f"step by step: {self._why}" if self._why else "step by step"

    def leap(self, plan: Plan, inputs: State, carry: Carry, end: int, taps: Taps) -> list[tuple[int, State]] | None:
        """Advance by several steps and return the requested values, or None if steps must be run one at a time."""
        if self._why or plan.regime.opening:
            return None
        traced = self._trace_of(plan, inputs, carry.state)
        if traced is None:
            return None
        most = min(carry.step + self._block, end)
        if self._loops and not self._no_loops:
            made, count = self._loop(traced, inputs, carry, end, taps)
            if made is not None:
                return made
            most = min(most, carry.step + count)
        due = tuple(taps.due(step) for step in range(carry.step + 1, most + 1))
        if sum(due) > traced.most_rows and not self._in_a_row:
            due = due[: list(accumulate(map(int, due))).index(traced.most_rows) + 1]
        if self._ends_at_rows and any(due):
            due = due[: due.index(True) + 1]
        compiled = self._in_a_row and len(due) == self._block and traced.has_room(due, True)
        if not compiled and not traced.has_room(due, False):
            due = due[:1]
        program = traced.program(due, compiled)
        steps = [carry.step + 1 + n for n, wanted in enumerate(due) if wanted]
        run = partial(program.run, self._given_to(program, inputs), self._carried(carry.state, inputs))
        is_new = program.is_compiled and not program.runs
        state, rows = self._compiling(run) if is_new else run()
        kind = "compiled" if compiled else "traced"
        return self._moved(carry, state, len(due), list(zip(steps, rows, strict=True)), kind)

    def _loop(
        self, traced: _Traced, inputs: State, carry: Carry, end: int, taps: Taps
    ) -> tuple[list[tuple[int, State]] | None, int]:
        """Advance with a compiled loop. Return the rows (None if no loop fits) and the number of steps."""
        rows, gap = _cadence(carry.step, end, taps, min(ROWS, traced.most_rows))
        count = rows * (gap + 1) if rows else gap
        # A single remaining step does not justify a separate loop, unless every frame lasts only one step.
        is_left_over = count == 1 and any(known != (1, False) for known in traced.loops)
        if is_left_over or (loop := traced.loop(rows, gap > 0)) is None:
            return None, count
        count = loop.rows * (gap + 1) if loop.rows else gap
        run = partial(loop.run, self._given_to(loop, inputs), self._carried(carry.state, inputs), gap)
        try:
            state, made = run() if loop.runs else self._compiling(run)
        except Exception as reason:
            if loop.runs:
                raise
            # This is a compiler error, because the steps were traced successfully.
            self._no_loops = f"the compiler failed on its steps ({type(reason).__name__}: {str(reason)[:200]})"
            self._warn(f"{self.network.name!r} is traced instead of compiled: {self._no_loops}.")
            return None, count
        steps = range(carry.step + gap + 1, carry.step + count + 1, gap + 1) if rows else ()
        return self._moved(carry, state, count, list(zip(steps, made, strict=False)), "compiled"), count

    def _moved(
        self, carry: Carry, state: State, count: int, rows: list[tuple[int, State]], kind: str
    ) -> list[tuple[int, State]]:
        """Update `carry` after several steps, and return their rows."""
        fine = state.pop(FINITE, None)
        if fine is not None and not bool(fine.all()):
            self._monitor.mark(fine)  # the run will be repeated step by step
        carry.state, carry.step = state, carry.step + count
        self.steps[kind] += count
        return rows

    def _given_to(self, program: Program | Loop, inputs: State) -> tuple[Tensor, ...]:
        """Return the values that a program needs from the fixed tensors, precomputed once per input."""
        if self._inputs is not inputs:
            self._inputs, self._given = inputs, {}
        if program not in self._given:
            self._given[program] = program.given(self._fixed(inputs))
        return self._given[program]

    def _compiling(self, run: Callable[[], Made]) -> Made:
        """Call `run` for the first time, which compiles it, and log how long this takes."""
        begun = time.perf_counter()
        logger.info("compiling the steps of %r (once) ...", self.network.name)
        made = run()
        seconds = time.perf_counter() - begun
        self.compile_seconds += seconds
        logger.info("compiled in %.0f s", seconds)
        return made

    def _say_that_it_is_not_compiled(self) -> None:
        self._warn(f"{self.network.name!r} is run step by step instead of compiled: {self._why}.")

    def _warn(self, message: str) -> None:
        if not self._warned:
            self._warned = True
            warn(message)

    # ------------------------------------------------------------------ tracing

    def _trace_of(self, plan: Plan, inputs: State, state: State) -> _Traced | None:
        key = (plan, _forms(state), _forms(inputs), self._tensor_forms)
        if key not in self._traced:
            try:
                carried = self._carried(state, inputs)
                unrecorded, recording = (
                    self._trace(plan, inputs, carried, recorded, None) for recorded in (False, True)
                )
                for_loops = None
                if self._loops:
                    instead = products()
                    for_loops = (
                        self._trace(plan, inputs, carried, False, instead),
                        self._trace(plan, inputs, carried, True, instead),
                    )
                if any(not _is_alike(carried[name], unrecorded.forms[name]) for name in carried):
                    raise UntraceableError(
                        "a state changes its shape or type"
                    )  # a single step raises an exception with a better message
                self._traced[key] = _Traced(unrecorded, recording, for_loops)
            except UntraceableError as reason:
                self._traced[key], self._cannot = None, str(reason) + _suspects(self.network)
                self._why = self._cannot
                if self.compile:
                    self._say_that_it_is_not_compiled()
        return self._traced[key]

    def _trace(self, plan: Plan, inputs: State, state: State, recorded: bool, instead: Instead) -> Trace:
        def step(fixed: State, moving: State) -> State:
            shown = {name: fixed[f"{SHOWN}{name}"] for name in inputs}
            tensors = {f"network.{path}": value for path, value in fixed.items() if not path.startswith(SHOWN)}

            def run() -> State:
                with plan.in_own_types():
                    precomputed = plan.precompute(shown)
                    before = {name: value for name, value in moving.items() if name != FINITE}
                    if recorded and not self.network.is_flow:
                        after, values = plan.step_and_observe(precomputed, before)
                    else:
                        after = plan.step(precomputed, before)
                        values = plan.observe(precomputed, after) if recorded else {}
                if FINITE in moving:
                    # Sums are the fastest check. If one overflows, the run is repeated and the values are checked.
                    sums = torch.stack([value.sum(units(value)) for key, value in after.items() if "@" not in key])
                    after = after | {FINITE: moving[FINITE] & torch.isfinite(sums).all(0)}
                return after | {RECORDED + name: value for name, value in values.items()}

            return cast(State, torch.func.functional_call(self._unit, tensors, (run,), tie_weights=False))

        fixed = self._fixed(inputs)
        if not self._strangers:
            return Trace(step, fixed, state, instead)
        with _as_before(self._strangers):
            # Pass copies, because these modules may write in place.
            first, second = (
                Trace(step, {name: value.clone() for name, value in fixed.items()}, state, instead) for _ in range(2)
            )
        if not first.equals(second):
            raise UntraceableError("a module returns a different result at every call")
        return first

    def _carried(self, state: State, inputs: State) -> State:
        """Return the state for programs; for a map, where non-finite values may disappear, it includes FINITE."""
        if self.network.is_flow or not self.network.memories or FINITE in state:
            return state
        like = next(iter(inputs.values()))
        return state | {FINITE: like.new_ones(len(like), dtype=torch.bool)}

    def _fixed(self, inputs: State) -> State:
        """Return the fixed tensors: the parameters and buffers by path, and the inputs."""
        return {**{f"{SHOWN}{name}": value for name, value in inputs.items()}, **self._tensors}


def _cadence(step: int, end: int, taps: Taps, most: int) -> tuple[int, int]:
    """Return the number of rows that follow, up to `most`, and the number of steps before each.

    If no row follows, return 0 and the number of steps to take.
    """
    last = min(step + CHUNK, end)
    span = next((number for number in range(1, last - step + 1) if taps.due(step + number)), None)
    if span is None:
        return 0, last - step
    rows = 1
    while rows < most and span <= GAP and step + (rows + 1) * span <= end:
        after = step + rows * span
        if any(taps.due(after + number) != (number == span) for number in range(1, span + 1)):
            break
        rows += 1
    return rows, span - 1


def _fitting(every: int, most: int) -> int:
    """Return at most `most` steps: a multiple of `every`, or `every` divided by an integer, rounded up."""
    parts = -(-every // most)
    return -(-every // parts) if parts > 1 else most // every * every


def parts_of(network: Wiring) -> dict[str, nn.Module]:
    """Return the modules of a network by the names used in messages."""
    parts: dict[str, nn.Module] = {f"edge {edge.name}": edge.transform for edge in network.projections}
    return parts | {f"the rule of {name!r}": population.rule for name, population in network.populations.items()}


def _watched(network: Wiring) -> str:
    """Return the name of the first part of a network that has a user's hook, or an empty string."""
    parts = parts_of(network)
    watched = (what for what, part in parts.items() if any(has_spectators(module) for module in part.modules()))
    return next(watched, "the network" if has_spectators(network.module) else "")


def _suspects(network: Wiring) -> str:
    """Return a note that lists the modules of unknown type, one of which must have prevented tracing."""
    parts = parts_of(network)
    own = [f"{what} ({type(part).__name__})" for what, part in parts.items() if not nature(part).is_known]
    return f" [modules of unknown type: {', '.join(own)}]" if own else ""


@contextmanager
def _as_before(modules: Sequence[nn.Module]) -> Iterator[None]:
    """On exit, restore the attributes of modules (except tensors) and the states of random number generators."""
    drawn = random.getstate(), np.random.get_state()
    shared = ("_parameters", "_buffers", "_modules", *HOOKS)
    memo = {id(thing): thing for module in modules for thing in (module, *module.parameters(), *module.buffers())}
    kept = [copy.deepcopy({k: v for k, v in vars(module).items() if k not in shared}, memo) for module in modules]
    try:
        yield
    finally:
        random.setstate(drawn[0]), np.random.set_state(drawn[1])
        for module, before in zip(modules, kept, strict=True):
            for name in [name for name in vars(module) if name not in before and name not in shared]:
                del vars(module)[name]
            vars(module).update(before)


def _is_alike(value: Tensor, other: Tensor) -> bool:
    return value.shape == other.shape and value.dtype == other.dtype


def _forms(state: State) -> tuple[object, ...]:
    return tuple((name, value.shape, value.stride(), value.dtype, value.device) for name, value in state.items())
