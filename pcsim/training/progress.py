"""Records of a training run: losses, validation scores, and the argument of callbacks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from pcsim.network import Network


@dataclass(frozen=True)
class Validation:
    """Scores on images that are not used for training."""

    update: int
    """number of completed updates"""
    loss: float
    """mean loss of the readout, combined over time as in training; NaN if a sample diverged"""
    accuracy: float
    """fraction of images whose largest readout in the last step is a class present; diverged samples count as wrong"""
    images: int
    """number of images"""


class History(list[float]):
    """The mean loss of every 20 updates, the validation scores and, if a callback stopped the training, the reason."""

    def __init__(self, losses: list[float] | tuple[float, ...] = ()) -> None:
        super().__init__(losses)
        self.validation: list[Validation] = []
        self.stopped: str | None = None

    @property
    def best(self) -> Validation | None:
        """The validation with the lowest loss (the first if several are equal), or None if no loss is finite."""
        finite = [one for one in self.validation if one.loss == one.loss]
        return min(finite, key=lambda one: one.loss, default=None)


@dataclass
class Progress:
    """The state of training after an update, as passed to callbacks."""

    network: Network
    """the network, in training mode, with its current weights"""
    update: int
    """number of completed updates"""
    updates: int
    """number of updates after which the training ends"""
    per_epoch: int | None
    """number of updates per epoch; None if unknown"""
    rate: float
    """learning rate of this update"""
    history: History
    """losses and validation scores so far"""
    validation: Validation | None
    """scores, if the network was validated after this update"""
    _loss: Tensor = field(repr=False)

    @property
    def loss(self) -> float:
        """The loss of this update. On a GPU, reading it waits until the update is complete."""
        return float(self._loss)

    @property
    def is_end_of_epoch(self) -> bool:
        """True after the last update of an epoch; False if the number of updates per epoch is unknown."""
        return self.per_epoch is not None and self.update % self.per_epoch == 0

    def stop(self, reason: str = "stopped by a callback") -> None:
        """End the training after this update. The checkpoint, if any, counts as finished."""
        self.history.stopped = reason


Callback = Callable[[Progress], object]
"""a function that is called after every update"""
