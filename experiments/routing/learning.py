"""Networks of `experiments.routing`, and their training."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from pcsim import Full, Iterate, Network, Record, Simulator, models
from pcsim.connections import Standardise
from pcsim.core import storage
from pcsim.network.weights import trained_tensors

from .. import base
from . import tasks
from .options import Routing
from .tasks import KEYS, TASKS, Trials

NETWORKS = ("two_streams", "two_streams, end to end", "shifter")


def build(name: str) -> Network:
    """Build an untrained network."""
    return models.shifter() if name == "shifter" else models.two_streams()


def trials(config: Routing, name: str, seed: int, count: int) -> Trials:
    """Draw trials of the network's task, with noise."""
    found = tasks.arrays(seed, count) if name == "shifter" else tasks.streams(seed, count)
    generator = torch.Generator().manual_seed(seed)
    images = found.images + config.noise * torch.randn(found.images.shape, generator=generator)
    return Trials(images, found.answers, found.cued)


def cues(name: str) -> int:
    """Return the number of cues."""
    return KEYS if name == "shifter" else len(TASKS)


def fit(config: Routing, name: str, seed: int) -> list[float]:
    """Train one network and return its loss curve, or load the curve if the network is already trained.

    Networks are trained end to end with cues, except for "two_streams", whose streams are trained before its control.
    """
    path = base.kept(config, "training", name, seed)
    if path.exists():
        return storage.read_tensors(path, "training")[1]["losses"]
    torch.manual_seed(int.from_bytes(hashlib.sha256(f"{name} {seed}".encode()).digest()[:4]))
    network, shown = build(name), trials(config, name, seed, config.images)
    for module in network.modules():
        if isinstance(module, Standardise):
            module.fit(shown.images)
    control = [p for key, p in network.named_parameters() if "cue_to" in key or "rules.context" in key]
    others = [p for p in network.parameters() if all(p is not each for each in control)]
    rates = [{"params": control, "lr": 10 * config.learning_rate}]
    slower = [{"params": others, "lr": config.learning_rate}]
    minimise = partial(
        base.minimise, updates=config.updates, items=config.images, batch=config.batch, seed=seed, title="training"
    )
    losses: list[float] = []
    if name == "two_streams":
        losses += minimise(stream_loss(network, shown), slower)
    else:
        rates += slower
    losses += minimise(cued_loss(network, shown, cues(name)), rates)
    tensors = {f"network/{key}": value for key, value in trained_tensors(network).items()}
    storage.write_tensors(path, tensors, {"kind": "training", "losses": losses})
    return losses


def trainable(network: Network, states: list[str]) -> Simulator:
    """Return a simulator with gradients that records the second half of the steps, to train persistent answers."""
    last = network.steps or 1
    times = [network.step_ms * step for step in range(last - last // 2, last + 1)]
    return Simulator(network.train(), solver=Iterate(), gradient=Full(), record=Record(states=states, at=times))


def cued_loss(network: Network, shown: Trials, count: int) -> Callable[[Tensor, int], Tensor]:
    """Return the loss of the answer to the cue."""
    sim, given, targets = trainable(network, ["readout"]), shown.cues(count), shown.targets()

    def loss(chosen: Tensor, _: int) -> Tensor:
        made = sim({"image": shown.images[chosen], "cue": given[chosen]}, steps=network.steps)["readout"]
        return functional.cross_entropy(made.flatten(0, 1), targets[chosen].repeat(len(made)))

    return loss


def stream_loss(network: Network, shown: Trials) -> Callable[[Tensor, int], Tensor]:
    """Return the loss of the two streams' answers (digit and place) with the gates of one or both streams open."""
    sim = trainable(network.clamped("context"), list(TASKS))
    patterns = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])

    def loss(chosen: Tensor, _: int) -> Tensor:
        gates = patterns[chosen % len(patterns)]
        made = sim(
            {"image": shown.images[chosen], "cue": torch.zeros(len(chosen), 2), "context": gates}, steps=network.steps
        )
        total = torch.zeros(())
        for number, task in enumerate(TASKS):
            answer, wanted = made[task].flatten(0, 1), shown.answers[chosen, number].repeat(len(made[task]))
            each = functional.cross_entropy(answer, wanted, reduction="none")
            total = total + (each * gates[:, number].repeat(len(made[task]))).mean()
        return total

    return loss
