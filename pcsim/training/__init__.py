"""Training through time, on frames and by local rules, in one or several processes."""

from pcsim.training import distributed, frames, local
from pcsim.training.gradients import Adjoint, Checkpointed, Full, Gradient, Implicit, Truncated
from pcsim.training.settings import Training, published_settings
from pcsim.training.through_time import (
    evaluate,
    loss_at_step,
    loss_over_time,
    losses_over_time,
    memory_of_update,
    require_adjoint,
    train,
)
from pcsim.training.updates import CHECK_EVERY, optimise

__all__ = [
    "CHECK_EVERY",
    "Adjoint",
    "Checkpointed",
    "Full",
    "Gradient",
    "Implicit",
    "Training",
    "Truncated",
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
    "train",
]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
