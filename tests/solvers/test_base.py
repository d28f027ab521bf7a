"""Validation of dt in solvers."""

import math

import pytest

from pcsim import RK4, Euler, SolverError


@pytest.mark.parametrize("dt", [True, 0, 0.0, -1.0, math.inf, math.nan, "1", None])
@pytest.mark.parametrize("solver", [Euler, RK4])
def test_solver_refuses_invalid_dt(solver: type, dt: object) -> None:
    with pytest.raises(SolverError, match="above 0 and finite"):
        solver(dt=dt)


def test_solver_accepts_integer_and_fractional_dt() -> None:
    assert (Euler(dt=1).dt, Euler(dt=0.25).dt) == (1, 0.25)
