"""Temporally correlated noise for driving populations (`pcsim.models.with_noise`)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcsim.core.checks import NonNegative, Number, Positive, Whole, checked
from pcsim.core.exceptions import StimulusError
from pcsim.stimuli.random import normal
from pcsim.stimuli.timeline import Timeline, noise

Values = NDArray[np.float64]


@checked(StimulusError, images=None)
def ou_noise(
    images: Tensor,
    sd: NonNegative,
    tau: Positive,
    duration: Number | Tensor,
    every: Positive,
    seed: Whole,
    first: Whole = 0,
    *,
    method: Literal["exact", "euler"] = "exact",
    name: str = "noise",
) -> Timeline:
    """Present `images` with Ornstein-Uhlenbeck noise, tau dx/dt = -x + sqrt(2 tau) sd xi(t), constant for `every` ms.

    exact  x <- rho x + sd sqrt(1 - rho^2) N(0, 1) with rho = exp(-every / tau): exact for any `every`
    euler  x <- (1 - every / tau) x + sd sqrt(2 every / tau) N(0, 1): the Euler-Maruyama method, which requires
           every < 2 tau. Its variance is sd^2 / (1 - every / (2 tau))

    The noise starts in its stationary distribution. It is correlated over time, with corr(lag) = exp(-lag / tau) if
    exact, but not across pixels. The noise of sample i is a function of (seed, first + i) and the frame, independent of
    the batch size. Pass `torch.zeros(...)` as the images to present only the noise. `duration` is one number, or a
    tensor (batch,) with one duration per image. Source: Uhlenbeck & Ornstein 1930; Gillespie 1996 eq. 2.8 (exact).
    Raises StimulusError if the images are not floating-point, if the duration is invalid, or if `every` is too long for
    "euler".
    """
    plain = noise(images, sd, duration, every, seed, first, name=name)
    if method == "euler" and every >= 2.0 * tau:
        raise StimulusError(
            given=f"method='euler' with every={every:g} ms and tau={tau:g} ms",
            expected="steps shorter than 2 tau, for which the method is stable",
            remedy=f"pass method='exact', or every={tau / 10:g}",
        )
    kept = math.exp(-every / tau) if method == "exact" else 1.0 - every / tau
    size = math.sqrt(1.0 - kept**2) if method == "exact" else math.sqrt(2.0 * every / tau)
    stationary = 1.0 if method == "exact" else 1.0 / math.sqrt(1.0 - 0.5 * every / tau)

    def draw(number: int) -> Values:
        return normal(seed, f"ou noise frame {number}", first, len(images), images[0].numel())

    path = _Path(lambda: stationary * draw(0), lambda number, last: kept * last + size * draw(number))

    def frame(number: int) -> Tensor:
        return images + torch.from_numpy(sd * path.at(number)).to(images).view_as(images)

    settings = {"sd": sd, "tau": tau, "method": method, "seed": seed, "first": first}
    return Timeline((replace(plain.epochs[0], frame=frame, kind="ou_noise", settings=settings),))


class _Path:
    """A recursion x_n = step(n, x_{n-1}) from x_0 = start(). Stored values allow fast access to earlier frames."""

    SPACING = 64

    def __init__(self, start: Callable[[], Values], step: Callable[[int, Values], Values]) -> None:
        self._start, self._step = start, step
        self._stored: dict[int, Values] = {}
        self._last: tuple[int, Values] | None = None

    def at(self, number: int) -> Values:
        """Return x_number."""
        begin = max((n for n in self._stored if n <= number), default=0)
        value = self._stored[begin] if begin in self._stored else self._start()
        if (last := self._last) is not None and begin <= last[0] <= number:
            begin, value = last
        for n in range(begin, number + 1):
            value = self._step(n, value) if n > begin else value
            if n % self.SPACING == 0:
                self._stored[n] = value
        self._last = (number, value)
        return value
