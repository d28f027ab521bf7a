"""Predictive coding network with global recurrent processing (Wen et al. 2018, ICML, arXiv 1802.04762).

    r_l(0) = ReLU( FF_l( r_{l-1}(0) ) )                                         l = 1..L, r_0 the image
    top-down, l = L..1:     p_{l-1} = FB_l( r_l )
                            r_{l-1} <- ReLU( (1 - a) r_{l-1} + a p_{l-1} )      l > 1
    bottom-up, l = 1..L:    e_{l-1} = r_{l-1} - p_{l-1}
                            r_l <- ReLU( r_l + b FF_l( e_{l-1} ) )

The result of the top-down pass is a separate population, `prior`, so each population is computed once per cycle and the
order of both passes follows from the delays. FF is a 3x3 convolution and FB a transposed convolution, both without
biases. In a layer that downsamples, FF is followed by 2x2 max pooling and FB is preceded by bilinear upsampling. The
rates a (initially 0.5) and b (initially 1) are rectified, with one value per channel. The published loss does not
include the prediction error, which can be added with `Training(reconstruction=...)`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from torch import nn

from pcsim.connections import GlobalMeanPool, Tied, channels_last, conv, draw, pool
from pcsim.core.checks import Count, Counts, Whole
from pcsim.core.exceptions import WiringError
from pcsim.models.registry import register
from pcsim.network import Network, Population, Projection
from pcsim.rules.predictive import Blend, Correction, Prediction, PredictionError, UpdateRate
from pcsim.rules.rate import Rate
from pcsim.rules.wires import Sum


@register(paper="Wen et al. 2018")
def pcn_global(
    channels: Counts = (64, 64, 128, 128, 256, 256, 256, 256),
    pooled: Sequence[Count] = (3, 5),
    cycles: Whole = 6,
    *,
    tied: bool = False,
    order: Literal["sequential", "synchronous"] = "sequential",
    norm: Literal["none", "group"] = "none",
    activation: str = "relu",
    rates: tuple[float, float] = (0.5, 1.0),
    align_corners: bool = False,
    image: tuple[Count, Count, Count] = (3, 32, 32),
    classes: Count = 10,
) -> Network:
    """Build a PCN with global loops: each layer predicts the layer below and is corrected by the prediction error.

    channels   number of feature maps in layers 1..L
    pooled     numbers (from 1) of the layers that halve the map size
    cycles     number of cycles of the loop; 0 gives the feed-forward network
    tied       share weights between FF and FB and initialise them with Xavier normal, as published
    order      "sequential": a top-down pass followed by a bottom-up pass, as published; "synchronous": all layers are
               updated from the previous cycle
    norm       "none", or "group": GroupNorm with one group after every update, as in an early version of the code; each
               layer has a single norm, shared by the feed-forward, top-down and bottom-up passes
    rates      initial values of a and b
    align_corners  option of the bilinear upsampling: True in the published results, but False by default in current
               PyTorch

    Raises WiringError if a pooled layer does not exist, or if the image cannot be halved that many times.
    """
    count = len(channels)
    _check(count, pooled, image)
    ff, fb = _sweep_modules(channels, pooled, tied, align_corners, image[0])
    norms = [nn.GroupNorm(1, channel) if norm == "group" else None for channel in channels]
    nodes = ["image", *(f"r{layer}" for layer in range(1, count + 1))]
    head = nn.Sequential(GlobalMeanPool(), nn.Linear(channels[-1], classes))
    readout = Projection(nodes[-1], "readout", head, delay=0)
    plain = Network(
        {"image": image},
        [
            *(
                Population(node, Rate(c, activation, False, n))
                for node, c, n in zip(nodes[1:], channels, norms, strict=True)
            ),
            Population("readout", Sum()),
        ],
        [*(Projection(low, high, up) for low, high, up in zip(nodes, nodes[1:], ff, strict=False)), readout],
        readout="readout",
        steps=1,
        name="pcn_global",
    )
    if cycles == 0:
        return plain
    populations = [Population("readout", Sum())]
    for layer, (channel, normalise) in enumerate(zip(channels, norms, strict=True), 1):
        populations += [
            Population(f"p{layer - 1}", Prediction()),
            Population(f"e{layer - 1}", PredictionError()),
            Population(nodes[layer], Correction(UpdateRate(channel, rates[1]), activation, normalise)),
        ]
        if layer < count:
            populations.append(Population(f"prior{layer}", Blend(UpdateRate(channel, rates[0]), activation, normalise)))
    return Network(
        {"image": image},
        populations,
        [*_loop(nodes, ff, fb, order == "synchronous"), readout],
        readout="readout",
        steps=cycles,
        name="pcn_global",
        initialiser=plain,
    )


def _loop(
    nodes: Sequence[str], ff: Sequence[nn.Module], fb: Sequence[nn.Module], synchronous: bool
) -> Iterator[Projection]:
    """Yield the projections of one cycle, layer by layer."""
    top = len(ff)
    for layer, (up, down) in enumerate(zip(ff, fb, strict=True), 1):
        this, below, prior = nodes[layer], nodes[layer - 1], f"prior{layer}"
        p, e = f"p{layer - 1}", f"e{layer - 1}"
        from_prior = layer < top and not synchronous
        yield Projection(prior if from_prior else this, p, down, "prediction", delay=0 if from_prior else 1)
        yield Projection(below, e, delay=1 if synchronous and layer > 1 else 0)
        yield Projection(p, e, kind="prediction")
        yield Projection(e, this, up, "error", port="drive")
        if layer == top:
            yield Projection(this, this, kind="lateral", delay=1, port="prior")
        else:
            yield Projection(this, prior, kind="lateral", delay=1)
            yield Projection(f"p{layer}", prior, kind="top_down", port="prediction")
            yield Projection(prior, this, kind="lateral", port="prior")


def _sweep_modules(
    channels: Sequence[int], pooled: Sequence[int], tied: bool, align_corners: bool, image_channels: int
) -> tuple[list[nn.Module], list[nn.Module]]:
    """Build FF and FB for every layer."""
    ff: list[nn.Module] = []
    fb: list[nn.Module] = []
    for layer, (fewer, more) in enumerate(zip([image_channels, *channels], channels, strict=False), 1):
        up = conv(fewer, more)
        down: nn.Module = Tied(up) if tied else channels_last(nn.ConvTranspose2d(more, fewer, 3, padding=1, bias=False))
        if tied:
            draw(up.weight, nn.init.xavier_normal_)
        if layer in pooled:
            enlarge = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=align_corners)
            ff.append(nn.Sequential(up, pool()))
            fb.append(nn.Sequential(enlarge, down))
        else:
            ff.append(up)
            fb.append(down)
    return ff, fb


def _check(layers: int, pooled: Sequence[int], image: tuple[int, int, int]) -> None:
    multiple = 2 ** len(pooled)
    if not set(pooled) <= set(range(1, layers + 1)) or image[1] % multiple or image[2] % multiple:
        raise WiringError(
            given=f"pooled={tuple(pooled)} for {layers} layers, an image of {image[1]}x{image[2]}",
            expected=f"layer numbers from 1 to {layers}, and a height and width divisible by {multiple}",
            remedy="pass pooled=() for no pooling, or crop or pad the images",
        )
