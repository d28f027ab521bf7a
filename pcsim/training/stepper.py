"""The optimiser with its learning-rate schedule and loss scaling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from pcsim.core.checks import shown
from pcsim.core.exceptions import TrainingError
from pcsim.core.nested import flatten_nested, restore_nested
from pcsim.network import Network
from pcsim.training.settings import Training

Scheduler = Callable[[Optimizer], LRScheduler]
"""a function that builds a torch scheduler for an optimiser"""


def scaler_of(network: Network, settings: Training) -> GradScaler | None:
    """Return the loss scaling that float16 requires, because small gradients underflow; None for other types."""
    if settings.precision != "float32" and any(p.dtype != torch.float32 for p in network.parameters()):
        kinds = {str(p.dtype).removeprefix("torch.") for p in network.parameters()}
        raise TrainingError(
            given=f"precision={settings.precision!r} for {network.name!r} with weights of type {', '.join(kinds)}",
            expected="float32 weights, because mixed precision converts them in each step",
            remedy="call net.float() first, or write Training(precision='float32')",
        )
    device = next(network.parameters()).device.type
    return GradScaler(device) if settings.precision == "float16" else None


class Stepper:
    """An optimiser that follows a schedule.

    scheduler  builds a torch scheduler, which replaces `settings.schedule` and advances after every update; a
               ReduceLROnPlateau advances after every validation
    scaler     the loss scaling applied to the gradient; the optimiser skips updates whose gradient overflows
    """

    def __init__(
        self, network: Network, settings: Training, scheduler: Scheduler | None, scaler: GradScaler | None
    ) -> None:
        if settings.precision == "float16" and scaler is None:
            raise TrainingError(
                given="precision='float16' without a scaler",
                expected="a torch.amp.GradScaler with which `gradient` scales the loss before calling backward()",
                remedy="pass scaler=torch.amp.GradScaler('cuda'), or write Training(precision='bfloat16')",
            )
        self.parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self.optimiser = _optimiser(self.parameters, settings)
        self.scheduler = None if scheduler is None else _built(scheduler, self.optimiser)
        self._settings, self._scaler = settings, scaler

    @property
    def needs_validation(self) -> bool:
        """True if the scheduler depends on the validation loss."""
        return isinstance(self.scheduler, ReduceLROnPlateau)

    def prepare(self, update: int) -> float:
        """Set and return the learning rate of an update, and clear the gradient."""
        if self.scheduler is None:
            for group in self.optimiser.param_groups:
                group["lr"] = self._settings.rate(update)
        self.optimiser.zero_grad(set_to_none=True)
        return float(self.optimiser.param_groups[0]["lr"])

    def step(self) -> None:
        """Clip the gradient and update the weights."""
        if self._scaler is not None:
            self._scaler.unscale_(self.optimiser)
        if self._settings.clip is not None:
            nn.utils.clip_grad_norm_(self.parameters, self._settings.clip)
        is_skipped = False
        if self._scaler is None:
            self.optimiser.step()
        else:
            before = self._scaler.get_scale()
            self._scaler.step(self.optimiser)
            self._scaler.update()
            is_skipped = self._scaler.get_scale() < before
        if self.scheduler is not None and not self.needs_validation and not is_skipped:
            self.scheduler.step()

    def validated(self, loss: float) -> None:
        """Advance a scheduler that depends on the validation loss."""
        if isinstance(self.scheduler, ReduceLROnPlateau):
            self.scheduler.step(loss)

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Return the tensors and metadata to store in a checkpoint."""
        parts = {"optimiser": self.optimiser, "scheduler": self.scheduler, "scaler": self._scaler}
        flat = {name: flatten_nested(part.state_dict(), name) for name, part in parts.items() if part}
        tensors = {name: tensor for found, _ in flat.values() for name, tensor in found.items()}
        return tensors, {name: skeleton for name, (_, skeleton) in flat.items()}

    def load(self, tensors: dict[str, torch.Tensor], facts: dict[str, Any]) -> None:
        """Restore the state from a checkpoint."""
        self.optimiser.load_state_dict(restore_nested(tensors, facts["optimiser"]))
        for parameter, kept in self.optimiser.state.items():
            for name, value in kept.items():
                if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
                    # Files store contiguous tensors, but resuming exactly requires the memory layout of the parameters.
                    kept[name] = torch.empty_like(parameter).copy_(value)
        if self.scheduler is not None:
            theirs = restore_nested(tensors, facts["scheduler"])
            self.scheduler.load_state_dict(_like(self.scheduler.state_dict(), theirs))
        if self._scaler is not None:
            self._scaler.load_state_dict(restore_nested(tensors, facts["scaler"]))


def _optimiser(parameters: list[nn.Parameter], settings: Training) -> Optimizer:
    if settings.optimiser == "adam":
        return torch.optim.Adam(parameters, settings.learning_rate, weight_decay=settings.weight_decay)
    return torch.optim.SGD(
        parameters, settings.learning_rate, momentum=settings.momentum, weight_decay=settings.weight_decay
    )


def _built(scheduler: Scheduler, optimiser: Optimizer) -> LRScheduler:
    made = scheduler(optimiser)
    if not isinstance(made, LRScheduler):
        raise TrainingError(
            given=f"a scheduler function that returns {shown(made)}",
            expected="a scheduler from torch.optim.lr_scheduler",
            remedy="pass scheduler=lambda optimiser: torch.optim.lr_scheduler.StepLR(optimiser, 1000)",
        )
    return made


def _like(own: Any, theirs: Any) -> Any:
    """Restore the container types of `own` in `theirs`, because files store tuples as lists and Counters as dicts."""
    if isinstance(own, dict) and isinstance(theirs, dict):
        return type(own)({key: _like(own.get(key), value) for key, value in theirs.items()})
    if isinstance(own, list | tuple) and isinstance(theirs, list):
        same = len(own) == len(theirs)
        return type(own)(_like(a, b) for a, b in zip(own if same else theirs, theirs, strict=True))
    return theirs
