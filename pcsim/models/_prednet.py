"""PredNet (Lotter, Kreiman & Cox 2017, arXiv 1605.08104).

    R_l(t) = cell( [ E_l(t-1), R_l(t-1), up2( R_{l+1}(t) ) ] )                   top first
    P_l(t) = ReLU( conv( R_l(t) ) ),   P_0 <- min( P_0, 1 )                       the prediction, A-hat in the paper
    E_l(t) = [ ReLU( P_l - A_l ), ReLU( A_l - P_l ) ]
    A_{l+1}(t) = maxpool2( ReLU( conv( E_l(t) ) ) ),   A_0 the frame

R is computed before the frame is used, so P_0(t) predicts frame t from the preceding frames. P_0(0) depends on no frame
and is excluded from losses and scores. The gates of a layer result from one convolution over the concatenation,
computed as the sum of one convolution per source. The delays imply the order of evaluation: R from the top down, then
P, E and A from the bottom up.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

from torch import nn

from pcsim.connections import conv, draw, pool
from pcsim.core.checks import Count, Counts
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
    channels: Counts = (1, 32, 64, 128, 256),
    representations: Sequence[Count] | None = None,
    *,
    cell: Cell = "convlstm",
    peephole: Peephole = "none",
    gate: str = "hard_sigmoid",
    feedback: Feedback = "current",
    kernel: Count = 3,
    image: tuple[Count, Count, Count] = (1, 64, 64),
) -> Network:
    """Build PredNet. The default is the network used in the paper for rotating faces.

    channels         channels of A and P in layers 0, 1, ...; the first entry is the number of channels of the image
    representations  channels of R, by default equal to `channels`. For dark frames, small networks may collapse to
                     predicting black; more channels in layer 0 and a positive initial bias of P_0 prevent this
    cell      "convlstm" or "subconvlstm"
    peephole, gate  options of the ConvLSTM, as in `rules.LSTM`; the defaults are those of the original code
    feedback  input in the closed loop (`pcsim.predict(..., closed_loop_from=10)`): "current", the prediction of the
              current frame, so that the error of layer 0 is zero; or "previous", the prediction of the previous frame,
              as in the original code
    image     shape of a frame, (channel, height, width); height and width must be divisible by 2^(layers - 1)

    Weights are initialised as in Keras: Glorot uniform, with zero biases. Raises WiringError for an unknown option or
    an image that does not match `channels`.
    """
    layers = len(channels)
    maps = tuple(channels if representations is None else representations)
    _check(channels, len(maps), image)
    populations = [Population("a0", Sum())]
    projections = [
        Projection("frame", "a0"),
        # This projection is lesioned so that the loop stays open until pcsim.predict closes it.
        Projection("p0", "a0", kind="prediction", delay=int(feedback == "previous"), lesioned=(ALWAYS,)),
    ]
    for layer, (count, rep) in enumerate(zip(channels, maps, strict=True)):
        at = (image[1] >> layer, image[2] >> layer)
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
    return Network({"frame": image}, populations, projections, readout="p0", steps=10, name="prednet")


@register(paper="Lotter et al. 2017")
def prednet_kitti(
    channels: Counts = (3, 48, 96, 192), *, image: tuple[Count, Count, Count] = (3, 128, 160), **options: Any
) -> Network:
    """Build PredNet in the size used in the paper for KITTI (6,915,948 parameters). Options are those of `prednet`."""
    return prednet(channels, image=image, **options)


def _glorot(convolutions: Sequence[nn.Conv2d], out: int) -> None:
    """Draw Glorot-uniform weights as if each gate had one convolution over all sources, and set biases to zero."""
    area = math.prod(convolutions[0].kernel_size)
    bound = math.sqrt(6.0 / (area * (sum(c.in_channels for c in convolutions) + out)))
    for convolution in convolutions:
        draw(convolution.weight, nn.init.uniform_, -bound, bound)
        if convolution.bias is not None:
            nn.init.zeros_(convolution.bias)


def _check(channels: Sequence[int], representations: int, image: tuple[int, int, int]) -> None:
    layers, multiple = len(channels), 2 ** (len(channels) - 1)
    if channels[0] != image[0]:
        raise WiringError(
            given=f"channels={tuple(channels)} for an image of shape {image}",
            expected="the image's number of channels as the first entry of `channels`",
            remedy=f"pass channels={(image[0], *channels[1:])}",
        )
    if layers != representations or image[1] % multiple or image[2] % multiple:
        raise WiringError(
            given=f"{layers} channels, {representations} representations, frames of {image[1]}x{image[2]}",
            expected=f"as many representations as channels, and a height and width divisible by {multiple}",
            remedy="crop or pad the frames, or use fewer layers",
        )
