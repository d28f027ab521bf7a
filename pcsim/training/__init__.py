"""Training through time, on frame prediction, or by local rules, in one or several processes."""

from typing import TYPE_CHECKING

from pcsim.core.renamed import names_of
from pcsim.training import distributed, frames, local
from pcsim.training.gradients import Adjoint, Checkpointed, Full, Gradient, Implicit, Truncated
from pcsim.training.progress import History, Progress, Validation
from pcsim.training.scoring import evaluate, score
from pcsim.training.settings import Training, published_settings
from pcsim.training.supervised import train
from pcsim.training.through_time import (
    loss_at_step,
    loss_over_time,
    losses_over_time,
    memory_of_update,
    require_adjoint,
)
from pcsim.training.updates import CHECK_EVERY, optimise

__all__ = [
    "CHECK_EVERY",
    "Adjoint",
    "Checkpointed",
    "Full",
    "Gradient",
    "History",
    "Implicit",
    "Progress",
    "Training",
    "Truncated",
    "Validation",
    "distributed",
    "evaluate",
    "frames",
    "local",
    "loss_at_step",
    "loss_over_time",
    "losses_over_time",
    "memory_of_update",
    "optimise",
    "published_settings",
    "require_adjoint",
    "score",
    "train",
]

if not TYPE_CHECKING:
    __getattr__ = names_of(__name__)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
