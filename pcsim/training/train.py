"""Training through time: a loss at every step, an optimiser, checkpoints that resume bit for bit."""

from __future__ import annotations

import copy
import math
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Literal, cast

import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional
from tqdm.auto import tqdm

from pcsim import parallel
from pcsim.core import storage
from pcsim.connections import Standardise
from pcsim.core.exceptions import PcsimWarning, StorageError, TrainingError
from pcsim.training.gradients import windows
from pcsim.network.graph import Network
from pcsim.memory import available, foreseen
from pcsim.simulation.record import relative_square
from pcsim.simulation.simulator import rollout
from pcsim.solvers.base import Iterate, Solver, TorchDiffEq
from pcsim.stimuli.digits import as_pixels
from pcsim.network.weights import load_tensors, trained_tensors

CHECK_EVERY = 20
EXPLODED = 100
STANDARDISED = 10_000
ADJOINT_ERROR = 0.01
Gradient = Callable[[Tensor, int], Tensor]
"""(indices of a batch, number of the update) -> its loss, adding the gradient to that of every parameter"""


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Training:
    """How to train. The defaults suit small networks on a CPU; `published()` is Spoerer et al. 2017."""

    updates: Annotated[int, Field(gt=0)] = 2_000
    """optimiser steps"""
    batch: Annotated[int, Field(gt=0)] = 20
    """images per update"""
    optimiser: Literal["adam", "sgd"] = "adam"
    learning_rate: Annotated[float, Field(gt=0)] = 2e-3
    schedule: Literal["constant", "cosine", "exponential"] = "cosine"
    """cosine: to zero at the last update; exponential: a factor 0.1 every `decade` updates, smoothly"""
    decade: Annotated[int, Field(gt=0)] = 40_000
    """updates for a factor 0.1 (schedule exponential)"""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """of sgd"""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """L2 penalty on all parameters"""
    clip: Annotated[float | None, Field(gt=0)] = 10.0
    """largest norm of the gradient; None for no clipping"""
    loss: Literal["softmax", "sigmoid"] = "softmax"
    """softmax: one class is right; sigmoid: every class is present or not"""
    over_time: Literal["sum", "mean", "last"] = "sum"
    """how the losses of the steps make one"""
    reconstruction: Annotated[float, Field(ge=0)] = 0.0
    """weight of the relative prediction error, the mean over errors, samples and steps, added to the loss"""
    gradient: Literal["full", "checkpointed", "truncated", "adjoint", "implicit"] = "full"
    """how it goes back through time, see `pcsim.gradients`: checkpointed is exact and takes less memory, truncated
    forgets what was before the last `span` steps; adjoint (torchdiffeq's, for flows) and implicit (at a fixed point,
    over_time="last") keep no steps"""
    span: Annotated[int | None, Field(gt=0)] = None
    """steps that are kept at a time: checkpointed (by default the square root of all) and truncated (no default)"""
    seed: int = 0
    """of the order of the images (initial weights are the caller's)"""

    def rate(self, update: int) -> float:
        """Learning rate of update 0, 1, ..."""
        if self.schedule == "cosine":
            return self.learning_rate * 0.5 * (1.0 + math.cos(math.pi * update / self.updates))
        if self.schedule == "exponential":
            return self.learning_rate * 0.1 ** (update / self.decade)
        return self.learning_rate


def published(loss: Literal["softmax", "sigmoid"] = "softmax", seed: int = 0) -> Training:
    """Spoerer et al. 2017: 100 epochs of 100,000 images by 100, SGD, rate 0.1 * 0.1^(epoch / 40), L2 5e-4."""
    return Training(
        updates=100_000,
        batch=100,
        optimiser="sgd",
        learning_rate=0.1,
        schedule="exponential",
        decade=40_000,
        weight_decay=5e-4,
        clip=None,
        loss=loss,
        seed=seed,
    )


def loss_at_step(logits: Tensor, targets: Tensor, kind: Literal["softmax", "sigmoid"]) -> Tensor:
    """Cross-entropy of one step, averaged over the batch.

    logits and targets (batch, classes), targets 1 at every class that is present. softmax: of the distribution
    that the targets make when normalised; sigmoid: summed over classes.
    """
    if kind == "softmax":
        return functional.cross_entropy(logits, targets / targets.sum(1, keepdim=True))
    return functional.binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(1).mean()


def loss_over_time(
    network: Network, images: Tensor, targets: Tensor, settings: Training, solver: Solver, steps: int
) -> Tensor:
    """The losses of all steps as one; see `Training.over_time`, and `Training.gradient` for what it differentiates."""
    return torch.stack(list(losses_over_time(network, images, targets, settings, solver, steps))).sum()


def losses_over_time(
    network: Network, images: Tensor, targets: Tensor, settings: Training, solver: Solver, steps: int
) -> Iterator[Tensor]:
    """What sums to the loss, each part with a graph of its own: one, or one for each truncated span."""
    readout = _readout(network)
    watched = [readout]
    if settings.reconstruction:
        _require_errors(network)
        watched += [*network.predicted, *network.predicted.values()]
    weight = 1.0 / steps if settings.over_time == "mean" else 1.0
    for moments in windows(network, images, solver, steps, watched, settings.gradient, settings.span):
        parts = []
        for clock, values in moments:
            if settings.over_time != "last" or clock.step == steps:
                parts.append(weight * loss_at_step(values[readout], targets, settings.loss))
            if settings.reconstruction:
                pairs = network.predicted.items()
                surprise = torch.stack([relative_square(values[e], values[of]).mean() for e, of in pairs]).mean()
                parts.append(settings.reconstruction / steps * surprise)
        if parts:
            yield torch.stack(parts).sum()


def train(
    network: Network,
    images: Tensor,
    targets: Tensor,
    settings: Training,
    *,
    solver: Solver | None = None,
    steps: int | None = None,
    checkpoint: Path | None = None,
    every: int = 200,
    until: int | None = None,
    bar: Callable[..., tqdm] = tqdm,
) -> list[float]:
    """Train in place; returns the mean loss of every 20 updates.

    images   (n, channel, height, width) uint8, or floating point; uint8 is shown as values in [0, 1]
    targets  (n, classes), 1 at every class present
    solver   Iterate() unless given; `steps` are the network's own unless given
    checkpoint  a file, written every `every` updates and at the end; if it is there, training goes on from it
             and ends with the same bits as if it had never stopped
    until    number of updates, in twenties, after which to leave off; with a checkpoint a later call goes on from there
    bar      makes the progress bar

    The pixel mean and sd of the first 10,000 images are put into the network's `Standardise` transforms.
    Raises TrainingError when the loss explodes or is no longer finite, StorageError if the checkpoint belongs to
    other settings.
    """
    solver = solver or Iterate()
    steps = steps or network.steps
    _require_tensors(images, targets)
    if targets.dim() != 2 or len(targets) != len(images) or not targets.is_floating_point():
        raise TrainingError(
            given=f"{len(images)} images and targets of shape {tuple(targets.shape)} and type {targets.dtype}",
            expected="floating-point targets (images, classes), 1 at every class that is shown",
            remedy="torch.nn.functional.one_hot(labels, classes).float() makes them from labels",
        )
    if steps is None:
        raise TrainingError(
            given="no number of steps", expected="how many steps to train through", remedy="pass steps=..."
        )
    arrival = network.arrivals[_readout(network)]
    if not network.is_flow and steps <= arrival:
        raise TrainingError(
            given=f"{steps} steps of {network.name!r}, whose read-out first hears of the image in step {arrival}",
            expected=f"at least {arrival + 1} steps, as they are counted from 0",
            remedy="raise steps, or reconnect what was lesioned: the read-out is blind",
        )
    if checkpoint is None or not checkpoint.exists():
        _fit_standardise(network, images)
    solver = _checked_gradient(network, settings, solver)
    if settings.gradient == "adjoint" and (checkpoint is None or not checkpoint.exists()):
        first = _batch(len(images), settings, 0)
        device = next(network.parameters()).device
        shown, wanted = as_pixels(images[first]).to(device), targets[first].to(device)
        require_adjoint(network, shown, wanted, settings, solver, steps)

    way = _way_back(network, images, targets, settings, solver, steps)
    if parallel.rank() == 0:
        _tell_memory(network, images, targets, settings, solver, steps)
    return optimise(network, len(images), settings, way, checkpoint=checkpoint, every=every, until=until, bar=bar)


def _way_back(
    network: Network, images: Tensor, targets: Tensor, settings: Training, solver: Solver, steps: int
) -> Gradient:
    """That of a loss on images, for `optimise`."""
    device = next(network.parameters()).device

    def gradient(chosen: Tensor, _: int) -> Tensor:
        shown, wanted = as_pixels(images[chosen]).to(device), targets[chosen].to(device)
        total = torch.zeros((), device=device)
        for loss in losses_over_time(network, shown, wanted, settings, solver, steps):
            loss.backward()
            total = total + loss.detach()
        return total

    return gradient


def memory_of_update(
    network: Network, images: Tensor, targets: Tensor, settings: Training, *, solver: Solver, steps: int
) -> float:
    """Bytes that training takes beside network and data: what gradients need of the steps, they and the optimiser.

    Found by going through all steps with an eighth and a quarter of a batch, on a copy of the network.
    """
    solver = _checked_gradient(network, settings, solver)
    trial = copy.deepcopy(network).train()
    gradient = _way_back(trial, images, targets, settings, solver, steps)

    def update(count: int) -> None:
        trial.zero_grad(set_to_none=True)
        gradient(_batch(len(images), settings, 0)[:count], 0)

    weights = sum(p.numel() * p.element_size() for p in network.parameters() if p.requires_grad)
    kept = {"adam": 2, "sgd": int(settings.momentum > 0)}[settings.optimiser]
    share = -(-min(settings.batch, len(images)) // parallel.size())
    return foreseen(update, share) + kept * weights


def _tell_memory(
    network: Network, images: Tensor, targets: Tensor, settings: Training, solver: Solver, steps: int
) -> None:
    needed = memory_of_update(network, images, targets, settings, solver=solver, steps=steps)
    there = available(next(network.parameters()).device)
    work = f"{settings.batch} images through {steps} steps, gradient={settings.gradient!r}"
    tqdm.write(f"pcsim: training {network.name!r} will take about {needed / 1e6:.3g} MB: {work}", file=sys.stderr)
    if needed > there:
        warnings.warn(
            f"training {network.name!r} will take about {needed / 1e9:.3g} GB ({work}), and there are "
            f"{there / 1e9:.3g} GB. Take gradient='checkpointed', or a smaller batch.",
            PcsimWarning,
            stacklevel=3,
        )


def _checked_gradient(network: Network, settings: Training, solver: Solver) -> Solver:
    """The solver to train with. Raises TrainingError where `settings.gradient` does not fit."""
    wrong = {
        "adjoint": not isinstance(solver, TorchDiffEq),
        "implicit": settings.over_time != "last" or not network.is_flow,
        "truncated": settings.span is None,
    }
    if wrong.get(settings.gradient):
        raise TrainingError(
            given=f"gradient={settings.gradient!r}, over_time={settings.over_time!r}, span={settings.span}, {solver}",
            expected="adjoint: solver=TorchDiffEq(...); implicit: a flow and over_time='last'; truncated: a span",
            remedy="choose these together, or gradient='checkpointed', which is exact for every network",
        )
    if isinstance(solver, TorchDiffEq) and settings.gradient == "adjoint":
        return replace(solver, adjoint=True)
    return solver


def require_adjoint(
    network: Network, images: Tensor, targets: Tensor, settings: Training, solver: Solver, steps: int
) -> None:
    """Raise TrainingError unless the adjoint's gradient is that of backpropagation to 1 % on these images."""
    weights = [parameter for parameter in network.parameters() if parameter.requires_grad]
    found = []
    for adjoint in (True, False):
        loss = loss_over_time(
            network, images, targets, settings, replace(cast(TorchDiffEq, solver), adjoint=adjoint), steps
        )
        gradients = torch.autograd.grad(loss, weights, allow_unused=True, materialize_grads=True)
        found.append(nn.utils.parameters_to_vector(gradients))
    off = float((found[0] - found[1]).norm() / found[1].norm())
    if not off <= ADJOINT_ERROR:
        raise TrainingError(
            given=f"an adjoint gradient that is {off:.1%} off that of backpropagation on the first batch",
            expected=f"at most {ADJOINT_ERROR:.0%}: it integrates backwards, where a leak is an explosion",
            remedy="take a smaller dt or tighter tolerances, or gradient='checkpointed', which is exact",
        )


def _require_tensors(*arrays: object) -> None:
    for array in arrays:
        if not isinstance(array, Tensor):
            raise TrainingError(
                given=f"a {type(array).__name__}", expected="tensors", remedy="torch.from_numpy(array) makes one"
            )


def optimise(
    network: Network,
    count: int,
    settings: Training,
    gradient: Gradient,
    *,
    checkpoint: Path | None = None,
    every: int = 200,
    until: int | None = None,
    bar: Callable[..., tqdm] = tqdm,
) -> list[float]:
    """The loop over updates: `gradient` adds to every parameter's `grad` and returns a loss to report.

    count   of the samples that indices are drawn from; the rest as for `train`. Returns the mean of every 20 losses.
    Under torchrun every process takes its share of each batch (`pcsim.parallel`).
    """
    optimiser = _optimiser(network, settings)
    end = settings.updates if until is None else min(until, settings.updates)
    if end % CHECK_EVERY and end < settings.updates:
        raise TrainingError(
            given=f"until={until}", expected=f"a multiple of {CHECK_EVERY}, or all updates", remedy="round it"
        )
    done, history = _resume(checkpoint, network, optimiser, settings)
    parallel.agree(trained_tensors(network).values())
    network.train()
    recent: list[Tensor] = []
    with bar(total=end, initial=done, unit="update") as progress:
        for update in range(done, end):
            optimiser.param_groups[0]["lr"] = settings.rate(update)
            optimiser.zero_grad(set_to_none=True)
            recent.append(_shared_gradient(network, gradient, _batch(count, settings, update), update))
            if settings.clip is not None:
                nn.utils.clip_grad_norm_(network.parameters(), settings.clip)
            optimiser.step()
            progress.update()
            last = update + 1 == end
            if (update + 1) % CHECK_EVERY == 0 or last:
                history.append(_checked_mean(recent, history, update, settings))
                recent.clear()
                progress.set_postfix(loss=f"{history[-1]:.3f}")
            if checkpoint is not None and ((update + 1) % every == 0 or last) and not recent:
                if parallel.rank() == 0:
                    _save(checkpoint, network, optimiser, settings, update + 1, history)
                parallel.wait()
    network.eval()
    return history


def _shared_gradient(network: Network, gradient: Gradient, chosen: Tensor, update: int) -> Tensor:
    """The gradient of a batch by all processes together (or this one alone), and its loss."""
    loss = gradient(parallel.share(chosen), update).clone()
    if parallel.size() > 1:
        trained = [p for p in network.parameters() if p.requires_grad]
        for parameter in trained:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        statistics = [tensor for name, tensor in network.named_buffers() if "running" in name]
        parallel.average([loss, *(p.grad for p in trained if p.grad is not None), *statistics])
    return loss


def evaluate(
    network: Network,
    images: Tensor,
    *,
    solver: Solver | None = None,
    steps: int | None = None,
    batch: int = 250,
    bar: Callable[..., tqdm] | None = None,
) -> Tensor:
    """The read-out at every step, (time, n, classes), on the CPU; images as for `train`."""
    _require_tensors(images)
    solver, steps = solver or Iterate(), steps or network.steps or 1
    readout = _readout(network)
    device = next(network.parameters()).device
    parts = []
    network.eval()
    starts = range(0, len(images), batch)
    with torch.no_grad():
        for first in bar(starts) if bar else starts:
            shown = as_pixels(images[first : first + batch]).to(device)
            rows = [
                network.observe(clock, state, inputs, [readout])[readout]
                for clock, state, inputs in rollout(network, shown, solver, steps)
            ]
            parts.append(torch.stack(rows).cpu())
    return torch.cat(parts, dim=1)


def _fit_standardise(network: Network, images: Tensor) -> None:
    for module in network.modules():
        if isinstance(module, Standardise):
            module.fit(as_pixels(images[:STANDARDISED]))


def _readout(network: Network) -> str:
    if network.readout is None:
        raise TrainingError(
            given=f"{network.name!r}, which names no read-out",
            expected="a population whose value is scored",
            remedy="build it with Network(..., readout='name')",
        )
    return network.readout


def _require_errors(network: Network) -> None:
    if not network.errors:
        raise TrainingError(
            given=f"reconstruction > 0 for {network.name!r}, which has no prediction errors",
            expected="populations whose rule is PredictionError",
            remedy="set reconstruction=0, or train a predictive network",
        )


def _optimiser(network: Network, settings: Training) -> torch.optim.Optimizer:
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if settings.optimiser == "adam":
        return torch.optim.Adam(parameters, settings.learning_rate, weight_decay=settings.weight_decay)
    return torch.optim.SGD(
        parameters, settings.learning_rate, momentum=settings.momentum, weight_decay=settings.weight_decay
    )


def _batch(count: int, settings: Training, update: int) -> Tensor:
    """The images of one update: a new order in every epoch, a function of (seed, update)."""
    per_epoch = max(1, count // settings.batch)
    epoch, position = divmod(update, per_epoch)
    generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + epoch)
    return torch.randperm(count, generator=generator)[position * settings.batch : (position + 1) * settings.batch]


def _checked_mean(losses: list[Tensor], history: list[float], update: int, settings: Training) -> float:
    mean = float(torch.stack(losses).mean())
    beginning = history[0] if history else float(losses[0])
    if not mean <= EXPLODED * beginning:
        raise TrainingError(
            given=f"a loss of {mean:.4g} in the updates up to {update + 1}, from {beginning:.4g} at first",
            expected=f"a finite loss below {EXPLODED} times the first",
            remedy=f"lower the learning rate ({settings.learning_rate:g}), or set clip (now {settings.clip})",
        )
    return mean


def _save(
    path: Path, network: Network, optimiser: torch.optim.Optimizer, settings: Training, done: int, history: list[float]
) -> None:
    state, skeleton = storage.flatten_nested(optimiser.state_dict(), "optimiser")
    weights = {f"network/{name}": tensor for name, tensor in trained_tensors(network).items()}
    facts = {
        "kind": "training",
        "network": network.name,
        "settings": asdict(settings),
        "done": done,
        "history": history,
        "optimiser": skeleton,
    }
    storage.write_tensors(path, weights | state, facts)


def _resume(
    path: Path | None, network: Network, optimiser: torch.optim.Optimizer, settings: Training
) -> tuple[int, list[float]]:
    if path is None or not path.exists():
        return 0, []
    tensors, facts = storage.read_tensors(path, "training")
    if facts["settings"] != asdict(settings) or facts["network"] != network.name:
        raise StorageError(
            given=f"{path}, a training of {facts['network']!r} with {facts['settings']}",
            expected=f"one of {network.name!r} with {asdict(settings)}",
            remedy="use another folder, or the settings it was begun with",
        )
    load_tensors(network, storage.under("network/", tensors), str(path))
    optimiser.load_state_dict(storage.restore_nested(tensors, facts["optimiser"]))
    for held in optimiser.state.values():
        for name, value in held.items():
            if isinstance(value, Tensor) and value.dim() == 4:
                # Files hold plain layouts; the same bits after a resume need the layout of the parameters.
                held[name] = value.contiguous(memory_format=torch.channels_last)
    return facts["done"], facts["history"]
