"""rcnn-sat: deep networks with lateral connections (Spoerer, Kietzmann, Mehrer, Charest & Kriegeskorte 2020).

    z_n(t) = B_n pool( h_{n-1}(t) ) + L_n h_n(t-1),   h_n(t) = ReLU( BN_{n,t}( z_n(t) ) ),   n = 1..7
    readout(t) = W mean_{i,j} h_7(t) + b                                                                (logits)

Each layer has a separate batch norm for every step, with its own statistics, weights and biases. The convolutions are
shared over time and have no bias. There is no lateral input in the first step. B is feed-forward. The size-matched
controls for BL are versions of B with larger kernels (B-K), more feature maps (B-F) or twice the depth (B-D). Images in
[0, 1] are rescaled to [-1, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

from pcsim.connections import Chain, GlobalMeanPool, Standardise, StepNorm, conv, pool
from pcsim.core.checks import Count, Counts
from pcsim.core.exceptions import WiringError
from pcsim.models.registry import register
from pcsim.network import Network, Population, Projection
from pcsim.rules.rate import Rate
from pcsim.rules.wires import Sum

MAPS = (96, 128, 192, 256, 512, 1024, 2048)
KERNELS = (7, 5, 3, 3, 3, 3, 1)
WIDER = (11, 7, 5, 5, 5, 5, 3)


OPTIONS = """

    maps      number of feature maps in each layer of B
    kernels   kernel size of each layer, with one entry for each entry of `maps`; by default, the published sizes
    steps     number of steps, each with its own batch norms; by default, 8 with lateral connections and 1 without
    size, channels  shape of the image, (channels, size, size); `size` must be divisible by 2^(len(maps) - 1)
    classes   number of classes; the readout is computed at every step

    See docs/models/rcnn_sat.md for equations and source. Raises WiringError if `kernels` or `size` is invalid.
    """


def _rcnn_sat(
    name: str,
    maps: Sequence[int],
    kernels: Sequence[int],
    steps: int,
    image: tuple[int, int, int],
    classes: int,
    lateral: bool,
    widening: int,
    deepening: int,
) -> Network:
    multiple, (channels, size, _) = 2 ** (len(maps) - 1), image
    if len(maps) != len(kernels) or size % multiple:
        raise WiringError(
            given=f"{len(maps)} entries in maps, {len(kernels)} in kernels, images of {size}x{size}",
            expected=f"as many kernels as maps, and a size divisible by {multiple}",
            remedy=f"pass size={-(-size // multiple) * multiple} and "
            f"kernels={(*kernels, *(3 for _ in maps))[: len(maps)]}",
        )
    populations: list[Population] = []
    projections: list[Projection] = []
    source, below = "image", channels
    plan = [
        (count * widening, kernel, copy)
        for count, kernel in zip(maps, kernels, strict=True)
        for copy in range(deepening)
    ]
    for n, (count, kernel, copy) in enumerate(plan, 1):
        entry: list[nn.Module] = [Standardise(0.5, 0.5)] if n == 1 else [pool()] if copy == 0 else []
        populations += [Population(f"z{n}", Sum()), Population(f"h{n}", Rate(count, bias=False))]
        projections += [
            Projection(source, f"z{n}", nn.Sequential(*entry, conv(below, count, kernel))),
            Projection(f"z{n}", f"h{n}", Chain(StepNorm(count, steps, momentum=0.01, eps=1e-3))),
        ]
        if lateral:
            projections.append(Projection(f"h{n}", f"z{n}", conv(count, count, kernel), "lateral", 1))
        source, below = f"h{n}", count
    head = nn.Sequential(GlobalMeanPool(), nn.Linear(below, classes))
    populations.append(Population("readout", Sum()))
    projections.append(Projection(source, "readout", head))
    net = Network({"image": image}, populations, projections, readout="readout", steps=steps, name=name)
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(module.weight)
    return net


def _member(
    name: str,
    what: str,
    *,
    lateral: bool = False,
    widening: int = 1,
    deepening: int = 1,
    published: Sequence[int] = KERNELS,
) -> Callable[..., Network]:
    """Return a function that builds one member of the family; all members have the same options."""

    def member(
        maps: Counts = MAPS,
        kernels: Sequence[Count] | None = None,
        *,
        steps: Count | None = None,
        size: Count = 128,
        channels: Count = 3,
        classes: Count = 1000,
    ) -> Network:
        kernels, steps = published if kernels is None else kernels, (8 if lateral else 1) if steps is None else steps
        image = (channels, size, size)
        return _rcnn_sat(name, maps, kernels, steps, image, classes, lateral, widening, deepening)

    member.__name__ = member.__qualname__ = name
    member.__doc__ = f"Build {what} for 1,000 classes (Spoerer et al. 2020).{OPTIONS}"
    return register(paper="Spoerer et al. 2020")(member)


rcnn_sat_b = _member("rcnn_sat_b", "the feed-forward network B, with 11,037,768 parameters")
rcnn_sat_bk = _member(
    "rcnn_sat_bk", "B-K, with kernel sizes 11, 7, 5, 5, 5, 5, 3 and 39,796,040 parameters", published=WIDER
)
rcnn_sat_bf = _member("rcnn_sat_bf", "B-F, with twice as many feature maps as B and 40,006,824 parameters", widening=2)
rcnn_sat_bd = _member("rcnn_sat_bd", "B-D, with twice as many layers as B and 28,819,848 parameters", deepening=2)
rcnn_sat_bl = _member("rcnn_sat_bl", "BL, with lateral convolutions, 8 steps and 28,870,920 parameters", lateral=True)
