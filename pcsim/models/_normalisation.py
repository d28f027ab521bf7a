"""Networks whose gain depends on their own recent or surrounding activity.

    intrinsic_suppression  h <- [ W h_below + b - beta s ]+,  s <- alpha s + (1 - alpha) h
    delayed_normalisation  r = [L]+^n / ( sigma^n + G^n ),  L = h1 * x,  tau_2 dG/dt = -G + [L]+
    organics               y -> b z / sqrt( sigma^2 b_0^2 + W (b z)^2 )
    dynamic_synapses       post <- W released,  released = u x pre / U,  with resources x and utilisation u

In delayed normalisation, h1(t) = t exp(-t / tau_1) / tau_1^2 is a cascade of two leaky populations, minus `undershoot`
times the same with 1.5 tau_1. All populations can be recorded, and all edges can be lesioned.
"""

from __future__ import annotations

from torch import nn

from pcsim.connections import Activation, Gain, Signed, conv
from pcsim.core.checks import Count, Counts, NonNegative, Positive, Share, checked
from pcsim.core.exceptions import WiringError
from pcsim.models.areas import Wiring, add_readout, areas
from pcsim.models.registry import register
from pcsim.network import Network, Population, Projection
from pcsim.rules.adaptation import IntrinsicSuppression
from pcsim.rules.base import Leaky
from pcsim.rules.circuits import Power
from pcsim.rules.normalisation import DivisiveNormalisation, Organics, OrganicsPool
from pcsim.rules.rate import leaky_rate
from pcsim.rules.synapses import Depletion, Facilitation, Release, Utilisation
from pcsim.rules.wires import Sum


@register(paper="Vinken, Boix & Kreiman 2020")
def intrinsic_suppression(
    channels: Counts = (16, 32),
    alpha: Share = 0.96,
    beta: float = 0.7,
    *,
    kernel: Count = 3,
    image: tuple[Count, Count, Count] = (1, 32, 32),
    classes: Count = 10,
    steps: Count = 8,
) -> Network:
    """Build a feed-forward network of units that are suppressed by their own recent activity.

    alpha  decay of the suppression per step
    beta   strength of the suppression; 0 gives the plain feed-forward network

    Raises WiringError unless the height and width can be halved once for every area but the first.

        net = pcsim.models.intrinsic_suppression(beta=0.7)
    """
    rules = [IntrinsicSuppression(count, alpha, beta) for count in channels]
    wiring = areas(rules, channels, image, kernel=kernel, lateral=False, top_down=False, delays=(0, 1))
    populations, projections = add_readout(wiring, channels[-1], classes)
    return Network(
        {"image": image}, populations, projections, readout="readout", steps=steps, name="intrinsic_suppression"
    )


@register(paper="Zhou, Benson, Kay & Winawer 2019; Groen et al. 2022")
def delayed_normalisation(
    channels: Count | None = 8,
    *,
    tau: tuple[Positive, Positive] = (50.0, 100.0),
    sigma: Positive = 0.1,
    power: Power = 2.0,
    undershoot: NonNegative = 0.0,
    pooled: bool = False,
    kernel: Count = 3,
    image: tuple[Count, Count, Count] = (1, 32, 32),
) -> Network:
    """Build an area whose responses are divided by a delayed copy of themselves.

    channels    feature maps of a convolution of the image, or None to normalise the pixels themselves
    tau         tau_1 of the impulse response and tau_2 of the normalisation pool, in ms
    sigma       semisaturation constant
    power       n
    undershoot  weight of the negative lobe of a biphasic impulse response
    pooled      if True, the pool is a weighted mean over channels, with learnable non-negative weights

        net = pcsim.models.delayed_normalisation(None, image=(1, 1, 1))
        run = simulate(net, stimuli.held(torch.ones(1, 1, 1, 1), 200.0), solver=RK4(dt=1.0), until=500.0)
    """
    maps = image[0] if channels is None else channels
    entry: nn.Module = nn.Identity() if channels is None else conv(image[0], maps, kernel)
    pool: nn.Module = nn.Identity()
    if pooled:
        mean = conv(maps, maps, 1)
        nn.init.constant_(mean.weight, 1.0 / maps)
        pool = Signed(mean, 1)
    lobes = [("", tau[0], 1.0)] + ([("_slow", 1.5 * tau[0], -undershoot)] if undershoot else [])
    populations = [
        Population("linear", Sum()),
        Population("pool", Leaky(Sum(), tau[1])),
        Population("r", DivisiveNormalisation(sigma, power)),
    ]
    projections = [
        Projection("linear", "pool", Activation("relu")),
        Projection("linear", "r"),
        Projection("pool", "r", pool, "lateral", port="pool"),
    ]
    for name, constant, weight in lobes:
        first, second = f"first{name}", f"second{name}"
        populations += [Population(first, Leaky(Sum(), constant)), Population(second, Leaky(Sum(), constant))]
        projections += [
            Projection("image", first, entry),
            Projection(first, second),
            Projection(second, "linear", Gain(weight)),
        ]
    return Network({"image": image}, populations, projections, readout="r", name="delayed_normalisation")


@register(paper="Heeger & Mackey 2019; Rawat, Heeger & Martiniani 2024")
def organics(
    units: Count = 16,
    *,
    tau: tuple[Positive, Positive] = (10.0, 10.0),
    sigma: Positive = 0.1,
    gain: Positive = 1.0,
    modulator_gain: Positive = 1.0,
) -> Network:
    """Build a recurrent circuit for divisive normalisation, y_i -> b z_i / sqrt(sigma^2 b_0^2 + sum_j W_ij b^2 z_j^2).

    This fixed point holds for z >= 0. The input is "z", (units,). The weights W are non-negative, initially 1 / units.

    tau             time constants of the principal cells y and of the modulator cells a, in ms
    sigma           semisaturation constant
    gain            b
    modulator_gain  b_0

        net = pcsim.models.organics(units=16)
    """
    modulator, linear = Sum(channels=units), nn.Linear(units, units, bias=False)
    nn.init.constant_(linear.weight, 1.0 / units)
    if modulator.bias is not None:
        nn.init.constant_(modulator.bias, (sigma * modulator_gain) ** 2)
    return Network(
        {"z": (units,)},
        [
            Population("y", Leaky(Organics(), tau[0])),
            Population("a", Leaky(modulator, tau[1])),
            Population("u", OrganicsPool()),
        ],
        [
            Projection("z", "y", Gain(gain)),
            Projection("y", "y", kind="lateral", port="recurrent"),
            Projection("a", "y", kind="lateral", port="modulator"),
            Projection("y", "u", kind="lateral"),
            Projection("a", "u", kind="lateral", port="modulator"),
            Projection("u", "a", Signed(linear, 1), "lateral"),
        ],
        readout="y",
        name="organics",
    )


@checked(WiringError)
def synapses(
    source: str,
    name: str,
    utilisation: Utilisation = 0.5,
    tau_depletion: Positive | None = 800.0,
    tau_facilitation: Positive | None = None,
    peak_hz: Positive = 100.0,
) -> Wiring:
    """Return the population NAME (the activity of `source`, scaled by its synapses) and the edges that drive it.

    NAME_d is the depleted fraction of the resources and NAME_f the increase in utilisation above U. To make an edge
    depress or facilitate, start it at NAME instead of at `source`.

    utilisation       U
    tau_depletion     time constant of recovery in ms, or None for no depression
    tau_facilitation  time constant of facilitation in ms, or None for no facilitation
    peak_hz           firing rate in Hz for an activity of 1

    Source: Tsodyks, Pawelzik & Markram 1998; Mongillo, Barak & Tsodyks 2008.
    """
    populations = [Population(name, Release(utilisation))]
    projections = [Projection(source, name, kind="lateral")]
    if tau_depletion is not None:
        populations.append(Population(f"{name}_d", Depletion(utilisation, tau_depletion, peak_hz)))
        projections.append(Projection(source, f"{name}_d", kind="lateral"))
        projections.append(Projection(f"{name}_d", name, kind="lateral", port="depletion"))
    if tau_facilitation is not None:
        populations.append(Population(f"{name}_f", Facilitation(utilisation, tau_facilitation, peak_hz)))
        projections.append(Projection(source, f"{name}_f", kind="lateral"))
        projections.append(Projection(f"{name}_f", name, kind="lateral", port="facilitation"))
    if tau_depletion is not None and tau_facilitation is not None:
        projections.append(Projection(f"{name}_f", f"{name}_d", kind="lateral", port="facilitation"))
    return populations, projections


@register(paper="Tsodyks, Pawelzik & Markram 1998; Mongillo, Barak & Tsodyks 2008")
def dynamic_synapses(
    units: Count = 1,
    *,
    utilisation: Utilisation = 0.5,
    tau_depletion: Positive | None = 800.0,
    tau_facilitation: Positive | None = None,
    peak_hz: Positive = 100.0,
    tau: Positive = 10.0,
) -> Network:
    """Build two leaky populations joined by synapses with short-term plasticity: input "u" -> pre -> post.

    tau  time constant of pre and post in ms; the other arguments are those of `synapses`

        net = pcsim.models.dynamic_synapses(utilisation=0.15, tau_depletion=200.0, tau_facilitation=1500.0)
    """
    populations, projections = synapses("pre", "released", utilisation, tau_depletion, tau_facilitation, peak_hz)
    weights = nn.Linear(units, units, bias=False)
    nn.init.eye_(weights.weight)
    return Network(
        {"u": (units,)},
        [
            Population("pre", leaky_rate(units, tau)),
            *populations,
            Population("post", leaky_rate(units, tau)),
        ],
        [Projection("u", "pre"), *projections, Projection("released", "post", weights)],
        readout="post",
        name="dynamic_synapses",
    )
