"""Frame prediction: row t is what a network says of frame t before it has seen it.

    the network sees  frame t               while the loop is open
                      its own prediction    once it is closed

Which row is about which frame follows from the wiring. A PredNet's prediction hears of a frame one step later, so the
one of step t is about frame t; that of a network that hears of it at once is about frame t + 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pcsim.core.clock import whole_steps
from pcsim.core.exceptions import StimulusError, WiringError
from pcsim.network.network import Network
from pcsim.network.parts import ALWAYS, Population, Projection
from pcsim.network.variants import rebuilt
from pcsim.rules.wires import Sum, Switch
from pcsim.simulation.record import Record, names_of
from pcsim.simulation.run import Run
from pcsim.simulation.simulator import simulate
from pcsim.simulation.stepwise import rollout
from pcsim.solvers.base import Solver, require_solver
from pcsim.solvers.iterate import Iterate
from pcsim.stimuli.film import Frames, as_frames, as_timeline
from pcsim.stimuli.timeline import Timeline, held

SHARE = "closed_loop"
"""the input that says who is listened to"""


@dataclass(frozen=True, repr=False)
class Forecast:
    """What a network predicted.

    predictions  (n, time, channel, height, width); row t was made before frame t was seen, and row 0 of nothing: leave
                 it out of every score. Rows of which nothing is said (before a forecaster begins) are NaN
    closed_loop_from  the first frame that the network did not see, or None
    run          the simulation: `run.errors` by layer, (time, n). From then on they are about its own frames
    """

    predictions: Tensor
    closed_loop_from: int | None
    run: Run

    def __repr__(self) -> str:
        count, length = self.predictions.shape[:2]
        after = "" if self.closed_loop_from is None else f", its own from frame {self.closed_loop_from} on"
        return f"Forecast({self.run.about['network']}: {count} clips of {length} frames{after})"


def predict(
    network: Network,
    frames: Tensor | Frames,
    *,
    closed_loop_from: int | None = None,
    length: int | None = None,
    solver: Solver | None = None,
    every: float | None = None,
    record: Record | None = None,
    compile: bool = False,  # noqa: A002
    progress: bool = False,
) -> Forecast:
    """Predict every frame of `frames` (n, time, channel, height, width), 8-bit or from 0 to 1.

    closed_loop_from  the first frame that is not shown: from there on the network sees what it predicts
    length   of the prediction in frames, by default that of `frames`; more needs closed_loop_from
    solver   Iterate() by default
    every    ms for which a frame is shown; by default one step of a discrete network
    record   what else to keep; by default the prediction errors

    Raises StimulusError for a loop that closes outside of the clip, WiringError for a network that predicts no frames.

        forecast = pcsim.predict(net, clips, closed_loop_from=10, length=15)
        forecast.predictions[:, 12]  # of frame 12, which it never saw
    """
    task = _Task(network, frames, closed_loop_from, length, solver or Iterate(), every)
    wanted = record or Record(errors="all" if network.errors else ())
    kept = names_of(wanted.states, tuple(network.populations))
    run = simulate(
        task.network,
        task.stimulus,
        solver=task.solver,
        steps=task.length * task.steps,
        record=replace(wanted, states=(*kept, task.readout), every=task.steps),
        compile=compile,
        progress=progress,
    )
    return Forecast(task.rows(run[task.readout]), closed_loop_from, run)


@torch.no_grad()
def stream(
    network: Network,
    frames: Tensor | Frames,
    *,
    closed_loop_from: int | None = None,
    length: int | None = None,
    solver: Solver | None = None,
    every: float | None = None,
) -> Iterator[tuple[int, Tensor]]:
    """Give (t, the prediction of frame t), one after the other, with nothing kept: for clips of any length.

    Arguments as for `predict`; put the network into evaluation mode first, if it has norms that learn.
    """
    task = _Task(network, frames, closed_loop_from, length, solver or Iterate(), every)
    for clock, values in rollout(task.network, task.stimulus, task.solver, task.length * task.steps, [task.readout]):
        frame, rest = divmod(clock.step, task.steps)
        about = frame - 1 + task.lead
        if not rest and task.begins <= about < task.length:
            yield about, values[task.readout]


class _Task:
    """What predicting asks of `simulate`: a network whose loop can close, its stimulus, and which row is about what."""

    def __init__(
        self,
        network: Network,
        frames: Tensor | Frames,
        closed_loop_from: int | None,
        length: int | None,
        solver: Solver,
        every: float | None,
    ) -> None:
        self.readout = _predicting(network)
        shown = as_frames(frames)
        self.length = shown.shape[1] if length is None else length
        there, open_until = shown.shape[1], self.length if closed_loop_from is None else closed_loop_from
        if not 1 <= open_until <= there or (closed_loop_from is not None and closed_loop_from >= self.length):
            raise StimulusError(
                given=f"{self.length} predictions from {there} frames, closed_loop_from={closed_loop_from}",
                expected="a loop that closes after the first frame, while there are frames, before the last prediction",
                remedy="closed_loop_from=k shows frames 0 to k - 1; without it there is a prediction for each frame",
            )
        require_solver(solver)
        dt = solver.step_ms(network.wiring())
        if every is None and network.is_flow:
            raise StimulusError(
                given=f"frames for {network.name!r}, a flow",
                expected="for how many ms a frame is shown",
                remedy="write every=100.0 for a film of 10 frames a second",
            )
        every = dt if every is None else every
        steps = whole_steps(every, dt)
        if not steps:
            raise StimulusError(
                given=f"every={every:g} ms and a solver with dt = {dt:g} ms",
                expected="a whole number of steps for each frame",
                remedy="take an `every` that dt divides",
            )
        self.solver, self.steps, self.every = solver, steps, every
        self.lead, self.begins = rows_of(network, every if network.is_flow else steps)
        film = as_timeline(shown, every)
        self.network: Network = network
        self.stimulus: dict[str, Timeline | Tensor] = {next(iter(network.inputs)): film}
        if self.begins > self.lead:
            if closed_loop_from not in (None, self.begins):
                raise StimulusError(
                    given=f"closed_loop_from={closed_loop_from} for {network.name!r}, "
                    f"which forecasts from {self.begins} on",
                    expected=f"{self.begins}, or nothing",
                    remedy="build it with another number of frames to see",
                )
        elif closed_loop_from is not None:
            self.network = closed_loop(network)
            switch = film.at(0.0).new_zeros(len(shown), 1, 1, 1)
            self.stimulus[SHARE] = held(switch, closed_loop_from * every).then(held(switch + 1))

    def rows(self, predicted: Tensor) -> Tensor:
        """(time, n, ...) of the end of every frame as (n, time, ...), each row in the place of what it is about."""
        rows = predicted.new_full(predicted.shape, math.nan)
        rows[self.begins :] = predicted[self.begins - self.lead : len(predicted) - self.lead]
        return rows.transpose(0, 1)


def rows_of(network: Network, frame: float = 1.0) -> tuple[int, int]:
    """Return (lead, first): what is said at the end of frame t is about frame t + lead, and nothing before row `first`.

    frame  for how many steps of a discrete network, or ms of a flow, a frame is shown
    """
    readout = _predicting(network)
    # A flow hears of a frame while it is shown, so what it says at the end of it is about the next.
    lead = int(network.is_flow or network.arrivals[readout] == 0)
    opens = max((population.active[0] for population in network.populations.values() if population.active), default=0)
    return lead, max(lead, round(opens / frame))


def closed_loop(network: Network) -> Network:
    """Return the network with one more input, "closed_loop": where that is 1, it sees its own prediction, no frame.

    The input is (batch, 1, 1, 1), so that each sample may close its loop at its own time, and open it again.

    Parameters are shared. Raises WiringError for a network without an edge, lesioned or not, from its read-out to the
    population that reads the frame.
    """
    readout = _predicting(network)
    (frame,) = network.inputs
    loops = [
        e
        for e in network.projections
        if e.source == readout and any(other.source == frame for other in network.incoming[e.target])
    ]
    if not loops or not isinstance(network.populations[loops[0].target].rule, Sum):
        raise WiringError(
            given=f"{network.name!r}, in which nothing leads from {readout!r} to where frames are read",
            expected=f"populations that read {frame!r} and, lesioned until the loop is closed, {readout!r}",
            remedy=f"add Population('a0', Sum()) that reads both, {readout!r} with delay=1",
        )
    (loop, *_) = loops
    ports = {frame: "given", readout: "own"}
    edges = [
        replace(edge, lesioned=tuple(w for w in edge.lesioned if w != ALWAYS), port=ports[edge.source])
        if edge.target == loop.target
        else edge
        for edge in network.projections
    ]
    populations = [
        Population(p.name, Switch(), network.shape(p.name)) if p.name == loop.target else p
        for p in network.populations.values()
    ]
    edges.append(Projection(SHARE, loop.target, kind="lateral", port="share"))
    return rebuilt(network, populations, edges, inputs=network.inputs | {SHARE: (1, 1, 1)})


def _predicting(network: Network) -> str:
    """The population that predicts frames: the read-out, in the shape of the only input."""
    inputs = list(network.inputs)
    if network.readout is None or len(inputs) != 1 or network.shape(network.readout) != network.shape(inputs[0]):
        raise WiringError(
            given=f"{network.name!r} with inputs {', '.join(inputs)} and read-out {network.readout!r}",
            expected="one input, the frame, and a read-out of its shape, the prediction",
            remedy="models.prednet and models.convlstm are such networks",
        )
    return network.readout
