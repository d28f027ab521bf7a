"""Hopfield networks: binary (1982), graded (1984) and modern (Ramsauer et al. 2020).

    1982    s_i <- sgn( sum_j W_ij s_j - theta ),  W = 1/N sum_mu xi xi^T, zero diagonal
    1984    tau du/dt = -u + W v + I,  v = tanh( g u )
    modern  xi <- X softmax( beta X^T xi )

The weights store patterns and are not learned by gradient descent. Each network starts from the input "cue". Its
energy is a population and can be recorded at every step. The energy never increases under asynchronous updates (1982),
along the flow (1984), or from step to step (modern). Under synchronous updates (1982), it may increase, and the network
may end in a cycle of two states.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from pcsim.connections import Activation, ScaledLinear
from pcsim.core.checks import Axes, Count, Whole, checked
from pcsim.core.exceptions import WiringError
from pcsim.models.registry import register
from pcsim.network import Network, Population, Projection
from pcsim.rules.attractor import GradedEnergy, RetrievalEnergy, Softmax, Threshold, ThresholdEnergy
from pcsim.rules.base import Leaky
from pcsim.rules.rate import Rate
from pcsim.rules.wires import Sum

Patterns = Annotated[Tensor, Axes("pattern, unit", is_float=False)]
Weights = Annotated[Tensor, Axes("unit, unit")]


@checked(WiringError)
def random_patterns(count: Count, units: Count, seed: Whole = 0) -> Tensor:
    """Return random patterns (count, units) whose values are -1 or 1, drawn independently with equal probability."""
    generator = torch.Generator().manual_seed(seed)
    return (
        2.0 * torch.randint(0, 2, (count, units), generator=generator, device="cpu").to(torch.get_default_dtype()) - 1.0
    )


@checked(WiringError)
def hebbian(patterns: Patterns, centred: bool = False) -> Tensor:
    """W = 1/N sum_mu xi xi^T with zero diagonal, (units, units).

    The result is in float64 for patterns in float64, otherwise in the default dtype. With `centred`, the overall mean
    of the patterns is subtracted first, which suits images with unequal amounts of black and white.
    """
    sums, divisor = _hebbian_sums(patterns, centred)
    return (sums / divisor).to(_precision(patterns))


@register(paper="Hopfield 1982")
def hopfield(
    patterns: Patterns | None = None,
    *,
    units: Count = 100,
    count: Count = 7,
    seed: Whole = 0,
    weights: Weights | None = None,
    mode: Literal["asynchronous", "synchronous"] = "asynchronous",
    threshold: float = 0.0,
    centred: bool = False,
) -> Network:
    """Build the binary Hopfield network.

    Its inputs are "cue" (units,) and, for asynchronous updates, "turn" (units,), which is 1 for the unit to update.
    `stimuli.turns` selects the units in random order. A unit whose field is exactly theta keeps its state. The fields
    of stored patterns are exact, because the weights are stored as integers and each sum is divided by an integer.

    patterns   values of -1 and 1, (count, units); by default, `count` random patterns of `units` units
    weights    (units, units), used instead of the Hebbian weights. Fields are exact if the weights are, up to
               rounding error, integers divided by the number of units, like those of `hebbian`; otherwise, the fields
               are rounded
    threshold  theta, with which the field is compared
    centred    see `hebbian`

    If the patterns or weights are float64, so is the network.

    Raises WiringError for patterns with other values or an unknown mode.

        net = models.hopfield(patterns)
        run = simulate(net, {"cue": cues, "turn": stimuli.turns(100, len(cues), rounds=10)}, solver=Iterate())
    """
    stored = _patterns(patterns, count, units, seed)
    matrix = (
        _field(*_hebbian_sums(stored, centred), _precision(stored))
        if weights is None
        else _field(*_as_fractions(weights), _precision(weights))
    )
    size = len(matrix.weight)
    inputs = {"cue": (size,)} | ({"turn": (size,)} if mode == "asynchronous" else {})
    turns = [Projection("turn", "s", port="turn")] if mode == "asynchronous" else []
    return Network(
        inputs,
        [
            Population("s", Threshold(threshold, mode == "synchronous"), (size,)),
            Population("field", Sum()),
            Population("energy", ThresholdEnergy(threshold)),
        ],
        [
            *turns,
            Projection("s", "s", matrix, "lateral", 1),
            Projection("s", "field", matrix, "lateral"),
            Projection("s", "energy", kind="lateral"),
            Projection("field", "energy", kind="lateral", port="field"),
        ],
        readout="s",
        steps=10 * size if turns else 10,
        name="hopfield",
        initialiser=_from_cue("s", size),
    )


@register(paper="Hopfield 1984")
def hopfield_continuous(
    patterns: Patterns | None = None,
    *,
    units: Count = 100,
    count: Count = 7,
    seed: Whole = 0,
    weights: Weights | None = None,
    tau: float = 10.0,
    gain: float = 4.0,
    drive: bool = False,
) -> Network:
    """Build the graded Hopfield network as a flow.

    Its inputs are "cue" (units,), the initial value of u, and, if `drive` is True, "current" (units,), which is I.

    tau   time constant in ms
    gain  g in v = tanh(g u)

    The other options are those of `hopfield`.
    """
    stored = _patterns(patterns, count, units, seed)
    matrix = _linear(hebbian(stored) if weights is None else weights)
    size = matrix.in_features
    current = []
    if drive:
        current = [Projection("current", "u"), Projection("current", "energy", port="current")]
    return Network(
        {"cue": (size,)} | ({"current": (size,)} if drive else {}),
        [
            Population("u", Leaky(Sum(), tau), (size,)),
            Population("v", Sum()),
            Population("field", Sum()),
            Population("energy", GradedEnergy(gain)),
        ],
        [
            *current,
            Projection("u", "v", Activation("tanh", gain), "lateral"),
            Projection("v", "field", matrix, "lateral"),
            Projection("field", "u", kind="lateral"),
            Projection("v", "energy", kind="lateral"),
            Projection("field", "energy", kind="lateral", port="field"),
        ],
        readout="v",
        name="hopfield_continuous",
        initialiser=_from_cue("u", size),
    )


@register(paper="Ramsauer et al. 2020")
def hopfield_modern(
    patterns: Patterns | None = None, *, units: Count = 100, count: Count = 7, seed: Whole = 0, beta: float = 1.0
) -> Network:
    """Build the modern Hopfield network, a dense associative memory that usually retrieves a pattern in one step.

    Its input is "cue" (units,).

    patterns  real-valued, (count, units)
    beta      inverse temperature
    """
    stored = random_patterns(count, units, seed) if patterns is None else patterns
    match = _linear(stored)
    size = match.in_features
    return Network(
        {"cue": (size,)},
        [
            Population("attention", Softmax(beta)),
            Population("xi", Rate(size, "identity", bias=False), (size,)),
            Population("match", Sum()),
            Population("energy", RetrievalEnergy(beta, float(stored.double().norm(dim=1).max()))),
        ],
        [
            Projection("xi", "attention", match, "lateral", 1),
            Projection("attention", "xi", _linear(stored.t()), "lateral"),
            Projection("xi", "match", match, "lateral"),
            Projection("xi", "energy", kind="lateral"),
            Projection("match", "energy", kind="lateral", port="match"),
        ],
        readout="xi",
        steps=5,
        name="hopfield_modern",
        initialiser=_from_cue("xi", size),
    )


def _from_cue(name: str, units: int) -> Network:
    """Build an initialiser that sets `name` to the cue."""
    return Network({"cue": (units,)}, [Population(name, Sum())], [Projection("cue", name)])


def _precision(given: Tensor) -> torch.dtype:
    """Return the dtype of a network built from `given`: float64 if `given` is float64, otherwise the default dtype."""
    return torch.promote_types(given.dtype, torch.get_default_dtype())


def _linear(weights: Tensor) -> nn.Linear:
    """Build a linear layer with fixed weights."""
    linear = nn.Linear(weights.shape[1], weights.shape[0], bias=False)
    linear.weight = nn.Parameter(
        weights.to(linear.weight.device, _precision(weights)).contiguous(), requires_grad=False
    )
    return linear


def _hebbian_sums(patterns: Tensor, centred: bool) -> tuple[Tensor, int]:
    """Return K and n with W = K / n; K is float64 and contains integers if the patterns do.

    With the overall mean m = M / (P N) of P patterns, sum_mu (xi_i - m)(xi_j - m) = G_ij - m (a_i + a_j) + P m^2, where
    G_ij = sum_mu xi_i xi_j and a_i = sum_mu xi_i.
    """
    xi = patterns.double()
    count, units = xi.shape
    sums, divisor = xi.t() @ xi, units
    if centred:
        a, total = xi.sum(0), xi.sum()
        sums = count * units**2 * sums - units * total * (a[:, None] + a) + total**2
        divisor = count * units**3
    return sums.fill_diagonal_(0.0), divisor


def _as_fractions(weights: Tensor) -> tuple[Tensor, int]:
    """Return K and n with W = K / n: integers and the number of units if W is such a ratio, or else W and 1."""
    if not bool(torch.isfinite(weights).all()):
        raise WiringError(
            given="weights with NaN or infinite values", expected="finite weights", remedy="pass hebbian(patterns)"
        )
    units, given = len(weights), weights.double()
    sums = (given * units).round()
    rounding = 4.0 * torch.finfo(_precision(weights)).eps
    return (sums, units) if torch.allclose(sums / units, given, rtol=rounding, atol=0.0) else (weights, 1)


def _field(sums: Tensor, divisor: int, dtype: torch.dtype) -> ScaledLinear:
    """Build the transform that computes the field K s / n, with K and n in lowest terms."""
    common = math.gcd(divisor, *map(int, sums.unique().tolist())) if divisor > 1 else 1
    return ScaledLinear((sums / common).to(torch.get_default_device(), dtype), divisor // common)


def _patterns(patterns: Patterns | None, count: int, units: int, seed: int) -> Tensor:
    if patterns is None:
        return random_patterns(count, units, seed)
    if not bool((patterns.double().abs() == 1).all()):
        raise WiringError(
            given=f"patterns of shape {tuple(patterns.shape)} with values {patterns.unique()[:4].tolist()}",
            expected="values of -1 and 1",
            remedy="pass 2.0 * (images.flatten(1) > 0.5) - 1.0 for images in [0, 1]",
        )
    return patterns
