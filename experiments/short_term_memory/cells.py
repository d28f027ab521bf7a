"""The networks of `experiments.short_term_memory`: different memories with the same decision layer and readout.

Every memory receives the items, and the decision layer d receives the memory and the current item:

    d = ReLU( W m + V u + b ),   readout = R d + b

leaky         tau dm/dt = -m + tanh(W u + U m + b), tau = 100 ms
lstm          Hochreiter & Schmidhuber 1997 as an ODE with tau = 20 ms, forget bias 1
gated         tau / (1 - s(W_u u + U_u m + b_u)) dm/dt = -m + tanh(W u + U m + b), tau = 20 ms
reciprocal    m and c gate each other's drive and their own retention (Nayebi et al. 2018)
bump          ring attractor with fixed weights; only the weights of its input are learned (Ben-Yishai et al. 1995)
facilitation  tau dm/dt = -m + s(W u + b) without recurrent weights. Its synapses facilitate (Mongillo et al. 2008)
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from pcsim import Network, Population, Projection, models
from pcsim.network.parts import Kind
from pcsim.rules import LSTM, GatedUpdate, Leaky, ReciprocalGated, Sum, leaky_rate

from .options import STEP, ShortTermMemory

Wiring = tuple[list[Population], list[Projection]]
SLOW = 100.0
"""time constant of leaky units and of the ring, ms"""
DECISION = 24
"""number of units in the decision layer"""
PEAK_HZ = 40.0
"""firing rate of facilitating units with an activity of 1"""
REST = -3.0
"""initial bias of facilitating units, which fire at about 2 Hz at rest; -REST is the sd of their input weights"""
RETENTION = -2.0
"""initial bias of the retention gates 1 - s(.) of reciprocal cells, which then retain 0.88 of their value per step"""
HIDDEN = {"lstm": "m.c", "reciprocal": "c", "facilitation": "synapses_f"}
"""variables besides the activity m that can carry the memory"""


def dense(
    source: tuple[str, int], target: tuple[str, int], kind: Kind = "bottom_up", port: str | None = None
) -> Projection:
    """Build an edge with weights but no bias; its name contains its port."""
    layer = nn.Linear(source[1], target[1], bias=False)
    return Projection(source[0], target[0], layer, kind, None, port, name=f"{source[0]}->{target[0]} {port or ''}")


def leaky(items: int, width: int) -> Wiring:
    """Build leaky units with lateral weights."""
    m = ("m", width)
    rule = leaky_rate(width, SLOW, "tanh")
    return [Population("m", rule, (width,))], [dense(("u", items), m), dense(m, m, "lateral")]


def lstm(items: int, width: int) -> Wiring:
    """Build LSTM cells."""
    gates = ("m", 4 * width)
    rule = Leaky(LSTM(width, forget=1.0), STEP)
    return [Population("m", rule, (width,))], [dense(("u", items), gates), dense(("m", width), gates, "lateral")]


def gated(items: int, width: int) -> Wiring:
    """Build leaky units whose time constants depend on the items and on all units."""
    m, ports = ("m", width), ("candidate", "update")
    edges = [dense(("u", items), m, port=port) for port in ports] + [dense(m, m, "lateral", port) for port in ports]
    return [Population("m", Leaky(GatedUpdate(width, kept=1.0), STEP), (width,))], edges


def reciprocal(items: int, width: int) -> Wiring:
    """Build reciprocal gated cells with the units m and c."""
    u, m, c = ("u", items), ("m", width), ("c", width)
    edges = [dense(u, m), dense(u, c)]
    for one, other in ((m, c), (c, m)):
        edges += [dense(one, one, "lateral", "retention"), dense(other, one, "lateral", "gate")]
    rules = {name: ReciprocalGated(width, bias=True) for name in ("m", "c")}
    with torch.no_grad():
        for rule in rules.values():
            next(rule.parameters())[-1].fill_(RETENTION)
    return [Population(name, Leaky(rule, STEP), (width,)) for name, rule in rules.items()], edges


def bump(items: int, width: int) -> Wiring:
    """Build a ring attractor whose lateral weights and biases are fixed."""
    lateral, rule = nn.Linear(width, width, bias=False), leaky_rate(width, SLOW)
    with torch.no_grad():
        lateral.weight.copy_(models.ring_weights(width))
        next(rule.parameters()).fill_(1.0)
    for fixed in (lateral, rule):
        fixed.requires_grad_(False)
    return [Population("m", rule)], [dense(("u", items), ("m", width)), Projection("m", "m", lateral, "lateral")]


def facilitation(items: int, width: int) -> Wiring:
    """Build units without lateral weights, whose output passes through facilitating and depressing synapses."""
    rule, entry = leaky_rate(width, STEP, "sigmoid"), dense(("u", items), ("m", width))
    with torch.no_grad():
        next(rule.parameters()).fill_(REST)
        next(entry.transform.parameters()).normal_(std=-REST)
    populations, edges = models.synapses("m", "synapses", 0.15, 200.0, 1_500.0, PEAK_HZ)
    return [Population("m", rule), *populations], [entry, *edges]


CELLS: dict[str, Callable[[int, int], Wiring]] = {
    each.__name__: each for each in (leaky, lstm, gated, reciprocal, bump, facilitation)
}


def network(cell: str, items: int, classes: int, width: int) -> Network:
    """Build a network with `width` memory units that receive noise."""
    width = max(width, 3)  # a ring has at least three units
    populations, edges = CELLS[cell](items, width)
    source = "synapses" if cell == "facilitation" else "m"
    memories = [p.name for p in populations if p.name in ("m", "c")]
    net = Network(
        {"u": (items,)},
        [*populations, Population("d", Sum("relu", channels=DECISION)), Population("readout", Sum(channels=classes))],
        [
            *edges,
            dense((source, width), ("d", DECISION)),
            dense(("u", items), ("d", DECISION)),
            dense(("d", DECISION), ("readout", classes)),
        ],
        readout="readout",
        name=cell,
    )
    return models.with_noise(net, *memories)


def build(config: ShortTermMemory, cell: str, items: int, classes: int) -> Network:
    """Build a network with about `config.parameters` weights, including fixed ones."""
    return models.matched(partial(network, cell, items, classes), config.parameters)
