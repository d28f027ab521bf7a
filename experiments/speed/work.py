"""A workload of `experiments.speed`: what pcsim runs, a plain PyTorch loop of the same arithmetic, and its products.

The plain loops are what one would write for a paper: the equations, no tricks, weights in the memory layout of torch's
own modules. "torch's products" are the convolutions (by oneDNN, as torch selects) or matrix products of the plain loop
alone, in the order and layout in which they are fastest. They are no lower bound: on small maps, other kernels are
faster.
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
"""answer of contenders that run only the products"""


@dataclass(frozen=True)
class Work:
    """A workload, one row of the table.

    contenders  name -> function to time; times are divided by those of "plain", whose answer all must reproduce
    tolerance   largest difference of an answer from the plain one, relative to the largest value of that
    gradient    whether gradients are enabled
    relaxation  (weights, image, label, steps) for other packages (`experiments.speed.contenders`)
    areas       (plain loop, image, steps) of areas as an ODE, for other packages
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
    """Return pcsim's contenders, whose answers are the last values of some populations.

    pcsim            a Simulator that has run before
    pcsim compiled   the same, its steps by torch.compile
    pcsim first run  `simulate`, which prepares everything again
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
    """Return a copy whose weights have the memory layout of torch's modules, for the plain loops."""
    plain = copy.deepcopy(network)
    for parameter in plain.parameters():
        parameter.data = parameter.data.contiguous()
    return plain


def channels_last(value: Tensor) -> Tensor:
    """Return the same image stack, with channels last in memory."""
    return value.contiguous(memory_format=torch.channels_last)
