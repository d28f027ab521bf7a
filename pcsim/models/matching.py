"""Control networks of matched size."""

from __future__ import annotations

from collections.abc import Callable

import torch

from pcsim.core.checks import Count, checked
from pcsim.core.exceptions import WiringError
from pcsim.network import Network


@checked(WiringError)
def matched(build: Callable[[int], Network], parameters: Count, largest: Count = 4096) -> Network:
    """Return build(width) for the width in 1..largest whose parameter count is closest to `parameters`.

    The parameter count of `build` must increase with the width. The initial weights are those of a direct call to
    build(width). Raises WiringError if even the largest width has too few parameters.

        control = pcsim.models.matched(lambda width: pcsim.models.blt_b((width, width)), net.parameter_count)
    """

    def count(width: Count) -> int:
        with torch.random.fork_rng(devices=[]):
            return build(width).parameter_count

    low, high = 1, 2
    while high < largest and count(high) < parameters:
        low, high = high, min(2 * high, largest)
    if count(high) < parameters:
        raise WiringError(
            given=f"{parameters:,} parameters to match, but only {count(high):,} at the largest width, {high}",
            expected="enough parameters at the `largest` width",
            remedy=f"pass largest={2 * largest}, or match a smaller network",
        )
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if count(middle) < parameters else (low, middle)
    return build(min((low, high), key=lambda width: abs(count(width) - parameters)))
