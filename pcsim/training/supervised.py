"""Supervised training through time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from numpy.typing import NDArray
from torch import Tensor

from pcsim.connections import Standardise
from pcsim.core import storage
from pcsim.core.checks import Count, checked
from pcsim.core.exceptions import TrainingError
from pcsim.core.progress import tqdm
from pcsim.network import Network
from pcsim.solvers import Iterate, Solver
from pcsim.training import distributed
from pcsim.training.data import Data, Images
from pcsim.training.gradients import Adjoint
from pcsim.training.progress import Callback, History, Validation
from pcsim.training.scoring import score
from pcsim.training.settings import Training
from pcsim.training.stepper import Scheduler, scaler_of
from pcsim.training.through_time import (
    check_gradient,
    checked_steps,
    gradient_of,
    readout_of,
    report_memory,
    require_adjoint,
)
from pcsim.training.updates import optimise

STANDARDISED = 10_000


@checked(TrainingError)
def train(
    network: Network,
    images: Images,
    targets: Tensor | NDArray[Any] | Training | None = None,
    settings: Training | None = None,
    *,
    epochs: Count | None = None,
    updates: Count | None = None,
    validation: Images | None = None,
    validate_every: Count | None = None,
    keep: Literal["last", "best"] = "last",
    scheduler: Scheduler | None = None,
    callbacks: Callback | Sequence[Callback] = (),
    solver: Solver | None = None,
    steps: Count | None = None,
    checkpoint: str | Path | None = None,
    every: Count = 200,
    until: Count | None = None,
    bar: Callable[..., tqdm] = tqdm,
) -> History:
    """Train a network in place; return the mean loss of every 20 updates, and the `validation` scores, as a `History`.

    images   (n, channel, height, width), uint8 or floating point; uint8 is scaled to [0, 1]. Alternatively, images with
             targets: a tuple, a Dataset of (image, label) or {"image": ..., "label": ...}, or a DataLoader, which
             determines the order
    targets  labels (n,), or (n, classes), 1 for every class present; omitted with a Dataset or DataLoader
    epochs, updates  length of the training; by default `settings.updates`
    validation  held-out images with targets, scored after every epoch (or `validate_every` updates) and at the end
    keep     "best" leaves the network with the weights that had the lowest validation loss
    scheduler  builds a torch scheduler, which replaces `settings.schedule` and advances after every update
    callbacks  functions that are called with a `Progress` after every update, and may call its `stop()`
    solver   Iterate() by default
    steps    number of steps to train through; by default `network.steps`
    checkpoint  a path (`~` is expanded), written every `every` updates and at the end, from which training resumes with
                bitwise equal results. Finished training continues if `updates` or `epochs` is increased
    until    number of updates after which to pause; a later call with the same checkpoint continues
    bar      constructor of the progress bar

    The network's `Standardise` transforms are set to the pixel mean and standard deviation of the first 10,000 images.
    Raises TrainingError if the loss explodes or is no longer finite, and StorageError if resumed with other settings.

        train(net, images, labels, Training(batch=32), epochs=10, validation=(others, their_labels), keep="best")
    """
    if isinstance(targets, Training) and settings is None:
        targets, settings = None, targets
    saving: dict[str, Any] = {"checkpoint": checkpoint, "every": every, "until": until, "bar": bar}
    watching = {"scheduler": scheduler, "validate_every": validate_every, "keep": keep, "callbacks": callbacks}
    data = _data_for(network, images, targets)
    settings = _lasting(data.settings_for(settings or Training()), data, epochs, updates)
    return _trained(network, data, settings, solver or Iterate(), steps, validation, saving | watching)


def _trained(
    network: Network,
    data: Data,
    settings: Training,
    solver: Solver,
    steps: int | None,
    validation: Images | None,
    options: dict[str, Any],
) -> History:
    """Train the network on `data`; `options` are those of `optimise`."""
    steps = checked_steps(network, steps or network.steps)
    check_gradient(network, settings)
    checkpoint, scaler = options["checkpoint"], scaler_of(network, settings)
    if checkpoint is not None:
        data.require_resumable()
    if checkpoint is None or not storage.full_path(checkpoint).exists():
        _fit_standardise(network, data)
        if isinstance(settings.gradient, Adjoint):
            device = next(network.parameters()).device
            shown, wanted = (part.to(device) for part in data.first(settings.batch))
            require_adjoint(network, shown, wanted, settings, solver, steps)
    network.train()
    if distributed.rank() == 0:
        report_memory(network, lambda: data.first(settings.batch), data.samples(settings), settings, solver, steps)
    validate = None if validation is None else _validation(network, validation, settings, solver, steps)
    gradient = gradient_of(network, data.pair, settings, solver, steps, scaler)
    return optimise(network, data.batches_of(settings), settings, gradient, scaler=scaler, validate=validate, **options)


def _data_for(network: Network, images: Images, targets: Tensor | NDArray[Any] | Training | None) -> Data:
    if isinstance(targets, Training):
        raise TrainingError(given="settings twice", expected="a single Training", remedy="pass settings=Training(...)")
    return Data(images, targets, network.shape(readout_of(network)), next(network.parameters()).dtype)


def _lasting(settings: Training, data: Data, epochs: int | None, updates: int | None) -> Training:
    """Return the settings with the number of updates. Raises TrainingError if it is specified twice."""
    given = {"epochs": epochs, "updates": updates}
    if settings.updates != Training.updates:
        given["settings.updates"] = settings.updates
    several = {name: value for name, value in given.items() if value is not None}
    if len(several) > 1 and (epochs is not None or settings.updates != updates):
        raise TrainingError(
            given=" and ".join(f"{name}={value}" for name, value in several.items()),
            expected="one of epochs= and updates=",
            remedy=f"omit {next(name for name in several if name != 'epochs')}",
        )
    if epochs is not None:
        per_epoch = data.batches_of(settings).per_epoch
        if per_epoch is None:
            raise TrainingError(
                given=f"epochs={epochs} and a DataLoader of unknown length",
                expected="a number of updates",
                remedy="pass updates=1000",
            )
        updates = epochs * per_epoch
    return settings if updates is None else replace(settings, updates=updates)


def _validation(
    network: Network, images: Images, settings: Training, solver: Solver, steps: int
) -> Callable[[int], Validation]:
    """Return the function that scores the network on held-out images."""
    data = _data_for(network, images, None)
    shape, (expected, *_) = tuple(data.first(1)[0].shape[1:]), network.inputs.values()
    if shape != expected:
        raise TrainingError(
            given=f"validation images of shape {shape}",
            expected=f"images of shape {expected}, the input of {network.name!r}",
            remedy="resize the validation images to match the training images",
        )
    return lambda update: replace(score(network, images, None, settings, solver=solver, steps=steps), update=update)


def _fit_standardise(network: Network, data: Data) -> None:
    found = [module for module in network.modules() if isinstance(module, Standardise)]
    if found:
        images, _ = data.first(STANDARDISED)
        for module in found:
            module.fit(images)
