"""Residual networks (He, Zhang, Ren & Sun 2016), included as feed-forward controls.

h_n = ReLU( BN(W ReLU(BN(W h_{n-1}))) + S h_{n-1} )          S is the identity, or BN of a strided 1x1 convolution
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from pcsim.connections import GlobalMeanPool, channels_last, conv
from pcsim.core.checks import Count
from pcsim.models.registry import register
from pcsim.network import Network, Population, Projection
from pcsim.rules.rate import Rate
from pcsim.rules.wires import Sum


def _resnet(
    name: str, blocks: Sequence[int], channels: Sequence[int], image: tuple[int, int, int], classes: int
) -> Network:
    first = channels[0]
    stem = [
        channels_last(nn.Conv2d(image[0], first, 7, 2, 3, bias=False)),
        nn.BatchNorm2d(first),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
    ]
    populations = [Population("h0", Rate(first, "identity", bias=False))]
    projections = [Projection("image", "h0", nn.Sequential(*stem))]
    below, n = first, 0
    for stage, (count, out) in enumerate(zip(blocks, channels, strict=True)):
        for block in range(count):
            stride = 2 if stage and block == 0 else 1
            n += 1
            source, target = f"h{n - 1}", f"h{n}"
            path = [conv(below, out, 3, stride), nn.BatchNorm2d(out), nn.ReLU(), conv(out, out), nn.BatchNorm2d(out)]
            same = below == out and stride == 1
            skip = [] if same else [conv(below, out, 1, stride), nn.BatchNorm2d(out)]
            populations.append(Population(target, Rate(out, bias=False)))
            projections += [
                Projection(source, target, nn.Sequential(*path)),
                Projection(source, target, nn.Sequential(*skip), name=f"{source}->{target}:skip"),
            ]
            below = out
    populations.append(Population("readout", Sum()))
    projections.append(Projection(f"h{n}", "readout", nn.Sequential(GlobalMeanPool(), nn.Linear(below, classes))))
    net = Network({"image": image}, populations, projections, readout="readout", steps=1, name=name)
    for module in net.modules():
        if isinstance(module, nn.Conv2d) and not module.weight.is_meta:
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
    return net


@register(paper="He et al. 2016")
def resnet18(
    channels: tuple[Count, Count, Count, Count] = (64, 128, 256, 512),
    *,
    image: tuple[Count, Count, Count] = (3, 224, 224),
    classes: Count = 1000,
) -> Network:
    """Build ResNet-18: four stages of two blocks, 11,689,512 parameters.

    channels  number of channels in each stage
    image     (channel, height, width), with height and width of at least 32
    classes   number of classes
    """
    return _resnet("resnet18", (2, 2, 2, 2), channels, image, classes)


@register(paper="He et al. 2016")
def resnet34(
    channels: tuple[Count, Count, Count, Count] = (64, 128, 256, 512),
    *,
    image: tuple[Count, Count, Count] = (3, 224, 224),
    classes: Count = 1000,
) -> Network:
    """Build ResNet-34: stages of 3, 4, 6 and 3 blocks, 21,797,672 parameters. Options are those of `resnet18`."""
    return _resnet("resnet34", (3, 4, 6, 3), channels, image, classes)
