"""Results on a GPU match those on the CPU and are bitwise reproducible, for every registered model.

PCSIM_TEST_DEVICE=cpu runs these tests on the CPU instead, to check the tests themselves.
"""

from __future__ import annotations

import os

import pytest
import torch
from support.small import SMALL, shown, small, stepping

from pcsim import Record, Run, Simulator, simulate

DEVICE = os.environ.get("PCSIM_TEST_DEVICE", "cuda")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(DEVICE == "cuda" and not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.fixture(autouse=True)
def _full_precision() -> None:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True


def apart(here: Run, there: Run) -> float:
    """Return the largest difference relative to 1 + the magnitude of the value."""
    pairs = zip(here.values.values(), there.values.values(), strict=True)
    return max(float(((a.cpu() - b.cpu()).abs() / (1.0 + a.cpu().abs())).max()) for a, b in pairs)


@pytest.mark.parametrize("name", SMALL)
def test_device_agrees_with_cpu(name: str) -> None:
    net = small(name)
    solver, steps = stepping(net)
    steps, record = min(steps, 8), Record(states="all")
    here = simulate(net, shown(net, 2), solver=solver, steps=steps, record=record)
    net.to(DEVICE)
    there = [simulate(net, shown(net, 2), solver=solver, steps=steps, record=record) for _ in range(2)]
    assert all(value.device.type == DEVICE for value in there[0].values.values())
    assert all(torch.equal(there[0][key], there[1][key]) for key in there[0].values)
    assert apart(here, there[0]) <= 1e-4
    sim = Simulator(net, solver=solver, record=record)
    traced = [sim(shown(net, 2), steps=steps) for _ in range(2)]
    assert all(torch.equal(run[key], there[0][key]) for run in traced for key in run.values)


@pytest.mark.parametrize("name", ["blt", "leaky_rcnn", "pcn_global", "prednet"])
def test_simulator_follows_network_to_device(name: str) -> None:
    net = small(name)
    solver, steps = stepping(net)
    sim = Simulator(net, solver=solver)
    here = sim(shown(net, 2), steps=min(steps, 8))
    net.to(DEVICE)
    there = sim(shown(net, 2), steps=min(steps, 8))
    assert all(value.device.type == DEVICE for value in there.values.values()) and apart(here, there) <= 1e-4


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # warnings from the compiler itself
@pytest.mark.parametrize("name", ["leaky_rcnn", "predictive_coding"])
def test_compiled_steps_agree_on_device(name: str) -> None:
    """On a GPU, compiled steps use CUDA graphs."""
    net = small(name).to(DEVICE)
    solver, _ = stepping(net)
    plain = simulate(net, shown(net, 2), solver=solver, steps=45, record=Record(states="all"))
    sim = Simulator(net, solver=solver, record=Record(states="all"), compile=True)
    for _ in range(2):
        run = sim(shown(net, 2), steps=45)
        assert run.about["how"] == "compiled" and apart(run, plain) <= 1e-3
