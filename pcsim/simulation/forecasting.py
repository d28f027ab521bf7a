"""Frame prediction: row t is a network's prediction of frame t, made before frame t is an input.

    the input is  frame t               in open loop
                  its own prediction    in closed loop

Which row predicts which frame follows from the wiring. A PredNet's prediction depends on a frame one step later, so its
prediction in step t is about frame t; if it depends on the frame in the same step, it is about frame t + 1.
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
"""the input that selects frames (0) or the network's own predictions (1)"""


@dataclass(frozen=True, repr=False)
class Forecast:
    """The predictions of a network.

    predictions  (n, time, channel, height, width); row t was made before frame t was an input, and row 0 without any
                 input: leave it out of every score. Rows without a prediction (before a forecaster begins) are NaN
    closed_loop_from  the first frame that was not an input, or None
    run          the simulation: `run.errors` by layer, (time, n), in closed loop those about its own frames
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

    closed_loop_from  the first frame that is not shown: from there on the input is its own prediction
    length   of the prediction in frames, by default that of `frames`; more needs closed_loop_from
    solver   Iterate() by default
    every    ms for which a frame is shown; by default one step of a discrete network
    record   what else to keep; by default the prediction errors

    Raises StimulusError for a loop that closes outside of the clip, WiringError for a network that predicts no frames.

        forecast = pcsim.predict(net, clips, closed_loop_from=10, length=15)
        forecast.predictions[:, 12]  # of frame 12, which was no input
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
    """Yield (t, the prediction of frame t), one after the other, and keep nothing: for clips of any length.

    Arguments as for `predict`; call network.eval() first, if it has norms that learn.
    """
    task = _Task(network, frames, closed_loop_from, length, solver or Iterate(), every)
    for clock, values in rollout(task.network, task.stimulus, task.solver, task.length * task.steps, [task.readout]):
        frame, rest = divmod(clock.step, task.steps)
        about = frame - 1 + task.lead
        if not rest and task.begins <= about < task.length:
            yield about, values[task.readout]


class _Task:
    """The arguments of `simulate` for a prediction: network, stimulus, solver, and which row predicts which frame."""

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
                expected=f"1 <= closed_loop_from <= {there}, closed_loop_from < length; without it length <= {there}",
                remedy="write closed_loop_from=k to show frames 0 to k - 1, or omit closed_loop_from and length",
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
                remedy=f"write every={dt:g}, or a multiple of it",
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
                    expected=f"{self.begins}, or None",
                    remedy="leave it out, or build the network with another number of input frames",
                )
        elif closed_loop_from is not None:
            self.network = closed_loop(network)
            switch = film.at(0.0).new_zeros(len(shown), 1, 1, 1)
            self.stimulus[SHARE] = held(switch, closed_loop_from * every).then(held(switch + 1))

    def rows(self, predicted: Tensor) -> Tensor:
        """Return (time, n, ...) of the end of every frame as (n, time, ...), each row at the frame that it predicts."""
        rows = predicted.new_full(predicted.shape, math.nan)
        rows[self.begins :] = predicted[self.begins - self.lead : len(predicted) - self.lead]
        return rows.transpose(0, 1)


def rows_of(network: Network, frame: float = 1.0) -> tuple[int, int]:
    """Return (lead, first): the output at the end of frame t predicts frame t + lead, from row `first` on.

    frame  for how many steps of a discrete network, or ms of a flow, a frame is shown
    """
    readout = _predicting(network)
    # A flow depends on a frame while it is shown, so its output at the end of it is about the next.
    lead = int(network.is_flow or network.arrivals[readout] == 0)
    opens = max((population.active[0] for population in network.populations.values() if population.active), default=0)
    return lead, max(lead, round(opens / frame))


def closed_loop(network: Network) -> Network:
    """Return the network with one more input, "closed_loop": where it is 1, it reads its own prediction as the frame.

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
            given=f"{network.name!r}, without an edge from {readout!r} to a population that reads frames",
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
    """Return the population that predicts frames: the read-out, in the shape of the only input."""
    inputs = list(network.inputs)
    if network.readout is None or len(inputs) != 1 or network.shape(network.readout) != network.shape(inputs[0]):
        raise WiringError(
            given=f"{network.name!r} with inputs {', '.join(inputs)} and read-out {network.readout!r}",
            expected="one input, the frame, and a read-out of its shape, the prediction",
            remedy="write for instance models.prednet() or models.convlstm()",
        )
    return network.readout
