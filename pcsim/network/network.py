"""Networks: descriptions of populations and projections that `pcsim.simulate` runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, cast

import torch
from torch import Tensor

from pcsim.core.checks import checked
from pcsim.core.clock import Window
from pcsim.core.exceptions import SolverError, StimulusError, WiringError
from pcsim.network import variants
from pcsim.network.describe import describe
from pcsim.network.graph import Graph
from pcsim.network.variants import Taus


class Network(Graph):
    """A validated network of populations and projections, with inferred shapes and evaluation order.

    inputs       shape (channel, height, width) of each stimulus, by name
    readout      the population whose value is the output of the network, if there is one
    steps        for a discrete model, the number of steps used in its paper
    step_ms      the neural time in ms that one step represents; in an ODE derived from a discrete network, the interval
                 at which per-step transforms advance
    timing       population -> (time of its first step after onset, time per step), in ms, for populations that do not
                 follow the common clock; see `time_of`
    initialiser  a network that runs for one step on the first input and provides the initial values of the populations
                 with the same names; it usually shares modules with this network

    Raises WiringError for duplicate or unknown names, mismatched shapes, a zero-delay cycle, flows mixed with maps,
    delays in steps in a flow, or delays in ms in a discrete network.
    """

    EXAMPLE: ClassVar[str] = "a pcsim.Network, such as pcsim.models.build('blt')"
    # Set by pcsim.simulation, which imports this package; networks contain no loop over time.
    runner: ClassVar[Callable[..., Tensor] | None] = None

    @checked(StimulusError)
    def forward(self, inputs: Tensor | Mapping[str, Tensor]) -> Tensor:
        """Return the readout, (batch, ...), after `net.steps` steps on constant inputs.

        Like any PyTorch module, it runs in the current mode (training or evaluation) and tracks gradients if they are
        enabled. Use `pcsim.simulate` for flows, other numbers of steps, and records of states or errors.
        Raises SolverError if the network is a flow, has no readout or does not define `steps`.
        """
        if self.is_flow or self.steps is None or self.readout is None or Network.runner is None:
            raise SolverError(
                given=f"{self.name!r} called as a function",
                expected="a discrete network with a readout and a number of steps",
                remedy="call pcsim.simulate(net, images, solver=..., until=...)",
            )
        return Network.runner(self, inputs)

    @checked(WiringError)
    def as_ode(self, tau: Taus, step_ms: float | None = None) -> Network:
        """Return the network in continuous time: tau dh/dt = F(h, u) - h for every population with memory.

        If the network already consists of flows, only its time constants change. Parameters are shared in both cases.

        `tau`, in ms, is one number, a sequence with one number per population with memory, or a dict by name, whose
        values can also be a `LearnableTau` or a sequence with one number per channel. The entry "default" of a dict is
        for populations without an entry. If there is no "default", a flow keeps the time constants of these
        populations, and a discrete network is refused, because it has none. A wire with delayed outgoing
        edges also becomes a memory, because its past values are needed. `step_ms` is the time in ms that one step of
        the discrete network represents. It is used to convert windows, lesions, per-step transforms and delays of more
        than one step to ms. Defaults to `tau` if `tau` is a scalar.

        A delay of 0 between two memories has no meaning in continuous time: every edge of the flow transmits the
        current value, regardless of the unrolling. Unrollings differ only under one-stage solvers (Euler,
        ExponentialEuler), which advance one population after another in evaluation order. With dt = tau, Euler
        reproduces the published map exactly.
        """
        return variants.as_ode(self, tau, step_ms)

    @checked(WiringError)
    def clamped(self, *names: str) -> Network:
        """Return the network with the named populations clamped to stimuli, which makes them inputs.

        Edges to these populations are removed, and edges from them transmit the stimulus without delay. Parameters are
        shared.
        """
        return variants.clamped(self, names)

    @checked(WiringError)
    def without(self, *edges: str, during: Window | None = None) -> Network:
        """Return the network with edges lesioned, selected by kind ("top_down") or by name ("v2->v1").

        Lesions are permanent, or limited to the window `during=(from, to)`, in ms for a flow and in steps for a
        discrete network. Repeated lesions accumulate. Parameters are shared and keep their names, so lesioned networks
        need no extra memory and still load trained weights.
        """
        return variants.without(self, edges, during)

    @checked(WiringError)
    def autocast(self, dtype: torch.dtype = torch.bfloat16) -> Network:
        """Return a network whose edges compute convolutions and matrix products in bfloat16 or float16.

        Sums, rules and states keep their dtype, and float64 values are not rounded. Parameters are shared. The result
        is accurate to two or three digits, and faster for large networks on hardware that supports the dtype.
        """
        return variants.autocast(self, dtype)

    def describe(self) -> str:
        """Return the wiring as a table of nodes, rules, shapes and incoming edges in evaluation order."""
        return describe(self)

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        """Return the readout; see `forward`."""
        return cast(Tensor, super().__call__(*args, **kwargs))
