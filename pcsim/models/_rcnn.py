"""Recurrent convolutional networks (Liang & Hu 2015): the published version and a leaky one.

    published   z(t) = W_f u + W_r x(t-1) + b,   x(t) = LRN( ReLU( z(t) ) ),   x(-1) = 0,   t = 0..T
    leaky       tau_a dr_a/dt = -r_a + f( BU_a(r_{a-1}) + LAT_a(r_a) + TD_a(r_{a+1}) + b_a )

In the published network, each layer iterates on the fixed output u of the layer below for T + 1 steps before the next
layer starts. In the leaky network, every area receives its own current activity and that of its neighbours. Each area
has its own tau in ms, and Euler with dt = tau equals the discrete network in which every projection takes one step.
Source: Liang & Hu 2015 eq. 1-3. LRN is x_k / (1 + alpha/N sum of x^2 over N maps)^beta, with alpha 0.001, beta 0.75 and
N = K/8 + 1.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from pcsim.connections import GlobalMaxPool, LocalResponseNorm, conv
from pcsim.core.checks import Count, Counts, Whole
from pcsim.core.exceptions import WiringError
from pcsim.models.areas import add_readout, areas, enlarged
from pcsim.models.registry import register
from pcsim.network import Network, Population, Projection
from pcsim.rules.rate import Rate, leaky_rate
from pcsim.rules.time_constants import TimeConstant
from pcsim.rules.wires import Sum


@register(paper="leaky version of Liang & Hu 2015")
def leaky_rcnn(
    channels: Counts = (16, 32, 64),
    tau: Sequence[float | Tensor | TimeConstant] | float | None = None,
    *,
    kernel: Count = 3,
    activation: str = "relu",
    lateral: bool = True,
    top_down: bool = True,
    image: tuple[Count, Count, Count] = (1, 32, 32),
    classes: Count = 10,
) -> Network:
    """Build a leaky RCNN with one area per entry of `channels`, each half the size of the one below.

    tau    time constants in ms: one number for all areas, or a sequence with one entry per area (a number, a tensor
           with one value per channel, or a `LearnableTau`). By default, 10 ms in the first area, doubling from each
           area to the next
    image  shape of the image, (channel, height, width)

    Raises WiringError for a wrong number of time constants, or an image that cannot be halved often enough.

        net = pcsim.models.leaky_rcnn(channels=(16, 32), tau=(10.0, 20.0))
    """
    if tau is None:
        tau = [10.0 * 2**area for area in range(len(channels))]
    taus = [tau] * len(channels) if isinstance(tau, int | float) else list(tau)
    if len(taus) != len(channels):
        raise WiringError(
            given=f"{len(taus)} time constants for {len(channels)} areas",
            expected="one time constant per area",
            remedy=f"pass tau=10.0, or a sequence of {len(channels)} values",
        )
    rules = [leaky_rate(count, area_tau, activation) for count, area_tau in zip(channels, taus, strict=True)]
    wiring = areas(rules, channels, image, kernel=kernel, lateral=lateral, top_down=top_down)
    populations, projections = add_readout(wiring, channels[-1], classes)
    return Network({"image": image}, populations, projections, readout="readout", name="leaky_rcnn")


@register(paper="Liang & Hu 2015")
def rcnn(
    channels: Counts = (96, 96, 96, 96),
    iterations: Whole = 3,
    *,
    dropout: float = 0.5,
    lrn: tuple[float, float] = (0.001, 0.75),
    image: tuple[Count, Count, Count] = (3, 32, 32),
    classes: Count = 10,
) -> Network:
    """Build an RCNN: a convolution, recurrent layers with two max-pooling layers between them, and a linear readout.

    Global max pooling precedes the readout.

    channels    number of maps in each recurrent layer, for an even number of layers. RCNN-K of the paper has four
                layers of K maps, with K = 96, 128 or 160 (0.67, 1.19 and 1.86 M parameters)
    iterations  T, the number of iterations after the feed-forward step; 0 gives the feed-forward network
    dropout     dropout probability between layers in training
    lrn         alpha and beta; alpha is divided by the window N, as in PyTorch but not in TensorFlow
    image       shape of the image, (channel, height, width)

    Raises WiringError for an odd number of layers, or an image whose height or width is not divisible by 4.
    """
    layers = len(channels)
    if layers % 2 or image[1] % 4 or image[2] % 4:
        raise WiringError(
            given=f"{layers} layers, images of {image[1]}x{image[2]}",
            expected="an even number of layers, and a height and width divisible by 4",
            remedy=f"pass channels={(*channels, channels[-1])[: layers + layers % 2]}, image={enlarged(image, 4)}",
        )
    steps = layers * (iterations + 1)
    below = channels[0]
    populations = [Population("features", Sum("relu", below), active=(0, 1))]
    projections = [Projection("image", "features", conv(image[0], below, 5))]
    source = "features"
    for layer, count in enumerate(channels, 1):
        first = (layer - 1) * (iterations + 1)
        u, x = f"u{layer}", f"x{layer}"
        window = count // 8 + 1
        norm = LocalResponseNorm(count, window, lrn[0] / window, lrn[1])
        entry: list[nn.Module] = [nn.Dropout(dropout)] if layer > 1 else []
        if layer in (1, layers // 2 + 1):
            entry.append(nn.MaxPool2d(3, 2, 1))
        populations += [
            Population(u, Sum(), active=(first, first + 1)),
            Population(x, Rate(count, normalise=norm), active=(first, first + iterations + 1)),
        ]
        projections += [
            Projection(source, u, nn.Sequential(*entry, conv(below, count))),
            Projection(u, x),
            Projection(x, x, conv(count, count), "lateral", 1),
        ]
        source, below = x, count
    populations.append(Population("readout", Sum(), active=(steps - 1, steps)))
    head = nn.Sequential(GlobalMaxPool(), nn.Linear(below, classes))
    return Network(
        {"image": image},
        populations,
        [*projections, Projection(source, "readout", head)],
        readout="readout",
        steps=steps,
        name="rcnn",
    )
