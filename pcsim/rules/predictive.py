"""Rules for predictive coding.

    p = f(drive)                                     prediction
    e = f( pi * (target - prediction) )              prediction error, per sample
    d = f'(drive of p) e                             an error passed backwards through p = f(drive)
    tau dr/dt = f'(r) drive - error                  relaxation of a representation
    r <- f( (1 - a) state + a prediction )           a representation blended with its prediction
    r <- f( prior + b drive )                        a representation corrected by an error

In relaxation, `drive` is the prediction error of the level below, passed through the transpose of the prediction's
transform, and `error` is the prediction error of the representation itself. With transposed weights, relaxation is the
gradient flow of E = 1/2 sum pi (r - p)^2 over all layers: Rao & Ballard 1999 eq. 7-8, Whittington & Bogacz 2017
eq. 2.15. `Blend` and `Correction` are the top-down and bottom-up passes of Wen et al. 2018. The model of
Han et al. 2018 uses only `Correction`, with the representation as its own prior.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from pcsim.core.checks import Count, checked
from pcsim.core.exceptions import WiringError
from pcsim.core.state import Shape, per_channel
from pcsim.rules.base import Flow, Map, Own, Wire, activation_named, slope_named
from pcsim.rules.time_constants import TimeConstant, time_constant


@checked(WiringError)
class Prediction(Wire):
    """p = min(f(drive + b), ceiling), a prediction with the shape of its target.

    If `channels` is set, b is one bias per channel. `ceiling` limits the prediction (the SatLU of Lotter et al. 2017).
    """

    def __init__(
        self, activation: str = "identity", channels: Count | None = None, ceiling: float | None = None
    ) -> None:
        super().__init__()
        self.function = activation_named(activation)
        self.bias = nn.Parameter(torch.zeros(channels)) if channels is not None else None
        self.ceiling = ceiling

    def shapes(self, ports: Mapping[str, Shape]) -> dict[str, Shape]:
        """Return the shape of the drive, whose channels must match the bias if there is one."""
        return super().shapes(ports) if self.bias is None else self._shapes_of_channels(len(self.bias), ports)

    def forward(self, *, drive: Tensor) -> Tensor:
        """p = min(f(drive + b), ceiling)."""
        value = self.function(drive if self.bias is None else drive + per_channel(self.bias, drive))
        return value if self.ceiling is None else value.clamp(max=self.ceiling)


class ErrorUnit(Wire):
    """Base class for prediction errors.

    Edges of kind `prediction` target the port "prediction"; all others target "target".
    """

    ports = ("target", "prediction")


@checked(WiringError)
class PredictionError(ErrorUnit):
    """e = f( pi * (target - prediction) ) for each sample, with precision pi; f is usually the identity."""

    def __init__(self, precision: float = 1.0, activation: str = "identity") -> None:
        super().__init__()
        self.precision = precision
        self.function = activation_named(activation)

    def forward(self, *, target: Tensor, prediction: Tensor) -> Tensor:
        """e = f(pi * (target - prediction))."""
        difference = target - prediction
        return self.function(difference if self.precision == 1.0 else self.precision * difference)


class SplitError(ErrorUnit):
    """e = concat[ ReLU(prediction - target), ReLU(target - prediction) ]: errors represented by non-negative rates.

    The output has twice as many channels as the target. Source: Lotter et al. 2017 eq. 3, with the channel order of the
    authors' code.
    """

    def shapes(self, ports: Mapping[str, Shape]) -> dict[str, Shape]:
        """Return the shape of the target with the number of channels doubled."""
        channels, *rest = super().shapes(ports)["value"]
        return {"value": (2 * channels, *rest)}

    def forward(self, *, target: Tensor, prediction: Tensor) -> Tensor:
        """e = concat[ReLU(prediction - target), ReLU(target - prediction)], (batch, 2 * channel, ...)."""
        difference = prediction - target
        return torch.cat([functional.relu(difference), functional.relu(-difference)], dim=1)


_THROUGH: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "relu": lambda error, value: torch.where(value > 0, error, 0.0),
    "tanh": lambda error, value: torch.addcmul(error, error * value, value, value=-1),
    "sigmoid": lambda error, value: error * torch.addcmul(value, value, value, value=-1),
    "softplus": lambda error, value: torch.addcmul(error, error, torch.exp(-value), value=-1),
}


@checked(WiringError)
class ErrorThrough(Wire):
    """d = f'(x) e for a prediction p = f(x): the prediction error passed backwards through f.

    The port "error" receives e, and "prediction" receives p, from which f' is computed. Raises WiringError if the slope
    of f cannot be computed from p.
    """

    ports = ("error", "prediction")

    def __init__(self, activation: str) -> None:
        super().__init__()
        if activation not in _THROUGH:
            raise WiringError(
                given=f"an error passed back through {activation!r}",
                expected=f"a nonlinearity whose slope can be computed from its value: {', '.join(_THROUGH)}",
                remedy="pass activation='tanh', or apply f inside the prediction with nonlinearity='inside'",
            )
        self.activation = activation

    def forward(self, *, error: Tensor, prediction: Tensor) -> Tensor:
        """d = f'(x) e."""
        return _THROUGH[self.activation](error, prediction)

    def describe(self) -> str:
        """Return a description that names f."""
        return f"error through {self.activation}"


@checked(WiringError)
class ErrorRelaxation(Flow):
    """tau dr/dt = f'(r) drive - error: gradient descent on the squared errors of this level and the one below.

    `drive` is the error of the level below, passed through the transpose of the prediction's transform. `error` is the
    prediction error of this level. The prediction of the level below must be a function of f(r).
    """

    ports = ("drive", "error")

    def __init__(self, tau: float | Tensor | TimeConstant, activation: str = "identity") -> None:
        super().__init__()
        self.tau = time_constant(tau)
        self.slope = None if activation == "identity" else slope_named(activation)

    def forward(self, own: Tensor, *, drive: Tensor, error: Tensor) -> Tensor:
        """tau dr/dt = f'(r) drive - error."""
        if self.slope is not None:
            drive = self.slope(own) * drive
        return drive - error


@checked(WiringError)
class UpdateRate(nn.Module):
    """g = ReLU(offset + w), or |offset + w| for "absolute", with one learnable w per channel; g starts at `start`."""

    def __init__(
        self, channels: Count, start: float, offset: float = 0.0, form: Literal["rectified", "absolute"] = "rectified"
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels,), start - offset))
        self.offset, self.form = offset, form

    def forward(self, like: Tensor) -> Tensor:
        """Return g, reshaped to broadcast against the activity `like`."""
        value = self.weight + self.offset
        return per_channel(value.abs() if self.form == "absolute" else functional.relu(value), like)


@checked(WiringError)
class Blend(Wire):
    """y = N( f( (1 - a) state + a prediction ) ): a representation blended with its prediction from the layer above.

    a is given by `rate`, and N by `normalise`. Source: Wen et al. 2018 algorithm 1, the top-down pass.
    """

    ports = ("state", "prediction")

    def __init__(self, rate: UpdateRate, activation: str = "relu", normalise: nn.Module | None = None) -> None:
        super().__init__()
        self.rate = rate
        self.function = activation_named(activation)
        self.normalise = normalise

    def forward(self, *, state: Tensor, prediction: Tensor) -> Tensor:
        """y = N(f((1 - a) state + a prediction))."""
        value = self.function(torch.lerp(state, prediction, self.rate(state)))
        return value if self.normalise is None else self.normalise(value)


@checked(WiringError)
class Correction(Map):
    """r <- N( f( prior + b drive ) ): a representation corrected by its drive, the error of the layer below.

    b is given by `rate`, and N by `normalise`. Source: Wen et al. 2018 algorithm 1, the bottom-up pass; Han et al. 2018
    algorithm 1, in which the prior is the representation itself and f is the identity.
    """

    ports = ("prior", "drive")

    def __init__(self, rate: UpdateRate, activation: str = "relu", normalise: nn.Module | None = None) -> None:
        super().__init__()
        self.rate = rate
        self.function = activation_named(activation)
        self.normalise = normalise

    def forward(self, own: Own, *, prior: Tensor, drive: Tensor) -> Tensor:
        """r <- N(f(prior + b drive)); the previous value enters only through the prior."""
        value = self.function(torch.addcmul(prior, self.rate(prior), drive))
        return value if self.normalise is None else self.normalise(value)


@checked(WiringError)
class Mixture(Map):
    """h(t) = beta drive + lambda prediction + (1 - beta - lambda) h(t-1) + alpha error.

    drive       the feed-forward input in the current step
    prediction  the prediction of this area by the area above
    error       the negative gradient, with respect to h, of the squared prediction error of the area below
    beta, lambda and the memory fraction 1 - beta - lambda are the softmax of three learnable numbers, and alpha is
    learnable. Without feedback, lambda is 0. Source: Choksi et al. 2021 (Predify) eq. 1.
    """

    ports = ("drive", "prediction", "error")

    def __init__(
        self, feed_forward: float = 0.33, feedback: float = 0.33, correction: float = 0.01, has_feedback: bool = True
    ) -> None:
        super().__init__()
        # Round the sum only once: in floating point, 1 - 0.7 - 0.3 is above 0.
        shares = [feed_forward, feedback, 1.0 - (feed_forward + feedback)]
        if not has_feedback:
            shares = [feed_forward, 1.0 - feed_forward]
        if min(shares) <= 0.0:
            raise WiringError(
                given=f"Mixture(feed_forward={feed_forward}, feedback={feedback})",
                expected="positive fractions that sum to less than 1, so that the memory fraction is also positive",
                remedy="pass feed_forward=0.33, feedback=0.33; to remove feedback, call net.without('top_down')",
            )
        self.has_feedback = has_feedback
        self.logits = nn.Parameter(torch.tensor(shares).log())
        self.correction = nn.Parameter(torch.tensor(correction))

    def shares(self) -> Tensor:
        """Return beta, lambda (if there is feedback) and the memory fraction, which sum to 1."""
        return torch.softmax(self.logits, 0)

    def forward(self, own: Tensor, *, drive: Tensor, prediction: Tensor, error: Tensor) -> Tensor:
        """h(t) = beta drive + lambda prediction + (1 - beta - lambda) h(t-1) + alpha error."""
        shares = self.shares()
        value = shares[0] * drive + shares[-1] * own + self.correction * error
        return value + shares[1] * prediction if self.has_feedback else value
