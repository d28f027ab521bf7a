"""The plastic weight of a projection, and products of pre- and postsynaptic activity in the shape of this weight.

<post pre> = mean over samples and positions of post_i pre_j        for a Linear
           = the same, where pre are the patches that `unfold` cuts out of the source, for a convolution

For every layer, these products are computed as the gradient of <post, W pre> with respect to W.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from pcsim.connections import Activation, Chain, Phased, Tied, summary
from pcsim.connections.constrained import WEIGHTED, Constrained, Signed, linear_map
from pcsim.core.exceptions import TrainingError, WiringError
from pcsim.network import Network, Projection

_AFTER = (nn.Identity, nn.Flatten, nn.Unflatten, nn.ReLU, nn.Dropout, Activation)
"""layers that may follow the weight, because they preserve the order of the units"""


class Synapses:
    """The synapses of a projection, whose transform has exactly one layer with a weight.

    before  layers between the source and the weight, such as pooling; their output is the presynaptic activity
    sign    1 or -1 if all weights have this sign (Dale's law), otherwise None

    Raises WiringError unless exactly one layer has a weight, and the layers after it preserve the shape.
    """

    def __init__(self, edge: Projection) -> None:
        parts = _parts(edge.transform)
        places = [place for place, part in enumerate(parts) if isinstance(part, (*WEIGHTED, Constrained))]
        after = parts[places[0] + 1 :] if places else []
        before = parts[: places[0]] if places else []
        strange: list[nn.Module] = [part for part in before if isinstance(part, Phased)]
        strange += [part for part in after if not isinstance(part, _AFTER)]
        if len(places) != 1 or strange:
            raise WiringError(
                given=f"{edge.name!r} with the transform {summary(edge.transform) or 'identity'}, which has "
                + (f"a {type(strange[0]).__name__}" if strange else f"{len(places)} plastic weights"),
                expected="one Linear, Conv2d or ConvTranspose2d, preceded by layers that do not depend on the step and "
                "followed by layers that preserve the shape",
                remedy="choose another projection, such as one with connections.conv(...), or split this one in two",
            )
        module = parts[places[0]]
        self.name, self.before = edge.name, nn.Sequential(*parts[: places[0]])
        self.constraint = module if isinstance(module, Constrained) else None
        self.layer: nn.Module = module.layer if isinstance(module, Constrained) else module
        flips = sum(isinstance(part, Activation) and part.gain < 0 for part in after)
        self.sign = module.sign * (-1) ** flips if isinstance(module, Signed) else None
        self._dim = 1 if isinstance(self.layer, Tied | nn.ConvTranspose2d) else 0
        _require_parameter(edge, self.stored, _owner(self.layer), bool(self._dim))

    @property
    def stored(self) -> Tensor:
        """The parameter that holds the weight."""
        return self.constraint.stored if self.constraint is not None else cast(Tensor, _owner(self.layer).weight)

    @property
    def strength(self) -> Tensor:
        """The effective weight; its absolute value if all weights have the same sign."""
        weight = self.stored if self.constraint is None else self.constraint.weight
        return weight.detach() if self.sign is None else weight.detach().abs()

    @torch.no_grad()
    def set_strength(self, strength: Tensor) -> None:
        """Set the weight to this strength. If all weights have the same sign, negative strengths become 0."""
        if isinstance(self.constraint, Signed):
            strength = strength.clamp(min=0.0)
            if self.constraint.form == "softplus":
                strength = strength.clamp(min=torch.finfo(strength.dtype).eps)
                strength = strength + torch.log(-torch.expm1(-strength))
        self.stored.copy_(strength)

    @torch.no_grad()
    def presynaptic(self, value: Tensor) -> Tensor:
        """Return the input of the weight, computed from the value of the source in evaluation mode."""
        modes = [(module, module.training) for module in self.before.modules()]
        self.before.eval()
        try:
            return self.before(value.clone()) if len(self.before) else value
        finally:
            for module, mode in modes:
                module.training = mode

    def postsynaptic(self, value: Tensor, pre: Tensor) -> Tensor:
        """Return `value` in the shape of the weight's output. Raises WiringError if the numbers of units differ."""
        with torch.no_grad():
            shape = linear_map(self.layer, pre, self.strength).shape
        if value.shape != shape and value.flatten(1).shape != torch.Size((shape[0], shape[1:].numel())):
            raise WiringError(
                given=f"{self.name!r}, whose weight has the output shape {tuple(shape[1:])}, and a target of shape "
                f"{tuple(value.shape[1:])}",
                expected="a weight whose outputs are the units of the target",
                remedy="choose a projection without pooling or resizing after its weight",
            )
        return value.reshape(shape)

    def products(self, post: Tensor, pre: Tensor) -> Tensor:
        """<post pre>: the product, averaged over samples and positions, in the shape of the weight."""
        return self._summed(post, pre) / self._units(post)[0].numel()

    def sum_over_positions(self, post: Tensor, pre: Tensor) -> Tensor:
        """Return the product averaged over samples and summed over positions, as in the gradient of an energy."""
        return self._summed(post, pre) / len(post)

    def products_of_samples(self, post: Tensor, pre: Tensor) -> Tensor:
        """Return the product of each sample, averaged over positions: (batch, *weight)."""
        if type(self.layer) is nn.Linear and post.dim() == 2:
            return torch.einsum("bo,bi->boi", post, pre)
        each = torch.func.vmap(lambda y, x: self._summed(y[None], x[None]))(post, pre)
        return each * len(post) / self._units(post)[0].numel()

    def means(self, post: Tensor) -> Tensor:
        """Return the mean of each unit or channel over samples and positions: (units,)."""
        return self._units(post).mean(1)

    def along_weight(self, units: Tensor) -> Tensor:
        """Reshape values (units,) so that they broadcast against the weight."""
        return units.reshape([-1 if axis == self._dim else 1 for axis in range(self.stored.dim())])

    def along_activity(self, units: Tensor, post: Tensor) -> Tensor:
        """Reshape values (units,) so that they broadcast against the postsynaptic activity."""
        return units.reshape([-1 if axis == self._axis(post) else 1 for axis in range(post.dim())])

    def _summed(self, post: Tensor, pre: Tensor) -> Tensor:
        weight = torch.zeros_like(self.stored)  # <post, W pre> is linear in W
        return torch.func.vjp(lambda w: linear_map(self.layer, pre, w), weight)[1](post)[0]

    def _axis(self, post: Tensor) -> int:
        """Return the axis of the units: the last axis for a Linear, and the channel axis for a convolution."""
        is_linear = isinstance(_owner(self.layer), nn.Linear)
        return post.dim() - 1 if is_linear else 1

    def _units(self, post: Tensor) -> Tensor:
        return post.movedim(self._axis(post), 0).flatten(1)


def _parts(transform: nn.Module) -> list[nn.Module]:
    """Return the layers of a transform, including those of nested sequences, in order."""
    if isinstance(transform, nn.Sequential | Chain):
        inner = transform if isinstance(transform, nn.Sequential) else transform.parts
        return [part for each in inner for part in _parts(each)]
    return [transform]


def _owner(layer: nn.Module) -> nn.Module:
    """Return the layer whose parameter a Tied or Strided layer uses."""
    while not isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
        layer = layer.forward_map if isinstance(layer, Tied) else layer.convolution  # type: ignore[assignment]
    return layer


def _require_parameter(edge: Projection, stored: Tensor, owner: nn.Module, is_transposed: bool) -> None:
    groups = getattr(owner, "groups", 1)
    if not isinstance(stored, nn.Parameter) or (is_transposed and groups > 1):
        raise WiringError(
            given=f"{edge.name!r}, whose weight is "
            + ("a transposed convolution in groups" if groups > 1 else "computed from other parameters"),
            expected="a weight that is a parameter, and no groups in a transposed convolution",
            remedy="remove parametrizations such as weight_norm, or pass groups=1",
        )


def synapses_of(network: Network, name: str) -> tuple[Projection, Synapses]:
    """Return the projection with the given name, and its synapses. Raises WiringError if it does not exist."""
    edges = {edge.name: edge for edge in network.projections}
    if name not in edges:
        raise WiringError(
            given=f"a rule for the projection {name!r}",
            expected=f"a projection of {network.name!r}: {', '.join(edges)}",
            remedy=f"write, for example, {{{next(iter(edges), 'a->b')!r}: local.Hebb(1e-3)}}",
        )
    return edges[name], Synapses(edges[name])


def checked_values(synapses: Synapses, network: Network, name: str, value: Tensor) -> Tensor:
    """Return an activity (batch, ...). Raises TrainingError if its shape or type is wrong, or a value is not finite."""
    weight = synapses.stored
    is_fitting = tuple(value.shape[1:]) == tuple(network.shape(name)) and value.dim() > 0 and len(value) > 0
    if not is_fitting or value.dtype != weight.dtype or value.device != weight.device or not value.isfinite().all():
        found = "" if value.isfinite().all() else ", with NaN or infinite values"
        raise TrainingError(
            given=f"values of {name!r}, {tuple(value.shape)} {value.dtype} on {value.device}{found}",
            expected=f"finite values (batch, {', '.join(map(str, network.shape(name)))}), {weight.dtype} on "
            f"{weight.device}",
            remedy="pass the activity of a run of this network whose samples have not diverged",
        )
    return value.detach()
