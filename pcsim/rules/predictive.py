"""Predictive coding.

    p = f(drive)                                     prediction
    e = f( pi * (target - prediction) )              prediction error, per sample
    d = f'(drive of p) e                             what of an error passes back through the prediction p = f(drive)
    tau dr/dt = f'(r) drive - error                  relaxation of a representation
    r <- f( (1 - a) state + a prediction )           a representation blended with what is predicted of it
    r <- f( prior + b drive )                        a representation corrected by an error

`drive` is what the error below asks for (its transform is the transpose of the prediction's), `error` the
representation's own prediction error. With transposed weights the relaxation is the gradient flow on
E = 1/2 sum pi (r - p)^2 over all layers: Rao & Ballard 1999 eq. 7-8, Whittington & Bogacz 2017 eq. 2.15. Blend and
correction are the two sweeps of Wen et al. 2018; the correction alone, of itself, is Han et al. 2018.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from pcsim.core.exceptions import WiringError
from pcsim.core.state import Shape, per_channel
from pcsim.rules.base import Flow, Map, Own, Wire, activation_named, slope_named
from pcsim.rules.time_constants import TimeConstant, time_constant


class Prediction(Wire):
    """p = min(f(drive + b), ceiling), in the shape of what it predicts.

    `channels` gives it one bias for each; `ceiling` makes it saturate (the SatLU of Lotter et al. 2017).
    """

    def __init__(self, activation: str = "identity", channels: int | None = None, ceiling: float | None = None) -> None:
        super().__init__()
        self.function = activation_named(activation)
        self.bias = nn.Parameter(torch.zeros(channels)) if channels is not None else None
        self.ceiling = ceiling

    def shapes(self, ports: Mapping[str, Shape]) -> dict[str, Shape]:
        """That of the drive, whose channels must be those of the bias if there is one."""
        return super().shapes(ports) if self.bias is None else self._shapes_of_channels(len(self.bias), ports)

    def forward(self, *, drive: Tensor) -> Tensor:
        """min(f(drive + b), ceiling)."""
        value = self.function(drive if self.bias is None else drive + per_channel(self.bias, drive))
        return value if self.ceiling is None else value.clamp(max=self.ceiling)


class ErrorUnit(Wire):
    """Base of prediction errors. Edges of kind `prediction` arrive at the port "prediction", others at "target"."""

    ports = ("target", "prediction")


class PredictionError(ErrorUnit):
    """e = f( pi * (target - prediction) ); pi is the precision, f usually nothing. Never averaged over the batch."""

    def __init__(self, precision: float = 1.0, activation: str = "identity") -> None:
        super().__init__()
        self.precision = precision
        self.function = activation_named(activation)

    def forward(self, *, target: Tensor, prediction: Tensor) -> Tensor:
        """f(pi * (target - prediction))."""
        difference = target - prediction
        return self.function(difference if self.precision == 1.0 else self.precision * difference)


class SplitError(ErrorUnit):
    """e = concat[ ReLU(prediction - target), ReLU(target - prediction) ]: rates, which are not negative.

    Twice the channels. Source: Lotter et al. 2017 eq. 3, in the order of its code.
    """

    def shapes(self, ports: Mapping[str, Shape]) -> dict[str, Shape]:
        """Twice the channels of what is predicted."""
        channels, *rest = super().shapes(ports)["value"]
        return {"value": (2 * channels, *rest)}

    def forward(self, *, target: Tensor, prediction: Tensor) -> Tensor:
        """(batch, 2 * channel, ...)."""
        difference = prediction - target
        return torch.cat([functional.relu(difference), functional.relu(-difference)], dim=1)


_THROUGH: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "relu": lambda error, value: torch.where(value > 0, error, 0.0),
    "tanh": lambda error, value: torch.addcmul(error, error * value, value, value=-1),
    "sigmoid": lambda error, value: error * torch.addcmul(value, value, value, value=-1),
    "softplus": lambda error, value: torch.addcmul(error, error, torch.exp(-value), value=-1),
}


class ErrorThrough(Wire):
    """d = f'(x) e where the prediction was p = f(x): the part of an error that its drive x can mend.

    Ports "error", e, and "prediction", p, from which f' is written. Raises WiringError for an f whose slope is unknown.
    """

    ports = ("error", "prediction")

    def __init__(self, activation: str) -> None:
        super().__init__()
        if activation not in _THROUGH:
            raise WiringError(
                given=f"an error through {activation!r}",
                expected=f"a nonlinearity whose slope follows from its value: {', '.join(_THROUGH)}",
                remedy="choose one of these, or put the nonlinearity inside the prediction",
            )
        self.activation = activation

    def forward(self, *, error: Tensor, prediction: Tensor) -> Tensor:
        """f'(x) e."""
        return _THROUGH[self.activation](error, prediction)

    def describe(self) -> str:
        """Through what."""
        return f"error through {self.activation}"


class ErrorRelaxation(Flow):
    """tau dr/dt = f'(r) drive - error: descend the squared prediction errors below and at this level.

    `drive`: the error below through the transpose of the prediction, which must have been made from f(r);
    `error`: the own prediction error.
    """

    ports = ("drive", "error")

    def __init__(self, tau: float | Tensor | TimeConstant, activation: str = "identity") -> None:
        super().__init__()
        self.tau = time_constant(tau)
        self.slope = None if activation == "identity" else slope_named(activation)

    def forward(self, own: Tensor, *, drive: Tensor, error: Tensor) -> Tensor:
        """f'(r) drive - error."""
        if self.slope is not None:
            drive = self.slope(own) * drive
        return drive - error

    def describe(self) -> str:
        """With its time constant."""
        return f"{type(self).__name__}, tau {self.tau.describe()} ms"


class UpdateRate(nn.Module):
    """g = ReLU(offset + w), one w for each channel, learnable ("absolute": |offset + w|); `start` is g at first."""

    def __init__(
        self, channels: int, start: float, offset: float = 0.0, form: Literal["rectified", "absolute"] = "rectified"
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels,), start - offset))
        self.offset, self.form = offset, form

    def forward(self, like: Tensor) -> Tensor:
        """g in a shape that multiplies an activity such as `like`."""
        value = self.weight + self.offset
        return per_channel(value.abs() if self.form == "absolute" else functional.relu(value), like)


class Blend(Wire):
    """N( f( (1 - a) state + a prediction ) ): a representation drawn toward what the layer above predicts of it.

    `rate` is a. Source: Wen et al. 2018 algorithm 1, the top-down sweep.
    """

    ports = ("state", "prediction")

    def __init__(self, rate: UpdateRate, activation: str = "relu", normalise: nn.Module | None = None) -> None:
        super().__init__()
        self.rate = rate
        self.function = activation_named(activation)
        self.normalise = normalise

    def forward(self, *, state: Tensor, prediction: Tensor) -> Tensor:
        """N(f((1 - a) state + a prediction))."""
        value = self.function(torch.lerp(state, prediction, self.rate(state)))
        return value if self.normalise is None else self.normalise(value)


class Correction(Map):
    """N( f( prior + b drive ) ): a representation corrected by the error below, which arrives as the drive.

    `rate` is b. Source: Wen et al. 2018 algorithm 1, the bottom-up sweep; Han et al. 2018 algorithm 1, with the
    representation itself as the prior and no f.
    """

    ports = ("prior", "drive")

    def __init__(self, rate: UpdateRate, activation: str = "relu", normalise: nn.Module | None = None) -> None:
        super().__init__()
        self.rate = rate
        self.function = activation_named(activation)
        self.normalise = normalise

    def forward(self, own: Own, *, prior: Tensor, drive: Tensor) -> Tensor:
        """N(f(prior + b drive)); the own value speaks through the prior."""
        value = self.function(torch.addcmul(prior, self.rate(prior), drive))
        return value if self.normalise is None else self.normalise(value)


class Mixture(Map):
    """h(t) = beta drive + lambda prediction + (1 - beta - lambda) h(t-1) + alpha error.

    drive       the feed-forward input of this step
    prediction  what the area above predicted of this one
    error       minus the gradient of the squared prediction error below with respect to h
    beta, lambda and memory are the softmax of three learnable numbers, alpha is learnable; without feedback lambda
    is 0. Source: Choksi et al. 2021 (Predify) eq. 1.
    """

    ports = ("drive", "prediction", "error")

    def __init__(
        self, feed_forward: float = 0.33, feedback: float = 0.33, correction: float = 0.01, has_feedback: bool = True
    ) -> None:
        super().__init__()
        shares = [feed_forward, feedback, 1.0 - feed_forward - feedback]
        if not has_feedback:
            shares = [feed_forward, 1.0 - feed_forward]
        if min(shares) <= 0.0:
            raise WiringError(
                given=f"Mixture(feed_forward={feed_forward}, feedback={feedback})",
                expected="positive shares whose sum is below 1: the rest is memory",
                remedy="choose such shares; to cut feedback take it small and lesion it, net.without('top_down')",
            )
        self.has_feedback = has_feedback
        self.logits = nn.Parameter(torch.tensor(shares).log())
        self.correction = nn.Parameter(torch.tensor(correction))

    def shares(self) -> Tensor:
        """beta, lambda (if there is feedback) and memory; their sum is 1."""
        return torch.softmax(self.logits, 0)

    def forward(self, own: Tensor, *, drive: Tensor, prediction: Tensor, error: Tensor) -> Tensor:
        """The four terms."""
        shares = self.shares()
        value = shares[0] * drive + shares[-1] * own + self.correction * error
        return value + shares[1] * prediction if self.has_feedback else value
