"""Training settings."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from pcsim.core.checks import Whole, checked
from pcsim.core.exceptions import TrainingError
from pcsim.training.gradients import Adjoint, Checkpointed, Full, Implicit, Truncated


@checked(TrainingError)
@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Training:
    """Training settings. The defaults suit small networks on a CPU; see also `published_settings()`.

    updates         number of optimiser steps
    batch           images per update
    optimiser       "adam" or "sgd"
    learning_rate   initial learning rate
    schedule        learning-rate schedule: "constant"; "linear" or "cosine", falling to zero at the last update;
                    "exponential", falling smoothly by a factor of 10 every `decade` updates; "step", the same in jumps
    decade          number of updates over which the exponential and the step schedule fall by a factor of 10
    momentum        momentum, for sgd only
    weight_decay    L2 penalty on all parameters
    clip            maximum norm of the gradient; None disables clipping
    loss            "softmax" for a single correct class; "sigmoid" if each class may be present or absent
    over_time       how the losses at the individual steps are combined: "sum", "mean", or "last" for the last step only
    reconstruction  weight of an additional loss term: the relative prediction error, averaged over populations, samples
                    and steps
    gradient        gradient through time (`pcsim.training.gradients`): Checkpointed() is exact and needs less memory
                    than Full(); Truncated(span) does not backpropagate beyond a span of steps; Adjoint() (torchdiffeq,
                    flows only) and Implicit() (at a fixed point, with over_time="last") store no steps
    precision       dtype in which edges are computed, as with `Network.autocast`; weights stay in float32. "float32":
                    the dtype of the weights; "float16": with loss scaling, because small gradients underflow
    seed            seed for the order of the images and all random numbers drawn in training; it does not affect the
                    initial weights

        Training(updates=500, batch=50, learning_rate=1e-3, schedule="constant")
    """

    updates: Annotated[int, Field(gt=0)] = 2_000
    batch: Annotated[int, Field(gt=0)] = 20
    optimiser: Literal["adam", "sgd"] = "adam"
    learning_rate: Annotated[float, Field(gt=0)] = 2e-3
    schedule: Literal["constant", "linear", "cosine", "exponential", "step"] = "cosine"
    decade: Annotated[int, Field(gt=0)] = 40_000
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    clip: Annotated[float | None, Field(gt=0)] = 10.0
    loss: Literal["softmax", "sigmoid"] = "softmax"
    over_time: Literal["sum", "mean", "last"] = "sum"
    reconstruction: Annotated[float, Field(ge=0)] = 0.0
    gradient: Full | Checkpointed | Truncated | Implicit | Adjoint = Full()
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    seed: Whole = 0

    @checked(TrainingError)
    def rate(self, update: Whole) -> float:
        """Return the learning rate at a given update, counting from 0."""
        if self.schedule == "cosine":
            return self.learning_rate * 0.5 * (1.0 + math.cos(math.pi * update / self.updates))
        if self.schedule == "linear":
            return self.learning_rate * max(0.0, 1.0 - update / self.updates)
        if self.schedule == "exponential":
            return self.learning_rate * 0.1 ** (update / self.decade)
        if self.schedule == "step":
            return self.learning_rate * 0.1 ** (update // self.decade)
        return self.learning_rate


@checked(TrainingError)
def published_settings(loss: Literal["softmax", "sigmoid"] = "softmax", seed: Whole = 0) -> Training:
    """Return the settings of Spoerer et al. 2017.

    100 epochs of 100,000 images in batches of 100; SGD with learning rate 0.1 * 0.1^(epoch / 40) and L2 penalty 5e-4.
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
