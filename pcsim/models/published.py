"""Functions that load published weights from other implementations into pcsim's networks.

    tensors = torch.load("PCN.pth", weights_only=True)       # a state dict of the authors' class
    models.published.load(net, tensors, models.published.libilab_pcn)

A mapping is a function that takes a network and returns, for each of its tensors, the tensor names used in the original
code, their shape, and a function that converts these tensors. A missing or unexpected tensor, or one of the wrong
shape, raises StorageError, as does a network that does not match the mapping. No published
weights ship with pcsim.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pcsim.connections import StepNorm
from pcsim.core.checks import checked
from pcsim.core.exceptions import StorageError
from pcsim.core.state import Shape
from pcsim.network import Network
from pcsim.network.weights import load_tensors, trained_tensors
from pcsim.rules.gated import LSTM


def _same(tensor: Tensor) -> Tensor:
    return tensor


class Source(NamedTuple):
    """The origin of one tensor of a network: tensors of the original code, and the function that converts them."""

    names: tuple[str, ...]
    """names in the original code"""
    convert: Callable[..., Tensor] = _same
    """function that computes the network's tensor from them"""
    shape: Shape | None = None
    """shape of each original tensor; None if it equals the shape of the network's tensor"""


Sources = dict[str, Source]
"""name of a tensor of the network, or UNUSED -> its origin"""
UNUSED = ""
"""key for tensors of the original code that the network does not need and that may be missing"""
Naming = Callable[[Network], Sources]
COUNTER = "num_batches_tracked"
"""a tensor in batch norms that does not affect their output and is missing from old state dicts"""


@checked(StorageError)
def load(network: Network, tensors: Mapping[str, Any], naming: Naming) -> None:
    """Load published `tensors` into a network with the same layer sizes.

    naming  mapping: `libilab_pcn` for `pcn_global`, `libilab_local` for `pcn_local`, `zcrwind_prednet` for `prednet`,
            `cornet` for the CORnets, or `torchvision_resnet` for `resnet18` and `resnet34`

    Batch norms keep their `num_batches_tracked`. Raises StorageError, and leaves the network unchanged, if tensors are
    missing, unexpected or of the wrong shape, or if the mapping does not match the network.
    """
    own = trained_tensors(network)
    counted = {name: tensor for name, tensor in own.items() if name.endswith(COUNTER)}
    sources = _sources(network, naming, set(own) - set(counted))
    unused = sources.pop(UNUSED, Source(())).names
    expected = {
        name: tuple(own[ours].shape) if source.shape is None else source.shape
        for ours, source in sources.items()
        for name in source.names
    }
    shared = "module." if all(name.startswith("module.") for name in tensors) else ""
    counters = {shared + name.replace("running_mean", COUNTER) for name in expected if name.endswith("running_mean")}
    plain = {name.removeprefix(shared): value for name, value in tensors.items() if name not in counters}
    plain = {name: value for name, value in plain.items() if name not in unused}
    if expected.keys() != plain.keys():
        raise StorageError(
            given=_differences(set(expected), set(plain)),
            expected=f"the {len(expected)} tensors that {naming.__name__} maps to {network.name!r}: "
            f"{', '.join(list(expected)[:3])}, ...",
            remedy=_renaming(set(expected), set(plain)),
        )
    if wrong := [name for name, shape in expected.items() if tuple(plain[name].shape) != shape]:
        raise StorageError(
            given="tensors " + ", ".join(f"{name} of shape {tuple(plain[name].shape)}" for name in wrong[:4]),
            expected="shapes " + ", ".join(str(expected[name]) for name in wrong[:4]),
            remedy="build the network with the published layer sizes",
        )
    ours = {name: source.convert(*(plain[other] for other in source.names)) for name, source in sources.items()}
    load_tensors(network, counted | ours, naming.__name__)


def _sources(network: Network, naming: Naming, wanted: set[str]) -> Sources:
    """Return the mapping of a network. Raises StorageError unless it covers exactly the tensors in `wanted`."""
    try:
        sources = naming(network)
        mapped = set(sources) - {UNUSED}
        differences = "" if mapped == wanted else _differences(mapped, wanted)
    except StorageError:
        raise
    except LookupError as error:  # the network lacks a projection or population that the mapping expects
        sources, differences = {}, f"its wiring lacks {error}"
    except ValueError:  # unpacking, or zip(strict=True)
        sources, differences = {}, "the transform of a projection has more or fewer parts than in the original code"
    if differences:
        raise StorageError(
            given=f"the network {network.name!r}: {differences}",
            expected=f"a network supported by {naming.__name__}",
            remedy=f"build the network described in help(models.published.{naming.__name__}), or pass the mapping for "
            "this network",
        )
    return sources


@checked(StorageError)
def libilab_pcn(network: Network) -> Sources:
    """Map `PredNet` (untied) and `PredNetTied` of libilab/PCN-with-Global-Recurrent-Processing to `pcn_global`.

    The network must have at least one cycle, from which the mapping infers whether the weights are tied.

    The original names are FFconv.L.conv2d.weight and FBconv.L.convtranspose2d.weight (tied: conv.L.weights), a0.L,
    b0.L, linear.weight and linear.bias, where L counts from 0 and a0.0 is for layer 1. The original rates have
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
            sources[name[id(up)]] = Source((f"conv.{layer}.weights",))
        else:
            sources[name[id(up)]] = Source((f"FFconv.{layer}.conv2d.weight",))
            sources[name[id(down)]] = Source((f"FBconv.{layer}.convtranspose2d.weight",))
        sources[f"rules.r{layer + 1}.rate.weight"] = _rate(f"b0.{layer}", len(up))
        if layer + 1 < layers:
            sources[f"rules.prior{layer + 1}.rate.weight"] = _rate(f"a0.{layer}", len(up))
    weight, bias = transforms[f"r{layers}->readout"].parameters()
    sources[name[id(weight)]] = Source(("linear.weight",))
    sources[name[id(bias)]] = Source(("linear.bias",))
    return sources


@checked(StorageError)
def libilab_local(network: Network) -> Sources:
    """Map `PredNetBpD` and `PredNetBpE` of libilab/PCN-with-Local-Recurrent-Processing to the published `pcn_local`.

    The original names are PcConvs.L.FFconv.weight, PcConvs.L.FBconv.weight, PcConvs.L.b0.0, PcConvs.L.bypass.weight,
    the batch norms BNs.L and BNend, linear.weight and linear.bias, where L counts from 0; with a stem, also
    baseconv.conv.weight and the batch norm baseconv.featBN. The original rates have shape (1, channel, 1, 1); those of
    pcsim have shape (channel,). A network without cycles uses neither FBconv nor b0.
    """
    naming = _OfModules(network)
    source = "image"
    blocks = sum(name.startswith("out") for name in network.populations)
    for layer, block in enumerate(range(1, blocks + 1)):
        x, end, theirs = f"x{block}", f"out{block}", f"PcConvs.{layer}"
        is_stem = source == "image" and len(naming.holding("image->x1")) > 1
        stem = ["baseconv.conv", "baseconv.featBN"] if is_stem else []
        naming.add(f"{source}->{x}", [*stem, f"BNs.{layer}"])
        naming.add(f"{x}->s{block}", [f"{theirs}.FFconv"])
        naming.add(f"{x}->{end}", [f"{theirs}.bypass"])
        if network.predicted:
            naming.add(f"y{block}->p{block}", [f"{theirs}.FBconv"])
            naming.sources[f"rules.y{block}.rate.weight"] = _rate(f"{theirs}.b0.0", network.shape(end)[0])
        source = end
    naming.add(f"{source}->readout", ["BNend", "linear"])
    if not network.predicted:
        names = (f"PcConvs.{layer}.{name}" for layer in range(blocks) for name in ("FBconv.weight", "b0.0"))
        naming.sources[UNUSED] = Source(tuple(names))
    return naming.sources


@checked(StorageError)
def zcrwind_prednet(network: Network) -> Sources:
    """Map zcrwind/PredNet_pytorch, a faithful port of the original, to a `prednet` with as many channels in R as in A.

    The cells must be ConvLSTMs with hard sigmoid gates and without peepholes. The port has i.L, f.L, c.L and o.L, one
    convolution per gate over the concatenation [R, E, up(R above)], and A.2L and Ahat.2L. In pcsim, each source has one
    convolution with the gates stacked in the order i, f, o, c, and the results are summed.
    """
    layers = len(network.predicted)
    _require_original_cells(network, layers)
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
            sources[name[id(weight)]] = Source((f"A.{2 * layer}.weight",))
            sources[name[id(bias)]] = Source((f"A.{2 * layer}.bias",))
        for part, first, last in zip(parts, ends, ends[1:], strict=False):
            (gates,) = transforms[part].parameters()
            shape = (ends[1], ends[-1], *gates.shape[2:])
            sources[name[id(gates)]] = Source(_gates("weight", layer), _stacked(first, last), shape)
        sources[f"rules.{r}.bias"] = Source(_gates("bias", layer), _stacked(), (ends[1],))
        (weight,) = transforms[f"{r}->p{layer}"].parameters()
        sources[name[id(weight)]] = Source((f"Ahat.{2 * layer}.weight",))
        sources[f"rules.p{layer}.bias"] = Source((f"Ahat.{2 * layer}.bias",))
    return sources


def _require_original_cells(network: Network, layers: int) -> None:
    """Raise StorageError unless r0, r1, ... are LSTMs as in the original code; other cells may have the same shapes."""
    for name in (f"r{layer}" for layer in range(layers)):
        rule = network.populations[name].rule
        if not isinstance(rule, LSTM) or (rule.gate_name, rule.kind) != ("hard_sigmoid", "none"):
            raise StorageError(
                given=f"the network {network.name!r} with the rule {rule.describe()!r} in {name}, for the tensors "
                f"{', '.join(_gates('weight', int(name[1:])))}",
                expected="LSTM cells with hard sigmoid gates and without peepholes, as in the original code",
                remedy="build it with models.prednet(cell='convlstm', gate='hard_sigmoid', peephole='none')",
            )


@checked(StorageError)
def cornet(network: Network) -> Sources:
    """Map `CORnet_Z`, `CORnet_R`, `CORnet_RT` and `CORnet_S` of dicarlolab/CORnet to the networks of the same names.

    The original names are V1.conv and so on in Z; V1.conv_input, V1.norm_input, V1.conv1, V1.norm1 and so on in R and
    RT; and V1.conv1, V1.norm1, V1.conv2, V1.norm2, V2.conv_input, V2.skip, V2.norm_skip, V2.conv1..3, V2.norm1_0,
    V2.norm1_1 and so on in S. All have decoder.linear. The norms of successive repeats are stored as rows of one tensor
    in pcsim.
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


@checked(StorageError)
def torchvision_resnet(network: Network) -> Sources:
    """Map torchvision's `resnet18` and `resnet34` to the networks of the same names.

    The original names are conv1, bn1, layer1.0.conv1, layer1.0.bn1, layer1.0.conv2, layer1.0.bn2, layer2.0.downsample.0
    (convolution), layer2.0.downsample.1 (norm) and so on, and fc. timm uses the same names. Images must be normalised
    with `stimuli.normalise`.
    """
    naming = _OfModules(network)
    naming.add("image->h0", ["conv1", "bn1"])
    stage, block, n = 1, 0, 1
    while f"h{n}" in network.populations:
        edge = f"h{n - 1}->h{n}"
        if skip := naming.holding(f"{edge}:skip"):
            stage, block = stage + 1, 0
        theirs = f"layer{stage}.{block}"
        naming.add(edge, [f"{theirs}.{part}" for part in ("conv1", "bn1", "conv2", "bn2")])
        naming.add(f"{edge}:skip", [f"{theirs}.downsample.{part}" for part in range(len(skip))])
        block, n = block + 1, n + 1
    naming.add(f"h{n - 1}->readout", ["fc"])
    return naming.sources


class _OfModules:
    """A builder of `Sources` for the modules of each projection, except those without tensors."""

    def __init__(self, network: Network) -> None:
        self.names = _names(network)
        self.transforms = {edge.name: edge.transform for edge in network.projections}
        self.sources: Sources = {}

    def holding(self, edge: str) -> list[nn.Module]:
        """Return the modules on `edge` that have tensors, in order."""
        return [module for module in self.transforms[edge].modules() if any(True for _ in module._parameters)]

    def add(self, edge: str, theirs: list[str]) -> None:
        """Map the modules on `edge` to the names `theirs`, numbering the rows of a `StepNorm` consecutively."""
        for module, prefix in zip(self.holding(edge), theirs, strict=True):
            tensors = dict(module.named_parameters(recurse=False)) | dict(module.named_buffers(recurse=False))
            for name, tensor in tensors.items():
                if isinstance(module, StepNorm):
                    stem, first = prefix.rsplit("_", 1)
                    rows = tuple(f"{stem}_{int(first) + t}.{name}" for t in range(len(tensor)))
                    self.sources[self.names[id(tensor)]] = Source(rows, _rows, tuple(tensor.shape[1:]))
                elif id(tensor) in self.names and name != COUNTER:
                    self.sources[self.names[id(tensor)]] = Source((f"{prefix}.{name}",))


def _names(network: Network) -> dict[int, str]:
    """Return the names of the stored tensors by id."""
    return {id(tensor): name for name, tensor in trained_tensors(network).items()}


def _rate(name: str, channels: int) -> Source:
    """Return the origin of an update rate of shape (channel,), stored in the original code as (1, channel, 1, 1)."""
    return Source((name,), torch.flatten, (1, channels, 1, 1))


def _gates(tensor: str, layer: int) -> tuple[str, ...]:
    return tuple(f"{gate}.{layer}.{tensor}" for gate in "ifoc")


def _rows(*values: Tensor) -> Tensor:
    return torch.stack(values)


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


def _renaming(wanted: set[str], given: set[str]) -> str:
    """Return a remedy for tensors with other names: remove a prefix, rename them, or build another network."""
    given = {name for name in given if not name.endswith(COUNTER)}
    missing, other = sorted(wanted - given), sorted(given - wanted)
    for name in other:
        prefix = next((name[:end] for end in range(1, len(name)) if name[end:] in wanted), None)
        if prefix and all(each.removeprefix(prefix) in wanted for each in given if each.startswith(prefix)):
            return f"remove the prefix: {{name.removeprefix({prefix!r}): tensor for name, tensor in tensors.items()}}"
    pairs = [(name, near[0]) for name in other if (near := difflib.get_close_matches(name, missing, 1, 0.8))]
    if pairs and len(missing) == len(other):
        return "rename " + ", ".join(f"{name!r} to {near!r}" for name, near in pairs[:3])
    return (
        "build the network with the published options (layers, iterations, tied, classes), or "
        'pass tensors["state_dict"] if the tensors are nested in the checkpoint'
    )


__all__ = ["Source", "cornet", "libilab_local", "libilab_pcn", "load", "zcrwind_prednet"]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
