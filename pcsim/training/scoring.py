"""Evaluation: the readout at every step, and scores on held-out images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from pcsim.core.checks import Count, checked
from pcsim.core.exceptions import TrainingError
from pcsim.core.progress import tqdm
from pcsim.network import Network
from pcsim.simulation.record import Record
from pcsim.simulation.simulator import Simulator
from pcsim.solvers import Iterate, Solver
from pcsim.stimuli.pixels import as_pixels
from pcsim.training.data import Data, Images, tensor_of
from pcsim.training.progress import Validation
from pcsim.training.settings import Training
from pcsim.training.through_time import loss_at_step, readout_of


@checked(TrainingError)
def evaluate(
    network: Network,
    images: Tensor | NDArray[Any],
    *,
    solver: Solver | None = None,
    steps: Count | None = None,
    batch: Count = 250,
    bar: Callable[..., tqdm] | None = None,
) -> Tensor:
    """Return the readout at every step as a tensor (time, n, classes) on the CPU.

    images  (n, channel, height, width), uint8 or floating point; uint8 is scaled to [0, 1]

    The network runs in evaluation mode, and its previous mode is restored. If a sample diverges, its values are NaN
    from that step on, and a warning is issued.
    """
    readout = readout_of(network)
    steps = steps or network.steps
    if steps is None:
        raise TrainingError(
            given=f"no number of steps for {network.name!r}, which has no default",
            expected="the number of steps to run",
            remedy="pass steps=10",
        )
    images = tensor_of(images)
    if not images.dim() or not len(images):
        raise TrainingError(
            given=f"images of shape {tuple(images.shape)}", expected="at least one image", remedy="pass images[:1]"
        )
    sim = Simulator.once(network, solver or Iterate(), Record(states=[readout]))
    device = next(network.parameters()).device
    starts = range(0, len(images), batch)
    parts = []
    for first in bar(starts) if bar else starts:
        shown = as_pixels(images[first : first + batch]).to(device)
        parts.append(sim(shown, steps=steps)[readout].cpu())
    return torch.cat(parts, dim=1)


@checked(TrainingError)
def score(
    network: Network,
    images: Images,
    targets: Tensor | NDArray[Any] | None = None,
    settings: Training | None = None,
    *,
    solver: Solver | None = None,
    steps: Count | None = None,
    batch: Count = 250,
) -> Validation:
    """Return the mean loss and the accuracy of the readout, without augmentation and without changing the network.

    images, targets, solver, steps  as for `train`
    settings  determine the loss and how it is combined over time; `reconstruction` is not included
    batch     number of images that run simultaneously; a DataLoader determines its own batches

        training.score(net, test_images, test_labels).accuracy
    """
    settings, device = settings or Training(), next(network.parameters()).device
    data = Data(images, targets, network.shape(readout_of(network)), next(network.parameters()).dtype)
    losses, right, count = 0.0, 0, 0
    for shown, wanted in data.in_order(batch):
        logits = evaluate(network, shown.to(device), solver=solver, steps=steps, batch=batch)
        wanted = wanted.to(logits)
        chosen = logits[-1:] if settings.over_time == "last" else logits
        each = torch.stack([loss_at_step(step, wanted, settings.loss) for step in chosen]).double()
        losses += len(shown) * float(each.mean() if settings.over_time == "mean" else each.sum())
        is_class = wanted.gather(1, logits[-1].argmax(1, keepdim=True))[:, 0] > 0
        right += int((is_class & logits[-1].isfinite().all(1)).sum())
        count += len(shown)
    return Validation(0, losses / count, right / count, count)
