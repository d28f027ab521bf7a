"""Training through time."""

from pcsim.training.gradients import Adjoint, Checkpointed, Full, Gradient, Implicit, Truncated
from pcsim.training.settings import Training, published
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
    "evaluate",
    "loss_at_step",
    "loss_over_time",
    "losses_over_time",
    "memory_of_update",
    "optimise",
    "published",
    "require_adjoint",
    "train",
]
