"""Controls of matched size."""

from __future__ import annotations

from collections.abc import Callable

import torch

from pcsim.core.exceptions import WiringError
from pcsim.network import Network


def matched(build: Callable[[int], Network], parameters: int, largest: int = 4096) -> Network:
    """Return build(width) at the width in 1..largest whose number of parameters is nearest to `parameters`.

    `build` must return a larger network for a larger width. Initial weights are those that build(width) would draw
    now.
    Raises WiringError where the number lies beyond the largest width.

        control = pcsim.models.matched(lambda width: pcsim.models.blt_b(width=width), net.parameter_count)
    """

    def count(width: int) -> int:
        with torch.random.fork_rng(devices=[]):
            return build(width).parameter_count

    low, high = 1, 2
    while high < largest and count(high) < parameters:
        low, high = high, min(2 * high, largest)
    if count(high) < parameters:
        raise WiringError(
            given=f"{parameters:,} parameters to match, and {count(high):,} at the largest width, {high}",
            expected="a width that makes the network large enough",
            remedy=f"write largest={2 * largest}, or match a smaller network",
        )
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if count(middle) < parameters else (low, middle)
    return build(min((low, high), key=lambda width: abs(count(width) - parameters)))
