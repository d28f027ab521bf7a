"""The gated update as an ODE: a leaky unit whose time constant depends on its input."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from support.tolerances import EQUATIONS
from torch import nn

from pcsim import RK4, Euler, Iterate, Network, Population, Projection, Record, simulate
from pcsim.rules import GatedUpdate, Leaky

pytestmark = pytest.mark.usefixtures("float64")


def cell(inputs: int = 3, units: int = 4) -> Network:
    torch.manual_seed(0)
    edges = [
        Projection(source, "h", nn.Linear(width, units, bias=False), kind, delay, port, name=f"{source}->{port}")
        for source, width, kind, delay in (("u", inputs, "bottom_up", 0), ("h", units, "lateral", 1))
        for port in ("candidate", "update")
    ]
    net = Network({"u": (inputs,)}, [Population("h", GatedUpdate(units, kept=0.7), (units,))], edges, readout="h")
    with torch.no_grad():
        net.populations["h"].rule.bias[0].normal_()
    return net


def numpy_steps(net: Network, u: np.ndarray, steps: int, dt: float, tau: float) -> list[np.ndarray]:
    """tau / (1 - s(W_u u + U_u h + b_u)) dh/dt = -h + tanh(W u + U h + b), by Euler steps."""
    w = {edge.name: edge.transform.weight.detach().numpy() for edge in net.projections}
    b, b_u = net.populations["h"].rule.bias.detach().numpy()
    h, rows = np.zeros((len(u), len(b))), []
    for _ in range(steps):
        gate = u @ w["u->update"].T + h @ w["h->update"].T + b_u
        own_tau = tau * (1.0 + np.exp(gate))  # tau / (1 - s(gate))
        h = h + dt / own_tau * (-h + np.tanh(u @ w["u->candidate"].T + h @ w["h->candidate"].T + b))
        rows.append(h)
    return rows


@pytest.mark.parametrize("dt", [20.0, 5.0])
def test_gated_update_as_ode_has_input_dependent_time_constant(dt: float) -> None:
    net, u = cell(), torch.randn(2, 3)
    run = simulate(net.as_ode(tau=20.0), u, solver=Euler(dt), steps=4)
    for row, expected in zip(run["h"].detach().numpy(), numpy_steps(net, u.numpy(), 4, dt, 20.0), strict=True):
        assert np.abs(row - expected).max() < EQUATIONS
    if dt == 20.0:
        assert torch.equal(run["h"], simulate(net, u, solver=Iterate(), steps=4)["h"])


@pytest.mark.parametrize("kept", [-2.0, 0.0, 3.0])
def test_constant_gate_gives_leaky_unit_with_longer_time_constant(kept: float) -> None:
    rule = Leaky(GatedUpdate(2, "identity", kept), 10.0)
    net = Network({"u": (2,)}, [Population("h", rule)], [Projection("u", "h")])
    u = torch.tensor([[1.0, -0.5]])
    run = simulate(net, u, solver=RK4(0.5), until=40.0, record=Record(states=["h", "h.kept"]))
    own_tau = 10.0 * (1.0 + math.exp(kept))
    expected = u * (1.0 - torch.exp(-torch.from_numpy(run.times) / own_tau))[:, None, None]
    assert torch.allclose(run["h"].detach(), expected, rtol=0, atol=1e-7)
    assert torch.allclose(10.0 / (1.0 - run["h.kept"].detach()), torch.tensor(own_tau))
