"""Clock times, and conversion of durations to whole steps."""

import pytest

from pcsim import Clock
from pcsim.core.clock import whole_steps


def test_clock_time_is_step_times_dt() -> None:
    assert Clock(dt=2.5, step=3).time == 7.5 and Clock(dt=0.1, step=0).time == 0.0


@pytest.mark.parametrize(("span", "dt", "steps"), [(7.5, 2.5, 3), (0.3, 0.1, 3), (0.0, 0.1, 0), (1e6, 0.1, 10_000_000)])
def test_whole_steps_tolerate_rounding(span: float, dt: float, steps: int) -> None:
    assert whole_steps(span, dt) == steps


@pytest.mark.parametrize(("span", "dt"), [(7.4, 2.5), (0.05, 0.1), (1.000001, 0.1)])
def test_whole_steps_is_none_for_fractional_steps(span: float, dt: float) -> None:
    assert whole_steps(span, dt) is None
