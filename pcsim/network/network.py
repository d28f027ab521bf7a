"""Networks of populations and projections, run by `pcsim.simulate`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import torch
from torch import Tensor

from pcsim.core.checks import checked
from pcsim.core.clock import Window
from pcsim.core.exceptions import SolverError, StimulusError, StorageError, WiringError
from pcsim.core.renamed import attribute
from pcsim.network import variants
from pcsim.network.describe import describe
from pcsim.network.graph import Graph
from pcsim.network.parts import Population, Projection
from pcsim.network.saving import save_network
from pcsim.network.variants import Taus


class Network(Graph):
    """A validated network of populations and projections, with inferred shapes and evaluation order.

    inputs       shape (channel, height, width) of each stimulus, by name
    readout      the population, if any, whose value is the output of the network
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
    # Set by pcsim.simulation, which imports this package; networks themselves contain no loop over time.
    runner: ClassVar[Callable[..., Tensor] | None] = None

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Return a submodule, parameter or buffer; raise RenamedError for an attribute that was renamed."""
            try:
                return super().__getattr__(name)
            except AttributeError:
                attribute("Network", name)
                raise

    @checked(StimulusError)
    def forward(self, inputs: Tensor | Mapping[str, Tensor]) -> Tensor:
        """Return the readout, (batch, ...), after `net.steps` steps on constant inputs.

        Like any PyTorch module, a network runs in its current mode (training or evaluation) and tracks gradients if
        they are enabled. Use `pcsim.simulate` for flows, to run a different number of steps, or to record states and
        errors. Raises SolverError if the network is a flow, has no readout or does not define `steps`.
        """
        if Network.runner is None:  # only pcsim.network has been imported
            import_module("pcsim.simulation")
        if self.is_flow or self.steps is None or self.readout is None or Network.runner is None:
            raise SolverError(
                given=f"{self.name!r} called as a function",
                expected="a discrete network with a readout and a default number of steps",
                remedy="call pcsim.simulate(net, images, solver=..., until=...)",
            )
        return Network.runner(self, inputs)

    @checked(WiringError)
    def as_ode(self, tau: Taus, step_ms: float | None = None) -> Network:
        """Return the network in continuous time: tau dh/dt = F(h, u) - h for every population with memory.

        If the network already consists of flows, only its time constants change. Parameters are shared in both cases.

        `tau`, in ms, is one number, a sequence with one number per population with memory, or a dict by name. A value
        in a dict can also be a `LearnableTau` or a sequence with one number per channel, and the entry "default"
        applies to all other populations. Without a "default", a flow keeps its other time constants; a discrete network
        has none to keep, so every population with memory must be named. A wire with delayed outgoing edges also becomes
        a memory, because its past values are needed. `step_ms` is the time in ms that one step of the discrete network
        represents. It is used to convert windows, lesions, per-step transforms and delays of more than one step to ms,
        and defaults to `tau` if `tau` is a scalar.

        A delay of 0 between two memories has no meaning in continuous time: every edge of the flow transmits the
        current value, regardless of the unrolling. The unrolling matters only for one-stage solvers
        (Euler, ExponentialEuler), which advance populations sequentially in evaluation order. With dt = tau, Euler
        reproduces the published map exactly.

        A discrete network is usually trained for `net.steps` steps. In longer runs, including those of the flow,
        activity drifts and answers become wrong, so run the flow for about `net.steps` times `step_ms`.
        """
        return self._as_variant(variants.as_ode(self, tau, step_ms), "as_ode", tau, step_ms)

    @checked(WiringError)
    def clamped(self, *names: str) -> Network:
        """Return the network with the named populations clamped to stimuli, and thus turned into inputs.

        Edges to these populations are removed, and edges from them transmit the stimulus without delay. Parameters are
        shared.
        """
        return self._as_variant(variants.clamped(self, names), "clamped", *names)

    @checked(WiringError)
    def extended(
        self,
        populations: Sequence[Population] = (),
        projections: Sequence[Projection] = (),
        *,
        inputs: Mapping[str, Sequence[int]] | None = None,
        readout: str | None = None,
    ) -> Network:
        """Return the network with additional populations, projections and inputs, which can connect to existing ones.

        Everything else is taken from this network: parameters are shared, and the readout is kept unless another one is
        named. If no new projection targets an existing population, the existing populations respond as before. Load a
        saved network with `pcsim.load(path, into=net)`. Raises WiringError if a name already exists, and in the same
        cases as `Network`.

            probe = Population("lateral_drive", rules.Sum())
            net = net.extended([probe], [Projection("l1", "lateral_drive", net.transforms["l1_to_l1"])])
        """
        taken = [*self.inputs, *self.populations]
        if again := [name for name in (*(p.name for p in populations), *(inputs or ())) if name in taken]:
            raise WiringError(
                given=f"a new {again[0]!r} for {self.name!r}",
                expected=f"a name other than {', '.join(taken)}",
                remedy="choose another name; to replace a population, build a Network from the parts you keep",
            )
        return variants.rebuilt(
            self,
            [*self.populations.values(), *populations],
            [*self.projections, *projections],
            inputs={**self.inputs, **(inputs or {})},
            readout=readout or self.readout,
        )

    @checked(WiringError)
    def without(self, *edges: str, during: Window | None = None) -> Network:
        """Return the network with edges lesioned, selected by kind ("top_down") or by name ("v2->v1").

        Lesions are permanent, or limited to the window `during=(from, to)`, in ms for a flow and in steps for a
        discrete network. Repeated lesions accumulate. Parameters are shared and keep their names, so lesioned networks
        need no extra memory and still load trained weights.
        """
        return self._as_variant(variants.without(self, edges, during), "without", *edges, during=during)

    @checked(WiringError)
    def autocast(self, dtype: torch.dtype = torch.bfloat16) -> Network:
        """Return a network whose edges compute convolutions and matrix products in bfloat16 or float16.

        Sums, rules and states keep their dtype, and float64 values are not rounded. Parameters are shared.
        Results are accurate to two or three digits. Large networks run faster on hardware that supports the dtype.
        """
        return self._as_variant(variants.autocast(self, dtype), "autocast", dtype)

    @checked(StorageError)
    def save(self, path: str | Path, overwrite: bool = False) -> None:
        """Save the network to a single file, which contains no code and is verified by `pcsim.load`.

        For registered models and their variants, the file contains all that is needed to rebuild the network: the model
        and its options, tensors, dtype and mode. For other networks, and for networks that were changed after they were
        built, it contains the weights and a description of the wiring, and `pcsim.load(path, into=net)` loads the
        weights into a network with the same wiring. The extension must be .pcsim, .run or .safetensors, or be omitted.
        Raises StorageError for other extensions, and if `path` exists, unless `overwrite` is True.
        """
        save_network(self, path, overwrite)

    def describe(self) -> str:
        """Return the wiring as a table of nodes, rules, shapes and incoming edges in evaluation order."""
        return describe(self)

    def _as_variant(self, variant: Network, name: str, *arguments: Any, **options: Any) -> Network:
        """Return `variant` with this network's recipe, extended by the call that built the variant."""
        variant.recipe = self.recipe.then(name, *arguments, **options) if self.recipe is not None else None
        return variant

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        """Return the readout; see `forward`."""
        return cast(Tensor, super().__call__(*args, **kwargs))
