"""Transforms for routes that a control signal opens and closes.

y = x[..., top : top + height, left : left + width]       Window, the shift of one route
gain = g_k - 1                                            Opening, so that drive (1 + gain) = g_k drive
"""

from __future__ import annotations

from torch import Tensor, nn

from pcsim.core.checks import Count, Whole, checked
from pcsim.core.exceptions import WiringError


@checked(WiringError)
class Window(nn.Module):
    """y[i, j] = x[top + i, left + j], a window of the input; (batch, ..., H, W) -> (batch, ..., height, width).

    Raises WiringError if the window extends beyond the input.
    """

    def __init__(self, top: Whole, left: Whole, height: Count, width: Count) -> None:
        super().__init__()
        self.top, self.left, self.height, self.width = top, left, height, width

    def forward(self, value: Tensor) -> Tensor:
        """y[i, j] = x[top + i, left + j]."""
        bottom, right = self.top + self.height, self.left + self.width
        if value.dim() < 4 or value.shape[-2] < bottom or value.shape[-1] < right:
            raise WiringError(
                given=f"rows {self.top} to {bottom} and columns {self.left} to {right} of {tuple(value.shape[1:])}",
                expected="a window within the input (channel, height, width)",
                remedy="pass a smaller window, or smaller top and left",
            )
        return value[..., self.top : bottom, self.left : right]

    def describe(self) -> str:
        """Return the size and position of the window."""
        return f"window {self.height}x{self.width} at {self.top},{self.left}"


@checked(WiringError)
class Opening(nn.Module):
    """gain = g_k - 1, for gate k of the source; (batch, gates, ...) -> (batch, 1, ...).

    On a modulatory edge to `rules.modulated`, the route delivers drive (1 + gain) = g_k drive: exactly 0 if the gate is
    0, and bitwise equal to the drive if it is 1. Without the edge, the route is open.
    """

    def __init__(self, gate: Whole) -> None:
        super().__init__()
        self.gate = gate

    def forward(self, value: Tensor) -> Tensor:
        """gain = g_k - 1."""
        if value.shape[1] <= self.gate:
            raise WiringError(
                given=f"gate {self.gate} of a population with {value.shape[1]} channels",
                expected=f"a gate from 0 to {value.shape[1] - 1}",
                remedy=f"pass Opening({value.shape[1] - 1})",
            )
        return value[:, self.gate : self.gate + 1] - 1.0

    def describe(self) -> str:
        """Return the number of the gate."""
        return f"gate {self.gate} - 1"
