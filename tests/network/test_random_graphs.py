"""Random graphs: the derived order is valid, its effect is unique, cycles are refused, shapes are inferred."""

from __future__ import annotations

import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from pcsim import Iterate, Network, Population, Projection, Record, WiringError, simulate
from pcsim.rules import Rate, Sum

UNITS = 2


@st.composite
def graphs(draw: st.DrawFn) -> tuple[int, list[tuple[int, int, int]], list[bool]]:
    """Draw a node count, edges (from, to, delay) whose zero-delay edges go upwards, and which nodes are wires."""
    count = draw(st.integers(2, 6))
    pairs = [(a, b) for a in range(count) for b in range(count)]
    chosen = draw(st.lists(st.sampled_from(pairs), unique=True, min_size=1, max_size=10))
    edges = [(a, b, draw(st.integers(0, 3)) if a < b else draw(st.integers(1, 3))) for a, b in chosen]
    return count, edges, draw(st.lists(st.booleans(), min_size=count, max_size=count))


def build(count: int, edges: list[tuple[int, int, int]], wires: list[bool], order: list[int]) -> Network:
    torch.manual_seed(0)
    weights = {(a, b): nn.Linear(UNITS, UNITS, bias=False) for a, b, _ in edges}
    entry = [nn.Linear(UNITS, UNITS, bias=False) for _ in range(count)]
    rules = [Sum("tanh") if wire else Rate(UNITS, "tanh", bias=False) for wire in wires]
    projections = [Projection("u", f"n{i}", entry[i]) for i in range(count)]
    projections += [Projection(f"n{a}", f"n{b}", weights[a, b], delay=delay) for a, b, delay in edges]
    return Network({"u": (UNITS,)}, [Population(f"n{i}", rules[i]) for i in order], projections)


@settings(max_examples=300, deadline=None)
@given(graphs(), st.randoms())
def test_order_valid_and_independent_of_declaration(graph: tuple, random: object) -> None:
    count, edges, wires = graph
    shuffled = list(range(count))
    random.shuffle(shuffled)
    first, second = build(count, edges, wires, list(range(count))), build(count, edges, wires, shuffled)
    for net in (first, second):
        position = {name: place for place, name in enumerate(net.order)}
        assert all(position[f"n{a}"] < position[f"n{b}"] for a, b, delay in edges if delay == 0)
    shown, record = torch.ones(1, UNITS), Record(states=[f"n{i}" for i in range(count)])
    runs = [simulate(net, shown, solver=Iterate(), steps=5, record=record) for net in (first, second)]
    for i in range(count):
        assert torch.equal(runs[0][f"n{i}"], runs[1][f"n{i}"])


@settings(max_examples=100, deadline=None)
@given(graphs(), st.data())
def test_zero_delay_cycle_always_refused(graph: tuple, data: st.DataObject) -> None:
    count, edges, wires = graph
    forward = [(a, b) for a, b, delay in edges if delay == 0]
    assume(forward)
    a, b = data.draw(st.sampled_from(forward))
    closed = [edge for edge in edges if edge[:2] != (b, a)] + [(b, a, 0)]
    try:
        build(count, closed, wires, list(range(count)))
    except WiringError as reason:
        assert "cycle with zero delay" in str(reason)
    else:
        raise AssertionError("a zero-delay cycle was accepted")


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.integers(1, 5))
def test_shapes_are_inferred_or_refused(sizes: list[int], wrong: int) -> None:
    chain = [3, *sizes]
    names = ["u", *(f"n{i}" for i in range(len(sizes)))]
    populations = [Population(name, Sum()) for name in names[1:]]
    edges = [
        Projection(low, high, nn.Linear(a, b, bias=False))
        for low, high, a, b in zip(names, names[1:], chain, chain[1:], strict=False)
    ]
    net = Network({"u": (3,)}, populations, edges)
    assert [net.shape(name) for name in names] == [(size,) for size in chain]
    skip = Projection("u", names[-1], nn.Linear(3, wrong, bias=False), name="skip")
    try:
        Network({"u": (3,)}, populations, [*edges, skip])
    except WiringError as reason:
        assert wrong != chain[-1] and f"({wrong},)" in str(reason)
    else:
        assert wrong == chain[-1]
