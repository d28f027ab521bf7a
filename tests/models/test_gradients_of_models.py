"""The gradient of every model over several steps against central differences along random directions."""

from __future__ import annotations

import pytest
import torch
from support.small import SMALL, shown, small, stepping
from torch import Tensor

from pcsim import Record, simulate
from pcsim.training import Full

NAMES = [name for name in SMALL if "hopfield" not in name]
STEP = 1e-7


@pytest.mark.parametrize("name", NAMES)
def test_model_gradient_matches_central_differences(name: str, float64: None) -> None:
    """float64, evaluation mode, three directions; a sum of all states with random signs is the loss."""
    net = small(name).double().eval()
    solver, steps = stepping(net)
    inputs, steps = {key: value.double() for key, value in shown(net, 2).items()}, min(steps, 5)
    weights = [p for p in net.parameters() if p.requires_grad]

    def loss() -> Tensor:
        record = Record(states="all")
        run = simulate(net, inputs, solver=solver, steps=steps, record=record, gradient=Full())
        generator = torch.Generator().manual_seed(2)
        signs = [torch.randint(2, v.shape, generator=generator).double() * 2 - 1 for v in run.values.values()]
        return sum(
            ((value * sign).mean() for value, sign in zip(run.values.values(), signs, strict=True)), torch.zeros(())
        )

    gradients = torch.autograd.grad(loss(), weights, allow_unused=True, materialize_grads=True)
    generator = torch.Generator().manual_seed(3)
    for _ in range(3):
        along = [torch.randn(p.shape, generator=generator).to(p) for p in weights]
        expected = float(sum((g * u).sum() for g, u in zip(gradients, along, strict=True)).detach())
        ends = []
        for sign in (1.0, -1.0, 0.0):
            with torch.no_grad():
                before = [p.clone() for p in weights]
                for p, u in zip(weights, along, strict=True):
                    p.add_(u, alpha=sign * STEP)
            ends.append(float(loss().detach()))
            with torch.no_grad():
                for p, old in zip(weights, before, strict=True):
                    p.copy_(old)
        found, size = (ends[0] - ends[1]) / (2 * STEP), abs(expected) + 1e-3
        # A ReLU or maximum that switches within the step makes the difference one-sided: accept either side.
        sides = [(ends[0] - ends[2]) / STEP, (ends[2] - ends[1]) / STEP]
        assert min(abs(value - expected) for value in (found, *sides)) <= 1e-4 * size, (found, expected)
