"""The horizontal gated recurrent unit (Linsley et al. 2018).

    x = (W_x * image + b)^2
    g1(t) = s( U1 * h2(t-1) + b1 ) h2(t-1)
    h1(t) = f( x - (W * g1(t)) (alpha h2(t-1) + mu) )
    g2(t) = s( U2 * h1(t) + b2 )
    h2(t) = (1 - g2) h2(t-1) + g2 f( kappa h1 + beta W * h1 + omega h1 (W * h1) )

The kernel W is shared by inhibition and excitation. By default it is symmetric: the weights between two units are equal
in both directions.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from pcsim.connections import Chain, GlobalMaxPool, Symmetric, conv
from pcsim.connections import StepNorm as Norm
from pcsim.core.checks import Count
from pcsim.models.cells import edge
from pcsim.models.registry import register
from pcsim.network import Network, Population, Projection
from pcsim.rules.horizontal import HorizontalExcitation, HorizontalInhibition
from pcsim.rules.reciprocal import Gated
from pcsim.rules.wires import Sum


@register(paper="Linsley et al. 2018")
def hgru(
    channels: Count = 25,
    kernel: Count = 15,
    *,
    norm: bool = False,
    symmetric: bool = True,
    filters: Count = 7,
    stride: Count = 1,
    steps: Count = 8,
    image: tuple[Count, Count, Count] = (1, 150, 150),
    classes: Count = 2,
) -> Network:
    """Build a network for contour tasks: filters, one hGRU layer, and a readout of its global maximum.

    kernel     size of the horizontal kernel W, usually odd
    norm       if True, use the authors' later variant: f is ReLU instead of tanh, the inhibition is rectified, and the
               inputs of both gates, of the inhibition and of the excitation have a separate batch norm for each step
    symmetric  if True, W has the same weight in both directions between any two units; `kernel` must then be odd
    filters    size of the filters applied to the image
    stride     distance between neighbouring filters in pixels; 1 in the paper

        net = pcsim.models.hgru(channels=8, kernel=7, image=(1, 32, 32))
    """

    def weights(layer: nn.Module) -> nn.Module:
        return Chain(layer, Norm(channels, steps, scale=0.1)) if norm else layer

    horizontal: nn.Module = nn.Conv2d(channels, channels, kernel, padding="same", bias=False)
    nn.init.orthogonal_(horizontal.weight)  # type: ignore[arg-type]
    horizontal = Symmetric(horizontal) if symmetric else horizontal
    gain, mix = (conv(channels, channels, 1) for _ in range(2))
    for gate in (gain, mix):
        with torch.no_grad():
            gate.weight.copy_(nn.init.orthogonal_(torch.empty(channels, channels))[:, :, None, None])
    size = (channels, *((length + 2 * (filters // 2) - filters) // stride + 1 for length in image[1:]))
    activation: Literal["tanh", "relu"] = "relu" if norm else "tanh"
    head = nn.Sequential(nn.BatchNorm2d(channels), conv(channels, classes, 1, bias=True), GlobalMaxPool())
    return Network(
        {"image": image},
        [
            Population("x", Sum("square", channels)),
            Population("g1", Gated(channels)),
            Population("h1", HorizontalInhibition(channels, activation)),
            Population("h2", HorizontalExcitation(channels, activation), size),
            Population("readout", Sum()),
        ],
        [
            Projection("image", "x", conv(image[0], channels, filters, stride)),
            edge("x", "h1"),
            edge("h2", "g1", None, "lateral", 1),
            edge("h2", "g1", weights(gain), "lateral", 1, "gate"),
            edge("g1", "h1", weights(horizontal), "lateral", port="inhibition"),
            edge("h2", "h1", None, "lateral", 1, "state"),
            edge("h1", "h2"),
            edge("h1", "h2", weights(horizontal), "lateral", port="excitation"),
            edge("h1", "h2", weights(mix), "lateral", port="mix"),
            Projection("h2", "readout", nn.Sequential(head, nn.Linear(classes, classes))),
        ],
        readout="readout",
        steps=steps,
        name="hgru",
    )
