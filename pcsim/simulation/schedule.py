"""Schedules of runs: the steps, their regimes and their inputs, all known before the first step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from copy import copy
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from pcsim.core.clock import Window, dividing_step, whole_steps
from pcsim.core.exceptions import SolverError, StimulusError, warn
from pcsim.core.state import State, laid_out
from pcsim.network.parts import Projection
from pcsim.network.wiring import Wiring
from pcsim.simulation.plan import Plan
from pcsim.simulation.regime import Regime, Regimes, window_ends
from pcsim.solvers.base import Solver
from pcsim.stimuli.timeline import Stimulus, Timeline, as_timelines

PlanOf = Callable[[Regime], Plan]


@dataclass(frozen=True)
class Segment:
    """The steps begin, ..., end - 1, which share a plan and an image."""

    begin: int
    end: int
    plan: Plan
    inputs: State


class Schedule:
    """The steps [begin, end) of a run, divided into segments with a constant regime and image.

    Raises StimulusError if the stimulus does not match the inputs, and SolverError if a change falls between two steps.
    """

    def __init__(
        self,
        network: Wiring,
        stimulus: Stimulus,
        solver: Solver,
        regimes: Regimes,
        plan_of: PlanOf,
        begin: int,
        end: int,
        spoken: frozenset[str] = frozenset(),
    ) -> None:
        self.network, self.solver, self.begin, self.end = network, solver, begin, end
        self.dt, self._at = regimes.dt, regimes
        self.timelines = as_timelines(stimulus, list(network.inputs))
        self._plan_of, self._spoken = plan_of, spoken
        until = end * self.dt
        shows = [change for line in self.timelines.values() for change in line.change_times(until)]
        may_change = network.is_flow and not regimes.is_steady
        windows = [change for change in window_ends(network) if change < until] if may_change else []
        _check_changes([*shows, *windows], self.dt, until, network.is_flow)
        self._shows = {whole_steps(change, self.dt) or 0 for change in shows}
        self._regimes = regimes.changes(begin, end)
        self._known: int | None = None
        self._first_step, self.first = begin, self.shown(begin)

    @property
    def batch(self) -> int:
        """Number of samples."""
        return len(next(iter(self.first.values())))

    @property
    def last_change(self) -> float:
        """The step after which nothing changes: the last change of image or regime, plus the travel time of signals."""
        unit = self.dt if self.network.is_flow else 1.0
        travel = max((at for at in self.network.arrivals.values() if math.isfinite(at)), default=0.0)
        return max([self.begin, *self._shows, *self._regimes]) + math.ceil(travel / unit)

    def between(self, begin: int, end: int) -> Schedule:
        """Return the schedule restricted to the steps [begin, end)."""
        part = copy(self)
        part.begin, part.end = begin, end
        return part

    def spans(self, length: int) -> Iterator[Schedule]:
        """Yield the schedule in parts of `length` steps."""
        for begin in range(self.begin, self.end, length):
            yield self.between(begin, min(begin + length, self.end))

    def segments(self) -> Iterator[Segment]:
        """Yield the segments in order, fetching each image when it is needed."""
        inside = {step for step in (*self._shows, *self._regimes) if self.begin < step < self.end}
        regime = self._at.at(self.begin, self._spoken)
        pieces = [(self.begin, regime)]
        for step in sorted(inside):
            now = self._at.at(step, self._spoken) if step in self._regimes else regime
            if step in self._shows or now != regime:
                pieces.append((step, now))
            regime = now
        inputs = self.first if self.begin == self._first_step else self.shown(self.begin)
        for (begin, now), (end, _) in pairwise([*pieces, (self.end, regime)]):
            if begin in self._shows and begin != self.begin:
                inputs = self.shown(begin)
            yield Segment(begin, end, self._plan_of(now), inputs)

    def shown(self, step: int) -> State:
        """Return the validated inputs of a step, converted to the type and device of the network."""
        found = shown_at(self.network, self.timelines, step * self.dt, self._known)
        self._known = len(next(iter(found.values())))
        return found


def shown_at(network: Wiring, timelines: Mapping[str, Timeline], at: float, count: int | None = None) -> State:
    """Return the inputs at `at` ms, converted to the type and device of the network.

    Raises StimulusError if the network has no inputs, if shapes or types are wrong, if values are not finite, or if the
    inputs differ in the number of samples (which must equal `count` if it is given).
    """
    if not timelines:
        raise StimulusError(
            given="a network without inputs",
            expected="at least one input, from which the run takes its number of samples",
            remedy="clamp a population with net.clamped('r0'), or add an input with an edge, and pass zeros",
        )
    parameter = network.parameter
    found: State = {}
    for name, line in timelines.items():
        image = line.at(at)
        _check_image(name, image, network.shapes.nodes[name], at)
        _warn_of_8_bit_images(name, image)
        if parameter is not None:
            image = image.to(device=parameter.device, dtype=parameter.dtype)
        found[name] = laid_out(image.clone() if image.is_inference() else image)
    sizes = {name: len(image) for name, image in found.items()}
    wanted = count if count is not None else next(iter(sizes.values()))
    if set(sizes.values()) != {wanted}:
        raise StimulusError(
            given=", ".join(f"{size} samples for input {name!r}" for name, size in sizes.items())
            + ("" if count is None else f" at {at:g} ms, but {wanted} earlier"),
            expected="the same number of samples for every input and at all times",
            remedy=f"repeat the smaller input, for example with tensor.repeat_interleave("
            f"{max(sizes.values())}, 0) if it has one sample",
        )
    return found


def steps_of(network: Wiring, stimulus: Stimulus, solver: Solver, until: float | None, steps: int | None) -> int:
    """Return the number of steps from `until` (ms) or `steps`, by default from the stimulus or the network.

    Raises SolverError if both are given, if the run has no end, or if `until` is not a whole number of steps.
    """
    if steps is not None:
        if until is not None or steps < 1:
            raise SolverError(
                given=f"steps={steps!r} and until={until!r}",
                expected="either a positive whole number of steps or a time in ms",
                remedy="pass steps=8 or until=80.0",
            )
        return steps
    dt = solver.step_ms(network)
    if until is None:
        until = max((line.duration for line in as_timelines(stimulus, list(network.inputs)).values()), default=math.inf)
        if not math.isfinite(until):
            if network.is_flow or network.steps is None:
                raise SolverError(
                    given="no end: until and steps are None, and the stimulus has infinite duration",
                    expected="a time in ms or a number of steps",
                    remedy="pass until=100.0 (ms) or steps=10, or a stimulus with a finite duration",
                )
            return network.steps
    count = whole_steps(until, dt) if math.isfinite(until) and until > 0 else None
    if not count:
        near = dividing_step(dt, [until]) if math.isfinite(until) and until > 0 else dt
        raise SolverError(
            given=f"until = {until:g} ms with dt = {dt:g} ms",
            expected="a positive whole number of steps",
            remedy=f"use dt = {near:.12g} ms, which divides `until`, or change `until`"
            if network.is_flow
            else f"pass steps=..., or until as a multiple of net.step_ms = {dt:g} ms, the duration of a discrete step",
        )
    return count


def warn_of_end(network: Wiring, timelines: Mapping[str, Timeline], until: float, dt: float) -> None:
    """Warn about timelines that end before the run (at `until` ms) while the network still receives them."""
    for name, line in timelines.items():
        end = until * (1.0 - 1e-9)
        if line.first_end < end and line.first_end < _last_use(network, name, dt) * (1.0 - 1e-9):
            which = "" if line.first_end == line.duration else " for some samples"
            warn(
                f"The stimulus of input {name!r} ends at {line.first_end:g} ms{which}, but the run ends at "
                f"{until:g} ms; its last frame, {line.epochs[-1].name!r}, remains. "
                "Append .then(stimuli.blank(math.inf, like=images)), or .then(stimuli.held(images)) if it should stay."
            )


def warn_of_lesions(network: Wiring, steps: int, dt: float) -> None:
    """Warn about lesions that begin only after the `steps` steps of the run, usually because of a wrong unit."""
    end, unit = (steps * dt, "ms") if network.is_flow else (float(steps), "steps")
    late: dict[Window, list[str]] = {}
    for edge in network.projections:
        for window in edge.lesioned:
            if window[0] >= end * (1.0 - 1e-9):
                late.setdefault(window, []).append(edge.name)
    for (begin, _), edges in late.items():
        warn(
            f"The lesion of {', '.join(edges)} begins at {begin:g} {unit}, but the run ends at {end:g} {unit}, so it "
            f"has no effect. For this network, net.without(..., during=(from, to)) takes {unit}."
        )


def _last_use(network: Wiring, name: str, dt: float) -> float:
    """Return the time in ms after which the windows of edges and populations exclude an input."""
    unit = 1.0 if network.is_flow else dt

    def end_of(window: Window | None) -> float:
        return math.inf if window is None else window[1] * unit

    def last(source: str) -> float:
        return max((last_of(edge) for edge in network.projections if edge.source == source), default=math.inf)

    def last_of(edge: Projection) -> float:
        if edge.delay or edge.delay_ms is not None:
            return math.inf
        passed_on = last(edge.target) if edge.target in network.wires else math.inf
        return min(end_of(edge.active), end_of(network.populations[edge.target].active), passed_on)

    return last(name)


def _check_changes(changes: list[float], dt: float, until: float, is_flow: bool) -> None:
    for change in changes:
        if whole_steps(change, dt) is None:
            near = f"use dt = {dividing_step(dt, [*changes, until]):.12g} ms, or move the change"
            raise SolverError(
                given=f"a change of the stimulus (or a lesion) at {change:g} ms and dt = {dt:g} ms",
                expected="changes at multiples of dt",
                remedy=near
                if is_flow
                else f"change the stimulus at multiples of net.step_ms = {dt:g} ms, the duration of a discrete step",
            )


def _check_image(name: str, image: Tensor, shape: tuple[int, ...], at: float) -> None:
    """Raise StimulusError unless `image` (batch, *shape), presented at `at` ms, has finite floating-point values."""
    if tuple(image.shape[1:]) != shape or not len(image):
        is_image = len(shape) == 3
        raise StimulusError(
            given=f"input {name!r} of shape {tuple(image.shape)}",
            expected=f"shape (batch, {', '.join(map(str, shape))})"
            + ", in the order (batch, channel, height, width)" * is_image,
            remedy="resize or pad the images, add the missing axis (stimuli.sequence for a clip), or build "
            "the network for this size"
            if is_image
            else f"pass one row of {' x '.join(map(str, shape))} values for each sample; for one-hot vectors, use "
            "torch.nn.functional.one_hot(indices, count).float()",
        )
    if not image.is_floating_point():
        raise StimulusError(
            given=f"input {name!r} of type {image.dtype}",
            expected="floating-point values, images usually in [0, 1]",
            remedy="pass images.float() / 255 for 8-bit images",
        )
    if not _is_finite(image):
        raise StimulusError(
            given=f"input {name!r} with NaN or infinite values at {at:g} ms",
            expected="finite values",
            remedy="pass torch.nan_to_num(images), or omit the invalid images",
        )


def _warn_of_8_bit_images(name: str, image: Tensor) -> None:
    """Warn about images whose values are all whole numbers up to 128 to 255, as 8-bit images converted to float have.

    The network would respond to them, but its responses are not those to images in [0, 1].
    """
    if image.dim() != 4 or image.shape[1] not in (1, 3):
        return
    value = image.detach()
    try:
        is_8_bit = 128 <= (most := float(value.max())) <= 255 and bool((value.remainder(1.0) == 0.0).all())
    except RuntimeError:  # under torch.func.vmap, values cannot be read
        return
    if is_8_bit:
        warn(
            f"Input {name!r} has whole numbers up to {most:g}, like 8-bit images. Networks usually expect images in "
            "[0, 1]: pass images / 255."
        )


def _is_finite(value: Tensor) -> bool:
    """Return whether all values are finite; True under torch.func.vmap, where values cannot be read."""
    value = value.detach()
    try:
        # The sum takes a single pass. It may overflow, but it is never finite if any value is not.
        return math.isfinite(value.sum()) or bool(torch.isfinite(value).all())
    except RuntimeError:
        return True
