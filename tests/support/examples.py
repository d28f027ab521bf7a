"""Small networks used by several tests."""

from __future__ import annotations

import torch
from torch import nn

from pcsim import Network, Population, Projection
from pcsim.connections import Tied
from pcsim.rules import ErrorRelaxation, Prediction, PredictionError, Rate, Sum, leaky_rate


def dense(out: int, inside: int, scale: float = 1.0) -> nn.Linear:
    """Return a linear map without bias, with weights from N(0, scale^2 / inside)."""
    linear = nn.Linear(inside, out, bias=False)
    with torch.no_grad():
        linear.weight.normal_(0.0, scale / inside**0.5)
    return linear


def leaky_net(units: int = 16, tau: float = 10.0, activation: str = "tanh", scale: float = 0.9) -> Network:
    """Return tau dr/dt = -r + f(W r + V u) with dense weights."""
    return Network(
        {"u": (units,)},
        [Population("r", leaky_rate(units, tau, activation, bias=False))],
        [
            Projection("u", "r", dense(units, units)),
            Projection("r", "r", dense(units, units, scale), kind="lateral"),
        ],
    )


def chain(delays: tuple[int, ...], before: str = "absent", activation: str = "identity") -> Network:
    """Return the chain u -> a1 -> a2 -> ... of single units with weights of 1 and the given delays."""
    names = ["u", *(f"a{i + 1}" for i in range(len(delays)))]
    populations = [Population(name, Rate(1, activation, bias=False)) for name in names[1:]]
    edges = [
        Projection(low, high, delay=delay, before=before)
        for low, high, delay in zip(names, names[1:], delays, strict=False)
    ]
    return Network({"u": (1,)}, populations, edges, readout=names[-1])


def linear_pc(weights: nn.Linear, tau: float = 10.0) -> Network:
    """Return linear predictive coding with two layers: e = x - W r, tau dr/dt = W^T e."""
    causes = weights.in_features
    return Network(
        {"x": (weights.out_features,)},
        [
            Population("r", ErrorRelaxation(tau), shape=(causes,)),
            Population("p", Prediction()),
            Population("e", PredictionError()),
        ],
        [
            Projection("r", "p", weights, kind="prediction"),
            Projection("p", "e", kind="prediction"),
            Projection("x", "e"),
            Projection("e", "r", Tied(weights)),
        ],
        name="linear_pc",
    )


def two_layers(units: int = 4, **readout: object) -> Network:
    """Return a dense discrete network with lateral and top-down edges and a readout."""
    return Network(
        {"u": (units,)},
        [Population("a", Rate(units, "tanh")), Population("b", Rate(units, "tanh")), Population("y", Sum())],
        [
            Projection("u", "a", dense(units, units)),
            Projection("a", "b", dense(units, units)),
            Projection("a", "a", dense(units, units), kind="lateral", delay=1),
            Projection("b", "a", dense(units, units), kind="top_down", delay=1),
            Projection("b", "y", dense(3, units)),
        ],
        readout="y",
        steps=4,
    )
