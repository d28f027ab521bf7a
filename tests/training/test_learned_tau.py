"""Learned time constants recover those of the linear system that generated the data."""

from __future__ import annotations

import pytest
import torch

from pcsim import Euler, Network, Population, Projection, rollout, stimuli
from pcsim.rules import leaky_rate
from pcsim.rules.time_constants import LearnableTau, TimeConstant

PLANTED = torch.tensor([5.0, 12.0, 30.0, 60.0])
STEPS = 60


def leaks(tau: torch.Tensor | TimeConstant) -> Network:
    """tau dr/dt = -r + u, with one time constant per channel."""
    rule = leaky_rate(4, tau, "identity", bias=False)
    return Network({"input": (4, 1, 1)}, [Population("r", rule)], [Projection("input", "r")], readout="r")


def responses(net: Network, film: stimuli.Timeline) -> torch.Tensor:
    return torch.stack([state["r"] for _, state in rollout(net, film, Euler(dt=1.0), STEPS)])


def test_learnable_tau_recovers_planted_values() -> None:
    noise = torch.randn(12, 8, 4, 1, 1, generator=torch.Generator().manual_seed(0))
    film = stimuli.sequence(noise, every=5.0)
    with torch.no_grad():
        wanted = responses(leaks(PLANTED), film)
    tau = LearnableTau(4, minimum=2.0, span=98.0)
    net = leaks(tau)
    optimiser = torch.optim.Adam(net.parameters(), lr=0.15)
    for _ in range(150):
        optimiser.zero_grad()
        loss = (responses(net, film) - wanted).square().mean()
        loss.backward()
        optimiser.step()
    assert tau().tolist() == pytest.approx(PLANTED.tolist(), rel=0.05)
