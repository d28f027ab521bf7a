"""Predictive coding in areas with layers 4, 2/3 and 5.

    l23_n = pi (l5_n - p_n),   p_n = sum over areas above of W f( l5 )        prediction errors, in layer 2/3
    l4_n = sum over areas below of W^T l23                                    errors that arrive from below, in layer 4
    tau dl5_n/dt = f'(l5_n) l4_n - l23_n                                      representations, in layer 5

Errors ascend from layer 2/3 to layer 4 of the next area, and predictions descend from layer 5 to layer 2/3 of the area
below (Bastos et al. 2012; Shipp 2016). The errors of an input are computed in its relay (thalamus).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from pcsim.connections import Activation
from pcsim.core.checks import Count, Positive, checked
from pcsim.core.exceptions import WiringError
from pcsim.core.state import Shape
from pcsim.models._predictive_coding import weight_pair
from pcsim.models.areas import Wiring
from pcsim.models.registry import register
from pcsim.network import Network, Population, Projection
from pcsim.rules.base import Leaky, Rule
from pcsim.rules.predictive import ErrorRelaxation, PredictionError
from pcsim.rules.time_constants import TimeConstant
from pcsim.rules.wires import Sum

Tau = float | Tensor | TimeConstant
Link = tuple[str, str, nn.Module, nn.Module]


@checked(WiringError)
def laminar_hierarchy(
    inputs: Sequence[str],
    areas: Mapping[str, Shape],
    links: Sequence[Link],
    *,
    tau: Mapping[str, Tau] | Tau = 20.0,
    tau_l4: Positive | None = None,
    tau_l23: Positive | None = None,
    activation: str = "identity",
    precision: Positive = 1.0,
) -> Wiring:
    """Return the populations AREA_l4, AREA_l23 and AREA_l5 of a hierarchy, and its edges.

    inputs   names of the network's inputs, such as ["image"]; INPUT_l23 is the prediction error of an input
    areas    shape of each area
    links    (low, high, up, down) for each pair of areas that are connected, where low is an area or an input: `up`
             transforms the errors of low, and `down`, usually the transpose of `up`, predicts low from high. Links may
             skip areas, and an area may have several areas above or below it
    tau      time constant of layer 5 in ms, one for all areas or one per area
    tau_l4, tau_l23  time constants of layers 4 and 2/3, or None if these layers respond immediately
    activation       f
    precision        pi

    An area that no other area predicts has no layer 2/3. Raises WiringError for a link between unknown areas.
    """
    known = {*inputs, *areas}
    predicted = {low for low, *_ in links}
    if unknown := [f"{low} - {high}" for low, high, *_ in links if low not in known or high not in areas]:
        raise WiringError(
            given=f"the links {', '.join(unknown)}",
            expected=f"links from an input or area to an area: {', '.join([*inputs, *areas])}",
            remedy="pass links such as ('image', 'v1', up, down)",
        )

    if isinstance(tau, Mapping) and (missing := set(areas) - set(tau)):
        raise WiringError(
            given=f"time constants for {', '.join(tau) or 'no area'}",
            expected=f"one for each area, including {', '.join(sorted(missing))}",
            remedy="pass tau=20.0 for all areas",
        )

    def layer(rule: Sum | PredictionError, constant: float | None) -> Rule:
        return rule if constant is None else Leaky(rule, constant)

    populations = [Population(f"{name}_l23", layer(PredictionError(precision), tau_l23)) for name in inputs]
    projections = [Projection(name, f"{name}_l23") for name in inputs]
    for name, shape in areas.items():
        constant = tau[name] if isinstance(tau, Mapping) else tau
        l4, l23, l5 = f"{name}_l4", f"{name}_l23", f"{name}_l5"
        populations += [
            Population(l4, layer(Sum(), tau_l4)),
            Population(l5, ErrorRelaxation(constant, activation), tuple(shape)),
        ]
        projections.append(Projection(l4, l5))
        if name in predicted:
            populations.append(Population(l23, layer(PredictionError(precision), tau_l23)))
            projections += [
                Projection(l5, l23, kind="lateral", port="target"),
                Projection(l23, l5, kind="error"),
            ]
    for low, high, up, down in links:
        predicting = nn.Sequential(Activation(activation), down)
        projections += [
            Projection(f"{low}_l23", f"{high}_l4", up),
            Projection(f"{high}_l5", f"{low}_l23", predicting, "prediction"),
        ]
    return populations, projections


@register(paper="Bastos et al. 2012; Shipp 2016")
def laminar(
    layers: Sequence[Shape] = ((1, 28, 28), (256,), (64,)),
    *,
    tau: Sequence[Tau] | Tau = 20.0,
    tau_l4: Positive | None = None,
    tau_l23: Positive | None = None,
    activation: str = "identity",
    precision: Positive = 1.0,
    kernel: Count = 3,
) -> Network:
    """Build a laminar hierarchy of areas v1, v2, ... above the input "image".

    layers  shape of the image, followed by that of each area: vectors (n,) or maps (channel, height, width), with
            weights as in `predictive_coding`
    tau     time constant of layer 5 in ms, one for all areas or one per area; the other arguments are those of
            `laminar_hierarchy`

    If layers 4 and 2/3 respond immediately, this is equivalent to `predictive_coding` without biases.
    Raises WiringError for fewer than two layers, incompatible map sizes, or a wrong number of time constants.

        net = pcsim.models.laminar(((1, 28, 28), (128,), (32,)), tau_l4=5.0, tau_l23=5.0)
    """
    names = [f"v{n}" for n in range(1, len(layers))]
    taus = list(tau) if isinstance(tau, Sequence) else [tau] * len(names)
    if len(layers) < 2 or len(taus) != len(names):
        raise WiringError(
            given=f"{len(layers)} layers and {len(taus)} time constants",
            expected="the image and at least one area, and one time constant per area",
            remedy="pass layers=((1, 28, 28), (256,), (64,)) and tau=20.0",
        )
    shapes = [tuple(shape) for shape in layers]
    links = [
        (low, high, *weight_pair(below, above, kernel))
        for low, high, below, above in zip(["image", *names], names, shapes, shapes[1:], strict=False)
    ]
    populations, projections = laminar_hierarchy(
        ["image"],
        dict(zip(names, shapes[1:], strict=True)),
        links,
        tau=dict(zip(names, taus, strict=True)),
        tau_l4=tau_l4,
        tau_l23=tau_l23,
        activation=activation,
        precision=precision,
    )
    return Network({"image": shapes[0]}, populations, projections, readout=f"{names[-1]}_l5", name="laminar")
