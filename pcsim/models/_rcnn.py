"""Recurrent convolutional networks (Liang & Hu 2015), in the published and in a leaky version.

    published   z(t) = W_f u + W_r x(t-1) + b,   x(t) = LRN( ReLU( z(t) ) ),   x(-1) = 0,   t = 0..T
    leaky       tau_a dr_a/dt = -r_a + f( BU_a(r_{a-1}) + LAT_a(r_a) + TD_a(r_{a+1}) + b_a )

In the published network, each layer iterates on the fixed output u of the layer below for T + 1 steps before the next
layer starts. In the leaky network, every area receives the current activity of itself and its neighbours. Each area has
its own tau in ms, and Euler with dt = tau equals the discrete network in which every projection takes one step. Source:
Liang & Hu 2015 eq. 1-3. LRN is x_k / (1 + alpha/N sum of x^2 over N maps)^beta, with alpha 0.001, beta 0.75 and
N = K/8 + 1.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from pcsim.connections import GlobalMaxPool, LocalResponseNorm, conv
from pcsim.core.checks import Count, Counts, Whole
from pcsim.core.exceptions import WiringError
from pcsim.models.areas import add_readout, areas
from pcsim.models.registry import register
from pcsim.network import Network, Population, Projection
from pcsim.rules.rate import Rate, leaky_rate
from pcsim.rules.time_constants import TimeConstant
from pcsim.rules.wires import Sum


@register(paper="leaky version of Liang & Hu 2015")
def leaky_rcnn(
    channels: Counts = (16, 32, 64),
    tau: Sequence[float | Tensor | TimeConstant] | float = (10.0, 20.0, 40.0),
    *,
    kernel: Count = 3,
    activation: str = "relu",
    lateral: bool = True,
    top_down: bool = True,
    size: Count = 32,
    image_channels: Count = 1,
    classes: Count = 10,
) -> Network:
    """Build a leaky RCNN with one area per entry of `channels`, each half the size of the one below.

    `tau` (ms) is one number for all areas, or a sequence with one entry per area: a number, a tensor with one value per
    channel, or a `LearnableTau`. Raises WiringError for a wrong number of time constants, or an image that cannot be
    halved often enough.

        net = pcsim.models.leaky_rcnn(channels=(16, 32), tau=(10.0, 20.0))
    """
    taus = [tau] * len(channels) if isinstance(tau, int | float) else list(tau)
    if len(taus) != len(channels):
        raise WiringError(
            given=f"{len(taus)} time constants for {len(channels)} areas",
            expected="one time constant per area",
            remedy=f"pass tau=10.0, or a sequence of {len(channels)} values",
        )
    rules = [leaky_rate(count, area_tau, activation) for count, area_tau in zip(channels, taus, strict=True)]
    image = (image_channels, size, size)
    wiring = areas(rules, channels, image, kernel=kernel, lateral=lateral, top_down=top_down)
    populations, projections = add_readout(wiring, channels[-1], classes)
    return Network({"image": image}, populations, projections, readout="readout", name="leaky_rcnn")


@register(paper="Liang & Hu 2015")
def rcnn(
    channels: Count = 96,
    iterations: Whole = 3,
    *,
    layers: Count = 4,
    dropout: float = 0.5,
    lrn: tuple[float, float] = (0.001, 0.75),
    size: Count = 32,
    image_channels: Count = 3,
    classes: Count = 10,
) -> Network:
    """Build RCNN-K: a convolution, recurrent layers of K maps with two max-pooling layers, and a linear readout.

    Global max pooling precedes the readout.

    channels    K; the published values are 96, 128 and 160 (0.67, 1.19 and 1.86 M parameters)
    iterations  T, the number of iterations after the feed-forward step; 0 gives the feed-forward network
    layers      number of recurrent layers, which must be even
    dropout     dropout probability between layers in training
    lrn         alpha and beta; alpha is divided by the window N, as in PyTorch but not in TensorFlow

    Raises WiringError for an odd number of layers, or a `size` that is not divisible by 4.
    """
    if layers % 2 or size % 4:
        raise WiringError(
            given=f"{layers} layers, images of {size}x{size}",
            expected="an even number of layers, and a size divisible by 4",
            remedy=f"pass layers={layers + layers % 2}, size={-(-size // 4) * 4}",
        )
    window = channels // 8 + 1
    steps = layers * (iterations + 1)
    populations = [Population("features", Sum("relu", channels), active=(0, 1))]
    projections = [Projection("image", "features", conv(image_channels, channels, 5))]
    source = "features"
    for layer in range(1, layers + 1):
        first = (layer - 1) * (iterations + 1)
        u, x = f"u{layer}", f"x{layer}"
        norm = LocalResponseNorm(channels, window, lrn[0] / window, lrn[1])
        entry: list[nn.Module] = [nn.Dropout(dropout)] if layer > 1 else []
        if layer in (1, layers // 2 + 1):
            entry.append(nn.MaxPool2d(3, 2, 1))
        populations += [
            Population(u, Sum(), active=(first, first + 1)),
            Population(x, Rate(channels, normalise=norm), active=(first, first + iterations + 1)),
        ]
        projections += [
            Projection(source, u, nn.Sequential(*entry, conv(channels, channels))),
            Projection(u, x),
            Projection(x, x, conv(channels, channels), "lateral", 1),
        ]
        source = x
    populations.append(Population("readout", Sum(), active=(steps - 1, steps)))
    head = nn.Sequential(GlobalMaxPool(), nn.Linear(channels, classes))
    return Network(
        {"image": (image_channels, size, size)},
        populations,
        [*projections, Projection(source, "readout", head)],
        readout="readout",
        steps=steps,
        name="rcnn",
    )
