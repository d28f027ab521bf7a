"""Convergence of curves over time, such as prediction errors, energies, state changes or readout losses.

Curves have shape (time,), or (time, n) for n samples, and are given at increasing `times` in ms. Functions return one
value per sample, and `summary` averages these values. Undefined values, such as the settling time of a curve that never
settles, are NaN. Curves with NaN are rejected, except by `ending` and `summary`, which count them as diverged. Rates,
distances and changes are NaN for states that contain NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Annotated

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from pcsim.analysis.arguments import as_array, as_times, is_after
from pcsim.analysis.statistics import Estimate, estimate
from pcsim.core.checks import Axes, checked
from pcsim.core.exceptions import StimulusError

Samples = NDArray[np.float64]
TAIL = 0.25
"""final fraction of a curve from which its ending is classified"""
STILL = 1e-3
"""largest range of the tail of a settled curve, as a fraction of the total range"""


class Ending(Enum):
    """How a curve ends: at rest, in a cycle, growing without bound, or not yet settled."""

    STEADY = "steady"
    CYCLE = "cycle"
    DIVERGED = "diverged"
    UNSETTLED = "unsettled"


@dataclass(frozen=True)
class Fit:
    """A fit x(t) = end + amplitude exp(-rate t) from the window's start, with the rate per ms and its 95 % interval."""

    rate: float
    low: float
    high: float
    end: float
    amplitude: float


States = Annotated[Tensor, Axes("time, batch, ...")]


@checked(StimulusError)
def settling_time(times: ArrayLike, curves: ArrayLike, share: float = 0.05) -> Samples:
    """Return the interpolated time in ms after which |x(t) - x(T)| <= share |x(0) - x(T)|: (n,).

    The time is 0 for a constant curve, and NaN for a curve that does not settle. Raises StimulusError unless
    0 < share < 1.
    """
    _require_share(share)
    at, values = _checked(times, curves)
    return _for_each(values, lambda x: _settling(at, x, share))


@checked(StimulusError)
def rate_of_change(times: ArrayLike, *states: States) -> Samples:
    """Return |x(t_k) - x(t_k-1)| / (t_k - t_k-1) per ms, with norms over all `states` of a sample: (time - 1, n).

    The rate decreases as a network settles, even without predictions. `states` are (time, n, ...) at `times` in ms.
    Raises StimulusError if the states differ in time or samples, or do not match `times`.
    """
    parts = _states(states)
    squares = sum(state.diff(dim=0).square().sum(2).detach().cpu().numpy() for state in parts)
    return np.sqrt(squares) / np.diff(as_times(times, len(parts[0])))[:, None]


@checked(StimulusError)
def distance_from_end(*states: States) -> Samples:
    """Return |x(t) - x(T)|, the norm over all `states` (time, n, ...) of a sample: (time, n).

    Raises StimulusError if the states differ in time or samples.
    """
    squares = sum((state - state[-1]).square().sum(2).detach().cpu().numpy() for state in _states(states))
    return np.sqrt(squares)


@checked(StimulusError)
def state_change(values: States) -> Tensor:
    """Return |x(t) - x(t-1)| / |x(t)|, the relative change of each sample at each step: (time - 1, batch).

    `values` are (time, batch, ...). The change is defined as 0 if x(t) is zero.
    """
    flat = values.reshape(*values.shape[:2], -1)
    change, size = torch.linalg.vector_norm(flat.diff(dim=0), dim=2), torch.linalg.vector_norm(flat[1:], dim=2)
    return torch.where(size == 0, torch.zeros_like(change), change / size.clamp_min(torch.finfo(size.dtype).tiny))


@checked(StimulusError)
def decay_time(times: ArrayLike, curves: ArrayLike, share: float = 0.05) -> Samples:
    """Return the interpolated time in ms after which |x(t)| stays below `share` of its maximum: (n,).

    Use this function for curves that decay to zero, such as a rate of change or a distance from the end, even if they
    are still falling slightly. The time is NaN if it lies in the last quarter, because the rest of the curve is then
    too short to show that it stays below. Raises StimulusError unless 0 < share < 1.
    """
    _require_share(share)
    at, values = _checked(times, curves)

    def last(x: Samples) -> float:
        left = np.abs(x) / (np.abs(x).max() or 1.0)
        outside = np.flatnonzero(left > share)
        if not len(outside):
            return 0.0
        if is_after(at[outside[-1]], at[-1] - TAIL * (at[-1] - at[0])):
            return math.nan
        return _crossing(at, left, int(outside[-1]) + 1, share)

    return _for_each(values, last)


@checked(StimulusError)
def half_life(times: ArrayLike, curves: ArrayLike) -> Samples:
    """Return the interpolated time in ms at which a curve is first halfway from its start to its end: (n,)."""
    at, values = _checked(times, curves)

    def first(x: Samples) -> float:
        way = _left(x)
        below = np.flatnonzero(way <= 0.5)
        return _crossing(at, way, int(below[0]), 0.5) if len(below) and _ends_steady(at, x) else math.nan

    return _for_each(values, first)


@checked(StimulusError)
def overshoot(times: ArrayLike, curves: ArrayLike) -> Samples:
    """Return how far a curve overshoots its end, as a fraction of its distance from start to end, or 0: (n,)."""
    at, values = _checked(times, curves)

    def beyond(x: Samples) -> float:
        way = x[-1] - x[0]
        return max(0.0, float(((x - x[-1]) / way).max())) if way and _ends_steady(at, x) else math.nan

    return _for_each(values, beyond)


@checked(StimulusError)
def crossings(times: ArrayLike, curves: ArrayLike, share: float = 0.01) -> Samples:
    """Count how often a curve crosses its end value by more than `share` of its range: (n,); 0 without ringing."""
    at, values = _checked(times, curves)

    def count(x: Samples) -> float:
        if not _ends_steady(at, x):
            return math.nan
        away = x - x[-1]
        signs = np.sign(away[np.abs(away) > share * np.ptp(x)])
        return float((signs[1:] != signs[:-1]).sum())

    return _for_each(values, count)


@checked(StimulusError)
def ending(times: ArrayLike, curves: ArrayLike) -> list[Ending]:
    """Classify the end of each curve.

    diverged   not finite, or the maximum more than doubles from each third to the next, and the end is above half of it
    steady     the range of the last quarter is at most 0.1 % of the total range
    cycle      the last half is periodic, with at least two periods that do not fade
    unsettled  none of these; simulate longer
    """
    at, values = _checked(times, curves, finite=False)
    return [_ending(at, x) for x in values.T]


@checked(StimulusError)
def fit_rate(times: ArrayLike, curve: ArrayLike, start: float = 0.0) -> Fit:
    """Fit x(t) = end + amplitude exp(-rate t) to one curve (time,), using the times from `start` ms on.

    In a late window, fast modes have decayed, so the rate is that of the slowest mode. SciPy performs a least-squares
    fit, and the interval follows from the covariance. Raises StimulusError if the window contains fewer than five time
    points, or if the fit does not converge.
    """
    from scipy.optimize import curve_fit

    at, values = _checked(times, curve)
    chosen = ~is_after(start, at)
    if chosen.sum() < 5 or values.shape[1] != 1:
        raise StimulusError(
            given=f"{chosen.sum()} time points from {start:g} ms on, {values.shape[1]} curves",
            expected="at least five time points of one curve",
            remedy="pass start=0.0, record with every=1, or fit one curve at a time, such as curves[:, 0]",
        )
    t, x = at[chosen] - at[chosen][0], values[chosen, 0]
    way = x[0] - x[-1]
    if not way:
        return Fit(math.nan, math.nan, math.nan, float(x[-1]), 0.0)
    # The curve is rescaled, so that the fit works equally well for values of 1e-9 and of 1e3.
    unit, scale = float(t[-1]), float(abs(way))
    fallen = np.flatnonzero(np.abs(x - x[-1]) <= abs(way) / math.e)
    guess = unit / max(t[fallen[0]], t[1])

    def falling(s: Samples, end: float, amplitude: float, rate: float) -> Samples:
        return end + amplitude * np.exp(-rate * s)

    def slopes(s: Samples, _: float, amplitude: float, rate: float) -> Samples:
        left = np.exp(-rate * s)
        return np.stack([np.ones_like(s), left, -amplitude * s * left], 1)

    # For an end near 0, rounding would make finite differences, and thus the interval, inaccurate.
    begin = (x[-1] / scale, way / scale, guess)
    try:
        found, covariance = curve_fit(falling, t / unit, x / scale, begin, jac=slopes, maxfev=20_000)
    except RuntimeError as reason:
        raise StimulusError(
            given=f"a curve for which the fit does not converge ({reason})",
            expected="a curve that falls or rises exponentially to its end",
            remedy="pass a later start, such as a third of the run, or check convergence.ending(times, curve)",
        ) from reason
    end, amplitude, rate = (float(value) for value in found)
    half = 1.96 * math.sqrt(max(float(covariance[2, 2]), 0.0))
    return Fit(rate / unit, (rate - half) / unit, (rate + half) / unit, end * scale, amplitude * scale)


@dataclass(frozen=True)
class Convergence:
    """Convergence of a set of curves: means with 95 % bootstrap intervals, ignoring NaN, and counts of endings."""

    settling: Estimate
    half_life: Estimate
    overshoot: Estimate
    crossings: Estimate
    endings: Mapping[str, int]

    def __str__(self) -> str:
        ends = ", ".join(f"{count} {name}" for name, count in self.endings.items() if count)
        return (
            f"settles in {self.settling.mean:.3g} ms ({self.settling.low:.3g}-{self.settling.high:.3g}), half-life "
            f"{self.half_life.mean:.3g} ms, overshoot {100 * self.overshoot.mean:.2g} %; {ends}"
        )


@checked(StimulusError)
def summary(times: ArrayLike, curves: ArrayLike, share: float = 0.05) -> Convergence:
    """Summarise `settling_time`, `half_life`, `overshoot`, `crossings` and `ending` of curves (time, n)."""
    ends = ending(times, curves)
    at, values = _checked(times, curves, finite=False)
    whole = values[:, np.isfinite(values).all(0)]
    return Convergence(
        _known(settling_time(at, whole, share)),
        _known(half_life(at, whole)),
        _known(overshoot(at, whole)),
        _known(crossings(at, whole)),
        {kind.value: ends.count(kind) for kind in Ending},
    )


def _require_share(share: float) -> None:
    if not 0 < share < 1:
        raise StimulusError(given=f"share={share}", expected="a fraction between 0 and 1", remedy="pass share=0.05")


def _known(values: Samples) -> Estimate:
    there = values[np.isfinite(values)]
    return estimate(there) if len(there) else Estimate(math.nan, math.nan, math.nan)


def _checked(times: ArrayLike, curves: ArrayLike, finite: bool = True) -> tuple[Samples, Samples]:
    axes = ("time", "sample image presentation")[: np.ndim(curves)]
    values = as_array(curves, *axes).astype(float)
    if values.ndim == 1:
        values = values[:, None]
    if values.ndim != 2 or len(values) < 3:
        raise StimulusError(
            given=f"curves {values.shape}",
            expected="curves (time,) or (time, n), with at least three time points",
            remedy="pass run.times and one curve per sample, such as run.errors['e1']",
        )
    at = as_times(times, len(values))
    if finite and not np.isfinite(values).all():
        raise StimulusError(
            given="curves with NaN or infinite values",
            expected="finite curves",
            remedy="pass only the finite curves: curves[:, np.isfinite(curves).all(0)]",
        )
    return at, values


def _states(states: tuple[Tensor, ...]) -> list[Tensor]:
    """Return the states (time, n, unit) in double precision, after checking that their times and samples agree."""
    if not states or len({tuple(state.shape[:2]) for state in states}) != 1 or states[0].dim() < 2:
        raise StimulusError(
            given=f"states {', '.join(str(tuple(state.shape)) for state in states)}",
            expected="states (time, n, ...) with the same times and samples",
            remedy="pass populations of the same run, such as run['l1'], run['l2']",
        )
    return [state.double().reshape(*state.shape[:2], -1) for state in states]


def _for_each(values: Samples, measure: Callable[[Samples], float]) -> Samples:
    return np.array([measure(x) for x in values.T], np.float64)


def _left(x: Samples) -> Samples:
    """Return the remaining distance to the end as a fraction of the initial distance."""
    way = abs(x[0] - x[-1])
    return np.abs(x - x[-1]) / way if way else np.zeros_like(x)


def _settling(at: Samples, x: Samples, share: float) -> float:
    if not _ends_steady(at, x):
        return math.nan
    left = _left(x)
    outside = np.flatnonzero(left > share)
    return _crossing(at, left, int(outside[-1]) + 1, share) if len(outside) else 0.0


def _crossing(at: Samples, left: Samples, after: int, level: float) -> float:
    """Return the time at which the line from point `after` - 1 to point `after` crosses `level`."""
    if after == 0:
        return float(at[0] - at[0])
    high, low = left[after - 1], left[after]
    between = (high - level) / (high - low) if high != low else 1.0
    return float(at[after - 1] + between * (at[after] - at[after - 1]) - at[0])


def _tail(at: Samples, x: Samples, share: float = TAIL) -> Samples:
    return x[~is_after(at[-1] - share * (at[-1] - at[0]), at)]


def _ends_steady(at: Samples, x: Samples) -> bool:
    return bool(np.ptp(_tail(at, x)) <= STILL * np.ptp(x))


def _ending(at: Samples, x: Samples) -> Ending:
    if not np.isfinite(x).all():
        return Ending.DIVERGED
    if _ends_steady(at, x):
        return Ending.STEADY
    thirds = [float(np.abs(part).max()) for part in np.array_split(x, 3)]
    if thirds[2] > 2 * thirds[1] > 4 * thirds[0] and abs(x[-1]) > 0.5 * thirds[2]:
        return Ending.DIVERGED
    return Ending.CYCLE if _repeats(_tail(at, x, 0.5)) else Ending.UNSETTLED


def _repeats(x: Samples) -> bool:
    """Return True if x is periodic, i.e. equals itself when shifted by some lag of at most half its length."""
    away = x - x.mean()
    size = float(np.sqrt((away**2).mean()))
    for lag in range(2, len(x) // 2 + 1):
        off = float(np.sqrt(((away[lag:] - away[:-lag]) ** 2).mean()))
        # Even a slow drift resembles itself one step later, so the curve must also leave its start within the period.
        left = float(np.abs(away[: lag + 1] - away[0]).max())
        if off < 0.05 * size and left > size:
            return True
    return False


__all__ = [
    "Convergence",
    "Ending",
    "Fit",
    "crossings",
    "decay_time",
    "distance_from_end",
    "ending",
    "fit_rate",
    "half_life",
    "overshoot",
    "rate_of_change",
    "settling_time",
    "state_change",
    "summary",
]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
