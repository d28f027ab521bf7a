"""Training, tests and analysis of `experiments.short_term_memory`."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pcsim import Euler, Full, Network, Record, Run, Simulator, analysis, stimuli
from pcsim.analysis.decoding import DecodedAcross, decode_across_time, decode_over_time
from pcsim.training import optimise

from .. import base
from ..base import TEST_SEED
from .cells import CELLS, HIDDEN, build
from .options import STEP, ShortTermMemory

TASKS = ("match", "order")
ELEMENTS, LENGTH = 4, 3
"""number of different elements, and number of elements in a series, in serial order"""
ANSWER = 100.0
"""duration of the answer in serial order, ms"""
EVERY = 3
"""steps between the times at which the sample is decoded"""


def check(config: ShortTermMemory) -> None:
    """Raise an error for networks that cannot be built or trials that cannot be drawn, before anything is computed."""
    for cell in CELLS:
        network(config, "match", cell)
    match_trials(config, 0, 0, 1, config.delays[1], max(config.distractors, *config.test_distractors))


def find(config: ShortTermMemory) -> dict[str, Any]:
    """Train all networks, test them, and summarise the tests over repetitions."""
    keys = [(task, cell, seed) for seed in config.seeds for task in TASKS for cell in CELLS]
    base.train_all(config, fit, keys)
    jobs = [(config, cell, seed) for seed in config.seeds for cell in CELLS]
    found = {job[1:]: row for job, row in base.run_jobs(measure, jobs, config.workers, "tests")}
    return {
        "cells": {
            cell: {"parameters": network(config, "match", cell).parameter_count, "units": units_of(config, cell)}
            | summary([found[cell, seed] for seed in config.seeds])
            for cell in CELLS
        }
    }


def network(config: ShortTermMemory, task: str, cell: str) -> Network:
    """Build the untrained network of a task."""
    items, classes = (config.items, 2) if task == "match" else (ELEMENTS, math.perm(ELEMENTS, LENGTH))
    return build(config, cell, items, classes)


def units_of(config: ShortTermMemory, cell: str) -> int:
    """Return the number of units in the memory population m for delayed match to sample."""
    return int(network(config, "match", cell).shape("m")[0])


# ---------------------------------------------------------------------- trials and runs


def match_trials(
    config: ShortTermMemory, seed: int, first: int, count: int, delay: float, distractors: int
) -> stimuli.Trials:
    """Draw trials of delayed match to sample, with as many of the distractors as fit into the delay."""
    fitting = min(distractors, int((delay - STEP) // (config.shown + STEP)))
    return stimuli.delayed_match(
        seed,
        first,
        count,
        items=config.items,
        sample=config.shown,
        delay=delay,
        test=config.shown,
        distractors=fitting,
        distractor=config.shown,
        step=STEP,
    )


def order_trials(
    config: ShortTermMemory, seed: int, first: int, count: int, stretch: Sequence[float]
) -> stimuli.Trials:
    """Draw trials of serial order."""
    return stimuli.serial_order(
        seed, first, count, items=ELEMENTS, length=LENGTH, element=config.element, stretch=stretch, answer=ANSWER
    )


def training_trials(config: ShortTermMemory, task: str, seed: int, update: int) -> stimuli.Trials:
    """Draw the trials of an update. In delayed match to sample, all have the same delay and number of distractors."""
    count = config.training.batch
    if task == "order":
        return order_trials(config, seed, update * count, count, config.stretch)
    drawn = np.random.default_rng([seed, update])
    low, high = (round(delay / STEP) for delay in config.delays)
    delay, distractors = STEP * drawn.integers(low, high + 1), drawn.integers(config.distractors + 1)
    return match_trials(config, seed, update * count, count, float(delay), int(distractors))


def run(config: ShortTermMemory, sim: Simulator, trials: stimuli.Trials, seed: int, first: int = 0) -> Run:
    """Run a network on the items of trials, with noise in its memory."""
    given: dict[str, Any] = {"u": trials.timeline()}
    for name, shape in sim.network.inputs.items():
        if name != "u":
            silence = torch.zeros(len(trials.items), *shape)
            given[name] = stimuli.noise(silence, config.noise, trials.duration, STEP, seed, first)
    return sim(given, until=math.ceil(trials.duration / STEP) * STEP)


def simulator(net: Network, record: Record | None = None, gradient: Full | None = None) -> Simulator:
    """Return a simulator with Euler steps of 20 ms that records the readout by default."""
    return Simulator(net, solver=Euler(STEP), record=record or Record(["readout"]), gradient=gradient)


# ---------------------------------------------------------------------- training and tests


def fit(config: ShortTermMemory, task: str, cell: str, seed: int) -> list[float]:
    """Train one network on new trials at each update, or resume its training; return the loss at every 20th update."""
    torch.manual_seed(seed)
    net = network(config, task, cell)
    settings = dataclasses.replace(config.training, seed=seed)
    sim = simulator(net, gradient=Full())

    def gradient(_: Tensor, update: int) -> Tensor:
        trials = training_trials(config, task, seed, update)
        found = run(config, sim, trials, seed, update * settings.batch)
        logits, wanted = found["readout"], trials.targets(found.times)
        loss = functional.cross_entropy(logits.flatten(0, 1), wanted.flatten(), ignore_index=-1)
        loss.backward()
        return loss.detach()

    checkpoint, bar = base.kept(config, "training", task, cell, seed), base.job_bar(f"{task} {cell} {seed}")
    return optimise(net, settings.batch, settings, gradient, checkpoint=checkpoint, bar=bar)


def accuracy(config: ShortTermMemory, net: Network, trials: stimuli.Trials, seed: int) -> float:
    """Return the fraction of trials whose readout is correct at the end of the answer period."""
    found = run(config, simulator(net), trials, TEST_SEED + seed)
    due = trials.targets(found.times) >= 0
    last = len(due) - 1 - due.flip(0).int().argmax(0)
    answers = found["readout"].detach()[last, torch.arange(due.shape[1])].argmax(1)
    return float((answers == trials.labels()).double().mean())


def available(config: ShortTermMemory, net: Network, trials: stimuli.Trials, seed: int) -> float:
    """Return the accuracy of a linear decoder of the answer, fitted to the decision layer's inputs at the last step."""
    (memory,) = (edge.source for edge in net.projections if edge.target == "d" and edge.source != "u")
    found = run(config, simulator(net, Record([memory])), trials, TEST_SEED + seed)
    tested = functional.one_hot(torch.from_numpy(trials.items[:, -1, 0]), config.items)
    features = torch.cat([found[memory][-1].detach(), tested], dim=1)
    return float(decode_over_time(features[None], trials.labels(), folds=4, seed=seed).accuracy[0])


def measure(config: ShortTermMemory, cell: str, seed: int) -> dict[str, Any]:
    """Return the test results of one cell and repetition, loading them from the output folder if already saved."""
    return base.once(base.kept(config, "tests", cell, seed, suffix="json"), lambda: _measured(config, cell, seed))


def _measured(config: ShortTermMemory, cell: str, seed: int) -> dict[str, Any]:
    match = base.trained(config, network(config, "match", cell), "match", cell, seed)
    order = base.trained(config, network(config, "order", cell), "order", cell, seed)
    longest, tested = config.delays[1], TEST_SEED + seed

    def matched(net: Network, delay: float, distractors: int) -> float:
        return accuracy(config, net, match_trials(config, tested, 0, config.trials, delay, distractors), seed)

    def decodable(delay: float) -> float:
        return available(config, match, match_trials(config, tested, 0, config.trials, delay, 0), seed)

    def ordered(largest: float) -> float:
        stretch = (1.0, largest) if largest != 1.0 else (1.0,)
        return accuracy(config, order, order_trials(config, tested, 0, config.trials, stretch), seed)

    return {
        "delays": {f"{delay:g}": matched(match, delay, 0) for delay in config.test_delays},
        "distractors": {str(count): matched(match, longest, count) for count in config.test_distractors},
        "available": {f"{delay:g}": decodable(delay) for delay in config.test_delays},
        "lesions": {name: matched(net, longest, 0) for name, net in lesioned(config, match, cell).items()},
        "stretch": {f"{factor:g}": ordered(factor) for factor in config.test_stretch},
        "across": across(config, match, cell, seed),
    }


def lesioned(config: ShortTermMemory, net: Network, cell: str) -> dict[str, Network]:
    """Return the intact network and its lesioned versions, keyed by lesion."""
    delay = (config.shown, config.shown + config.delays[1])
    found = {"intact": net, "delay": net.without("lateral", during=delay), "throughout": net.without("lateral")}
    if cell == "facilitation":
        found["no facilitation"] = net.without("synapses_f->synapses")
    return found


def across(config: ShortTermMemory, net: Network, cell: str, seed: int) -> dict[str, Any]:
    """Decode the sample across time from the activity m and, if there is one, from the hidden variable.

    Stability is computed from the decoders of the delay period.
    """
    trials = match_trials(config, TEST_SEED + seed, 0, max(config.trials, 25 * config.items), config.delays[1], 0)
    names = ["m", *([HIDDEN[cell]] if cell in HIDDEN else [])]
    found = run(config, simulator(net, Record(names, every=EVERY)), trials, TEST_SEED + seed)
    labels = torch.from_numpy(trials.items[:, 0, 0])
    onset, end = (float(each[0]) for each in trials.span("delay"))
    inside = (found.times > onset) & (found.times <= end)
    rows: dict[str, Any] = {}
    for name in names:
        decoded = decode_across_time(found[name].detach(), labels, folds=4, seed=seed)
        delay = DecodedAcross(decoded.correct[inside][:, inside], decoded.chance)
        rows[name] = {
            "times": found.times.tolist(),
            "accuracy": decoded.accuracy.tolist(),
            "chance": decoded.chance,
            "in_delay": float(delay.accuracy.diagonal().mean()),
            "stability": base.finite_or_none(delay.stability),
        }
    return rows


# ---------------------------------------------------------------------- summary


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return, for each test, the mean over repetitions with its interval and all values."""
    tests = ("delays", "distractors", "available", "lesions", "stretch")
    found: dict[str, Any] = {
        test: {k: over_seeds([row[test][k] for row in rows]) for k in rows[0][test]} for test in tests
    }
    found["across"] = {
        name: {
            "times": first["times"],
            "accuracy": np.mean([row["across"][name]["accuracy"] for row in rows], axis=0).tolist(),
            "chance": float(np.mean([row["across"][name]["chance"] for row in rows])),
            "in_delay": over_seeds([row["across"][name]["in_delay"] for row in rows]),
            "stability": [row["across"][name]["stability"] for row in rows],
        }
        for name, first in rows[0]["across"].items()
    }
    return found


def over_seeds(values: Sequence[float]) -> dict[str, Any]:
    """Return the mean with its 95 % bootstrap interval, and the values."""
    return vars(analysis.estimate(values)) | {"each": list(values)}
