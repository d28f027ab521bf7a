"""A network: a description of populations and projections, which `pcsim.simulate` runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, cast

import torch
from torch import Tensor

from pcsim.core.clock import Window
from pcsim.core.exceptions import SolverError
from pcsim.network import variants
from pcsim.network.describe import describe
from pcsim.network.graph import Graph
from pcsim.network.variants import Taus


class Network(Graph):
    """Populations and projections, validated, with shapes inferred and the order of evaluation derived.

    inputs       shape (channel, height, width) of every stimulus, by name
    readout      the population whose value is the answer to the task, if there is one
    steps        for a discrete model, the number of steps in its paper
    step_ms      the ms of neural time that a step stands for; in an ODE made of a discrete network, the time after
                 which per-step transforms advance
    timing       population -> (ms after the onset, ms per step) where its steps do not follow the common clock; see
                 `time_of`
    initialiser  a network run for one step on the first input, whose values are the initial values of the
                 populations of the same name; it usually shares modules with this one

    Raises WiringError for duplicate or unknown names, shapes that do not fit, a zero-delay cycle, flows mixed
    with maps, delays in steps in a flow and delays in ms in a discrete network.
    """

    # Set by pcsim.simulation, which imports this package: a description has no loop over time.
    runner: ClassVar[Callable[..., Tensor] | None] = None

    def forward(self, inputs: Tensor | Mapping[str, Tensor]) -> Tensor:
        """Return the read-out after the network's own number of steps, `net.steps`, on constant inputs: (batch, ...).

        Runs in the present mode (training or evaluation), with gradients where they are enabled, like any PyTorch
        module. For a flow, other numbers of steps, records and errors use `pcsim.simulate`.
        Raises SolverError if the network is a flow, has no read-out, or defines no number of steps.
        """
        if self.is_flow or self.steps is None or self.readout is None or Network.runner is None:
            raise SolverError(
                given=f"{self.name!r} called as a function",
                expected="a discrete network with a read-out and a number of steps",
                remedy="write pcsim.simulate(net, images, solver=..., until=...)",
            )
        return Network.runner(self, inputs)

    def as_ode(self, tau: Taus, step_ms: float | None = None) -> Network:
        """Return the network in continuous time: tau dh/dt = F(h, u) - h for every population with memory.

        A network of flows keeps its equations and takes the new time constants. Parameters are shared either way.

        tau in ms: one number, one per population with memory in their order, or a dict by name (in which a value
        may also be a `LearnableTau` or one number per channel). A wire that some edge reads with a delay has a
        past and so becomes a memory too. `step_ms` is the ms that one step of the discrete network stands for, in its
        windows, lesions, per-step transforms and delays of more than a step; by default tau, if that is one number.

        A delay of 0 between two memories refers to a step and has no meaning in continuous time: the flow reads
        every memory at the present time, whatever the unrolling. Unrollings differ only under one-stage solvers
        (Euler, ExponentialEuler), which advance population after population in the derived order. With dt = tau,
        Euler is the published map exactly.
        """
        return variants.as_ode(self, tau, step_ms)

    def clamped(self, *names: str) -> Network:
        """Return the network with populations clamped to stimuli: they become inputs.

        Edges to them are removed; edges from them read the stimulus without delay. Parameters are shared.
        """
        return variants.clamped(self, names)

    def without(self, *edges: str, during: Window | None = None) -> Network:
        """Return the network with edges lesioned: by kind ("top_down"), or by name ("v2->v1").

        Permanently, or in the window `during=(from, to)`, in ms for a flow and in steps for a discrete network; lesions
        add up. Parameters are shared and keep their names, so a lesion costs nothing and trained weights still load.
        """
        return variants.without(self, edges, during)

    def autocast(self, dtype: torch.dtype = torch.bfloat16) -> Network:
        """Return the network whose edges compute convolutions and matrix products in bfloat16 or float16.

        Sums, rules and states keep their type; float64 is not rounded. Parameters are shared. Faster for large
        networks on hardware that multiplies in this type, and accurate to two or three digits.
        """
        return variants.autocast(self, dtype)

    def describe(self) -> str:
        """Return the wiring as a table of nodes, rules, shapes and incoming edges, in the order of evaluation."""
        return describe(self)

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        """Return the read-out; see `forward`."""
        return cast(Tensor, super().__call__(*args, **kwargs))
