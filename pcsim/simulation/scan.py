"""Many steps at once: run as the solver says, or replayed as a program where a situation keeps coming back.

A *situation* is all that a step depends on besides its numbers: which windows and lesions are open, the shapes, what
the modules are set to. Programs give the same bits as the steps they were traced from (`pcsim.program`), so nothing but
the time depends on which is used.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from pcsim.core.clock import Clock
from pcsim.network.graph import Network
from pcsim.simulation.program import Program, Trace, UntraceableError
from pcsim.solvers.base import Solver
from pcsim.core.state import State, finite

Note = Callable[[Clock, State, State], State]
"""(clock, state, inputs) -> what to record of them"""

STRETCH = 128
"""steps between two looks at what a run has come to"""
BLOCK = 32
"""steps in a long program"""
WARM = 256
"""how often a situation is run before it is traced: that costs as much as some 50 steps of a small network, and saves
half of each"""
ASKED = 8
"""how often a number of steps at once is asked for before it gets a program of its own"""
COMPILED = {True: 5, False: 20}
"""steps in a compiled program, with convolutions and without: more take longer to compile and gain little"""
FINITE = "finite?"
"""in the state of a map, (batch,): whether all memories have been finite in every step of a stretch"""

_replaying: ContextVar[bool] = ContextVar("replaying", default=True)
_known: WeakKeyDictionary[Network, dict[object, _Situation]] = WeakKeyDictionary()


@contextmanager
def directly() -> Iterator[None]:
    """Every step inside is run, none replayed: for modules of your own that do more than compute, such as printing."""
    token = _replaying.set(False)
    try:
        yield
    finally:
        _replaying.reset(token)


@dataclass
class _Situation:
    """What is known of one: how often it was run, and the programs made of it."""

    times: int = 0
    asked: Counter[tuple[bool, ...]] = field(default_factory=Counter)
    advance: Trace | None = None
    note: Trace | None = None
    can: bool = True
    programs: dict[tuple[tuple[bool, ...], bool], Program] = field(default_factory=dict)

    @property
    def repeats(self) -> bool:
        """Whether a step gives all that the next one takes."""
        return self.advance is not None and set(self.advance.moving) <= set(self.advance.results)

    def offers(self, due: tuple[bool, ...]) -> bool:
        """Whether so many steps at once are worth a program: they have been asked for before."""
        self.asked[due] += 1
        return self.repeats and self.asked[due] > ASKED

    def program(self, due: tuple[bool, ...], compiled: bool) -> Program:
        """That of as many steps as `due` is long, noting where it is True."""
        if (due, compiled) not in self.programs:
            self.programs[due, compiled] = Program(cast(Trace, self.advance), self.note, due, compiled)
        return self.programs[due, compiled]


class _Unit(nn.Module):
    """The network as the one argument of a function, so that its tensors can be arguments too."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, function: Callable[[], State]) -> State:
        return function()


class Watch:
    """Notes, without reading anything back, at which step and in which population each sample stopped being finite."""

    def __init__(self, network: Network) -> None:
        self.memories, self.forgets = network.memories, not network.is_flow
        self.step: Tensor | None = None
        self.population: Tensor | None = None

    def finite(self, state: State) -> Tensor:
        """(population, batch)."""
        return finite({name: state[name] for name in self.memories or state})

    def look(self, step: int, state: State) -> None:
        """One look at the state after `step` steps."""
        bad = ~self.finite(state)
        if self.step is None or self.population is None:
            self.step = torch.full_like(bad[0], -1, dtype=torch.int64)
            self.population = torch.zeros_like(self.step)
        new = bad.any(0) & (self.step < 0)
        self.step = torch.where(new, step, self.step)
        self.population = torch.where(new, bad.int().argmax(0), self.population)

    def is_fine(self, fine: Tensor) -> bool:
        """Whether all samples are, (batch,), but those that are known not to be."""
        return bool((fine if self.step is None else fine | (self.step >= 0)).all())

    def all_diverged(self) -> bool:
        """Whether nothing finite is left."""
        return self.step is not None and bool((self.step >= 0).all())


class Stepper:
    """The steps of one run, with what is noted after every `every` of them.

    note   what to note, and `kept` what tells it from what other runs note
    watch  looks for samples that diverge
    compile  replay as compiled code, from the first step on
    modules  all inside the network, if they are known already (see `walk`)
    """

    def __init__(
        self,
        network: Network,
        solver: Solver,
        note: Note | None = None,
        every: int = 1,
        kept: object = None,
        watch: Watch | None = None,
        compile: bool = False,  # noqa: A002
        modules: Sequence[tuple[str, nn.Module]] | None = None,
    ) -> None:
        self.network, self.solver, self.note, self.every, self.watch = network, solver, note, every, watch
        self.compile, self.compile_seconds = compile, 0.0
        self.block = _fitting(every, BLOCK)
        self.inputs: State = {}
        self._shown: tuple[object, ...] = ()
        self._given: dict[Program, tuple[Tensor, ...]] = {}
        self._unit = _Unit(network)
        self._modules = [
            (f"network.{path}" if path else "network", module) for path, module in modules or walk(network)
        ]
        if compile:
            has_images = any(isinstance(module, nn.Conv2d | nn.ConvTranspose2d) for _, module in self._modules)
            self.block = _fitting(every, COMPILED[has_images])
        self.length = self.block * max(1, STRETCH // self.block)
        # Stretches begin anew with what is noted, so that a long run is made of few kinds of blocks.
        self.period = self.length if every <= self.block else every * max(1, STRETCH // every)
        self._is_autonomous = not network.situation(Clock(solver.dt))
        can = _replaying.get() and solver.replays and not torch.is_grad_enabled() and not self._learns_statistics
        look = fingerprint(self._modules) if can else None
        self._look = look
        self._key = None if look is None else (look, solver, kept, watch is not None)
        self._situations = _known.setdefault(network, {})

    @property
    def _learns_statistics(self) -> bool:
        """Whether a norm in training mode changes its running mean, which no operator says of itself."""
        return any(m.training and getattr(m, "running_mean", None) is not None for _, m in self._modules)

    def show(self, inputs: State) -> None:
        """What the network sees from now on (see `Network.held`)."""
        self.inputs, self._shown = inputs, _forms(inputs)
        self._given.clear()

    def advance(self, clock: Clock, state: State) -> State:
        """One step, run."""
        after = self.solver.advance(self.network, clock, state, self.inputs)
        if self.watch and FINITE in state:
            after = after | {FINITE: state[FINITE] & self.watch.finite(after).all(0)}
        return after

    def stretch(
        self, clock: Clock, state: State, left: int, done: int, keep: Callable[[State], None] = lambda _: None
    ) -> tuple[Clock, State]:
        """Some steps on, at most `left`, after `done`: the clock and state then. What is noted is given to `keep`.

        After a stretch the run is looked at; memory for what is noted grows with a block only.
        """
        place = done % self.period
        end = clock.step + min(left, self.length - place % self.length, self.period - place)
        unseen: tuple[Clock, State] | None = None
        while clock.step < end:
            situation = self._situation(clock, state)
            if situation is None or not self._is_traced(situation, clock, state):
                state = self._seen(unseen, clock, state)
                due = self._due(done, 1)
                unseen, state = None, self.advance(clock, state)
                if self.watch:
                    self.watch.look(clock.step + 1, state)
                if due[0]:
                    keep(self._noted(clock, state))
            else:
                due, program = self._at_once(situation, clock, end, done, alone=left == 1)
                unseen = unseen or (clock, state)
                state, noted = self._replay(program, len(due), state)
                for row in noted:
                    keep(row)
                if sum(due) > len(noted):
                    keep(self._noted(clock.tick(len(due) - 1), state))
            clock, done = clock.tick(len(due)), done + len(due)
        return clock, self._seen(unseen, clock, state)

    def _seen(self, unseen: tuple[Clock, State] | None, clock: Clock, state: State) -> State:
        """The state after a look at it, if it was replayed from `unseen` on; if it is not finite, those steps are run.

        A flow that is not finite stays so, as it adds to what it was: one look at the end of many steps is enough. A
        map may forget, so its programs carry the answer of every step along.
        """
        fine = state.pop(FINITE, None)
        if unseen is None or self.watch is None:
            return state
        if not self.watch.is_fine(self.watch.finite(state).all(0) if fine is None else fine):
            then, past = unseen
            past = {name: value for name, value in past.items() if name != FINITE}
            while then.step < clock.step:
                past, then = self.advance(then, past), then.tick()
                self.watch.look(then.step, past)
        return state

    def _due(self, done: int, steps: int) -> tuple[bool, ...]:
        """After which of the next steps to note."""
        due = [False] * steps
        if self.note:
            first = -(done + 1) % self.every
            due[first :: self.every] = [True] * len(range(first, steps, self.every))
        return tuple(due)

    def _noted(self, clock: Clock, state: State) -> State:
        """What is noted after the step that `clock` stands at the beginning of."""
        return self.note(clock.tick(), state, self.inputs) if self.note else {}

    def _at_once(
        self, situation: _Situation, clock: Clock, end: int, done: int, alone: bool
    ) -> tuple[tuple[bool, ...], Program]:
        """How many steps to replay as one program (after which of them to note), and that program.

        All up to the end, or a single one; where they are compiled, a block, so that there is one thing to compile. A
        step alone between two changes of what is shown, as a frame of a film has it, is a block.
        """
        into = done % self.every if self.every > self.block else done
        most = end - clock.step if self.compile else min(end - clock.step, self.block - into % self.block)
        due = self._due(done, most)
        block = 1 if alone else self.block
        period = max(self.every, block)
        place = done % period
        fits = place % block == 0 and place + block <= period and len(due) >= block
        if self.compile and fits and situation.repeats and self._is_steady(clock, block):
            due = due[:block]
            # What is noted at the end only is noted outside: then all blocks are the same.
            noting = due if any(due[:-1]) else (False,) * block
            return due, situation.program(noting, compiled=True)
        whole = not self.compile and self._is_steady(clock, len(due)) and situation.offers(due)
        due = due if whole else due[:1]
        return due, situation.program(due, compiled=False)

    def _is_steady(self, clock: Clock, steps: int) -> bool:
        """Whether the situation stays what it is for so many steps."""
        if self._is_autonomous:
            return True
        now = self.network.situation(clock)
        return all(self.network.situation(clock.tick(n)) == now for n in range(1, steps + 1))

    def _situation(self, clock: Clock, state: State) -> _Situation | None:
        if self._key is None:
            return None
        now = () if self._is_autonomous else (self.network.situation(clock), self.network.situation(clock.tick()))
        key = (self._key, now, _forms(state), self._shown)
        if key not in self._situations:
            self._situations[key] = _Situation()
        return self._situations[key]

    def _is_traced(self, situation: _Situation, clock: Clock, state: State) -> bool:
        """Whether it can be replayed; the trace is made when that has become worth it."""
        situation.times += 1
        if situation.advance is None and situation.can and situation.times > (0 if self.compile else WARM):
            try:
                if fingerprint(self._modules) != self._look:
                    raise UntraceableError("a module that changes from step to step")
                carried = self._carried(state)
                situation.advance = self._trace(lambda state: self.advance(clock, state), carried)
                if self.note:
                    with torch.random.fork_rng():
                        after = self.advance(clock, state)
                    situation.note = self._trace(lambda state: self._noted(clock, state), after)
            except UntraceableError:
                situation.can = False
        return situation.advance is not None and situation.can

    def _trace(self, function: Callable[[State], State], state: State) -> Trace:
        def of(fixed: State, moving: State) -> State:
            shown = {name: fixed[f"shown {name}"] for name in self.inputs}
            tensors = {name: value for name, value in fixed.items() if name.startswith("network.")}
            before, self.inputs = self.inputs, shown
            try:
                return torch.func.functional_call(self._unit, tensors, (lambda: function(moving),), tie_weights=False)
            finally:
                self.inputs = before

        trace = Trace(of, self._fixed(), state)
        if trace.constants and not trace.equals(Trace(of, self._fixed(), state)):
            raise UntraceableError("a tensor made anew in every step, from numbers that differ")
        return trace

    def _carried(self, state: State) -> State:
        """With what programs carry along: whether a map, which may forget, has been finite in every step."""
        if self.watch is None or not self.watch.forgets or FINITE in state:
            return state
        shown = next(iter(self.inputs.values()))
        return state | {FINITE: shown.new_ones(len(shown), dtype=torch.bool)}

    def _replay(self, program: Program, steps: int, state: State) -> tuple[State, list[State]]:
        if program not in self._given:
            self._given[program] = program.given(self._fixed())
        if not program.is_compiled or program.runs:
            return program.run(self._given[program], self._carried(state))
        begun = time.perf_counter()
        tqdm.write(f"pcsim: compiling {steps} steps of {self.network.name!r}, once ...", file=sys.stderr)
        made = program.run(self._given[program], self._carried(state))
        self.compile_seconds += time.perf_counter() - begun
        tqdm.write(f"pcsim: compiled in {self.compile_seconds:.0f} s", file=sys.stderr)
        return made

    def _fixed(self) -> State:
        """The tensors that hold still: parameters and buffers by module, and what is shown."""
        fixed = {f"shown {name}": value for name, value in self.inputs.items()}
        for path, module in self._modules:
            own = {**module._parameters, **module._buffers}
            fixed |= {f"{path}.{name}": value for name, value in own.items() if value is not None}
        return fixed


def _fitting(every: int, most: int) -> int:
    """At most so many steps: a multiple of `every`, or about a whole part of it."""
    parts = -(-every // most)
    return every // parts if parts > 1 else most // every * every


def _forms(state: State) -> tuple[object, ...]:
    return tuple(
        (name, value.shape, value.stride(), value.dtype, value.device)
        for name, value in state.items()
        if name != FINITE
    )


def walk(module: nn.Module) -> list[tuple[str, nn.Module]]:
    """(path, module) of every module inside, once each; ten times as fast as `named_modules`."""
    found: dict[nn.Module, str] = {}
    waiting = [("", module)]
    while waiting:
        path, module = waiting.pop()
        if module not in found:
            found[module] = path
            inner = path + "." if path else ""
            waiting += [(inner + name, child) for name, child in module._modules.items() if child is not None]
    return [(path, module) for module, path in found.items()]


_ORDINARY = frozenset(nn.Module().__dict__) - {"training"}
_PLAIN = frozenset((bool, int, float, str, type(None)))


def fingerprint(modules: Iterable[tuple[str, nn.Module]]) -> tuple[object, ...] | None:
    """What modules are set to besides their tensors; None where hooks want to see every step."""
    settings: list[object] = []
    for _, module in modules:
        own = module.__dict__
        if own["_forward_hooks"] or own["_forward_pre_hooks"]:
            return None
        if isinstance(module, Network):
            settings += [id(module.projections), module.step_ms]
            continue
        settings.append(type(module))
        for key in sorted(own.keys() - _ORDINARY):
            value = own[key]
            # What cannot be compared is known by which object it is.
            settings += [key, value if type(value) in _PLAIN else id(value)]
    return tuple(settings)
