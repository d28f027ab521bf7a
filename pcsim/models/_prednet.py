"""PredNet (Lotter, Kreiman & Cox 2017, arXiv 1605.08104).

    R_l(t) = cell( [ E_l(t-1), R_l(t-1), up2( R_{l+1}(t) ) ] )                   top first
    P_l(t) = ReLU( conv( R_l(t) ) ),   P_0 <- min( P_0, 1 )                       the prediction, A-hat in the paper
    E_l(t) = [ ReLU( P_l - A_l ), ReLU( A_l - P_l ) ]
    A_{l+1}(t) = maxpool2( ReLU( conv( E_l(t) ) ) ),   A_0 the frame

R is computed before the frame is read, so P_0(t) predicts frame t from the frames before it; P_0(0) depends on no frame
and is left out of losses and scores. A layer's gates are one convolution over the concatenation, which is the sum of
one convolution per source. The order, R downwards and then P, E, A upwards, follows from the delays.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

from torch import nn

from pcsim.connections import conv, draw, pool
from pcsim.core.exceptions import WiringError
from pcsim.models.registry import register
from pcsim.network import ALWAYS, Network, Population, Projection
from pcsim.rules.base import Rule
from pcsim.rules.gated import LSTM, Peephole, SubLSTM
from pcsim.rules.predictive import Prediction, SplitError
from pcsim.rules.wires import Sum

Cell = Literal["convlstm", "subconvlstm"]
Feedback = Literal["current", "previous"]


@register(paper="Lotter et al. 2017")
def prednet(
    channels: Sequence[int] = (1, 32, 64, 128, 256),
    representations: Sequence[int] | None = None,
    *,
    cell: Cell = "convlstm",
    peephole: Peephole = "none",
    gate: str = "hard_sigmoid",
    feedback: Feedback = "current",
    kernel: int = 3,
    size: tuple[int, int] = (64, 64),
) -> Network:
    """Build PredNet, by default in the size that the paper used for rotating faces.

    channels         of A and P in layers 0, 1, ...; the first are those of the frames
    representations  channels of R, by default the same. More of them in layer 0, and a bias of P_0 above zero, keep
                     small networks on dark frames from predicting nothing at all
    cell      "convlstm" (with `peephole` and `gate` as in `rules.LSTM`; the paper has none and, in its code, hard
              sigmoids) or "subconvlstm"
    feedback  the input instead of the frame once the loop is closed (`pcsim.predict(..., closed_loop_from=10)`): the
              prediction of this frame ("current"; the error of layer 0 is then zero), or of the one before ("previous",
              as the original code has it)
    size      of the frames, (height, width); both must be divisible by 2^(layers - 1)

    Weights start as in Keras: Glorot uniform, biases zero. Raises WiringError for sizes that do not fit.
    """
    layers = len(channels)
    maps = tuple(channels if representations is None else representations)
    _check(layers, len(maps), cell, feedback, size)
    populations = [Population("a0", Sum())]
    projections = [
        Projection("frame", "a0"),
        # Lesioned: the loop is open until pcsim.predict closes it.
        Projection("p0", "a0", kind="prediction", delay=int(feedback == "previous"), lesioned=(ALWAYS,)),
    ]
    for layer, (count, rep) in enumerate(zip(channels, maps, strict=True)):
        at = (size[0] >> layer, size[1] >> layer)
        rule: Rule = (
            SubLSTM(rep) if cell == "subconvlstm" else LSTM(rep, peephole, at if peephole == "full" else None, gate)
        )
        ceiling = 1.0 if layer == 0 else None
        populations += [
            Population(f"r{layer}", rule),
            Population(f"p{layer}", Prediction("relu", count, ceiling)),
            Population(f"e{layer}", SplitError(), shape=(2 * count, *at)),
        ]
        above = maps[layer + 1] if layer + 1 < layers else 0
        gates = [conv(given, 4 * rep, kernel) for given in (2 * count, rep, above) if given]
        _glorot(gates, rep)
        to_prediction = conv(rep, count, kernel)
        _glorot([to_prediction], count)
        projections += [
            Projection(f"e{layer}", f"r{layer}", gates[0], "error", 1),
            Projection(f"r{layer}", f"r{layer}", gates[1], "lateral", 1),
            Projection(f"r{layer}", f"p{layer}", to_prediction, "prediction"),
            Projection(f"p{layer}", f"e{layer}", kind="prediction"),
            Projection(f"a{layer}", f"e{layer}"),
        ]
        if above:
            enlarged = nn.Sequential(nn.Upsample(scale_factor=2, mode="nearest"), gates[2])
            to_target = conv(2 * count, channels[layer + 1], kernel, bias=True)
            _glorot([to_target], channels[layer + 1])
            populations.append(Population(f"a{layer + 1}", Sum()))
            projections += [
                Projection(f"r{layer + 1}", f"r{layer}", enlarged, "top_down"),
                Projection(f"e{layer}", f"a{layer + 1}", nn.Sequential(to_target, nn.ReLU(), pool())),
            ]
    return Network({"frame": (channels[0], *size)}, populations, projections, readout="p0", steps=10, name="prednet")


@register(paper="Lotter et al. 2017")
def prednet_kitti(
    channels: Sequence[int] = (3, 48, 96, 192), *, size: tuple[int, int] = (128, 160), **options: Any
) -> Network:
    """Build PredNet in the size that the paper used for KITTI, 6,915,948 parameters; options as in `prednet`."""
    return prednet(channels, size=size, **options)


def _glorot(convolutions: Sequence[nn.Conv2d], out: int) -> None:
    """Draw uniformly within sqrt(6 / (fan in + fan out)) of one convolution per gate over all sources; biases zero."""
    area = math.prod(convolutions[0].kernel_size)
    bound = math.sqrt(6.0 / (area * (sum(c.in_channels for c in convolutions) + out)))
    for convolution in convolutions:
        draw(convolution.weight, nn.init.uniform_, -bound, bound)
        if convolution.bias is not None:
            nn.init.zeros_(convolution.bias)


def _check(layers: int, representations: int, cell: str, feedback: str, size: tuple[int, int]) -> None:
    multiple = 2 ** (layers - 1)
    if layers != representations or size[0] % multiple or size[1] % multiple:
        raise WiringError(
            given=f"{layers} layers, {representations} representations, frames of {size[0]}x{size[1]}",
            expected=f"as many representations as layers, and a height and width that {multiple} divides",
            remedy="crop or pad the frames, or use fewer layers",
        )
    if cell not in ("convlstm", "subconvlstm") or feedback not in ("current", "previous"):
        raise WiringError(
            given=f"cell={cell!r}, feedback={feedback!r}",
            expected="cell 'convlstm' or 'subconvlstm', feedback 'current' or 'previous'",
            remedy="write cell='convlstm', feedback='current'"
            + ("" if cell in ("convlstm", "subconvlstm") else "; peephole='full' makes the peephole ConvLSTM"),
        )
