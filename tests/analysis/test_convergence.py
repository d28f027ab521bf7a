"""Measures of convergence against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pcsim import StimulusError
from pcsim.analysis import convergence as c
from pcsim.analysis.convergence import Ending

T = np.arange(0.0, 400.0, 0.5)
FALL = np.exp(-T / 20)
RING = 1 - np.exp(-T / 20) * np.cos(T / 5)
WALK = np.cumsum(np.random.default_rng(0).normal(size=len(T)))


def test_convergence_of_exponential_matches_closed_form() -> None:
    for scale, offset in ((1.0, 0.0), (1e-9, 0.0), (-5.0, 3.0)):
        x = offset + scale * FALL
        assert c.settling_time(T, x)[0] == pytest.approx(20 * math.log(20), rel=1e-3)
        assert c.settling_time(T, x, 0.2)[0] == pytest.approx(20 * math.log(5), rel=1e-3)
        assert c.half_life(T, x)[0] == pytest.approx(20 * math.log(2), rel=1e-3)
        assert c.overshoot(T, x)[0] == pytest.approx(0.0, abs=1e-12) and c.crossings(T, x)[0] == 0
        fit = c.fit_rate(T, x)
        assert fit.rate == pytest.approx(1 / 20, rel=1e-6) and fit.end == pytest.approx(offset, abs=abs(scale) * 1e-6)


def test_overshoot_and_crossings_of_ringing_curve() -> None:
    # The largest excursion is where the derivative vanishes: tan(t / 5) = -1 / 4.
    peak = 5 * (math.pi - math.atan(0.25))
    assert c.overshoot(T, RING)[0] == pytest.approx(-math.exp(-peak / 20) * math.cos(peak / 5), rel=1e-3)
    # The curve crosses its end at odd multiples of 5 pi / 2. Crossings followed by an excursion above 1 % count.
    ringing = [5 * (math.pi - math.atan(0.25)) + 5 * math.pi * k for k in range(20)]
    large = sum(math.exp(-t / 20) * abs(math.cos(t / 5)) > 0.01 * np.ptp(RING) for t in ringing)
    assert c.crossings(T, RING)[0] == large
    assert c.settling_time(T, RING)[0] > c.half_life(T, RING)[0]


CURVES = {
    "falls": (FALL, Ending.STEADY),
    "rings": (RING, Ending.STEADY),
    "nothing": (0 * T, Ending.STEADY),
    "cycle": (np.sin(T / 10) + FALL, Ending.CYCLE),
    "square cycle": (np.sign(np.sin(T / 7)), Ending.CYCLE),
    "explodes": (np.exp(T / 40), Ending.DIVERGED),
    "explodes ringing": (np.exp(T / 40) * np.sin(T / 5), Ending.DIVERGED),
    "not a number": (0 * T + np.nan, Ending.DIVERGED),
    "on its way": (np.exp(-T / 300), Ending.UNSETTLED),
    "log": (np.log1p(T), Ending.UNSETTLED),
    "random walk": (WALK, Ending.UNSETTLED),
}


def test_ending_classifies_curves() -> None:
    found = c.ending(T, np.stack([curve for curve, _ in CURVES.values()], 1))
    assert dict(zip(CURVES, found, strict=True)) == {name: end for name, (_, end) in CURVES.items()}


def test_settling_measures_are_nan_for_unsettled_curves() -> None:
    for name in ("cycle", "explodes", "on its way"):
        for measure in (c.settling_time, c.half_life, c.overshoot, c.crossings):
            assert np.isnan(measure(T, CURVES[name][0])).all(), (name, measure)


def test_rate_of_change_is_norm_over_all_states() -> None:
    times = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
    first = torch.stack([torch.zeros(2, 3, 1), torch.ones(2, 3, 1), 5 * torch.ones(2, 3, 1)])
    second = torch.tensor([0.0, 1.0, 3.0])[:, None, None].expand(3, 2, 1)
    found = c.rate_of_change(times, first, second)
    away = c.distance_from_end(first, second)
    assert np.allclose(away, [[math.sqrt(3 * 25 + 9)] * 2, [math.sqrt(3 * 16 + 4)] * 2, [0, 0]])
    # Three units change by 1, then by 4; one unit by 1, then by 2; the intervals are 1 and 2 ms.
    assert np.allclose(found, [[math.sqrt(3 + 1)] * 2, [math.sqrt(3 * 16 + 4) / 2] * 2])


def test_decay_time_is_last_fall_below_share() -> None:
    assert c.decay_time(T, FALL)[0] == pytest.approx(20 * math.log(20), rel=1e-3)
    assert c.decay_time(T, -3 * FALL, 0.2)[0] == pytest.approx(20 * math.log(5), rel=1e-3)
    # The curve rises again, so only its final fall below the level counts.
    twice = np.where(T < 100, FALL, np.exp(-(T - 100) / 20))
    assert c.decay_time(T, twice)[0] == pytest.approx(100 + 20 * math.log(20), rel=1e-3)
    assert c.decay_time(T, 0 * T)[0] == 0.0
    for late in (np.exp(-T / 150), 1 + FALL, np.sin(T / 10)):
        assert np.isnan(c.decay_time(T, late)[0])


def test_fit_rate_interval_covers_true_rate() -> None:
    inside, generator = 0, np.random.default_rng(0)
    for _ in range(100):
        fit = c.fit_rate(T, 3 + 2 * FALL + 0.05 * generator.normal(size=len(T)))
        inside += fit.low <= 1 / 20 <= fit.high
    assert 88 <= inside <= 100
    for tau in np.linspace(70, 200, 200):  # the curve ends at 0 up to rounding, but its slope is still known
        fit = c.fit_rate(T, np.exp(-T / tau) + 1e-12 * generator.normal(size=len(T)))
        assert fit.rate == pytest.approx(1 / tau) and 0 < fit.high - fit.low < 1e-10
    slow = c.fit_rate(T, np.exp(-T / 5) + 0.1 * np.exp(-T / 40), start=60.0)
    assert slow.rate == pytest.approx(1 / 40, rel=0.01), "after 60 ms only the slow mode must remain"


def test_summary_counts_endings_and_averages_settling() -> None:
    curves = np.stack([FALL, np.exp(-T / 10), CURVES["cycle"][0], CURVES["not a number"][0]], 1)
    found = c.summary(T, curves)
    assert found.endings == {"steady": 2, "cycle": 1, "diverged": 1, "unsettled": 0}
    assert found.settling.mean == pytest.approx(15 * math.log(20), rel=2e-3)
    assert found.settling.low <= found.settling.mean <= found.settling.high
    assert "settles in 44.9 ms" in str(found) and "2 steady, 1 cycle, 1 diverged" in str(found)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: c.settling_time(T, FALL, 1.5), "between 0 and 1"),
        (lambda: c.decay_time(T, FALL, 0.0), "between 0 and 1"),
        (lambda: c.half_life(T[:5], FALL), "increasing times"),
        (lambda: c.half_life(T[::-1], FALL), "increasing times"),
        (lambda: c.half_life(T, CURVES["not a number"][0]), "finite curves"),
        (lambda: c.fit_rate(T, FALL, start=399.0), "at least five time points"),
        (lambda: c.fit_rate(T, np.stack([FALL, FALL], 1)), "one curve"),
    ],
)
def test_convergence_measures_reject_invalid_curves(call: object, message: str) -> None:
    with pytest.raises(StimulusError, match=message):
        call()


def test_half_life_is_first_time_at_exactly_one_half() -> None:
    """The curve rests at 2, halfway from 4 to 0, from 10 to 30 ms."""
    curve = np.array([4.0, 2.0, 2.0, 2.0, *np.zeros(16)])
    assert c.half_life(10.0 * np.arange(20), curve).tolist() == [10.0]
    assert c.half_life(10.0 * np.arange(20), -curve).tolist() == [10.0]


def test_decay_time_counts_a_value_equal_to_the_share_as_decayed() -> None:
    curve = np.array([1.0, 0.5, 0.5] + 9 * [0.0])[:, None]
    assert c.decay_time(np.arange(12.0), curve, share=0.5).tolist() == [1.0]
