"""Hierarchical predictive coding (Rao & Ballard 1999; Whittington & Bogacz 2017).

    E = sum_l pi_l / 2 |r_l - p_l|^2,   p_l = W_l f( r_{l+1} ) + b_l
    e_l = pi_l ( r_l - p_l )
    tau dr_l/dt = f'(r_l) W_{l-1}^T e_{l-1} - e_l           = - dE/dr_l
    dW_l = e_l f( r_{l+1} )^T,  db_l = e_l                   = - dE/dW_l, at the relaxed state (`pcsim.training.local`)

Layer 0 is the lowest, and every layer predicts the one below. If layer 0 is clamped to an image, the layers above infer
its causes. If the top is clamped, the network generates an image. If both are clamped, it can learn with supervision.
W^T shares the weights of W. The equations are those of Whittington & Bogacz 2017 (eq. 2.15-2.19), with f inside the
prediction. In Rao & Ballard 1999, f is outside: p_l = f( W_l r_{l+1} + b_l ), and the error passed up is W_l^T d_l,
with d_l = f'( W_l r_{l+1} + b_l ) e_l.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from pcsim.connections import Activation, HalfSquare, Tied, conv
from pcsim.core.checks import Count
from pcsim.core.exceptions import WiringError, warn
from pcsim.core.state import Shape
from pcsim.models.registry import register
from pcsim.network import Network, Population, Projection
from pcsim.rules.base import slope_named
from pcsim.rules.predictive import ErrorRelaxation, ErrorThrough, Prediction, PredictionError
from pcsim.rules.time_constants import TimeConstant
from pcsim.rules.wires import Sum


@register(paper="Rao & Ballard 1999; Whittington & Bogacz 2017")
def predictive_coding(
    layers: Sequence[Shape] = ((1, 28, 28), (256,), (64,)),
    *,
    clamped: Sequence[str] = ("r0",),
    tau: float | Tensor | TimeConstant | Sequence[float | Tensor | TimeConstant] = 10.0,
    activation: str = "identity",
    nonlinearity: Literal["inside", "outside"] = "inside",
    precision: float | Sequence[float] = 1.0,
    bias: bool = True,
    kernel: Count = 3,
    start: str = "zeros",
) -> Network:
    """Build a hierarchical predictive coding network as a gradient flow, with the energy E as a population.

    layers     shape of each layer, lowest first: vectors (n,) or maps (channel, height, width). Weights between maps
               are convolutions of size `kernel`, and the map sizes must be equal or differ by an integer factor; all
               other weights are dense
    clamped    names of the layers that are inputs; `net.clamped("r2")` clamps further layers
    tau        time constant in ms, one for all layers or one per layer
    nonlinearity  position of f: "inside", p = W f(r) + b, or "outside", p = f(W r + b)
    precision  pi, one for all errors or one per error, e0 first
    start      "zeros", or "predictions": each layer starts at its prediction, so the top layer must be clamped

    If f has slope 0 at 0 ("relu"), a top layer that starts at zero never moves; a PcsimWarning is issued unless the top
    is clamped. Raises WiringError for fewer than two layers, incompatible map sizes, or a `start` that requires a
    clamped top.

        net = pcsim.models.predictive_coding(((10,), (300,), (784,)), clamped=("r2",))  # image on top, label below
    """
    count = len(layers)
    taus = list(tau) if isinstance(tau, Sequence) else [tau] * count
    precisions = list(precision) if isinstance(precision, Sequence) else [precision] * (count - 1)
    top = f"r{count - 1}"
    _check(layers, len(taus), precisions, start, start == "zeros" or top in clamped)
    inside, outside = (activation, "identity") if nonlinearity == "inside" else ("identity", activation)
    if top not in clamped and inside != "identity" and not slope_named(inside)(torch.zeros(1)):
        warn(
            f"{inside} has slope 0 at 0, so units of {top!r} that start at 0 never move. Pass another start, "
            f"simulate(..., initial={{{top!r}: torch.rand(batch, ...)}}), or use activation='softplus'."
        )
    populations = [
        Population(f"r{layer}", ErrorRelaxation(taus[layer], inside), tuple(shape))
        for layer, shape in enumerate(layers)
    ]
    populations.append(Population("energy", Sum()))
    projections: list[Projection] = []
    guesses: list[Projection] = []
    biases = [Prediction(outside, shape[0] if bias else None) for shape in layers[:-1]]
    for layer, (low, high, pi) in enumerate(zip(layers, layers[1:], precisions, strict=False)):
        up, down = weight_pair(tuple(low), tuple(high), kernel)
        r, above, p, e = f"r{layer}", f"r{layer + 1}", f"p{layer}", f"e{layer}"
        populations += [Population(p, biases[layer]), Population(e, PredictionError(pi))]
        predicting = nn.Sequential(Activation(inside), down)
        passed = e
        if outside != "identity":
            passed = f"d{layer}"
            populations.append(Population(passed, ErrorThrough(outside)))
            projections += [
                Projection(e, passed, kind="error"),
                Projection(p, passed, kind="prediction"),
            ]
        projections += [
            Projection(above, p, predicting, "prediction"),
            Projection(p, e, kind="prediction"),
            Projection(r, e),
            Projection(e, r, kind="error", port="error"),
            Projection(passed, above, up, "bottom_up"),
            Projection(e, "energy", HalfSquare(1.0 / pi), "error"),
        ]
        guesses.append(Projection(above, r, predicting, "prediction"))
    initialiser = None
    if start == "predictions":
        names = [Population(f"r{layer}", biases[layer]) for layer in range(count - 1)]
        initialiser = Network({top: tuple(layers[-1])}, names, guesses, readout="r0", steps=1, name="predictions")
    return Network({}, populations, projections, name="predictive_coding", initialiser=initialiser).clamped(*clamped)


def weight_pair(low: Shape, high: Shape, kernel: int) -> tuple[nn.Module, nn.Module]:
    """Build the transform that passes errors up from `low` to `high`, and its transpose, which predicts `low`."""
    if len(low) == len(high) == 3:
        large, small = sorted((low, high), key=lambda shape: shape[1], reverse=True)
        stride = large[1] // small[1]
        if large[1:] != (stride * small[1], stride * small[2]):
            raise WiringError(
                given=f"a layer of shape {low} below a layer of shape {high}",
                expected="maps of equal size, or sizes that differ by the same integer factor in height and width",
                remedy="halve height and width from layer to layer, or make the upper layer a vector (n,)",
            )
        convolution = conv(large[0], small[0], kernel, stride)
        return (convolution, Tied(convolution)) if large is low else (Tied(convolution), convolution)
    linear = nn.Linear(math.prod(low), math.prod(high), bias=False)
    down: nn.Module = Tied(linear)
    up: nn.Module = linear
    if len(low) > 1:
        up, down = nn.Sequential(nn.Flatten(), up), nn.Sequential(down, nn.Unflatten(1, low))
    if len(high) > 1:
        up, down = nn.Sequential(up, nn.Unflatten(1, high)), nn.Sequential(nn.Flatten(), down)
    return up, down


def _check(layers: Sequence[Shape], taus: int, precisions: Sequence[float], start: str, can_start: bool) -> None:
    if len(layers) < 2 or taus != len(layers) or len(precisions) != len(layers) - 1 or min(precisions) <= 0:
        raise WiringError(
            given=f"{len(layers)} layers, {taus} time constants, precisions {list(precisions)}",
            expected="at least two layers, one tau per layer, and a positive precision for each layer but the top",
            remedy="pass tau=10.0 and precision=1.0 for all layers, or sequences of these lengths, lowest layer first",
        )
    if start not in ("zeros", "predictions") or not can_start:
        raise WiringError(
            given=f"start={start!r} with a top layer that is " + ("clamped" if can_start else "not clamped"),
            expected="start 'zeros', or 'predictions' with a clamped top layer, from which the predictions start",
            remedy=f"add 'r{len(layers) - 1}' to clamped, or pass start='zeros'",
        )
