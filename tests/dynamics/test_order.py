"""`check_order` returns the order of each solver, and NaN for an exact solver."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from pcsim import Euler, ExponentialEuler, Network, Population, Projection, SolverError, models
from pcsim.dynamics import check_order
from pcsim.rules import leaky_rate


def smooth() -> Network:
    torch.manual_seed(0)
    across = nn.Linear(6, 6)
    with torch.no_grad():
        across.weight.copy_(torch.randn(6, 6) / math.sqrt(6))
    edges = [Projection("input", "r", nn.Linear(2, 6)), Projection("r", "r", across, "lateral")]
    rule = leaky_rate(6, torch.linspace(8.0, 20.0, 6), "tanh", bias=False)
    return Network({"input": (2,)}, [Population("r", rule)], edges, readout="r")


def test_check_order_finds_nominal_solver_orders() -> None:
    found = check_order(smooth(), torch.randn(3, 2), until=64.0, dt=4.0)
    assert found.dts == (4.0, 2.0, 1.0, 0.5, 0.25, 0.125)
    for name, order, near in (("Euler", 1, 0.05), ("Heun", 2, 0.1), ("RK4", 4, 0.25)):
        assert found.orders[name] == pytest.approx(order, abs=near)
        errors, halving = found.errors[name], found.halving[name]
        assert all(later < earlier for earlier, later in pairwise(errors))
        # The two runs differ by the difference of their errors.
        assert np.allclose(halving[0], errors[0] - errors[1], rtol=0.2)
    assert "Euler" in str(found) and "order" in str(found).splitlines()[0]


def test_check_order_is_nan_for_exact_solver() -> None:
    """ExponentialEuler is exact for a leak with a constant drive."""
    net = Network({"input": (2,)}, [Population("r", leaky_rate(2, 10.0, "identity"))], [Projection("input", "r")])
    found = check_order(net, torch.rand(1, 2), until=40.0, solvers=(ExponentialEuler, Euler))
    assert max(found.errors["ExponentialEuler"]) < 1e-11 and math.isnan(found.orders["ExponentialEuler"])
    assert found.orders["Euler"] == pytest.approx(1.0, abs=0.1) and found.dts[0] == 5.0


def test_check_order_rejects_invalid_arguments() -> None:
    with pytest.raises(SolverError, match="discrete network"):
        check_order(models.blt(width=3, size=8), torch.rand(1, 1, 8, 8), until=10.0)
    with pytest.raises(SolverError, match="at least 2"):
        check_order(smooth(), torch.rand(1, 2), until=10.0, halvings=1)
