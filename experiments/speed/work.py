"""Workloads of `experiments.speed`: pcsim, a plain PyTorch loop with the same arithmetic, and its products alone.

The plain loops are written like typical research code: they follow the equations without optimisation, and their
weights have the default memory layout of torch modules. "torch's products" runs only the convolutions (by oneDNN, as
selected by torch) or matrix products of the plain loop, in their fastest order and layout. It is not a lower bound,
because other kernels are faster on small maps.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pcsim import Network, Record, Run, Simulator, simulate
from pcsim.solvers import Solver
from pcsim.stimuli.timeline import Stimulus

Result = dict[str, Tensor]
Contender = Callable[[], Result]
NOTHING: Result = {}
"""answer of implementations that do not return values"""


@dataclass(frozen=True)
class Work:
    """A workload, shown as one row of the table.

    contenders  name -> function to time; times are relative to "plain", and all functions must reproduce its answer
    tolerance   largest allowed difference from the plain answer, relative to its largest value
    gradient    True if gradients are enabled
    relaxation  (weights, image, label, steps) for other packages (`experiments.speed.contenders`)
    areas       (plain loop, image, steps) for other packages that run the areas as an ODE
    """

    what: str
    contenders: dict[str, Contender]
    tolerance: float = 1e-3
    gradient: bool = False
    relaxation: tuple[list[Tensor], Tensor, Tensor, int] | None = None
    areas: tuple[Any, Tensor, int] | None = None


def simulated(
    network: Network, shown: Stimulus, solver: Solver, steps: int, kept: Sequence[str]
) -> dict[str, Contender]:
    """Return the pcsim implementations, whose answers are the final values of the populations `kept`.

    pcsim            a Simulator that has run before
    pcsim compiled   a Simulator that has run before, with its steps compiled by torch.compile
    pcsim first run  `simulate`, which prepares the network again in each call
    """
    record = Record(states=kept, every=steps)
    sim = Simulator(network, solver=solver, record=record)
    compiled = Simulator(network, solver=solver, record=record, compile=True)

    def ends(run: Run) -> Result:
        return {name: run[name][-1] for name in kept}

    return {
        "pcsim": lambda: ends(sim(shown, steps=steps)),
        "pcsim first run": lambda: ends(simulate(network, shown, solver=solver, steps=steps, record=record)),
        "pcsim compiled": lambda: ends(compiled(shown, steps=steps)),
    }


def by_torch(network: Network) -> Network:
    """Return a copy of the network for the plain loops, with the default memory layout of torch modules."""
    plain = copy.deepcopy(network)
    for parameter in plain.parameters():
        parameter.data = parameter.data.contiguous()
    return plain


def channels_last(value: Tensor) -> Tensor:
    """Return the same tensor with channels last in memory."""
    return value.contiguous(memory_format=torch.channels_last)
