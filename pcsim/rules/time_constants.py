"""Time constants in ms: fixed numbers, one per channel, or learnable.

tau = tau_min + tau' sigmoid(xi)          one xi per channel, learnable
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pcsim.core.exceptions import WiringError
from pcsim.core.state import per_channel


class TimeConstant(nn.Module, ABC):
    """A time constant in ms; called without arguments it gives a number or a tensor (channel,)."""

    @abstractmethod
    def forward(self) -> float | Tensor:
        """The present value, ms."""

    def for_(self, like: Tensor) -> float | Tensor:
        """The present value in a shape that divides an activity such as `like`."""
        value = self()
        return per_channel(value, like) if isinstance(value, Tensor) else value

    def smallest(self) -> float:
        """The smallest value over channels, ms: what limits an explicit step."""
        value = self()
        return float(value.detach().min()) if isinstance(value, Tensor) else value

    def largest(self) -> float:
        """The largest value it has or, where it is learned, may come to have, ms."""
        value = self()
        return float(value.detach().max()) if isinstance(value, Tensor) else value

    def describe(self) -> str:
        """The value, or its range over channels."""
        value = self()
        if not isinstance(value, Tensor):
            return f"{value:g}"
        return f"{float(value.detach().min()):.3g}..{float(value.detach().max()):.3g}"


class FixedTau(TimeConstant):
    """tau is a constant: one number, or one per channel. Raises WiringError unless all are positive."""

    per_channel: Tensor

    def __init__(self, tau: float | Sequence[float] | Tensor) -> None:
        super().__init__()
        if isinstance(tau, Tensor) and tau.requires_grad:
            raise WiringError(
                given="a tensor with a gradient as a fixed time constant or delay",
                expected="numbers, or something that learns",
                remedy="write LearnableTau(channels, minimum, span): it stays positive while it is trained",
            )
        values = torch.as_tensor(tau, dtype=torch.float64, device="cpu")
        require_positive(values, "tau")
        self.value = float(values) if values.dim() == 0 else None
        self.register_buffer("per_channel", values.reshape(-1), persistent=False)

    def forward(self) -> float | Tensor:
        """The number, or (channel,)."""
        return self.per_channel if self.value is None else self.value


class LearnableTau(TimeConstant):
    """tau = minimum + span sigmoid(xi), one xi per channel, so that tau stays in (minimum, minimum + span).

    `start` is the tau of every channel before training (the middle of the range unless given). Choose
    `minimum` no smaller than the dt you will train with. Raises WiringError unless minimum and span are
    positive and start lies strictly between the ends.
    """

    def __init__(self, channels: int, minimum: float, span: float, start: float | None = None) -> None:
        super().__init__()
        require_positive(torch.tensor([minimum, span], dtype=torch.float64, device="cpu"), "minimum and span of tau")
        share = 0.5 if start is None else (start - minimum) / span
        if not 0.0 < share < 1.0:
            raise WiringError(
                given=f"a learnable tau that starts at {start:g} ms",
                expected=f"a start strictly between {minimum:g} and {minimum + span:g} ms",
                remedy="move start inside the range or widen it with span",
            )
        self.minimum, self.span = minimum, span
        self.xi = nn.Parameter(torch.full((channels,), math.log(share / (1.0 - share))))

    def forward(self) -> Tensor:
        """(channel,), ms."""
        return self.minimum + self.span * torch.sigmoid(self.xi)

    def largest(self) -> float:
        """minimum + span."""
        return self.minimum + self.span


def time_constant(tau: float | Sequence[float] | Tensor | TimeConstant) -> TimeConstant:
    """A `TimeConstant` from a number, one number per channel, or one that is made already."""
    return tau if isinstance(tau, TimeConstant) else FixedTau(tau)


def require_positive(values: Tensor, what: str) -> None:
    """Raise WiringError unless all are positive and finite."""
    if not bool(((values > 0) & torch.isfinite(values)).all()):
        raise WiringError(
            given=f"{what} = {values.tolist()} ms",
            expected="positive, finite times in ms",
            remedy="give tau > 0 (time constants are never inverses: a rate of 0.1 per ms is tau = 10)",
        )
