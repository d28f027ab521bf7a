"""Transforms whose weights are constrained during training: to one sign (Dale's law) or to symmetry.

y = sign g(W) x,  g(W) = |W|, [W]+ or log(1 + exp(W))         Signed
y = 1/2 (W + W^T) x                                           Symmetric

The stored weight W is unconstrained, so any optimiser can update it; the constraint is applied whenever the edge
delivers its output. Source for Dale's law in trained networks: Song, Yang & Wang 2016 eq. 8-11.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from pcsim.connections.functions import Gain
from pcsim.connections.transforms import (
    Activation,
    Chain,
    GlobalMaxPool,
    GlobalMeanPool,
    Resize,
    Strided,
    Tied,
    summary,
)
from pcsim.core.checks import checked
from pcsim.core.exceptions import WiringError

Sign = Literal[1, -1]
Form = Literal["absolute", "rectified", "softplus"]
_FORMS: dict[str, Callable[[Tensor], Tensor]] = {
    "absolute": torch.abs,
    "rectified": functional.relu,
    "softplus": functional.softplus,
}
Weighted = nn.Linear | nn.Conv2d | nn.ConvTranspose2d | Strided | Tied
WEIGHTED = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d, Strided, Tied)
# Non-decreasing layers that map non-negative rates to non-negative rates
_MONOTONE = (
    *(nn.Identity, nn.ReLU, nn.Dropout, nn.Flatten, nn.Unflatten, nn.ZeroPad2d, nn.MaxPool2d, nn.AvgPool2d),
    *(GlobalMaxPool, GlobalMeanPool, Resize),
)


def linear_map(layer: nn.Module, value: Tensor, weight: Tensor) -> Tensor:
    """y = W x: apply a Linear, Conv2d, ConvTranspose2d, Strided or Tied with the given weight W and no bias."""
    if isinstance(layer, Strided | Tied):
        return layer.with_weight(value, weight)
    if isinstance(layer, nn.Linear):
        return functional.linear(value, weight)
    if isinstance(layer, nn.Conv2d):
        return layer._conv_forward(value, weight, None)
    layer = cast(nn.ConvTranspose2d, layer)
    padding = cast(tuple[int, int], layer.padding)
    return functional.conv_transpose2d(
        value, weight, None, layer.stride, padding, layer.output_padding, layer.groups, layer.dilation
    )


class Constrained(nn.Module):
    """Base class for linear maps y = V x, where V is a function of the stored weight of `layer`.

    `layer` is a Linear, Conv2d, ConvTranspose2d, Strided or Tied without bias. Raises WiringError for other modules.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        owner = layer.convolution if isinstance(layer, Strided) else layer
        if not isinstance(layer, WEIGHTED) or getattr(owner, "bias", None) is not None:
            raise WiringError(
                given=f"{summary(layer) or 'an identity'}{' with a bias' if isinstance(layer, WEIGHTED) else ''}",
                expected="a Linear, Conv2d, ConvTranspose2d, Strided or Tied without bias",
                remedy="pass bias=False, because the bias is part of the target's rule; use "
                "connections.signed(...) for a sequence of layers",
            )
        self.layer: Weighted = layer

    @property
    def stored(self) -> Tensor:
        """The stored weight W, which the optimiser updates."""
        layer = self.layer
        owner = layer.convolution if isinstance(layer, Strided) else layer
        owner = owner.forward_map if isinstance(owner, Tied) else owner
        return owner.weight

    @property
    def weight(self) -> Tensor:
        """The effective weight V."""
        raise NotImplementedError

    def forward(self, value: Tensor) -> Tensor:
        """y = V x."""
        return linear_map(self.layer, value, self.weight)


@checked(WiringError)
class Signed(Constrained):
    """y = sign g(W) x: a linear map whose weights are all excitatory (sign=1) or all inhibitory (sign=-1).

    form  g(W): "absolute" |W|, "rectified" max(W, 0), or "softplus" log(1 + exp(W)), which is 0.69 for W = 0

    Training any other edge with the same layer, such as `Signed(Tied(layer), -1)`, changes this edge too.
    """

    def __init__(self, layer: nn.Module, sign: Sign, form: Form = "absolute") -> None:
        super().__init__(layer)
        self.sign, self.form = sign, form

    @property
    def weight(self) -> Tensor:
        """The effective weight, sign g(W)."""
        size = _FORMS[self.form](self.stored)
        return size if self.sign == 1 else -size

    def describe(self) -> str:
        """Return the sign, followed by the description of the layer."""
        return f"{'excitatory' if self.sign == 1 else 'inhibitory'} {summary(self.layer)}"


@checked(WiringError)
class Symmetric(Constrained):
    """y = 1/2 (W + W^T) x: a linear map with the same weight in both directions between any two units.

    For a convolution, W^T is flipped in space and transposed between channels. Raises WiringError unless the layer is a
    Linear, or a Conv2d with an odd kernel, and has as many output channels as input channels.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__(layer)
        out, inside, *kernel = self.stored.shape
        if out != inside or not isinstance(layer, nn.Linear | nn.Conv2d) or any(length % 2 == 0 for length in kernel):
            raise WiringError(
                given=f"a symmetric {summary(layer)}",
                expected="a Linear, or a Conv2d with an odd kernel, with as many output channels as input channels",
                remedy=f"pass connections.conv({inside}, {inside}, kernel=3)",
            )

    @property
    def weight(self) -> Tensor:
        """The effective weight, 1/2 (W + W^T)."""
        transposed = self.stored.transpose(0, 1)
        return 0.5 * (self.stored + transposed.flip(tuple(range(2, transposed.dim()))))

    def describe(self) -> str:
        """Return the word "symmetric", followed by the description of the layer."""
        return f"symmetric {summary(self.layer)}"


@checked(WiringError)
def signed(module: nn.Module, sign: Sign, form: Form = "absolute") -> nn.Module:
    """Return a transform whose output is `sign` times a non-negative, non-decreasing function of the source's rates.

    For non-negative rates, the edge is thus purely excitatory (sign=1) or inhibitory (sign=-1), and remains so while
    it is trained. The sign is a property of the source: give all edges from a population the same sign (Dale's law).

    module  a linear layer without bias, a monotone layer such as pooling, or a sequence of these. Its weights are
            shared, not copied
    form    how the non-negative weights are computed; see `Signed`

    Raises WiringError for other modules and for layers with a bias.

        Projection("e", "i", connections.signed(conv(8, 4), 1))
        Projection("i", "e", connections.signed(conv(4, 8), -1), kind="lateral")
    """
    if isinstance(module, WEIGHTED):
        return Signed(module, sign, form)
    is_sequence = isinstance(module, nn.Sequential | Chain)
    parts = list((module.parts if isinstance(module, Chain) else module).children()) if is_sequence else [module]
    made = [_non_negative(part, form) for part in parts]
    if sign == -1 and isinstance(made[-1], Signed):
        made[-1] = Signed(made[-1].layer, -1, form)
    elif sign == -1:
        made.append(Gain(-1.0))
    return nn.Sequential(*made)


def _non_negative(part: nn.Module, form: Form) -> nn.Module:
    if isinstance(part, (*WEIGHTED, nn.Sequential, Chain)):
        return signed(part, 1, form)
    is_monotone = isinstance(part, _MONOTONE) or (isinstance(part, nn.Upsample) and part.mode != "bicubic")
    if not is_monotone and not (isinstance(part, Activation) and part.name in ("identity", "relu") and part.gain > 0):
        raise WiringError(
            given=f"a signed transform with a {type(part).__name__}",
            expected="linear layers without bias, pooling, rectification, padding, resizing or flattening",
            remedy="apply norms and other functions in the target's rule",
        )
    return part
