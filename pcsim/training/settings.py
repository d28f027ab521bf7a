"""Settings of training."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from pcsim.training.gradients import Adjoint, Checkpointed, Full, Implicit, Truncated


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Training:
    """Settings of training. Defaults suit small networks on a CPU; `published_settings()` are Spoerer et al. 2017."""

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
    """momentum of sgd"""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """L2 penalty on all parameters"""
    clip: Annotated[float | None, Field(gt=0)] = 10.0
    """largest norm of the gradient; None for no clipping"""
    loss: Literal["softmax", "sigmoid"] = "softmax"
    """softmax: one class is right; sigmoid: every class is present or not"""
    over_time: Literal["sum", "mean", "last"] = "sum"
    """combination of the losses of the steps"""
    reconstruction: Annotated[float, Field(ge=0)] = 0.0
    """weight of the relative prediction error, the mean over errors, samples and steps, added to the loss"""
    gradient: Full | Checkpointed | Truncated | Implicit | Adjoint = Full()
    """gradient through time, see `pcsim.training.gradients`: Checkpointed() is exact and takes less memory,
    Truncated(span) ignores everything before the last `span` steps; Adjoint() (torchdiffeq's, for flows) and Implicit()
    (at a fixed point, over_time="last") keep no steps"""
    seed: int = 0
    """seed of the order of the images (initial weights are the caller's)"""

    def rate(self, update: int) -> float:
        """Return the learning rate of update 0, 1, ..."""
        if self.schedule == "cosine":
            return self.learning_rate * 0.5 * (1.0 + math.cos(math.pi * update / self.updates))
        if self.schedule == "exponential":
            return self.learning_rate * 0.1 ** (update / self.decade)
        return self.learning_rate


def published_settings(loss: Literal["softmax", "sigmoid"] = "softmax", seed: int = 0) -> Training:
    """Return the settings of Spoerer et al. 2017.

    100 epochs of 100,000 images in batches of 100, SGD, rate 0.1 * 0.1^(epoch / 40), L2 5e-4.
    """
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
