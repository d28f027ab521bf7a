"""Attention: inputs that change the gain of populations in any network.

    feature   gain_k = strength sum_c goal_c tuning_ck             feature-similarity gain, Lindsay & Miller 2018
    steering  gain_k = sum_c goal_c W_kc, with learnable W         Konkle & Alvarez 2023
    place     gain_ij = strength spotlight_ij                      or 1 / (1 + strength spotlight_ij) - 1, divisive

The gains of a population are added. Goals and spotlights are inputs, so a timeline can change them during a run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from pcsim.connections import Gain
from pcsim.core.checks import Count, Finite, NonNegative, checked
from pcsim.core.exceptions import WiringError
from pcsim.core.state import Shape
from pcsim.network import Network, Projection
from pcsim.network.variants import rebuilt
from pcsim.rules.modulation import modulated


@checked(WiringError)
def attend(
    net: Network,
    *populations: str,
    feature: Mapping[str, Tensor] | Count | None = None,
    place: bool = False,
    strength: Finite = 1.0,
    divisive: bool = False,
    port: str | None = None,
) -> Network:
    """Return the network with additional inputs for attention to features ("goal") or places ("spotlight").

    The rules of the named populations become `rules.modulated`, with edges of kind `modulatory` from the new inputs.
    With all-zero goals and spotlights, or after `without("modulatory")`, the results are bitwise unchanged. To combine
    both kinds of attention, or to give areas different strengths, call `attend` again. Parameters are shared with
    `net`.

    feature   tuning (classes, channels) of each population, as returned by `analysis.tuning`; or the number of goals,
              for learnable weights that start at 0 and ignore `strength`. Adds the input "goal" (classes,)
    place     if True, adds the input "spotlight" (1, height, width), with the size of the first image-like input; it is
              averaged down to the size of each population
    strength  gain for a goal or spotlight of 1 and a tuning of 1
    divisive  if True, the spotlight suppresses: drive / (1 + strength spotlight); pass 1 - mask to spare a place
    port      input port to multiply, or "value"; see `rules.modulated`

    Raises WiringError for unknown populations, for a tuning of the wrong shape, for place=True with populations that
    have no height and width, and unless exactly one of `feature` and `place` is set.

        tuned = {"l2": analysis.tuning(run["l2"], labels)}
        net = models.attend(net, "l2", feature=tuned, strength=0.5)
        run = simulate(net, {"image": images, "goal": torch.eye(10)[cued]}, solver=Iterate())
    """
    unknown = [name for name in populations if name not in net.populations]
    if unknown or not populations or (feature is None) == (not place) or (divisive and not (place and strength >= 0)):
        raise WiringError(
            given=f"attend({', '.join(map(repr, populations))}), feature={feature!r}, place={place}, "
            f"strength={strength:g}, divisive={divisive}",
            expected=f"populations of {net.name!r} ({', '.join(net.populations)}), either feature= or place=True, and "
            "divisive=True only with place=True and strength >= 0",
            remedy=f"call attend(net, {next((p for p in net.populations if p not in unknown), 'v1')!r}, "
            + ("place=True)" if feature is None else "feature=...)"),
        )
    transforms = {
        name: _place(name, net.shape(name), strength, divisive)
        if feature is None
        else _feature(name, net.shape(name), feature, strength)
        for name in populations
    }
    source = "goal" if feature is not None else "spotlight"
    shape = _goal_shape(feature) if feature is not None else _image_shape(net)
    if net.inputs.get(source, shape) != shape:
        raise WiringError(
            given=f"{source!r} of shape {shape} for a network whose input {source!r} is {net.inputs[source]}",
            expected="the same shape in all calls to attend",
            remedy="use tunings for the same classes",
        )
    changed = [
        replace(p, rule=p.rule if "gain" in p.rule.ports else modulated(p.rule, port), shape=net.shape(name))
        if name in populations
        else p
        for name, p in net.populations.items()
    ]
    like = next(iter(net.parameters()), torch.empty(0))
    edges = [Projection(source, name, t.to(like.device, like.dtype), "modulatory") for name, t in transforms.items()]
    return rebuilt(net, changed, [*net.projections, *edges], inputs={**net.inputs, source: shape})


def _feature(name: str, shape: Shape, feature: Mapping[str, Tensor] | int, strength: float) -> nn.Module:
    """Return the transform from a goal to the gain of each channel."""
    if isinstance(feature, int):
        weight, learnable = torch.zeros(shape[0], feature), True
    else:
        if name not in feature:
            raise WiringError(
                given=f"tunings for {', '.join(map(repr, feature)) or 'no population'}, but attention to {name!r}",
                expected="a tuning for each population",
                remedy=f"pass feature={{{name!r}: analysis.tuning(run[{name!r}], labels)}}",
            )
        tuning = feature[name]
        if tuning.dim() != 2 or tuning.shape[1] != shape[0] or not bool(tuning.isfinite().all()):
            raise WiringError(
                given=f"a tuning of shape {tuple(tuning.shape)} for {name!r}, which has {shape[0]} channels",
                expected=f"finite values (classes, {shape[0]}) for each population",
                remedy=f"pass feature={{{name!r}: analysis.tuning(run[{name!r}], labels)}}",
            )
        weight, learnable = strength * tuning.T, False
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    linear.weight = nn.Parameter(weight.contiguous(), requires_grad=learnable)
    return nn.Sequential(linear, _Spread(shape)) if len(shape) > 1 else linear


def _place(name: str, shape: Shape, strength: float, divisive: bool) -> nn.Module:
    """Return the transform from a spotlight to the gain of each place."""
    if len(shape) != 3:
        raise WiringError(
            given=f"a spotlight for {name!r} of shape {shape}",
            expected="populations of shape (channel, height, width)",
            remedy="name populations with a height and width, or use feature=...",
        )
    resized = nn.AdaptiveAvgPool2d((shape[1], shape[2]))
    return nn.Sequential(resized, _Suppression(strength) if divisive else Gain(strength), _Spread(shape))


class _Spread(nn.Module):
    """Expand a gain per channel or place to all units, because gains that are added must have the same shape."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, value: Tensor) -> Tensor:
        """Return (batch, *shape)."""
        missing = (1,) * (1 + len(self.shape) - value.dim())
        return value.reshape(*value.shape, *missing).expand(-1, *self.shape)


@checked(WiringError)
class _Suppression(nn.Module):
    """gain = 1 / (1 + strength [x]+) - 1, so that drive (1 + gain) = drive / (1 + strength [x]+)."""

    def __init__(self, strength: NonNegative) -> None:
        super().__init__()
        self.strength = strength

    def forward(self, value: Tensor) -> Tensor:
        """gain = -s / (1 + s), with s = strength [x]+; exactly 0 for x = 0."""
        suppression = self.strength * torch.relu(value)
        return -suppression / (1.0 + suppression)


def _goal_shape(feature: Mapping[str, Tensor] | int) -> Shape:
    return (feature if isinstance(feature, int) else len(next(iter(feature.values()))),)


def _image_shape(net: Network) -> Shape:
    """Return the shape (1, height, width) of a spotlight for the first input that has a height and width."""
    for shape in net.inputs.values():
        if len(shape) == 3:
            return (1, *shape[1:])
    raise WiringError(
        given=f"a spotlight for {net.name!r}, whose inputs are {dict(net.inputs)}",
        expected="an input of shape (channel, height, width)",
        remedy="use feature=... for networks without images",
    )
