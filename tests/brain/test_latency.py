"""Latencies of populations equal the shortest paths of delays, in maps and in flows."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.csgraph import dijkstra
from torch import nn

from pcsim import RK4, Euler, Heun, Iterate, Network, Population, Projection, Record, Run, rollout, simulate, stimuli
from pcsim.brain import latencies
from pcsim.rules import LearnableTau, Rate, leaky_rate

UNITS = 2
ONSET = 1.6
"""ms of blank before the stimulus, so that latencies are measured from an onset"""


@st.composite
def delayed_graphs(draw: st.DrawFn) -> tuple[int, list[tuple[int, int, int]]]:
    """Draw a node count and edges (from, to, delay); node 0 is the input, and zero-delay edges only go upwards."""
    count = draw(st.integers(2, 5))
    pairs = [(a, b) for a in range(count) for b in range(1, count)]
    chosen = draw(st.lists(st.sampled_from(pairs), unique=True, min_size=1, max_size=8))
    return count, [(a, b, draw(st.integers(0 if a < b else 1, 3))) for a, b in chosen]


def shortest(count: int, edges: list[tuple[int, int, int]]) -> np.ndarray:
    """Return path lengths from node 0 by SciPy, shifted because SciPy treats a stored zero as a missing edge."""
    lengths = np.full((count, count), np.inf)
    for a, b, delay in edges:
        lengths[a, b] = min(lengths[a, b], delay + 1e-6)
    return np.round(dijkstra(np.where(np.isfinite(lengths), lengths, 0.0), indices=0), 3)


def answers(net: Network, solver: object, until: float) -> tuple[Run, Run]:
    shown, nothing = torch.ones(1, UNITS), torch.zeros(1, UNITS)
    record = Record(states="all")
    onset = stimuli.held(nothing, ONSET).then(stimuli.held(shown))
    blank = stimuli.held(nothing)
    return tuple(simulate(net, film, solver=solver, until=until, record=record) for film in (onset, blank))


def linear() -> nn.Linear:
    """Return a linear transform with a bias, so that an edge that delivers too early changes its target."""
    layer = nn.Linear(UNITS, UNITS)
    with torch.no_grad():
        layer.weight.uniform_(0.3, 0.6)
        layer.bias.uniform_(0.1, 0.2)
    return layer


@settings(max_examples=200, deadline=None)
@given(delayed_graphs())
def test_latencies_in_maps_equal_shortest_path(graph: tuple) -> None:
    count, edges = graph
    names = ["u", *(f"n{i}" for i in range(1, count))]
    net = Network(
        {"u": (UNITS,)},
        [Population(name, Rate(UNITS, "tanh"), shape=(UNITS,)) for name in names[1:]],
        [Projection(names[a], names[b], linear(), delay=delay) for a, b, delay in edges],
        step_ms=0.8,
    ).double()
    found = latencies(*answers(net, Iterate(), ONSET + 0.8 * 18), onset=ONSET)
    expected = shortest(count, edges)
    for node in range(1, count):
        (latency,) = found[names[node]]
        assert latency == pytest.approx(0.8 * expected[node]) or (math.isnan(latency) and math.isinf(expected[node]))
        assert net.arrivals[names[node]] == expected[node]


@settings(max_examples=200, deadline=None)
@given(delayed_graphs(), st.sampled_from([(Heun, 1), (RK4, 0)]))
def test_latencies_in_flows_equal_shortest_path_at_any_dt(graph: tuple, solver: tuple) -> None:
    """Within one RK4 step a change can cross every chain of undelayed edges; Heun is given delayed edges only."""
    count, edges = graph
    kind, least = solver
    unit = 0.8  # ms
    names = ["u", *(f"n{i}" for i in range(1, count))]
    delays = [(a, b, delay + least) for a, b, delay in edges]
    net = Network(
        {"u": (UNITS,)},
        [Population(name, leaky_rate(UNITS, 5.0, "tanh"), shape=(UNITS,)) for name in names[1:]],
        [Projection(names[a], names[b], linear(), delay_ms=unit * delay or None) for a, b, delay in delays],
    ).double()
    expected = unit * shortest(count, delays)
    until = ONSET + unit * (2 + round(max([0.0, *expected[np.isfinite(expected)]]) / unit))
    for dt in (0.8, 0.4):
        found = latencies(*answers(net, kind(dt=dt), until), onset=ONSET)
        for node in range(1, count):
            (latency,) = found[names[node]]
            if math.isinf(expected[node]):
                assert math.isnan(latency)
            else:
                assert latency == pytest.approx(expected[node], abs=1e-9)
                assert net.arrivals[names[node]] == pytest.approx(expected[node], abs=1e-9)


def delayed_pair(delay: object, tau: float = 5.0) -> Network:
    """Return the linear chain u -> a -> b with a conduction delay of `delay` ms from a to b."""
    return Network(
        {"u": (1,)},
        [Population(name, leaky_rate(1, tau, "identity", bias=False)) for name in "ab"],
        [Projection("u", "a"), Projection("a", "b", delay_ms=delay)],
    ).double()


@pytest.mark.parametrize("delay", [4.0, 3.3])
def test_conduction_delay_matches_closed_form(delay: float) -> None:
    """b(t) = 1 - (1 + s/tau) exp(-s/tau), s = t - delay, for two leaky units in series."""
    net = delayed_pair(delay)
    errors = []
    for dt in (0.2, 0.1):
        run = simulate(net, torch.ones(1, 1), solver=RK4(dt=dt), until=20.0, record=Record(states=["b"]))
        s = np.clip(run.times - delay, 0.0, None) / 5.0
        errors.append(np.abs(run["b"][:, 0, 0].numpy() - (1.0 - (1.0 + s) * np.exp(-s))).max())
    assert errors[1] < 1e-4 and errors[1] < 0.3 * errors[0]  # order 2: measured 2e-5 .. 5e-5, ratio 0.25


def test_conduction_delay_between_steps_is_not_rounded() -> None:
    runs = [
        simulate(delayed_pair(d), torch.ones(1, 1), solver=RK4(dt=0.4), until=8.0, record=Record(states=["b"]))["b"]
        for d in (1.2, 1.3, 1.6)
    ]
    assert (runs[0][4:] > runs[1][4:]).all() and (runs[1][4:] > runs[2][4:]).all()


def test_learnable_delay_gradient_matches_finite_difference(float64: None) -> None:
    def end(start: float) -> tuple[torch.Tensor, LearnableTau]:
        delay = LearnableTau(1, minimum=1.0, span=4.0, start=start)
        *_, (_, state) = rollout(delayed_pair(delay), torch.ones(1, 1), RK4(dt=0.5), 20)
        return state["b"].sum(), delay

    value, delay = end(2.2)
    value.backward()
    slope = delay.xi.grad.item() / (delay().item() - 1.0) / (1.0 - (delay().item() - 1.0) / 4.0)
    with torch.no_grad():
        expected = (end(2.2 + 1e-4)[0] - end(2.2 - 1e-4)[0]).item() / 2e-4
    assert slope == pytest.approx(expected, rel=1e-4) and slope < 0


def test_as_ode_turns_delays_in_steps_into_ms(float64: None) -> None:
    net = Network(
        {"u": (UNITS,)},
        [Population(name, Rate(UNITS, "tanh", bias=False), shape=(UNITS,)) for name in "ab"],
        [
            Projection("u", "a", linear(), delay=2),
            Projection("a", "b", nn.Linear(UNITS, UNITS, bias=False), delay=3),
            Projection("b", "a", nn.Linear(UNITS, UNITS, bias=False), "top_down", delay=1),
        ],
    )
    record = Record(states="all")
    shown = torch.rand(2, UNITS)
    steps = simulate(net, shown, solver=Iterate(), steps=12, record=record)
    flow = simulate(net.as_ode(tau=5.0), shown, solver=Euler(dt=5.0), until=60.0, record=record)
    assert all(torch.equal(steps[name], flow[name]) for name in "ab")
