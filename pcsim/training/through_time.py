"""Losses over time, their gradient, and the memory needed to compute it."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Annotated, Any, Literal

import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler
from torch.nn import functional

from pcsim.core.checks import Axes, Count, checked
from pcsim.core.exceptions import TrainingError, warn
from pcsim.core.log import logger
from pcsim.network import Network
from pcsim.simulation.record import Record, relative_square
from pcsim.simulation.simulator import Simulator
from pcsim.solvers import Solver
from pcsim.stimuli.pixels import as_pixels
from pcsim.training import distributed
from pcsim.training.data import Pair
from pcsim.training.gradients import Adjoint, Full, Implicit
from pcsim.training.memory import free_memory, predict_peak_memory
from pcsim.training.settings import Training
from pcsim.training.updates import GradientOf

Scores = Annotated[Tensor, Axes("batch, classes")]


@checked(TrainingError)
def loss_at_step(logits: Scores, targets: Scores, kind: Literal["softmax", "sigmoid"]) -> Tensor:
    """Return the cross-entropy of one step, averaged over the batch.

    Logits and targets have shape (batch, classes); targets are 1 for every class present. With "softmax", targets are
    normalised to a distribution; with "sigmoid", the binary cross-entropy is summed over classes.
    """
    if logits.shape != targets.shape:
        raise TrainingError(
            given=f"logits {tuple(logits.shape)} and targets {tuple(targets.shape)}",
            expected="both (batch, classes)",
            remedy="convert labels with torch.nn.functional.one_hot(labels, classes).float()",
        )
    return _loss_at_step(logits, targets, kind)


def _loss_at_step(logits: Tensor, targets: Tensor, kind: str) -> Tensor:
    if kind == "softmax":
        return functional.cross_entropy(logits, targets / targets.sum(1, keepdim=True))
    return functional.binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(1).mean()


@checked(TrainingError)
def loss_over_time(
    network: Network, images: Tensor, targets: Tensor, settings: Training, solver: Solver, steps: Count
) -> Tensor:
    """Return the loss over all steps, combined as in `settings.over_time`, using `settings.gradient`."""
    return torch.stack(list(losses_over_time(network, images, targets, settings, solver, steps))).sum()


@checked(TrainingError)
def losses_over_time(
    network: Network, images: Tensor, targets: Tensor, settings: Training, solver: Solver, steps: Count
) -> Iterator[Tensor]:
    """Yield the loss as one term, or one term per truncated span, each with its own autograd graph."""
    _require_data(network, images, targets)
    sim = Simulator.once(network, solver, Record(), settings.gradient)
    yield from _losses(sim, images, targets, settings, steps)


def _losses(sim: Simulator, images: Tensor, targets: Tensor, settings: Training, steps: int) -> Iterator[Tensor]:
    network = sim.network
    readout = readout_of(network)
    watched = [readout]
    if settings.reconstruction:
        _require_errors(network)
        predicted = network.predicted
        watched += [*predicted, *predicted.values()]
    weight = 1.0 / steps if settings.over_time == "mean" else 1.0
    for moments in sim.windows(images, steps, watched):
        parts = []
        for clock, values in moments:
            if settings.over_time != "last" or clock.step == steps:
                parts.append(weight * _loss_at_step(values[readout], targets, settings.loss))
            if settings.reconstruction:
                pairs = predicted.items()
                surprise = torch.stack([relative_square(values[e], values[of]).mean() for e, of in pairs]).mean()
                parts.append(settings.reconstruction / steps * surprise)
        if parts:
            yield torch.stack(parts).sum()


def gradient_of(
    network: Network,
    pair: Callable[[Any], Pair],
    settings: Training,
    solver: Solver,
    steps: int,
    scaler: GradScaler | None = None,
) -> GradientOf:
    """Return the function that `optimise` calls to compute the gradient of the loss on a batch.

    pair  function that returns the images and targets of a batch
    """
    acting = network if settings.precision == "float32" else network.autocast(getattr(torch, settings.precision))
    sim = Simulator(acting, solver=solver, record=Record(), gradient=settings.gradient)
    device = next(network.parameters()).device

    def gradient(batch: Any, _: int) -> Tensor:
        images, targets = (part.to(device) for part in pair(batch))
        total = torch.zeros((), device=device)
        for loss in _losses(sim, images, targets, settings, steps):
            (loss if scaler is None else scaler.scale(loss)).backward()
            total = total + loss.detach()
        return total

    return gradient


@checked(TrainingError)
def memory_of_update(
    network: Network, images: Tensor, targets: Tensor, settings: Training, *, solver: Solver, steps: Count
) -> float:
    """Estimate the extra memory, in bytes, that training needs for activities, gradients and optimiser state.

    `train` calls this function when memory may be tight, and warns if the estimate exceeds the free memory of the
    device. It runs all steps on a copy of the network, first with two and then with four images. On a CPU the estimate
    includes the memory that libraries allocate at the first convolution of a process.
    """
    _require_data(network, images, targets)
    check_gradient(network, settings)
    trial = copy.deepcopy(network).train()
    gradient = gradient_of(trial, lambda chosen: (as_pixels(images[chosen]), targets[chosen]), settings, solver, steps)

    def update(count: int) -> None:
        trial.zero_grad(set_to_none=True)
        gradient(torch.arange(count), 0)

    weights = sum(p.numel() * p.element_size() for p in network.parameters() if p.requires_grad)
    kept = {"adam": 2, "sgd": int(settings.momentum > 0)}[settings.optimiser]
    return predict_peak_memory(update, _share(len(images), settings)) + kept * weights


def checked_steps(network: Network, steps: int | None) -> int:
    """Return the number of steps. Raises TrainingError for None, or if the image cannot reach the readout in time."""
    if steps is None:
        raise TrainingError(
            given="no number of steps", expected="the number of steps to train through", remedy="pass steps=10"
        )
    arrival = network.arrivals[readout_of(network)]
    if math.isinf(arrival):
        raise TrainingError(
            given=f"{network.name!r}, whose readout does not depend on the image",
            expected="a path of projections from the image to the readout",
            remedy="train the network without the lesion, or add a Projection to the readout",
        )
    if not network.is_flow and steps <= arrival:
        raise TrainingError(
            given=f"{steps} steps of {network.name!r}, whose readout first depends on the image in step {arrival}",
            expected=f"at least {arrival + 1} steps, because steps are counted from 0",
            remedy=f"pass steps={arrival + 1} or more",
        )
    return steps


def _may_be_too_large(network: Network, samples: int, settings: Training, steps: int) -> bool:
    """Return whether the stored activities alone would fill more than an eighth of the device's free memory.

    Only then is it worth running all steps twice to estimate the memory that training needs.
    """
    activities = sum(math.prod(network.shape(name)) for name in network.populations)
    kept = min(steps, getattr(settings.gradient, "span", None) or steps)
    parameter = next(network.parameters())
    least = parameter.element_size() * activities * kept * _share(samples, settings)
    return least > free_memory(parameter.device) / 8


def _share(samples: int, settings: Training) -> int:
    """Return the number of samples of a batch that this process handles."""
    return -(-min(settings.batch, samples) // distributed.size())


def report_memory(
    network: Network, first: Callable[[], Pair], samples: int, settings: Training, solver: Solver, steps: int
) -> None:
    """Log the memory that training needs if it may be tight, and warn if it exceeds the free memory of the device.

    first    function that returns the images and targets of a full batch
    samples  number of images from which batches are drawn
    """
    if not _may_be_too_large(network, samples, settings, steps):
        return
    images, targets = first()
    needed = memory_of_update(network, images, targets, settings, solver=solver, steps=steps)
    there = free_memory(next(network.parameters()).device)
    work = f"{min(settings.batch, len(images))} images through {steps} steps, gradient={settings.gradient.kind}"
    logger.info("training %r will need about %.3g MB: %s", network.name, needed / 1e6, work)
    if needed > there:
        warn(
            f"training {network.name!r} will need about {needed / 1e9:.3g} GB ({work}), but only "
            f"{there / 1e9:.3g} GB are free on the device. Use Training(gradient=Checkpointed()) or a smaller batch."
        )


def check_gradient(network: Network, settings: Training) -> None:
    """Raise TrainingError if `settings.gradient` cannot be used with this network and these settings."""
    if isinstance(settings.gradient, Implicit) and (settings.over_time != "last" or not network.is_flow):
        raise TrainingError(
            given=f"gradient={settings.gradient!r} with over_time={settings.over_time!r} for {network.name!r}",
            expected="a flow and over_time='last', because the implicit gradient is valid only at a fixed point",
            remedy="pass over_time='last', or gradient=Checkpointed(), which is exact for every network",
        )


@checked(TrainingError)
def require_adjoint(
    network: Network, images: Tensor, targets: Tensor, settings: Training, solver: Solver, steps: Count
) -> None:
    """Raise TrainingError unless the adjoint gradient on these images matches backpropagation within its tolerance."""
    weights = [parameter for parameter in network.parameters() if parameter.requires_grad]
    tolerance = settings.gradient.tolerance if isinstance(settings.gradient, Adjoint) else 0.0
    found = []
    for way in (settings.gradient, Full()):
        loss = loss_over_time(network, images, targets, replace(settings, gradient=way), solver, steps)
        gradients = torch.autograd.grad(loss, weights, allow_unused=True, materialize_grads=True)
        found.append(torch.cat([gradient.reshape(-1) for gradient in gradients]))  # of any memory layout
    off = float((found[0] - found[1]).norm() / found[1].norm())
    if not off <= tolerance:
        raise TrainingError(
            given=f"an adjoint gradient that differs from backpropagation by {off:.1e} of its norm on the first batch",
            expected=f"at most {tolerance:g}; leaky dynamics are unstable when integrated backwards in time",
            remedy="use gradient=Checkpointed(), which is exact, a smaller dt or tighter solver tolerances, or accept "
            f"the difference with Adjoint(tolerance={2 * off:.0e})",
        )


def _require_data(network: Network, images: Tensor, targets: Tensor) -> None:
    """Raise TrainingError unless the targets match the images and the readout in shape."""
    classes = network.shape(readout_of(network))
    count = len(images) if images.dim() else 0
    if tuple(targets.shape) != (count, *classes) or not count or not targets.is_floating_point():
        raise TrainingError(
            given=f"{count} images and targets of shape {tuple(targets.shape)} and type {targets.dtype}",
            expected=f"floating-point targets (images, classes) = {(count, *classes)}, 1 for every class present",
            remedy="convert labels with torch.nn.functional.one_hot(labels, classes).float()",
        )


def readout_of(network: Network) -> str:
    """Return the name of the readout. Raises TrainingError if there is none."""
    if network.readout is None:
        raise TrainingError(
            given=f"{network.name!r}, which has no readout",
            expected="a network with a readout population",
            remedy="build it with Network(..., readout='name')",
        )
    return network.readout


def _require_errors(network: Network) -> None:
    if not network.errors:
        raise TrainingError(
            given=f"reconstruction > 0 for {network.name!r}, which has no prediction errors",
            expected="populations whose rule is PredictionError",
            remedy="pass Training(reconstruction=0.0), or train a network with prediction errors",
        )
