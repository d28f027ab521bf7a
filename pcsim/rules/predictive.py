"""Predictive coding.

    p = f(drive)                                     prediction
    e = pi * (target - prediction)                   prediction error, per sample
    tau dr/dt = drive - error                        relaxation of a representation

`drive` is what the error below asks for (its transform is the transpose of the prediction's), `error` the
representation's own prediction error. With transposed weights this is the gradient flow on
E = 1/2 sum of squared prediction errors: Rao & Ballard 1999 eq. 7-8, Whittington & Bogacz 2017 eq. 2.15.
"""

from __future__ import annotations

from torch import Tensor

from pcsim.rules.base import Flow, Own, Wire, activation_named
from pcsim.rules.time_constants import TimeConstant, time_constant


class Prediction(Wire):
    """p = f(drive), in the shape of what it predicts."""

    def __init__(self, activation: str = "identity") -> None:
        super().__init__()
        self.function = activation_named(activation)

    def forward(self, *, drive: Tensor) -> Tensor:
        """f(drive)."""
        return self.function(drive)


class PredictionError(Wire):
    """e = pi * (target - prediction); pi is the precision. Never averaged over the batch.

    Projections of kind `prediction` arrive at the port "prediction", all others at "target".
    """

    ports = ("target", "prediction")

    def __init__(self, precision: float = 1.0) -> None:
        super().__init__()
        self.precision = precision

    def forward(self, *, target: Tensor, prediction: Tensor) -> Tensor:
        """pi * (target - prediction)."""
        difference = target - prediction
        return difference if self.precision == 1.0 else self.precision * difference


class ErrorRelaxation(Flow):
    """tau dr/dt = drive - error: descend the squared prediction errors below and at this level.

    `drive`: the error below through the transpose of the prediction; `error`: the own prediction error.
    """

    ports = ("drive", "error")

    def __init__(self, tau: float | Tensor | TimeConstant) -> None:
        super().__init__()
        self.tau = time_constant(tau)

    def forward(self, own: Own, *, drive: Tensor, error: Tensor) -> Tensor:
        """(drive - error) / tau."""
        return (drive - error) / self.tau.for_(drive)

    def describe(self) -> str:
        """With its time constant."""
        return f"{type(self).__name__}, tau {self.tau.describe()} ms"
