"""Cortical circuits in which excitatory and inhibitory populations are separate and obey Dale's law.

    ei_rcnn       e_n = ReLU( + bottom-up e + lateral e - lateral i + top-down e + b ),  i_n = ReLU( + e - i + b )
    wilson_cowan  tau dE/dt = -E + (S_max - E) S( c1 E - c2 I + P ),   tau dI/dt = -I + (S_max - I) S( c3 E - c4 I + Q )
    ssn           tau_E dr_E/dt = -r_E + k [ J_EE r_E - J_EI r_I + h ]+^n,   and r_I with J_IE, J_II, tau_I
    interneurons  e, pv, som and vip cells:  tau dr/dt = -r + [ W r + h ]+

Edges between rate populations are `connections.signed`: training changes the size of a weight but never its sign. Edges
from inputs and to readouts are unconstrained.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import nn

from pcsim.connections import GlobalMaxPool, Signed, conv, pool, signed, up_conv
from pcsim.connections.constrained import Sign
from pcsim.core.checks import Count, Counts, NonNegative, Positive, checked
from pcsim.core.exceptions import WiringError
from pcsim.models.areas import Wiring, enlarged
from pcsim.models.registry import register
from pcsim.network import Network, Population, Projection
from pcsim.network.parts import Kind
from pcsim.rules.base import Leaky
from pcsim.rules.circuits import Power, PowerLaw, WilsonCowan
from pcsim.rules.rate import Rate, leaky_rate
from pcsim.rules.wires import Sum

CELLS_OF_MOTIF = ("e", "pv", "som", "vip")
MOTIF: Mapping[tuple[str, str], float] = MappingProxyType(
    {
        ("e", "e"): 0.8,
        ("e", "pv"): 1.0,
        ("e", "som"): 1.0,
        ("e", "vip"): 1.0,
        ("pv", "e"): 1.0,
        ("pv", "pv"): 1.0,
        ("som", "e"): 1.0,
        ("som", "pv"): 0.5,
        ("som", "vip"): 0.6,
        ("vip", "som"): 0.5,
    }
)
"""(source, target) -> initial total weight; the pairs are the main connections of Pfeffer et al. 2013 figure 8"""
FourTaus = tuple[Positive, Positive, Positive, Positive]
FourWeights = tuple[NonNegative, NonNegative, NonNegative, NonNegative]


@register(paper="Song, Yang & Wang 2016; Dale's law in a recurrent convolutional network")
def ei_rcnn(
    channels: Counts = (16, 32),
    *,
    inhibitory: Count = 4,
    kernel: Count = 3,
    top_down: bool = True,
    image: tuple[Count, Count, Count] = (1, 32, 32),
    classes: Count = 10,
    steps: Count = 8,
) -> Network:
    """Build areas of excitatory (e1, e2, ...) and inhibitory (i1, i2, ...) cells, each half the size of the one below.

    Only excitatory cells project to other areas. The sign of every weight is that of its source and does not change
    during training. The weights from the image and to the readout can have either sign.

    channels    number of excitatory maps in each area
    inhibitory  number of excitatory maps per inhibitory map (4 in cortex)
    top_down    if True, e2 projects back to e1, and so on

    Raises WiringError unless the height and width can be halved once for every area but the first.

        net = pcsim.models.ei_rcnn(channels=(16, 32))
    """
    multiple = 2 ** (len(channels) - 1)
    if image != (fitting := enlarged(image, multiple)):
        raise WiringError(
            given=f"images of shape {image} for {len(channels)} areas",
            expected=f"a height and width divisible by {multiple}",
            remedy=f"pass image={fitting}, or fewer areas",
        )
    populations: list[Population] = []
    projections: list[Projection] = []

    def join(
        source: str, target: str, layer: nn.Module, sign: Sign, gain: float, kind: Kind, *entry: nn.Module
    ) -> None:
        weights = signed(nn.Sequential(*entry, _with_gain(layer, gain)), sign)
        projections.append(Projection(source, target, weights, kind, 0 if kind == "bottom_up" else 1))

    low, fewer = "image", image[0]
    for n, maps in enumerate(channels, 1):
        e, i, cells = f"e{n}", f"i{n}", max(1, maps // inhibitory)
        populations += [Population(e, Rate(maps)), Population(i, Rate(cells))]
        if n == 1:
            projections.append(Projection("image", e, conv(image[0], maps, kernel)))
        else:
            join(low, e, conv(fewer, maps, kernel), 1, 1.0, "bottom_up", pool())
            join(low, i, conv(fewer, cells, kernel), 1, 0.5, "bottom_up", pool())
            if top_down:
                join(e, low, up_conv(maps, fewer, kernel), 1, 0.2, "top_down")
        join(e, e, conv(maps, maps, kernel), 1, 0.5, "lateral")
        join(e, i, conv(maps, cells, kernel), 1, 1.0, "lateral")
        join(i, e, conv(cells, maps, kernel), -1, 1.0, "lateral")
        join(i, i, conv(cells, cells, kernel), -1, 0.5, "lateral")
        low, fewer = e, maps
    populations.append(Population("readout", Sum()))
    projections.append(Projection(low, "readout", nn.Sequential(GlobalMaxPool(), nn.Linear(fewer, classes))))
    return Network({"image": image}, populations, projections, readout="readout", steps=steps, name="ei_rcnn")


def _with_gain(layer: nn.Module, gain: float) -> nn.Module:
    """Draw the weights of a layer from U(0, 2 gain / n), with n inputs per unit, and return the layer.

    The weights onto a unit then sum to `gain` on average.
    """
    weight = next(layer.parameters())
    is_up = isinstance(layer, nn.ConvTranspose2d)
    inputs = weight[:, 0].numel() if is_up else weight[0].numel()
    with torch.no_grad():
        drawn = torch.empty(weight.shape, dtype=weight.dtype, device=weight.device).uniform_(0.0, 2.0 * gain / inputs)
        weight.copy_(drawn)
    return layer


def _dense(weight: torch.Tensor, sign: Sign) -> Signed:
    """Build a signed linear map with the non-negative weights (out, in)."""
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    with torch.no_grad():
        linear.weight.copy_(weight)
    return Signed(linear, sign)


def _recurrent(ee: torch.Tensor, ei: torch.Tensor, ie: torch.Tensor, ii: torch.Tensor) -> list[Projection]:
    """Return the lateral projections of a pair of populations; `ei`, (e, i), contains the weights from i to e."""
    return [
        Projection("e", "e", _dense(ee, 1), "lateral"),
        Projection("i", "e", _dense(ei, -1), "lateral"),
        Projection("e", "i", _dense(ie, 1), "lateral"),
        Projection("i", "i", _dense(ii, -1), "lateral"),
    ]


@register(paper="Wilson & Cowan 1972")
def wilson_cowan(
    weights: FourWeights = (16.0, 12.0, 15.0, 3.0),
    *,
    slopes: tuple[Positive, Positive] = (1.3, 2.0),
    thresholds: tuple[float, float] = (4.0, 3.7),
    refractory: NonNegative = 1.0,
    tau: tuple[Positive, Positive] = (8.0, 8.0),
) -> Network:
    """Build the excitatory and the inhibitory population of Wilson & Cowan, with the inputs "p" (to e) and "q" (to i).

    weights  c1 (e to e), c2 (i to e), c3 (e to i) and c4 (i to i)
    tau      time constants of e and i in ms

    The defaults are those of figure 11, which give a limit cycle for P = 1.25 and Q = 0.

        net = pcsim.models.wilson_cowan()
        run = simulate(net, {"p": torch.full((1, 1), 1.25), "q": torch.zeros(1, 1)}, solver=RK4(dt=0.5), until=300.0)
    """
    rules = [Leaky(WilsonCowan(a, b, refractory), t) for a, b, t in zip(slopes, thresholds, tau, strict=True)]
    return Network(
        {"p": (1,), "q": (1,)},
        [Population("e", rules[0]), Population("i", rules[1])],
        [Projection("p", "e"), Projection("q", "i"), *_recurrent(*(torch.full((1, 1), each) for each in weights))],
        readout="e",
        name="wilson_cowan",
    )


@register(paper="Ahmadian, Rubin & Miller 2013; Rubin, Van Hooser & Miller 2015")
def ssn(
    weights: FourWeights = (1.25, 0.65, 1.2, 0.5),
    *,
    gain: Positive = 0.04,
    power: Power = 2.0,
    tau: tuple[Positive, Positive] = (20.0, 10.0),
    units: Count = 1,
    spread: Positive = 32.0,
) -> Network:
    """Build the stabilised supralinear network: excitatory and inhibitory cells that both receive the input "h".

    weights  J_EE, J_EI, J_IE and J_II, where J_EI is the weight from i to e
    gain     k in r = k [drive]+^n
    power    n
    tau      time constants of e and i in ms
    units    cells of each type. Several cells form a ring of preferred orientations, with weights that are a Gaussian
             function of the difference in orientation and sum to J
    spread   standard deviation of that function in degrees

        net = pcsim.models.ssn(units=36)
        run = simulate(net, torch.full((1, 36), 20.0), solver=RK4(dt=0.5), until=200.0)
    """
    step = 180.0 / units
    apart = torch.arange(units, dtype=torch.float64, device="cpu") * step
    apart = torch.minimum(apart, 180.0 - apart)
    row = torch.exp(-0.5 * (apart / spread) ** 2)
    index = torch.arange(units, device="cpu")
    ring = (row / row.sum())[(index[:, None] - index) % units]
    rules = [Leaky(PowerLaw(gain, power), each) for each in tau]
    return Network(
        {"h": (units,)},
        [Population("e", rules[0]), Population("i", rules[1])],
        [Projection("h", "e"), Projection("h", "i"), *_recurrent(*(weight * ring for weight in weights))],
        readout="e",
        name="ssn",
    )


@checked(WiringError)
def interneuron_area(
    name: str,
    channels: tuple[Count, Count, Count, Count],
    tau: FourTaus = (20.0, 10.0, 15.0, 15.0),
    weights: Mapping[tuple[str, str], NonNegative] = MOTIF,
    kernel: Count = 1,
) -> Wiring:
    """Return the populations NAME_e, NAME_pv, NAME_som and NAME_vip of one area and the edges between them.

    Pyramidal (e) cells excite all cells; pv cells inhibit e and pv, som cells inhibit e, pv and vip, and vip cells
    inhibit som. Vip cells thus disinhibit e. Inputs from other areas are up to the caller: usually bottom-up to e and
    pv, and top-down to vip and som.

    channels  maps of e, pv, som and vip cells
    tau       time constants in ms, in the same order
    weights   (source, target) -> initial total weight from the source's cells to a target cell; the source determines
              the sign
    kernel    size of the convolutions

    Source: Pfeffer et al. 2013; Litwin-Kumar, Rosenbaum & Doiron 2016; Hertäg & Sprekeler 2019. Raises WiringError for
    an unknown pair of cells.
    """
    if unknown := [pair for pair in weights if not set(pair) <= set(CELLS_OF_MOTIF)]:
        raise WiringError(
            given=f"weights of {unknown}",
            expected=f"pairs of {', '.join(CELLS_OF_MOTIF)}",
            remedy="pass weights={('pv', 'e'): 1.0, ...}, from source to target",
        )
    counts = dict(zip(CELLS_OF_MOTIF, channels, strict=True))
    populations = [
        Population(f"{name}_{cell}", leaky_rate(counts[cell], each)) for cell, each in zip(counts, tau, strict=True)
    ]
    projections = [
        Projection(
            f"{name}_{source}",
            f"{name}_{target}",
            signed(_with_gain(conv(counts[source], counts[target], kernel), total), 1 if source == "e" else -1),
            "lateral",
        )
        for (source, target), total in weights.items()
    ]
    return populations, projections


@register(paper="Pfeffer et al. 2013; Litwin-Kumar, Rosenbaum & Doiron 2016")
def interneurons(
    channels: tuple[Count, Count, Count, Count] = (16, 4, 4, 4),
    *,
    tau: FourTaus = (20.0, 10.0, 15.0, 15.0),
    weights: Mapping[tuple[str, str], NonNegative] = MOTIF,
    kernel: Count = 3,
    image: tuple[Count, Count, Count] = (1, 32, 32),
) -> Network:
    """Build one area with pyramidal, pv, som and vip cells, as returned by `interneuron_area`.

    The input "image" drives e and pv cells through convolutions. The input "context", (vip channels, height, width),
    drives vip cells directly.

        net = pcsim.models.interneurons()
    """
    populations, projections = interneuron_area("v1", channels, tau, weights, kernel)
    drives = [
        Projection("image", f"v1_{cell}", signed(_with_gain(conv(image[0], count, kernel), 1.0), 1))
        for cell, count in zip(("e", "pv"), channels[:2], strict=True)
    ]
    context = Projection("context", "v1_vip", kind="top_down")
    return Network(
        {"image": image, "context": (channels[3], *image[1:])},
        populations,
        [*drives, *projections, context],
        readout="v1_e",
        name="interneurons",
    )
