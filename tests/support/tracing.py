"""Weights of a network by edge name, and comparison of a run with a trace of expected values."""

from __future__ import annotations

import numpy as np
import torch
from support.plain import Array, array
from support.tolerances import EQUATIONS
from torch import nn

from pcsim import Iterate, Network, Record, simulate
from pcsim.connections import StepNorm

Trace = dict[str, list[Array]]


def weights(net: Network, edge: str) -> list[Array]:
    """Return the parameters of an edge's transform."""
    (found,) = [e.transform for e in net.projections if e.name == edge]
    return [array(parameter) for parameter in found.parameters()]


def agree(net: Network, expected: Trace, inputs: dict, names: list[str] | None = None) -> None:
    """Run the network and compare every recorded value with the trace."""
    steps = max(map(len, expected.values()))
    names = names or [name for name in net.populations if name != "readout"]
    assert set(names) <= set(expected), set(names) - set(expected)
    run = simulate(net, inputs, solver=Iterate(), steps=steps, record=Record(states=names))
    for name in names:
        for step in range(steps):
            difference = np.abs(array(run[name][step]) - expected[name][step]).max()
            assert difference <= EQUATIONS * max(1.0, np.abs(expected[name][step]).max()), (name, step, difference)


def norms(net: Network, edge: str) -> list[tuple[Array, Array, Array, Array]]:
    """Return (mean, variance, weight, bias) of every batch norm on an edge, in order; one per step for a `StepNorm`."""
    (found,) = [e.transform for e in net.projections if e.name == edge]
    return [
        tuple(array(tensor) for tensor in (module.running_mean, module.running_var, module.weight, module.bias))
        for module in found.modules()
        if isinstance(module, StepNorm | nn.BatchNorm2d)
    ]


def scatter(net: Network, size: float = 0.2) -> Network:
    """Perturb every parameter and running statistic, because ones and zeros could hide errors."""
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(size * torch.randn_like(parameter))
        for name, buffer in net.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(0.0, 0.3)
            if name.endswith("running_var"):
                buffer.uniform_(0.5, 1.5)
    return net.eval()
