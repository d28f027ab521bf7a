"""Frame prediction: row t is a network's prediction of frame t, computed before frame t is presented.

    open loop      the input at step t is frame t
    closed loop    the input at step t is the network's own prediction of frame t

The wiring determines which frame an output predicts. In a PredNet, a frame affects the output one step later, so the
output at step t predicts frame t. If a frame affects the output in the same step, the output at step t predicts
frame t + 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pcsim.core.checks import Count, Positive, checked
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
from pcsim.solvers.base import Solver
from pcsim.solvers.iterate import Iterate
from pcsim.stimuli.film import Frames, as_frames, as_timeline
from pcsim.stimuli.timeline import Timeline, held

SHARE = "closed_loop"
"""name of the input that selects frames (0) or the network's own predictions (1)"""


@dataclass(frozen=True, repr=False)
class Forecast:
    """The frame predictions of a network.

    predictions  (n, time, channel, height, width). Row t was computed before frame t was presented. Row 0 was computed
                 without any input and should be excluded from scores. Rows before the first prediction are NaN
    closed_loop_from  the first frame that was not presented, or None
    run          the simulation. `run.errors` contains the errors of each layer, (time, n). In closed loop, they refer
                 to the network's own predictions instead of the frames
    """

    predictions: Tensor
    closed_loop_from: int | None
    run: Run

    def __repr__(self) -> str:
        count, length = self.predictions.shape[:2]
        after = "" if self.closed_loop_from is None else f", closed loop from frame {self.closed_loop_from}"
        return f"Forecast({self.run.about['network']}: {count} clips of {length} frames{after})"


@checked(StimulusError, frames=None)
def predict(
    network: Network,
    frames: Tensor | Frames,
    *,
    closed_loop_from: Count | None = None,
    length: Count | None = None,
    solver: Solver | None = None,
    every: Positive | None = None,
    record: Record | None = None,
    compile: bool = False,  # noqa: A002
    progress: bool = False,
) -> Forecast:
    """Predict every frame of `frames` (n, time, channel, height, width), with 8-bit values or values in [0, 1].

    closed_loop_from  the first frame that is not presented; from this frame on, the input is the network's prediction
    length   number of frames to predict, by default the length of `frames`; a larger number requires closed_loop_from
    solver   Iterate() by default
    every    duration of a frame in ms, by default one step of a discrete network; required for a flow
    record   values to keep in addition to the predictions; by default the prediction errors

    Raises StimulusError if closed_loop_from is outside the clip, and WiringError if the network cannot predict frames.

        forecast = pcsim.predict(net, clips, closed_loop_from=10, length=15)
        forecast.predictions[:, 12]  # the prediction of frame 12, which was not presented
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


@checked(StimulusError, frames=None)
@torch.no_grad()
def stream(
    network: Network,
    frames: Tensor | Frames,
    *,
    closed_loop_from: Count | None = None,
    length: Count | None = None,
    solver: Solver | None = None,
    every: Positive | None = None,
) -> Iterator[tuple[int, Tensor]]:
    """Yield (t, prediction of frame t) frame by frame, without storing the predictions, for clips of any length.

    The arguments are those of `predict`. If the network has layers that track running statistics, call
    network.eval() first.
    """
    task = _Task(network, frames, closed_loop_from, length, solver or Iterate(), every)
    for clock, values in rollout(task.network, task.stimulus, task.solver, task.length * task.steps, [task.readout]):
        frame, rest = divmod(clock.step, task.steps)
        about = frame - 1 + task.lead
        if not rest and task.begins <= about < task.length:
            yield about, values[task.readout]


class _Task:
    """The arguments that `simulate` needs for frame prediction, and the frame that each output predicts."""

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
                expected=f"1 <= closed_loop_from <= {there} and closed_loop_from < length; or length <= {there} "
                "without closed_loop_from",
                remedy="pass closed_loop_from=k to present frames 0 to k - 1, or omit closed_loop_from and length",
            )
        dt = solver.step_ms(network.wiring())
        if every is None and network.is_flow:
            raise StimulusError(
                given=f"every=None for {network.name!r}, a flow",
                expected="the duration of a frame in ms",
                remedy="pass every=100.0 for a video at 10 frames per second",
            )
        every = dt if every is None else every
        steps = whole_steps(every, dt)
        if not steps:
            raise StimulusError(
                given=f"every={every:g} ms and a solver with dt = {dt:g} ms",
                expected="a whole number of steps per frame",
                remedy=f"pass every={dt:g} or a multiple of it",
            )
        self.solver, self.steps, self.every = solver, steps, every
        self.lead, self.begins = rows_of(network, every if network.is_flow else steps)
        film = as_timeline(shown, every)
        self.network: Network = network
        # A forecast may continue after the last frame, when the network no longer receives frames.
        shown_last = held(film.at(film.duration), name="last frame")
        self.stimulus: dict[str, Timeline | Tensor] = {next(iter(network.inputs)): film.then(shown_last)}
        if self.begins > self.lead:
            if closed_loop_from not in (None, self.begins):
                raise StimulusError(
                    given=f"closed_loop_from={closed_loop_from} for {network.name!r}, "
                    f"which forecasts from frame {self.begins} on",
                    expected=f"closed_loop_from={self.begins} or None",
                    remedy="omit closed_loop_from, or build the network with a different number of input frames",
                )
        elif closed_loop_from is not None:
            self.network = closed_loop(network)
            switch = film.at(0.0).new_zeros(len(shown), 1, 1, 1)
            self.stimulus[SHARE] = held(switch, closed_loop_from * every, name="open loop").then(
                held(switch + 1, name="closed loop")
            )

    def rows(self, predicted: Tensor) -> Tensor:
        """Reorder outputs (time, n, ...), one per frame, to (n, time, ...), where row t predicts frame t."""
        rows = predicted.new_full(predicted.shape, math.nan)
        rows[self.begins :] = predicted[self.begins - self.lead : len(predicted) - self.lead]
        return rows.transpose(0, 1)


def rows_of(network: Network, frame: float = 1.0) -> tuple[int, int]:
    """Return (lead, first): the output after frame t predicts frame t + lead, and `first` is the first predicted frame.

    frame  duration of a frame, in steps of a discrete network or ms of a flow
    """
    readout = _predicting(network)
    # A flow responds to a frame while it is presented, so its output after the frame predicts the next one.
    lead = int(network.is_flow or network.arrivals[readout] == 0)
    opens = max((population.active[0] for population in network.populations.values() if population.active), default=0)
    return lead, max(lead, round(opens / frame))


def closed_loop(network: Network) -> Network:
    """Return the network with an additional input, "closed_loop", that replaces frames with the network's predictions.

    This input has shape (batch, 1, 1, 1), and selects the frame if it is 0 and the prediction if it is 1. Each sample
    can therefore close and reopen its loop at its own times.

    Parameters are shared. Raises WiringError unless the network has an edge, lesioned or not, from the readout to the
    population that receives the frame.
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
            given=f"{network.name!r}, which has no edge from {readout!r} to a population that receives frames",
            expected=f"a Sum population with edges, lesioned or not, from {frame!r} and {readout!r}",
            remedy=f"add Population('a0', Sum()) with an edge from {frame!r} and one from {readout!r} with delay=1",
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
    """Return the population that predicts frames: the readout, which must have the shape of the only input."""
    inputs = list(network.inputs)
    if network.readout is None or len(inputs) != 1 or network.shape(network.readout) != network.shape(inputs[0]):
        raise WiringError(
            given=f"{network.name!r} with inputs {', '.join(inputs)} and readout {network.readout!r}",
            expected="a single input (the frame) and a readout of the same shape (the prediction)",
            remedy="use a network such as models.prednet() or models.convlstm()",
        )
    return network.readout
