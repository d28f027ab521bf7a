"""Many steps at once, for a Simulator: traced as a program, with the same bits, or compiled.

A step is traced at its first run on inputs of a form, twice: where the two traces differ, something in it changes from
call to call, and it is run step by step instead. `how` says so.
"""

from __future__ import annotations

import random
import sys
import time
import warnings

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from pcsim.core.exceptions import PcsimWarning
from pcsim.core.state import State, units
from pcsim.network.wiring import Wiring
from pcsim.simulation.frozen import Places
from pcsim.simulation.monitor import Monitor
from pcsim.simulation.plan import Plan
from pcsim.simulation.program import NOTED, Program, Trace, UntraceableError
from pcsim.simulation.purity import has_global_hooks, has_hooks
from pcsim.simulation.record import Recorder
from pcsim.simulation.scan import Carry, Taps
from pcsim.solvers.base import Solver

BLOCK = 32
"""steps in a long program"""
COMPILED = {True: 5, False: 20}
"""steps in a compiled program, with convolutions and without: more take longer to compile and gain little"""
KEPT = 16
"""programs of one trace, after which odd numbers of steps are done one by one"""
MOST_COMPILED = 3
"""compiled programs of one trace: noting in all steps, in none, in the last"""
SHOWN = "shown "
"""prefix of the inputs among the tensors that hold still"""
FINITE = "finite?"
"""in the state of a map, (batch,): whether all memories have been finite in every step"""

Due = tuple[bool, ...]


class _Unit(nn.Module):
    """The network as the one argument of a function, so that its tensors can be arguments too."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, function: object) -> State:
        return function()  # type: ignore[operator]


class _Traced:
    """The steps of one plan on tensors of one form: bare, and with what is noted."""

    def __init__(self, bare: Trace, noting: Trace) -> None:
        self.bare, self.noting = bare, noting
        self.programs: dict[tuple[Due, bool], Program] = {}

    def program(self, due: Due, compiled: bool) -> Program:
        """Return the program of as many steps as `due` is long, noting where it is True."""
        if (due, compiled) not in self.programs:
            self.programs[due, compiled] = Program(self.bare, self.noting, due, compiled)
        return self.programs[due, compiled]

    def has_room(self, due: Due, compiled: bool) -> bool:
        """Tell whether there is such a program, or room for one more."""
        count = sum(other == compiled for _, other in self.programs)
        return (due, compiled) in self.programs or count < (MOST_COMPILED if compiled else KEPT)


class Replay:
    """The traces and programs of one Simulator; they live and die with it."""

    def __init__(self, network: Wiring, solver: Solver, places: Places, compile: bool) -> None:  # noqa: A002
        self._places = places
        self.network, self.solver, self.compile, self.compile_seconds = network, solver, compile, 0.0
        self._unit, self._hooked = _Unit(network.module), any(has_hooks(module) for module in network.module.modules())
        self._traced: dict[tuple[object, ...], _Traced | None] = {}
        self._inputs: State = {}
        self._tensors: State = {}
        self._given: dict[Program, tuple[Tensor, ...]] = {}
        self._cannot = "" if solver.is_traceable else f"{type(solver).__name__} looks at its numbers"
        self._has_images = any(isinstance(m, nn.Conv2d | nn.ConvTranspose2d) for m in network.module.modules())
        self._warned = False
        self.was_used = False

    def begin(self, monitor: Monitor, recorder: Recorder) -> None:
        """Get ready for a run."""
        self.was_used, self._monitor = False, monitor
        self._inputs, self._given, self._tensors = {}, {}, self._places.now()
        self._names = tuple(self._tensors)
        self._why = self._cannot or ("a hook wants to see every call" if self._hooked or has_global_hooks() else "")
        most = COMPILED[self._has_images] if self.compile else BLOCK
        self._block = _fitting(recorder.every, most) if recorder.every else most
        if self.compile and self._why:
            self._say_that_it_is_not_compiled()

    def end(self) -> None:
        """Let go of the tensors of a run."""
        self._inputs, self._given, self._tensors = {}, {}, {}
        del self._monitor

    def how(self) -> str:
        """Return how the steps of the last run were done."""
        if self.was_used:
            return "compiled" if self.compile else "traced"
        return f"step by step: {self._why}" if self._why else "step by step"

    def leap(self, plan: Plan, inputs: State, carry: Carry, end: int, taps: Taps) -> list[tuple[int, State]] | None:
        """Move on by some steps at once and return what is wanted on the way; None where they have to be run."""
        if self._why or not plan.is_tried or plan.regime.opening:
            return None
        traced = self._trace_of(plan, inputs, carry.state)
        if traced is None:
            return None
        due = tuple(taps.due(step) for step in range(carry.step + 1, min(carry.step + self._block, end) + 1))
        compiled = self.compile and len(due) == self._block and traced.has_room(due, True)
        if not compiled and not traced.has_room(due, False):
            due = due[:1]
        program = traced.program(due, compiled)
        state, rows = self._run(program, inputs, carry.state, len(due))
        first, carry.state, carry.step = carry.step, state, carry.step + len(due)
        self.was_used = True
        steps = (first + 1 + n for n, wanted in enumerate(due) if wanted)
        return list(zip(steps, rows, strict=True))

    def _say_that_it_is_not_compiled(self) -> None:
        if not self._warned:
            self._warned = True
            message = f"{self.network.name!r} is not compiled but run step by step: {self._why}."
            warnings.warn(message, PcsimWarning, stacklevel=2)

    # ------------------------------------------------------------------ tracing

    def _trace_of(self, plan: Plan, inputs: State, state: State) -> _Traced | None:
        key = (plan, _forms(state), _forms(inputs), self._names)
        if key not in self._traced:
            try:
                carried = self._carried(state, inputs)
                bare = self._trace(plan, inputs, carried, noted=False)
                self._traced[key] = _Traced(bare, self._trace(plan, inputs, carried, noted=True))
            except UntraceableError as reason:
                self._traced[key], self._cannot, self._why = None, str(reason), str(reason)
                if self.compile:
                    self._say_that_it_is_not_compiled()
        return self._traced[key]

    def _trace(self, plan: Plan, inputs: State, state: State, noted: bool) -> Trace:
        def step(fixed: State, moving: State) -> State:
            shown = {name: fixed[f"{SHOWN}{name}"] for name in inputs}
            tensors = {f"network.{path}": value for path, value in fixed.items() if not path.startswith(SHOWN)}

            def run() -> State:
                with plan.in_own_types():
                    held = plan.precompute(shown)
                    before = {name: value for name, value in moving.items() if name != FINITE}
                    if noted and not self.network.is_flow:
                        after, values = plan.noted(held, before)
                    else:
                        after = plan.step(held, before)
                        values = plan.observe(held, after) if noted else {}
                if FINITE in moving:
                    # By sums, which cost least: where one overflows the run is done again, and values decide.
                    sums = torch.stack([value.sum(units(value)) for key, value in after.items() if "@" not in key])
                    after = after | {FINITE: moving[FINITE] & torch.isfinite(sums).all(0)}
                return after | {NOTED + name: value for name, value in values.items()}

            return torch.func.functional_call(self._unit, tensors, (run,), tie_weights=False)

        fixed = self._fixed(inputs)
        drawn = random.getstate(), np.random.get_state()
        try:
            first, second = Trace(step, fixed, state), Trace(step, fixed, state)
        finally:
            random.setstate(drawn[0]), np.random.set_state(drawn[1])
        if not first.equals(second):
            raise UntraceableError("a module gives another result at every call")
        return first

    def _carried(self, state: State, inputs: State) -> State:
        """Return what programs carry along: of a map, which may forget, whether it has been finite in every step."""
        if self.network.is_flow or not self.network.memories or FINITE in state:
            return state
        like = next(iter(inputs.values()))
        return state | {FINITE: like.new_ones(len(like), dtype=torch.bool)}

    def _fixed(self, inputs: State) -> State:
        """Return the tensors that hold still: parameters and buffers by module, and what is shown."""
        return {**{f"{SHOWN}{name}": value for name, value in inputs.items()}, **self._tensors}

    # ------------------------------------------------------------------ running

    def _run(self, program: Program, inputs: State, state: State, steps: int) -> tuple[State, list[State]]:
        if self._inputs is not inputs:
            self._inputs, self._given = inputs, {}
        if program not in self._given:
            self._given[program] = program.given(self._fixed(inputs))
        given, carried = self._given[program], self._carried(state, inputs)
        if program.is_compiled and not program.runs:
            begun = time.perf_counter()
            tqdm.write(f"pcsim: compiling {steps} steps of {self.network.name!r}, once ...", file=sys.stderr)
            made, rows = program.run(given, carried)
            self.compile_seconds += time.perf_counter() - begun
            tqdm.write(f"pcsim: compiled in {self.compile_seconds:.0f} s", file=sys.stderr)
        else:
            made, rows = program.run(given, carried)
        fine = made.pop(FINITE, None)
        if fine is not None and not bool(fine.all()):
            self._monitor.step = self._monitor.step.copy()
            self._monitor.step[~fine.cpu().numpy()] = 0  # somewhere on the way: the run is done again step by step
        return made, rows


def _fitting(every: int, most: int) -> int:
    """Return at most so many steps: a multiple of `every`, or about a whole part of it."""
    parts = -(-every // most)
    return every // parts if parts > 1 else most // every * every


def _forms(state: State) -> tuple[object, ...]:
    return tuple((name, value.shape, value.stride(), value.dtype, value.device) for name, value in state.items())
