"""Endings, overshoot and rates of hand-made curves."""

from __future__ import annotations

import numpy as np
import pytest

from pcsim.analysis import convergence
from pcsim.analysis.convergence import Ending

TIMES = np.arange(0.0, 200.0)


def ends(curve: np.ndarray) -> Ending:
    (found,) = convergence.ending(TIMES, curve)
    return found


def test_overshoot_is_relative_to_total_change() -> None:
    curve = np.full(200, 2.0)
    curve[0], curve[5] = 6.0, 1.0  # falls by 4, and overshoots by 1
    assert convergence.overshoot(TIMES, curve)[0] == pytest.approx(0.25)
    rising = np.full(200, 3.0)
    rising[0], rising[5] = 1.0, 4.0
    assert convergence.overshoot(TIMES, rising)[0] == pytest.approx(0.5)
    rising[5] = 2.0
    assert convergence.overshoot(TIMES, rising)[0] == 0.0


def test_overshoot_is_nan_without_steady_end() -> None:
    assert np.isnan(convergence.overshoot(TIMES, np.sin(TIMES))[0])
    assert np.isnan(convergence.overshoot(TIMES, np.ones(200))[0]), "a constant curve has no overshoot"


@pytest.mark.parametrize(
    ("curve", "ending"),
    [
        (np.exp(-TIMES / 10.0), Ending.STEADY),
        (np.where(TIMES % 2, 1.0, -1.0), Ending.CYCLE),
        (np.sin(2 * np.pi * TIMES / 17.0), Ending.CYCLE),
        (np.exp(TIMES / 20.0), Ending.DIVERGED),
        (np.where(TIMES == 199.0, np.nan, 1.0), Ending.DIVERGED),
        (-TIMES, Ending.UNSETTLED),
        (np.random.default_rng(0).normal(size=200), Ending.UNSETTLED),
    ],
    ids=["decay", "period of two", "sine", "explosion", "NaN", "drift", "noise"],
)
def test_ending_of_simple_curves(curve: np.ndarray, ending: Ending) -> None:
    assert ends(curve) is ending


def test_ending_depends_only_on_last_part() -> None:
    late = np.where(TIMES < 150.0, np.sin(TIMES), 0.3)
    assert ends(late) is Ending.STEADY
    assert ends(np.where(TIMES < 150.0, 0.3, np.sin(TIMES))) is not Ending.STEADY


@pytest.mark.parametrize(("size", "tau", "end"), [(1e-9, 10.0, 2.0), (1e3, 40.0, -5.0), (-3.0, 25.0, 1.0)])
def test_fit_rate_recovers_exponential_rate(size: float, tau: float, end: float) -> None:
    found = convergence.fit_rate(TIMES, end + size * np.exp(-TIMES / tau))
    assert found.rate == pytest.approx(1.0 / tau, rel=0.01)


def test_tail_includes_its_first_time_point() -> None:
    """The last quarter of 0 to 100 ms starts at 75 ms, at any offset and whatever rounding does to the times."""
    for times in (np.arange(101.0), 1000.0 + np.arange(101.0), np.cumsum(np.full(101, 0.1)) * 10):
        late, early = np.where(np.arange(101) > 75, 1.0, 0.0), np.where(np.arange(101) > 74, 1.0, 0.0)
        assert convergence.ending(times, late) == [Ending.UNSETTLED]
        assert convergence.ending(times, early) == [Ending.STEADY]


def test_cycle_needs_exactly_two_periods_in_last_half() -> None:
    assert ends(np.sin(2 * np.pi * TIMES / 50.0)) is Ending.CYCLE
    assert ends(np.where(TIMES % 50 == 49, 1.0, 0.0)) is Ending.CYCLE, (
        "the only excursion is in the last step of a period"
    )
    assert ends(np.sin(2 * np.pi * TIMES / 54.0)) is Ending.UNSETTLED


def test_slow_drift_is_no_cycle() -> None:
    times = np.arange(2000.0)
    assert convergence.ending(times, -times) == [Ending.UNSETTLED]


def test_fit_rate_of_constant_and_symmetric_curves() -> None:
    found = convergence.fit_rate(TIMES, np.full(200, 3.0))
    assert np.isnan([found.rate, found.low, found.high]).all() and (found.end, found.amplitude) == (3.0, 0.0)
    symmetric = 1.0 - 2.0 * np.exp(-TIMES / 5.0)  # from -1 to 1
    assert convergence.fit_rate(TIMES, symmetric).rate == pytest.approx(1.0 / 5.0, rel=1e-6)
