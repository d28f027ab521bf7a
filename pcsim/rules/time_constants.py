"""Time constants in ms, either fixed (one number, or one per channel) or learnable.

tau = tau_min + tau' sigmoid(xi)          one learnable xi per channel
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pcsim.core.checks import Count, checked
from pcsim.core.exceptions import WiringError
from pcsim.core.state import per_channel


class TimeConstant(nn.Module, ABC):
    """A time constant in ms. Calling it without arguments returns a number or a tensor (channel,)."""

    @abstractmethod
    def forward(self) -> float | Tensor:
        """Return the current value in ms, a number or a tensor (channel,)."""

    def for_(self, like: Tensor) -> float | Tensor:
        """Return the current value, reshaped to broadcast against the activity `like`."""
        value = self()
        return per_channel(value, like) if isinstance(value, Tensor) else value

    @property
    def channels(self) -> int | None:
        """The number of channels with separate values, or None if one value applies to all channels."""
        value = self()
        return value.numel() if isinstance(value, Tensor) and value.numel() > 1 else None

    def smallest(self) -> float:
        """Return the smallest value over channels, in ms, which limits the dt of an explicit solver."""
        value = self()
        return float(value.detach().min()) if isinstance(value, Tensor) else value

    def largest(self) -> float:
        """Return the largest value over channels, in ms; for a learnable tau, its upper bound."""
        value = self()
        return float(value.detach().max()) if isinstance(value, Tensor) else value

    def describe(self) -> str:
        """Return the value, or its range over channels, as text."""
        value = self()
        if not isinstance(value, Tensor):
            return f"{value:g}"
        return f"{float(value.detach().min()):.3g}..{float(value.detach().max()):.3g}"


@checked(WiringError)
class FixedTau(TimeConstant):
    """A constant tau: one number, or one per channel. Raises WiringError unless all values are positive and finite."""

    per_channel: Tensor

    def __init__(self, tau: float | Sequence[float] | Tensor) -> None:
        super().__init__()
        if isinstance(tau, Tensor) and tau.requires_grad:
            raise WiringError(
                given="a tensor with a gradient, passed as a fixed time constant or delay",
                expected="numbers, a tensor that does not require gradients, or a LearnableTau",
                remedy="use LearnableTau(channels, minimum, span), which stays positive during training",
            )
        values = torch.as_tensor(tau, dtype=torch.float64, device="cpu")
        if values.dim() > 1 or not values.numel():
            raise WiringError(
                given=f"time constants or delays of shape {tuple(values.shape)}",
                expected="one number, or one for each channel: (channel,)",
                remedy="pass tau=10.0, or tau.flatten() for a tensor (channel, 1, 1)",
            )
        require_positive(values, "tau")
        self.value = float(values) if values.dim() == 0 else None
        self.register_buffer("per_channel", values.reshape(-1), persistent=False)

    def forward(self) -> float | Tensor:
        """Return the constant in ms, a number or a tensor (channel,)."""
        return self.per_channel if self.value is None else self.value


@checked(WiringError)
class LearnableTau(TimeConstant):
    """tau = minimum + span sigmoid(xi), with one xi per channel, so that tau stays in (minimum, minimum + span).

    `start` is the initial tau of every channel, by default the middle of the range. Choose a `minimum` of at least the
    dt used in training. Raises WiringError unless `minimum` and `span` are positive and `start` is strictly inside the
    range.
    """

    def __init__(self, channels: Count, minimum: float, span: float, start: float | None = None) -> None:
        super().__init__()
        require_positive(torch.tensor([minimum, span], dtype=torch.float64, device="cpu"), "minimum and span of tau")
        share = 0.5 if start is None else (start - minimum) / span
        if not 0.0 < share < 1.0:
            raise WiringError(
                given=f"a learnable tau with an initial value of {start:g} ms",
                expected=f"an initial value strictly between {minimum:g} and {minimum + span:g} ms",
                remedy=f"pass start={minimum + span / 2:g}, the middle of the range, or a larger span",
            )
        self.minimum, self.span = minimum, span
        self.xi = nn.Parameter(torch.full((channels,), math.log(share / (1.0 - share))))

    def forward(self) -> Tensor:
        """tau = minimum + span sigmoid(xi), (channel,), ms."""
        return self.minimum + self.span * torch.sigmoid(self.xi)

    def largest(self) -> float:
        """Return minimum + span, in ms."""
        return self.minimum + self.span


@checked(WiringError)
def time_constant(tau: float | Sequence[float] | Tensor | TimeConstant) -> TimeConstant:
    """Convert numbers to a `FixedTau`; return a `TimeConstant` unchanged."""
    return tau if isinstance(tau, TimeConstant) else FixedTau(tau)


def require_positive(values: Tensor, what: str) -> None:
    """Raise WiringError unless all values are positive and finite."""
    if not bool(((values > 0) & torch.isfinite(values)).all()):
        raise WiringError(
            given=f"{what} = {values.tolist()} ms",
            expected="positive, finite times in ms",
            remedy="pass times with tau > 0, not rates: a rate of 0.1 per ms corresponds to tau=10.0",
        )
