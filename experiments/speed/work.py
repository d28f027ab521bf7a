"""A workload of `experiments.speed`: what pcsim runs, a plain PyTorch loop of the same arithmetic, and its products.

The plain loops are what one would write for a paper: the equations, no tricks, weights as torch's own modules lay them.
"torch's products" are the convolutions (by oneDNN, as torch chooses) or matrix products of the plain loop alone, in the
order and layout that serve them best. They are no lower bound: other kernels are faster on small maps.
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
"""what products alone compute is no answer"""


@dataclass(frozen=True)
class Work:
    """One row of the table.

    contenders  name -> what is timed; "plain" is what the others are divided by, and their answers must be its own
    tolerance   how far answers may lie from the plain one, relative to its largest value
    gradient    whether gradients are kept
    relaxation  (weights, image, label, steps) that other packages can be asked for (`experiments.speed.contenders`)
    areas       (plain loop, image, steps) of areas as an ODE, likewise
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
    """The contenders that are pcsim, of which the last value of some populations is kept.

    pcsim            a Simulator that has run before
    pcsim compiled   the same, its steps by torch.compile
    pcsim first run  `simulate`, which prepares everything anew
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
    """A copy whose weights lie as torch's modules make them, for the plain loops."""
    plain = copy.deepcopy(network)
    for parameter in plain.parameters():
        parameter.data = parameter.data.contiguous()
    return plain


def channels_last(value: Tensor) -> Tensor:
    """The same image stack, channels side by side in memory."""
    return value.contiguous(memory_format=torch.channels_last)
