"""Networks of `experiments.grouping`, with the same filters and the same readout."""

from __future__ import annotations

from torch import nn

from pcsim import Network, Population, Projection, models, rules
from pcsim.connections import GlobalMaxPool, conv

from .options import Grouping

NETWORKS = ("hgru", "lateral", "feedforward")
SIZE, STRIDE, FILTER, KERNEL = 24, 3, 5, 3
IMAGE = (1, SIZE, SIZE)


def build(config: Grouping, name: str) -> Network:
    """Build an untrained network with a Dirichlet readout. All networks have about as many parameters as the hGRU."""
    size = models.with_evidence(hgru(config)).parameter_count
    if name == "hgru":
        return models.with_evidence(hgru(config))
    if name == "lateral":
        return models.with_evidence(models.matched(lambda width: lateral(width, config.steps), size))
    return models.with_evidence(models.matched(lambda width: feedforward(width, config.layers), size))


def hgru(config: Grouping) -> Network:
    """Build an hGRU with one unit for each node of the lattice."""
    return models.hgru(
        config.channels, KERNEL, filters=FILTER, stride=STRIDE, steps=config.steps, image=IMAGE, classes=2
    )


def lateral(width: int, steps: int) -> Network:
    """h(t) = ReLU( W_x * image + W * h(t-1) + b ): a layer with lateral connections."""
    return Network(
        {"image": IMAGE},
        [
            Population("h", rules.Rate(width), (width, SIZE // STRIDE, SIZE // STRIDE)),
            Population("readout", rules.Sum()),
        ],
        [
            Projection("image", "h", conv(1, width, FILTER, STRIDE)),
            Projection("h", "h", conv(width, width, KERNEL), "lateral", 1),
            Projection("h", "readout", head(width)),
        ],
        readout="readout",
        steps=steps,
        name="lateral",
    )


def feedforward(width: int, layers: int) -> Network:
    """h_n = ReLU( BN( W_n * h_{n-1} ) ), with different weights in each layer."""
    populations = [Population(f"h{n}", rules.Rate(width)) for n in range(layers)]
    edges = [
        Projection(f"h{n - 1}", f"h{n}", nn.Sequential(conv(width, width, KERNEL), nn.BatchNorm2d(width)))
        for n in range(1, layers)
    ]
    return Network(
        {"image": IMAGE},
        [*populations, Population("readout", rules.Sum())],
        [
            Projection("image", "h0", conv(1, width, FILTER, STRIDE)),
            *edges,
            Projection(f"h{layers - 1}", "readout", head(width)),
        ],
        readout="readout",
        steps=1,
        name="feedforward",
    )


def head(width: int) -> nn.Module:
    """Build the readout of the hGRU: global max pooling of a 1x1 convolution."""
    return nn.Sequential(nn.BatchNorm2d(width), conv(width, 2, 1, bias=True), GlobalMaxPool(), nn.Linear(2, 2))
