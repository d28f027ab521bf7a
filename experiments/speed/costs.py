"""Workloads of `experiments.speed` that measure the cost of options.

The options are recording, checkpointing, bfloat16, larger batches, many settings in one run, and late steps of a run.
"""

from __future__ import annotations

from collections import deque

import torch
from torch import Tensor

from pcsim import Euler, Full, Network, Record, Simulator, Snapshot, batched, initial_state, models, simulate
from pcsim.core.clock import Clock
from pcsim.simulation import Gradient
from pcsim.stimuli.timeline import Stimulus
from pcsim.training.gradients import Checkpointed, square_root

from .areas import gradients, leaky_blt
from .relaxing import IMAGES, build
from .work import NOTHING, Contender, Result, Work

AREAS = ("l1", "l2", "l3")


def recording(batch: int, steps: int) -> Work:
    """Return the workload that compares recording the last step of W2b with recording every error norm or state."""
    net, shown = build(IMAGES, batch)
    top = ("r1", "r2")

    def run(record: Record) -> Contender:
        sim = Simulator(net, solver=Euler(dt=1.0), record=record)

        def contender() -> Result:
            sim(shown, steps=steps)
            return NOTHING

        return contender

    return Work(
        f"W2b, batch {batch}, {steps} steps: recording only the last step (reference), or every step",
        {
            "plain": run(Record(states=top, every=steps)),
            "norm of every error": run(Record(reduce=dict.fromkeys(net.errors, "norm"))),
            "every state": run(Record(states=top)),
        },
    )


def checkpointing(batch: int, steps: int) -> Work:
    """Return the workload that compares backpropagation through (b) with and without checkpointing."""
    net, _, image = leaky_blt(batch)
    weights = [p for p in net.parameters() if p.requires_grad and p.dim() == 4]

    def run(gradient: Gradient) -> Contender:
        sim = Simulator(net, solver=Euler(dt=1.0), record=Record(), gradient=gradient)

        def contender() -> Result:
            (window,) = sim.windows(image, steps, AREAS)
            ((_, values),) = deque(window, maxlen=1)
            return gradients(values.values(), weights)

        return contender

    return Work(
        f"(b), batch {batch}, {steps} steps: storing all steps (reference), or {square_root(steps)} at a time",
        {"plain": run(Full()), "checkpointed": run(Checkpointed())},
        gradient=True,
    )


def rounding(batch: int, steps: int) -> Work:
    """Return the workload that compares (a) in float32 with (a) with bfloat16 products in its projections."""
    net, _, image = leaky_blt(batch)
    record = Record(states=AREAS, every=steps)

    def run(network: Network, compiled: bool = False) -> Contender:
        sim = Simulator(network, solver=Euler(dt=1.0), record=record, compile=compiled)

        def contender() -> Result:
            done = sim(image, steps=steps)
            return {name: done[name][-1] for name in AREAS}

        return contender

    return Work(
        f"(a), batch {batch}, {steps} steps: float32 (reference), or products in bfloat16",
        {"plain": run(net), "bfloat16": run(net.autocast()), "bfloat16 compiled": run(net.autocast(), True)},
        tolerance=2e-2,  # bfloat16 has a significand of 8 bits
    )


def batches(few: int, many: int, steps: int) -> Work:
    """Return the workload that compares one run of (a) with several runs of smaller batches of the same images."""
    net, _, images = leaky_blt(many)
    sim = Simulator(net, solver=Euler(dt=1.0), record=Record(states=AREAS, every=steps))

    def run(batch: int) -> Contender:
        def contender() -> Result:
            for part in images.split(batch):
                sim(part, steps=steps)
            return NOTHING

        return contender

    return Work(
        f"(a), {steps} steps: {many} images in {many // few} runs of {few} (reference), or in one run",
        {"plain": run(few), f"batch {many}": run(many)},
    )


def time_constants(points: int, batch: int, steps: int) -> Work:
    """Return the workload that compares separate runs for several pairs of time constants with one batched run.

    Each run is one call to `simulate`, as in a parameter sweep.
    """
    torch.manual_seed(0)
    net, images = models.leaky_rcnn((8, 16), tau=(10.0, 20.0), image=(1, 16, 16)), torch.rand(batch, 1, 16, 16)
    taus = {"l1": [5.0 + point for point in range(points)], "l2": [10.0 + point for point in range(points)]}
    many = batched(net, taus, batch=batch)
    alone = [net.as_ode({name: values[point] for name, values in taus.items()}) for point in range(points)]
    record = Record(states=("l1", "l2"), every=steps)

    def run(network: Network, shown: Stimulus) -> Tensor:
        return simulate(network, shown, solver=Euler(dt=1.0), steps=steps, record=record)["l2"]

    return Work(
        f"{points} pairs of time constants of a two-area network, 16x16, batch {batch}, {steps} steps: {points} "
        "runs (reference), or one batched run",
        {
            "plain": lambda: {"l2": torch.stack([run(one, images) for one in alone])},
            "batched": lambda: {"l2": many.split(run(many.network, many.tile(images)))},
        },
    )


def late(batch: int, steps: int, hour: int) -> Work:
    """Return the workload that compares the first steps of (a) with those that follow `hour` earlier steps."""
    net, _, image = leaky_blt(batch)
    sim, start = Simulator(net, solver=Euler(dt=1.0)), initial_state(net, image)

    def run(begin: int) -> Contender:
        def contender() -> Result:
            sim(image, steps=begin + steps, start=Snapshot(Clock(1.0, begin), start))
            return NOTHING

        return contender

    return Work(
        f"(a), batch {batch}, {steps} steps: the first steps (reference), or those after step {hour:,}",
        {"plain": run(0), f"after {hour:,}": run(hour)},
    )
