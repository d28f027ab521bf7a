"""Functions that load weights published for other code into pcsim's networks.

    tensors = torch.load("PCN.pth", weights_only=True)       # a state dict of the authors' class
    models.published.load(net, tensors, models.published.libilab_pcn)

A mapping is a function that takes a network and returns, for each of its tensors, the tensor names used in the original
code and a function that converts these tensors. A tensor that is missing, left over or of the wrong shape raises
StorageError. pcsim itself does not include any published weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from pcsim.connections import StepNorm
from pcsim.core.exceptions import StorageError
from pcsim.network import Network
from pcsim.network.weights import load_tensors, trained_tensors

Sources = dict[str, tuple[tuple[str, ...], Callable[..., Tensor]]]
"""name of a tensor in pcsim -> (names in the original code, function that converts those tensors)"""
Naming = Callable[[Network], Sources]


def load(network: Network, tensors: Mapping[str, Tensor], naming: Naming) -> None:
    """Load published `tensors` into a network with the same layer sizes.

    naming  mapping: `libilab_pcn` for `pcn_global`, `zcrwind_prednet` for `prednet`, or `cornet` for the CORnets

    Raises StorageError that names any tensors that are missing, left over or of the wrong shape.
    """
    sources = naming(network)
    wanted = {name for names, _ in sources.values() for name in names}
    plain = {name.removeprefix("module."): value for name, value in tensors.items()}
    # A batch norm that is a row of a `StepNorm` does not count its batches.
    plain = {name: value for name, value in plain.items() if name in wanted or not name.endswith("batches_tracked")}
    if wanted != set(plain):
        raise StorageError(
            given=_differences(wanted, set(plain)),
            expected=f"the {len(wanted)} tensors that {naming.__name__} maps to {network.name!r}",
            remedy="build the network with the options of the published one (layers, times, tied, classes), or "
            'pass tensors["state_dict"] if the tensors are nested in the checkpoint',
        )
    ours = {name: function(*(plain[other] for other in names)) for name, (names, function) in sources.items()}
    load_tensors(network, ours, naming.__name__)


def libilab_pcn(network: Network) -> Sources:
    """Map `PredNet` (untied) and `PredNetTied` of libilab/PCN-with-Global-Recurrent-Processing to `pcn_global`.

    The original names are FFconv.L.conv2d.weight and FBconv.L.convtranspose2d.weight (tied: conv.L.weights), a0.L,
    b0.L, linear.weight and linear.bias, where L starts from 0 and a0.0 belongs to layer 1. The original rates have
    shape (1, channel, 1, 1), and those of pcsim (channel,).
    """
    layers = len(network.predicted)
    name = _names(network)
    transforms = {edge.name: edge.transform for edge in network.projections}
    sources: Sources = {}
    for layer in range(layers):
        (up,) = transforms[f"e{layer}->r{layer + 1}"].parameters()
        (down,) = network.incoming[f"p{layer}"][0].transform.parameters()
        if up is down:
            sources[name[id(up)]] = ((f"conv.{layer}.weights",), _same)
        else:
            sources[name[id(up)]] = ((f"FFconv.{layer}.conv2d.weight",), _same)
            sources[name[id(down)]] = ((f"FBconv.{layer}.convtranspose2d.weight",), _same)
        sources[f"rules.r{layer + 1}.rate.weight"] = ((f"b0.{layer}",), torch.flatten)
        if layer + 1 < layers:
            sources[f"rules.prior{layer + 1}.rate.weight"] = ((f"a0.{layer}",), torch.flatten)
    weight, bias = transforms[f"r{layers}->readout"].parameters()
    sources[name[id(weight)]] = (("linear.weight",), _same)
    sources[name[id(bias)]] = (("linear.bias",), _same)
    return sources


def zcrwind_prednet(network: Network) -> Sources:
    """Map zcrwind/PredNet_pytorch, a faithful port of the original, to a `prednet` whose R and A have equal channels.

    The port has i.L, f.L, c.L and o.L, one convolution per gate over the concatenation [R, E, up(R above)], and A.2L
    and Ahat.2L. In pcsim, each source has one convolution with the gates stacked in the order i, f, o, c, and the
    results are summed.
    """
    layers = len(network.predicted)
    name = _names(network)
    transforms = {edge.name: edge.transform for edge in network.projections}
    sources: Sources = {}
    for layer in range(layers):
        r, e = f"r{layer}", f"e{layer}"
        ends = [0, network.shape(r)[0]]
        ends.append(ends[-1] + network.shape(e)[0])
        parts = [f"{r}->{r}", f"{e}->{r}"]
        if layer + 1 < layers:
            ends.append(ends[-1] + network.shape(f"r{layer + 1}")[0])
            parts.append(f"r{layer + 1}->{r}")
            weight, bias = transforms[f"{e}->a{layer + 1}"].parameters()
            sources[name[id(weight)]] = ((f"A.{2 * layer}.weight",), _same)
            sources[name[id(bias)]] = ((f"A.{2 * layer}.bias",), _same)
        for part, first, last in zip(parts, ends, ends[1:], strict=False):
            (gates,) = transforms[part].parameters()
            sources[name[id(gates)]] = (tuple(f"{gate}.{layer}.weight" for gate in "ifoc"), _stacked(first, last))
        sources[f"rules.{r}.bias"] = (tuple(f"{gate}.{layer}.bias" for gate in "ifoc"), _stacked())
        (weight,) = transforms[f"{r}->p{layer}"].parameters()
        sources[name[id(weight)]] = ((f"Ahat.{2 * layer}.weight",), _same)
        sources[f"rules.p{layer}.bias"] = ((f"Ahat.{2 * layer}.bias",), _same)
    return sources


def cornet(network: Network) -> Sources:
    """Map `CORnet_Z`, `CORnet_R`, `CORnet_RT` and `CORnet_S` of dicarlolab/CORnet to the networks of the same names.

    The original names are V1.conv and so on in Z; V1.conv_input, V1.norm_input, V1.conv1, V1.norm1 and so on in R and
    RT; and V1.conv1, V1.norm1, V1.conv2, V1.norm2, V2.conv_input, V2.skip, V2.norm_skip, V2.conv1..3, V2.norm1_0,
    V2.norm1_1 and so on in S. All have decoder.linear. The norms of successive repeats are rows of one tensor in pcsim.
    """
    naming = _OfModules(network)
    naming.add("it->readout", ["decoder.linear"])
    recurrent = "u_v1" in network.populations
    source = "image"
    for area in ("v1", "v2", "v4", "it"):
        theirs = area.upper()
        if recurrent:
            naming.add(f"{source}->u_{area}", [f"{theirs}.conv_input", f"{theirs}.norm_input"])
            naming.add(f"u_{area}->{area}", [f"{theirs}.conv1", f"{theirs}.norm1"])
        elif f"in_{area}" in network.populations:
            into, first, wide, deep = (f"{name}_{area}" for name in ("in", "first", "wide", "deep"))
            naming.add(f"{source}->{into}", [f"{theirs}.conv_input"])
            naming.add(f"{into}->{first}", [f"{theirs}.conv1", f"{theirs}.norm1_0"])
            naming.add(f"{first}->{deep}", [f"{theirs}.conv2", f"{theirs}.norm2_0"])
            naming.add(f"{deep}->{area}", [f"{theirs}.conv3", f"{theirs}.norm3_0"])
            naming.add(f"{into}->{area}", [f"{theirs}.skip", f"{theirs}.norm_skip"])
            if wide in network.populations:
                naming.add(f"{area}->{wide}", [f"{theirs}.conv1", f"{theirs}.norm1_1"])
                naming.add(f"{wide}->{deep}", [f"{theirs}.conv2", f"{theirs}.norm2_1"])
        elif "stem" in network.populations:
            naming.add("image->stem", ["V1.conv1", "V1.norm1"])
            naming.add("stem->v1", ["V1.conv2", "V1.norm2"])
        else:
            naming.add(f"{source}->{area}", [f"{theirs}.conv"])
        source = area
    return naming.sources


class _OfModules:
    """A collection of `Sources`, built from the modules with tensors in each projection, in order."""

    def __init__(self, network: Network) -> None:
        self.names = _names(network)
        self.transforms = {edge.name: edge.transform for edge in network.projections}
        self.sources: Sources = {}

    def add(self, edge: str, theirs: list[str]) -> None:
        """Add the modules on `edge` under the names `theirs`; rows of a `StepNorm` have consecutive numbers."""
        holding = [module for module in self.transforms[edge].modules() if any(True for _ in module._parameters)]
        for module, prefix in zip(holding, theirs, strict=True):
            tensors = dict(module.named_parameters(recurse=False)) | dict(module.named_buffers(recurse=False))
            for name, tensor in tensors.items():
                if isinstance(module, StepNorm):
                    stem, first = prefix.rsplit("_", 1)
                    rows = tuple(f"{stem}_{int(first) + t}.{name}" for t in range(len(tensor)))
                    self.sources[self.names[id(tensor)]] = (rows, lambda *values: torch.stack(values))
                elif id(tensor) in self.names:
                    self.sources[self.names[id(tensor)]] = ((f"{prefix}.{name}",), _same)


def _names(network: Network) -> dict[int, str]:
    """Return the name of each stored tensor, by its id."""
    return {id(tensor): name for name, tensor in trained_tensors(network).items()}


def _same(tensor: Tensor) -> Tensor:
    return tensor


def _stacked(first: int | None = None, last: int | None = None) -> Callable[..., Tensor]:
    """Return a function that stacks the gates, keeping only input channels first..last of the concatenation."""
    if first is None:
        return lambda *gates: torch.cat(gates)
    return lambda *gates: torch.cat([gate[:, first:last] for gate in gates])


def _differences(wanted: set[str], given: set[str]) -> str:
    parts = [
        f"{word} {', '.join(sorted(names)[:5])}"
        for word, names in (("without", wanted - given), ("with", given - wanted))
        if names
    ]
    return "tensors " + " and ".join(parts)
