"""A ring of rate units that remembers an angle as the position of a bump of activity.

    tau dr_i/dt = -r_i + [ I - J_0 <r> + J_1 <r_j cos(theta_i - theta_j - shift)> + u_i ]+

<> denotes the mean over the units j. Without input u, a bump of half-width theta_c is stationary at any position psi:

    r_i = A [ cos(theta_i - psi) - cos theta_c ]+
    J_1 (theta_c - sin(2 theta_c) / 2) = 2 pi
    A = -I / ( cos theta_c - J_0 (sin theta_c - theta_c cos theta_c) / pi )

With a shift, the bump moves at tan(shift) / tau, and J_1 cos(shift) replaces J_1. With independent white noise of
spectral density s^2 in every drive, the bump diffuses: var psi = s^2 J_1 t / (tau^2 n A^2), for n units.
"""

from __future__ import annotations

import math
from typing import Annotated

import torch
from pydantic import Field
from torch import nn

from pcsim.core.checks import Finite, NonNegative, Positive, checked
from pcsim.core.exceptions import WiringError
from pcsim.models.registry import register
from pcsim.network import Network, Population, Projection
from pcsim.rules.rate import leaky_rate

Ring = Annotated[int, Field(ge=3)]
SMALLEST = 2.0
"""cosine weight below which the uniform state of the ring is stable, so there is no bump"""


@checked(WiringError)
def ring_weights(
    units: Ring, inhibition: NonNegative = 8.0, excitation: Positive = 8.0, shift: Finite = 0.0
) -> torch.Tensor:
    """W_ij = ( J_1 cos(theta_i - theta_j - shift) - J_0 ) / n,  theta_i = 360 i / n degrees: (units, units), float64.

    The arguments are those of `bump_attractor`.
    """
    angles = 2.0 * math.pi / units * torch.arange(units, dtype=torch.float64, device="cpu")
    apart = angles[:, None] - angles - math.radians(shift)
    return (excitation * torch.cos(apart) - inhibition) / units


@register(paper="Ben-Yishai, Bar-Or & Sompolinsky 1995; Zhang 1996")
def bump_attractor(
    units: Ring = 64,
    *,
    inhibition: NonNegative = 8.0,
    excitation: Positive = 8.0,
    background: Positive = 1.0,
    shift: Finite = 0.0,
    tau: Positive = 10.0,
) -> Network:
    """Build the ring network, with the input "u", (units,). A transient input at some units leaves a bump there.

    inhibition  J_0; must be large enough for the bump to be stable
    excitation  J_1, above 2
    background  uniform input I, the initial bias of the units
    shift       angle in degrees by which the weights are rotated; the bump moves unless the angle is 0
    tau         time constant of the units in ms

    Raises WiringError unless the ring has a stable bump. Source: Hansel & Sompolinsky 1998 section 13.3.

        net = pcsim.models.bump_attractor()
        run = simulate(net, stimuli.presented(cue, 100.0), solver=RK4(dt=1.0), until=1000.0)
        analysis.population_angle(run["r"])
    """
    cosine = excitation * math.cos(math.radians(shift))
    if not cosine > SMALLEST or inhibition <= _least_inhibition(cosine):
        raise WiringError(
            given=f"{excitation=:g}, {inhibition=:g} and {shift=:g} degrees",
            expected=f"excitation * cos(shift) above {SMALLEST:g}"
            + (f", and inhibition above {_least_inhibition(cosine):.3g}" if cosine > SMALLEST else ""),
            remedy="pass excitation=8.0, inhibition=8.0",
        )
    weights = nn.Linear(units, units, bias=False)
    rule = leaky_rate(units, tau)
    with torch.no_grad():
        weights.weight.copy_(ring_weights(units, inhibition, excitation, shift))
        next(rule.parameters()).fill_(background)
    return Network(
        {"u": (units,)},
        [Population("r", rule)],
        [Projection("u", "r"), Projection("r", "r", weights, "lateral")],
        readout="r",
        name="bump_attractor",
    )


def _least_inhibition(cosine: float) -> float:
    """Return the J_0 above which a bump has a finite amplitude: cos theta_c = J_0 (sin - theta_c cos) / pi."""
    low, high = 0.0, math.pi
    for _ in range(60):
        middle = 0.5 * (low + high)
        wide = cosine * (middle - 0.5 * math.sin(2.0 * middle)) > 2.0 * math.pi
        low, high = (low, middle) if wide else (middle, high)
    return math.pi * math.cos(low) / (math.sin(low) - low * math.cos(low))
