"""Additions to any network: evidence accumulators, Dirichlet readouts, and neural noise inputs.

    race   x_c <- max( 0, x_c + a z_c )
    drift  x_c <- x_c + a ( z_c - mean of the other z )
    lca    x_c <- max( 0, x_c + a ( z_c - leak x_c - inhibition sum of the other x ) )

z is the readout, with one value per choice, and a = dt / tau. With a gate, z is replaced by [z - gate]+.
Source: Usher & McClelland 2001 eq. 4; Ratcliff 1978 (drift diffusion); Purcell et al. 2010 eq. 4 (gated).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from pcsim.core.checks import Finite, NonNegative, Positive, checked
from pcsim.core.exceptions import WiringError
from pcsim.network import Network, Population, Projection
from pcsim.network.variants import rebuilt
from pcsim.rules.accumulator import Accumulator
from pcsim.rules.base import Leaky, Rule
from pcsim.rules.wires import Sum

SUBSTEPS = 10
"""In a flow, an accumulator that integrates with tau approaches its target with time constant tau / SUBSTEPS."""


@checked(WiringError)
def with_decision(
    net: Network,
    kind: Literal["race", "drift", "lca"] = "race",
    *,
    tau: Positive = 100.0,
    leak: NonNegative | None = None,
    inhibition: NonNegative | None = None,
    gate: Finite | None = None,
    source: str | None = None,
    name: str = "decision",
) -> Network:
    """Return the network with a population of evidence accumulators, one per choice, driven by its readout.

    The new population becomes the readout. Parameters are shared with `net`. `analysis.bound_crossings` returns the
    choices and decision times. With two choices, "drift" is a drift-diffusion process: x_1 = -x_2.

    tau         time in ms in which evidence of 1 raises an accumulator by 1
    leak        by default 0, and 1 for "lca"
    inhibition  weight of each of the other choices, by default 0, and 1 for "lca"; not for "drift"
    gate        evidence below this value is ignored
    source      population that provides the evidence, (choices,); by default the readout

    Raises WiringError if the network has no readout, if the source is not a vector, if `tau` is shorter than a step, or
    if "drift" is combined with inhibition.
    """
    evidence = source or net.readout
    shape = net.shape(evidence) if evidence else ()
    if evidence is None or len(shape) != 1 or (kind == "drift" and (inhibition or shape[0] < 2)):
        raise WiringError(
            given=f"kind={kind!r} with evidence from {evidence!r} of shape {shape} and inhibition={inhibition}",
            expected="a vector (choices,), with at least two choices and no inhibition for 'drift'",
            remedy="pass source='readout', the name of a population with one value per choice",
        )
    if not net.is_flow and tau < net.step_ms:
        raise WiringError(
            given=f"tau={tau:g} ms for steps of {net.step_ms:g} ms",
            expected="a time constant of at least one step",
            remedy=f"pass tau={10 * net.step_ms:g}",
        )
    is_lca = kind == "lca"
    leak = float(is_lca) if leak is None else leak
    inhibition = float(is_lca) if inhibition is None else inhibition
    floor = None if kind == "drift" else 0.0
    rate = 1.0 / SUBSTEPS if net.is_flow else net.step_ms / tau
    rule: Rule = Accumulator(rate, leak, gate, floor)
    if net.is_flow:
        rule = Leaky(Accumulator(rate, leak, gate, floor), tau / SUBSTEPS)
    others = torch.ones(shape[0], shape[0]) - torch.eye(shape[0])
    contrast = _fixed(torch.eye(shape[0]) - others / (shape[0] - 1)) if kind == "drift" else nn.Identity()
    edges = [Projection(evidence, name, contrast)]
    if inhibition:
        delay = None if net.is_flow else 1
        edges.append(Projection(name, name, _fixed(inhibition * others), "lateral", delay, "inhibition"))
    population = Population(name, rule, shape)
    return rebuilt(net, [*net.populations.values(), population], [*net.projections, *edges], readout=name)


@checked(WiringError)
def with_evidence(net: Network, *, name: str = "evidence") -> Network:
    """log alpha_c = log( 1 + softplus(z_c) ): add a Dirichlet readout to a network with a readout z (classes,).

    The new population holds the logarithm of the concentrations alpha, and becomes the readout. Its softmax is the
    expected probability alpha_c / S with S = sum alpha, so that `training.train` with loss="softmax" minimises
    log S - log alpha_target. `analysis.evidential_uncertainty` returns the uncertainty K / S. Parameters are shared
    with `net`. Source: Sensoy et al. 2018 eq. 3. Raises WiringError unless the network has a readout that is a vector
    of at least two classes.

        net = models.with_evidence(models.hgru(channels=8, kernel=3, image=(1, 24, 24)))
    """
    shape = net.shape(net.readout) if net.readout else ()
    if net.readout is None or len(shape) != 1 or shape[0] < 2:
        raise WiringError(
            given=f"{net.name!r} with the readout {net.readout!r} of shape {shape}",
            expected="a readout with one value for each of two or more classes",
            remedy="build it with Network(..., readout='name')",
        )
    populations = [*net.populations.values(), Population(name, Sum(), shape)]
    return rebuilt(
        net, populations, [*net.projections, Projection(net.readout, name, _log_concentration)], readout=name
    )


def _log_concentration(value: Tensor) -> Tensor:
    """Return log( 1 + softplus(value) )."""
    return torch.log1p(functional.softplus(value))


@checked(WiringError)
def with_noise(net: Network, *populations: str) -> Network:
    """Return the network with an input "noise_NAME" that is added to the drive of each named population.

    The input has the shape of the drive. With the stimulus `stimuli.ou_noise` or `stimuli.noise`, the noise is a
    function of the seed, the sample and the step, so every run can be repeated. Parameters are shared with `net`.
    Raises WiringError for unknown populations.

        noisy = models.with_noise(net, "l1")
        like = torch.zeros(8, *noisy.inputs["noise_l1"])
        noise = stimuli.ou_noise(like, sd=0.1, tau=20.0, duration=200.0, every=1.0, seed=0)
        run = simulate(noisy, {"image": images, "noise_l1": noise}, solver=Euler(dt=1.0), until=200.0)
    """
    if unknown := [name for name in populations if name not in net.populations] or not populations:
        raise WiringError(
            given=f"noise for {unknown if populations else 'no population'}",
            expected=f"populations of {net.name!r}: {', '.join(net.populations)}",
            remedy=f"call with_noise(net, {next(iter(net.populations), 'v1')!r}); net.describe() lists all names",
        )
    ports = {name: net.populations[name].rule.ports[0] for name in populations}
    added = {f"noise_{name}": net.shapes.ports[name][port] for name, port in ports.items()}
    edges = [Projection(f"noise_{name}", name, port=port) for name, port in ports.items()]
    return rebuilt(net, tuple(net.populations.values()), [*net.projections, *edges], inputs={**net.inputs, **added})


def _fixed(weight: torch.Tensor) -> nn.Linear:
    """Build a linear layer with fixed weights."""
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    linear.weight = nn.Parameter(weight.to(linear.weight), requires_grad=False)
    return linear
