"""Pure functions that infer the shape of every node by following the edges."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from pcsim.connections import (
    Activation,
    Chain,
    Gain,
    GlobalMaxPool,
    GlobalMeanPool,
    HalfSquare,
    PerStep,
    Resize,
    Standardise,
    StepNorm,
    Strided,
    Tied,
)
from pcsim.core.exceptions import PcsimError, WiringError
from pcsim.core.state import Shape, laid_out
from pcsim.network.parts import Projection
from pcsim.rules.base import Rule


def transformed_shape(transform: nn.Module, shape: Shape) -> Shape:
    """Return the output shape of `transform` for an activity of shape `shape`, without computing the output.

    For common layer types, the shape is given by a formula. Other layers are run on the meta device, which takes 0.1 to
    4 ms per layer and 0.8 s for the first one. If the transform does not accept the shape, its exception is raised.
    """
    return _by_type(transform, shape) or _on_meta(transform, shape)


_KEEPING = (nn.Identity, nn.ReLU, nn.ELU, nn.Tanh, nn.Sigmoid, nn.Softplus, nn.Dropout, Activation, Gain, Standardise)


def _by_type(layer: nn.Module, shape: Shape) -> Shape | None:
    """Return the output shape of a common layer, or None for other layers and unsuitable input shapes."""
    kind = type(layer)
    if layer._forward_hooks or layer._forward_pre_hooks or "forward" in vars(layer):
        return None
    if kind in _KEEPING:
        return shape
    if isinstance(layer, PerStep):
        shapes = {_by_type(part, shape) for part in layer.transforms}
        return shapes.pop() if len(shapes) == 1 else None
    if kind in (nn.Sequential, Chain):
        for part in layer.children() if kind is nn.Sequential else cast(Chain, layer).parts:
            made = _by_type(part, shape)
            if made is None:
                return None
            shape = made
        return shape
    if isinstance(layer, nn.Linear) and kind is nn.Linear:
        return (*shape[:-1], layer.out_features) if shape[-1] == layer.in_features else None
    if isinstance(layer, Tied) and isinstance(owner := layer.forward_map, nn.Linear):
        return (*shape[:-1], owner.in_features) if shape[-1] == owner.out_features else None
    if isinstance(layer, HalfSquare):
        return (1,)
    if len(shape) != 3:
        return None
    if kind in (GlobalMaxPool, GlobalMeanPool):
        return shape[:1]
    if kind in (nn.BatchNorm2d, nn.GroupNorm):
        wanted = getattr(layer, "num_features", None) or getattr(layer, "num_channels", None)
        return shape if shape[0] == wanted else None
    if isinstance(layer, Resize):
        return (shape[0], *layer.size)
    if isinstance(layer, nn.Upsample) and isinstance(layer.scale_factor, float):
        return (shape[0], *(math.floor(length * layer.scale_factor) for length in shape[1:]))
    if isinstance(layer, Strided):
        return _convolved(layer.convolution, shape, {"stride": layer.stride})
    if isinstance(layer, StepNorm):
        return shape if shape[0] == layer.weight.shape[1] else None
    if isinstance(layer, nn.ZeroPad2d):
        left, right, above, below = layer.padding
        return (shape[0], shape[1] + above + below, shape[2] + left + right)
    return _convolved(layer, shape) if kind in (nn.Conv2d, nn.ConvTranspose2d, nn.MaxPool2d) else None


def _convolved(layer: nn.Module, shape: Shape, other: Mapping[str, Any] | None = None) -> Shape | None:
    """Return the output shape of a convolution or max-pooling layer, or None for an unsuitable input shape.

    other  settings that override those of the layer
    """
    channels, *size = shape
    settings = {**vars(layer), **(other or {})}
    if settings.get("in_channels", channels) != channels or isinstance(settings["padding"], str):
        return None
    kernel, stride, padding, dilation = (
        value if isinstance(value := settings[name], tuple) else (value, value)
        for name in ("kernel_size", "stride", "padding", "dilation")
    )
    if type(layer) is nn.MaxPool2d and any(2 * pad > length for pad, length in zip(padding, kernel, strict=True)):
        return None
    spans = [step * (length - 1) + 1 for step, length in zip(dilation, kernel, strict=True)]
    if type(layer) is nn.ConvTranspose2d:
        extra = settings["output_padding"]
        made = [(n - 1) * s - 2 * p + k + e for n, s, p, k, e in zip(size, stride, padding, spans, extra, strict=True)]
    elif settings.get("ceil_mode"):
        made = [-(-(n + 2 * p - k) // s) + 1 for n, s, p, k in zip(size, stride, padding, spans, strict=True)]
        # The last window must start inside the image or the left padding.
        made = [m - ((m - 1) * s >= n + p) for m, n, s, p in zip(made, size, stride, padding, strict=True)]
    else:
        made = [(n + 2 * p - k) // s + 1 for n, s, p, k in zip(size, stride, padding, spans, strict=True)]
    return (settings.get("out_channels", channels), *made) if min(made) > 0 else None


def _on_meta(transform: nn.Module, shape: Shape) -> Shape:
    named = chain(transform.named_parameters(), transform.named_buffers())
    tensors = {name: tensor.to("meta") for name, tensor in named}
    # Use two samples, because batch norm in training mode does not accept a single value per channel.
    # Use the memory layout of a run, so that a transform that flattens with an unsupported `.view` fails here.
    given = laid_out(torch.empty((2, *shape), device="meta", dtype=next((t.dtype for t in tensors.values()), None)))
    with torch.no_grad():
        made = functional_call(transform, tensors, (given,))
    if not isinstance(made, Tensor) or made.dim() < 2 or len(made) != len(given):
        what = f"shape {tuple(made.shape)} for 2 samples" if isinstance(made, Tensor) else f"a {type(made).__name__}"
        raise TypeError(f"it returns {what} instead of a tensor (batch, ...)")
    return tuple(made.shape[1:])


@dataclass(frozen=True)
class Shapes:
    """The shapes of all nodes, rule variables and input ports."""

    nodes: dict[str, Shape]
    variables: dict[str, dict[str, Shape]]
    ports: dict[str, dict[str, Shape]]


def infer_shapes(
    inputs: Mapping[str, Shape],
    rules: Mapping[str, Rule],
    declared: Mapping[str, Shape],
    projections: Sequence[Projection],
) -> Shapes:
    """Propagate the input and declared shapes along the edges to every node, and check every edge.

    Raises WiringError if two shapes disagree or if a population cannot be reached. The message names the edge and both
    shapes, or all unreachable populations.
    """
    found = Shapes(dict(inputs) | dict(declared), {}, {name: {} for name in rules})
    arriving: dict[str, Shape] = {}
    progress = True
    while progress:
        progress = False
        for edge in projections:
            if edge.name in arriving or edge.source not in found.nodes:
                continue
            arriving[edge.name] = _arrival(edge, found.nodes[edge.source])
            _agree(found.ports[edge.target], edge, arriving[edge.name])
            progress = True
        for name, rule in rules.items():
            if name in found.nodes or not found.ports[name]:
                continue
            found.nodes[name] = _respond(name, rule, found.ports[name])["value"]
            progress = True
            break  # follow the edges from this population before inferring others
    if missing := [name for name in rules if name not in found.nodes]:
        raise WiringError(
            given=f"no shape for {', '.join(missing)}",
            expected="every population to be reachable from an input or to declare its shape",
            remedy=f"connect it, or pass its shape: Population({missing[0]!r}, rule, shape=(channel, height, width))",
        )
    for name, rule in rules.items():
        for port in rule.ports:
            found.ports[name].setdefault(port, found.nodes[name])
        variables = _respond(name, rule, found.ports[name])
        if variables["value"] != found.nodes[name]:
            raise WiringError(
                given=f"population {name!r} declared as {found.nodes[name]}, but its inputs yield {variables['value']}",
                expected="the same shape",
                remedy=f"declare shape={variables['value']}, or change the transforms of its incoming projections",
            )
        found.variables[name] = variables
    return found


def _arrival(edge: Projection, shape: Shape) -> Shape:
    try:
        return transformed_shape(edge.transform, shape)
    except (RuntimeError, ValueError, IndexError, TypeError) as reason:
        raise WiringError(
            given=f"edge {edge.name}: {edge.source!r} has shape {shape}, which the transform rejects ({reason})",
            expected="a transform that accepts the shape of its source",
            remedy=f"change the transform of {edge.name} (input channels, kernel) or the shape of {edge.source!r}",
        ) from reason


def _agree(ports: dict[str, Shape], edge: Projection, shape: Shape) -> None:
    expected = ports.setdefault(edge.port or "", shape)
    if shape == expected:
        return
    raise WiringError(
        given=f"edge {edge.name} delivers shape {shape} to {edge.target!r}",
        expected=f"shape {expected}, like the other projections to port {edge.port!r}",
        remedy=_how_to_fit(shape, expected),
    )


def _how_to_fit(shape: Shape, expected: Shape) -> str:
    advice = []
    if len(shape) != len(expected):
        return f"make the transform return shape {expected}, for instance with nn.Flatten() or nn.Unflatten(1, shape)"
    if shape[0] != expected[0]:
        advice.append(f"give the transform {expected[0]} output channels")
    if shape[1:] != expected[1:] and len(shape) == 3:
        higher, wider = expected[1] / shape[1], expected[2] / shape[2]
        if higher != wider:
            advice.append(f"change the size of its output with connections.Resize({expected[1:]})")
        elif higher > 1.0:
            advice.append(f"enlarge its output, for instance with connections.up_conv(..., stride={higher:g})")
        else:
            advice.append(f"shrink its output, for instance with connections.pool({1.0 / higher:g})")
    return " and ".join(advice)


def _respond(name: str, rule: Rule, ports: Mapping[str, Shape]) -> dict[str, Shape]:
    try:
        return rule.shapes(ports)
    except PcsimError as reason:
        raise WiringError(
            given=f"population {name!r} with {reason.given}", expected=reason.expected, remedy=reason.remedy
        ) from reason
