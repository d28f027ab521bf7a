"""A GPU gives the CPU's numbers, and the same bits twice."""

from __future__ import annotations

import pytest
import torch

from pcsim import RK4, Iterate, models, simulate, stimuli

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.mark.parametrize("name", models.available())
def test_a_gpu_agrees_with_the_cpu(name: str) -> None:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True
    net, shown = models.build(name), stimuli.digit_debris(batch=8)
    solver = RK4(dt=2.0) if net.is_flow else Iterate()
    until = 20.0 if net.is_flow else None
    here = simulate(net, shown, solver=solver, until=until)["readout"]
    net.to("cuda")
    there = [simulate(net, shown, solver=solver, until=until)["readout"].cpu() for _ in range(2)]
    assert torch.equal(*there)
    assert torch.allclose(here, there[0], rtol=1e-4, atol=1e-4)
