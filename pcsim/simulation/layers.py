"""Conversion of modules to plain functions, to avoid the overhead of module calls.

Calling a module takes 2 to 4 us longer than calling its function. Layers of known types without hooks are therefore
called as functions of their current parameters. Other modules are called directly and guarded against in-place writes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from pcsim.connections import Activation, Strided, Tied
from pcsim.network.parts import Projection
from pcsim.simulation.kernels import Convolution, Kernel
from pcsim.simulation.purity import Nature, guarded, has_global_hooks, nature

Parameters = dict[str, Tensor]
Function = Callable[..., Any]


class Layers:
    """A cache of module functions. If `chooses` is True, convolutions use the kernel selected by `kernels`."""

    def __init__(self, chooses: bool = False) -> None:
        self.chooses, self._is_watched = chooses, has_global_hooks()
        self._natures: dict[nn.Module, Nature] = {}
        self._functions: dict[tuple[nn.Module, bool], Function] = {}

    def nature(self, module: nn.Module) -> Nature:
        """Return the properties of a module."""
        if module not in self._natures:
            self._natures[module] = nature(module, self._is_watched)
        return self._natures[module]

    def function(self, module: nn.Module, what: str, is_cast: bool = False) -> Function:
        """Return a module as a function that does not write to its arguments; error messages call it `what`.

        is_cast  whether it runs under autocast, which supports only torch's default kernels
        """
        key = (module, self.chooses and not is_cast)
        if key not in self._functions:
            known = self.nature(module)
            self._functions[key] = _plain(module, key[1]) if known.is_plain else guarded(module, what, known)
        return self._functions[key]

    def delivery(self, edge: Projection, phase: int | None, amp: torch.dtype | None) -> Function:
        """Return the function that maps the source's value to the value that an edge delivers.

        phase  index of the current step, for a transform that differs from step to step
        amp    compute type if the edge has no `compute_dtype`
        """
        dtype = edge.compute_dtype or amp
        transform = self.function(edge.transform, f"edge {edge.name}", is_cast=dtype is not None)
        if phase is not None:
            transform = partial(_phased, transform, phase)
        return transform if dtype is None else partial(_in_type, transform, dtype)


def _phased(transform: Function, phase: int, value: Tensor) -> Tensor:
    return cast(Tensor, transform(value, phase))


def _in_type(transform: Function, dtype: torch.dtype, value: Tensor) -> Tensor:
    with torch.autocast(value.device.type, dtype):
        return cast(Tensor, transform(value).to(value.dtype))


def _plain(module: nn.Module, chooses: bool) -> Function:
    """Return the function that a layer of known type computes."""
    if type(module) is nn.Sequential:
        parts = [_plain(part, chooses) for part in module if not _is_nothing(part)]
        return parts[0] if len(parts) == 1 else partial(_in_turn, parts)
    if type(module) is Activation and module.gain == 1.0:
        return module.function
    layer = module.forward_map if type(module) is Tied else module
    own = layer._parameters
    if type(layer) is nn.Linear and own.keys() >= {"weight", "bias"}:
        return partial(_linear if layer is module else _linear_transposed, cast(Parameters, own))
    if chooses and (known := _convolution(module)) is not None:
        return partial(_convolve, *known, {})
    return module.forward


def _convolution(module: nn.Module) -> tuple[Convolution, Parameters, bool] | None:
    """Return the settings, parameters and bias flag of a zero-padded convolution, or None for any other module."""
    owner = {Strided: "convolution", Tied: "forward_map"}.get(type(module))
    layer = module._modules[owner] if owner else module
    if not isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) or type(layer) not in (nn.Conv2d, nn.ConvTranspose2d):
        return None
    own = cast(Parameters, layer._parameters)
    if not own.keys() >= {"weight", "bias"} or layer.padding_mode != "zeros" or not isinstance(layer.padding, tuple):
        return None
    stride, padding, dilation, extra = (
        cast(tuple[int, int], pair) for pair in (layer.stride, layer.padding, layer.dilation, layer.output_padding)
    )
    is_up = isinstance(layer, nn.ConvTranspose2d)
    if isinstance(module, Strided):
        stride = (module.stride, module.stride)
    if isinstance(module, Tied):
        is_up, extra = True, module.extra
    return Convolution(stride, padding, dilation, layer.groups, is_up, extra), own, not isinstance(module, Tied)


def _is_nothing(module: nn.Module) -> bool:
    return type(module) is nn.Identity or (type(module) is Activation and (module.name, module.gain) == ("identity", 1))


def _in_turn(parts: Sequence[Function], value: Tensor) -> Tensor:
    for part in parts:
        value = part(value)
    return value


def _linear(parameters: Parameters, value: Tensor) -> Tensor:
    return functional.linear(value, parameters["weight"], parameters["bias"])


def _linear_transposed(parameters: Parameters, value: Tensor) -> Tensor:
    return functional.linear(value, parameters["weight"].t())


def _convolve(
    settings: Convolution, parameters: Parameters, has_bias: bool, chosen: dict[torch.Size, Kernel], image: Tensor
) -> Tensor:
    weight = parameters["weight"]
    kernel = chosen.get(image.shape)
    if kernel is None:
        is_of_ours = image.dtype is weight.dtype is torch.float32 and image.device.type == "cpu"
        kernel = settings.chosen(image.shape, weight.shape) if is_of_ours else settings.by_torch
        chosen[image.shape] = kernel
    function, between, after = kernel
    return function(image, weight, *between, parameters["bias"] if has_bias else None, *after)
