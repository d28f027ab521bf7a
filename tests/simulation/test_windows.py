"""Windows, phases, delays and lesions open and close at their step: random networks against runs written out by hand.

u -> a -> b, with lateral edges on a and c; c starts from a when its window opens. Every edge scales its source by a
number, and the edge a -> b also adds 1, so that an edge that transmits zeros differs from one that is closed.
"""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import pcsim
from pcsim import RK4, Euler, Heun, Iterate, Network, Population, Projection, Record, Run, Simulator, rollout, simulate
from pcsim.connections import PerStep, Phased
from pcsim.core.clock import Window
from pcsim.rules import Rate, leaky_rate
from pcsim.simulation.regime import Regimes, regime_of
from pcsim.solvers import Solver
from pcsim.stimuli.timeline import Epoch, Timeline

pytestmark = [
    pytest.mark.usefixtures("float64"),
    pytest.mark.filterwarnings("ignore:The lesion of"),  # random windows may begin after the run
]
STEPS = 12
WEIGHTS = (1.0, -2.0, 3.0)
"""of the edge u -> a in its first, second and all later phases"""


def times(weight: float, bias: float | None = None) -> nn.Linear:
    linear = nn.Linear(1, 1, bias=bias is not None)
    with torch.no_grad():
        linear.weight.fill_(weight)
        if bias is not None:
            linear.bias.fill_(bias)
    return linear


@dataclass(frozen=True)
class Windows:
    """Windows [from, to) in steps, a delay in steps, and the number of steps in a phase."""

    entry: Window | None
    lateral: Window | None
    onward: Window | None
    lesion: Window
    area: Window | None
    copy: Window
    delay: int
    before: str
    phase: int

    @classmethod
    def drawn(cls, seed: int, is_flow: bool) -> Windows:
        draw = random.Random(seed)

        def window(first: int = 0) -> Window:
            begin = draw.randint(first, STEPS - 2)
            return (begin, draw.choice([math.inf, draw.randint(begin + 1, STEPS + 1)]))

        either = [window() if draw.random() < 0.7 else None for _ in range(4)]
        delay = draw.randint(0, 4)
        return cls(
            *either[:3],
            window(),
            either[3],
            window(1),
            delay,
            draw.choice(["absent", "zeros"]) if delay else "absent",
            draw.choice([1, 2, 3]) if is_flow else 1,
        )

    def phases(self, step: int) -> int:
        begin = 0 if self.entry is None else int(self.entry[0])
        return min((step - begin) // self.phase, len(WEIGHTS) - 1)


def in_unit(window: Window | None, unit: float) -> Window | None:
    return None if window is None else (window[0] * unit, window[1] * unit)


def network(windows: Windows, dt: float | None) -> Network:
    """Return the network as a map, or as a flow for a solver with steps of `dt` ms."""
    unit, is_flow = dt or 1.0, dt is not None

    def rule(tau: float) -> nn.Module:
        return leaky_rate(1, tau, "identity", bias=False) if is_flow else Rate(1, "identity", bias=False)

    later: dict[str, Any] = {"delay_ms": windows.delay * unit or None} if is_flow else {"delay": windows.delay}
    once: dict[str, Any] = {} if is_flow else {"delay": 1}
    net = Network(
        {"u": (1,)},
        [
            Population("a", rule(4.0)),
            Population("b", rule(8.0), active=in_unit(windows.area, unit)),
            Population("c", rule(5.0), active=in_unit(windows.copy, unit), shape=(1,), starts_from="a"),
        ],
        [
            Projection("u", "a", PerStep([times(w) for w in WEIGHTS]), active=in_unit(windows.entry, unit)),
            Projection("a", "a", times(0.5), "lateral", active=in_unit(windows.lateral, unit), **once),
            Projection("a", "b", times(2.0, 1.0), active=in_unit(windows.onward, unit), before=windows.before, **later),
            Projection("c", "c", times(0.25), "lateral", **once),
        ],
        step_ms=windows.phase * unit if is_flow else 10.0,
    )
    lesion = in_unit(windows.lesion, unit)
    assert lesion is not None
    return net.without("u->a", during=lesion)


def is_in(window: Window | None, step: int) -> bool:
    return window is None or window[0] <= step < window[1]


def drives(windows: Windows, step: int, image: float, past: list[np.ndarray], now: np.ndarray) -> np.ndarray:
    """Return the inputs to a, b and c in a step of a flow; `past` are the states before the steps 0, ..., `step`."""
    a, _, c = now
    drive = np.zeros(3)
    if is_in(windows.entry, step) and not is_in(windows.lesion, step):
        drive[0] += WEIGHTS[windows.phases(step)] * image
    if is_in(windows.lateral, step):
        drive[0] += 0.5 * a
    if is_in(windows.onward, step):
        if not windows.delay:
            drive[1] = 2.0 * a + 1.0
        elif step >= windows.delay:
            drive[1] = 2.0 * past[step - windows.delay][0] + 1.0
        elif windows.before == "zeros":
            drive[1] = 1.0
    drive[2] = 0.25 * c
    return drive


def by_hand(windows: Windows, frames: list[float]) -> np.ndarray:
    """Return the states (step, population) of the map."""
    rows: list[np.ndarray] = []
    for step in range(STEPS):
        a, b, c = rows[-1] if rows else np.zeros(3)
        begin_c = a if step == windows.copy[0] else c
        drive = drives(windows, step, frames[step], [], np.array([a, b, begin_c])) if windows.delay == 0 else None
        new_a = 0.0
        if is_in(windows.entry, step) and not is_in(windows.lesion, step):
            new_a += WEIGHTS[windows.phases(step)] * frames[step]
        if is_in(windows.lateral, step) and step >= 1:
            new_a += 0.5 * a
        assert drive is None or drive[0] == new_a
        source = ([*(row[0] for row in rows), new_a])[step - windows.delay] if step >= windows.delay else None
        new_b = 0.0
        if is_in(windows.onward, step) and (source is not None or windows.before == "zeros"):
            new_b = 2.0 * (source or 0.0) + 1.0
        rows.append(
            np.array(
                [new_a, new_b if is_in(windows.area, step) else b, 0.25 * begin_c if is_in(windows.copy, step) else c]
            )
        )
    return np.stack(rows)


def flow_by_hand(windows: Windows, frames: list[float], dt: float, method: str) -> np.ndarray:
    """Return the states (step, population) of the flow under a solver with a constant window during each step."""
    past = [np.zeros(3)]
    tau = np.array([4.0, 8.0, 5.0])
    for step in range(STEPS):
        now = past[-1].copy()
        if step == windows.copy[0]:
            now[2] = now[0]
        open_ = np.array([True, is_in(windows.area, step), is_in(windows.copy, step)])

        def rate(x: np.ndarray, step: int = step, open_: np.ndarray = open_) -> np.ndarray:
            return np.where(open_, (drives(windows, step, frames[step], past, x) - x) / tau, 0.0)

        k1 = rate(now)
        if method == "Euler":
            push = k1
        elif method == "Heun":
            push = (k1 + rate(now + dt * k1)) / 2
        else:
            k2 = rate(now + dt / 2 * k1)
            k3 = rate(now + dt / 2 * k2)
            push = (k1 + 2 * k2 + 2 * k3 + rate(now + dt * k3)) / 6
        past.append(now + dt * push)
    return np.stack(past[1:])


def film(frames: list[float], every: float) -> Timeline:
    images = torch.tensor(frames)[:, None, None]
    return Timeline((Epoch(every * len(frames), every, lambda frame: images[frame]),))


def all_ways(net: Network, shown: Timeline, solver: Solver, cut: int, traced: bool) -> dict[str, np.ndarray]:
    """Run the network at once, by `rollout`, and in two parts, the second of which starts at step `cut`."""
    record = Record(states=["a", "b", "c"])
    options: dict[str, Any] = {"solver": solver, "record": record}

    def rows(*runs: Run) -> np.ndarray:
        return np.concatenate([torch.cat([run[n] for n in "abc"], 2)[:, 0].detach().numpy() for run in runs])

    first = simulate(net, shown, steps=cut, **options)
    found = {
        "at once": rows(simulate(net, shown, steps=STEPS, **options)),
        "in parts": rows(first, simulate(net, shown, steps=STEPS, start=first.final, **options)),
    }
    if traced:  # which takes longer, as each regime is traced
        found["traced"] = rows(first, Simulator(net, **options)(shown, steps=STEPS, start=first.final))
    stepped = [
        torch.cat([v[n] for n in "abc"], 1)[0].detach() for _, v in rollout(net, shown, solver, STEPS, list("abc"))
    ]
    return found | {"rollout": torch.stack(stepped).numpy()}


@pytest.mark.parametrize("seed", range(25))
def test_windows_of_map_equal_run_by_hand(seed: int) -> None:
    windows = Windows.drawn(seed, is_flow=False)
    frames = [float(np.sin(1.0 + step // 2)) for step in range(STEPS)]
    expected = by_hand(windows, frames)
    for way, found in all_ways(
        network(windows, None), film(frames, 10.0), Iterate(), 1 + seed % 9, seed % 5 == 0
    ).items():
        assert np.allclose(found, expected, rtol=0, atol=1e-12), (way, windows)


@pytest.mark.parametrize(
    ("method", "seed"), [(Euler, seed) for seed in range(30)] + [(m, seed) for m in (Heun, RK4) for seed in range(8)]
)
def test_windows_of_flow_equal_run_by_hand(method: type, seed: int) -> None:
    """With a delay, the method needs values between steps, so that only Euler has a simple reference."""
    windows = Windows.drawn(seed, is_flow=True)
    if method is not Euler:
        windows = Windows(**{**vars(windows), "delay": 0, "before": "absent"})
    dt = (0.1, 0.5, 1.3)[seed % 3]
    frames = [float(np.sin(1.0 + step // 2)) for step in range(STEPS)]
    expected = flow_by_hand(windows, frames, dt, method.__name__)
    found_by = all_ways(network(windows, dt), film(frames, dt), method(dt=dt), 1 + seed % 9, seed == 1)
    for way, found in found_by.items():
        assert np.allclose(found, expected, rtol=0, atol=1e-12), (way, windows)


@pytest.mark.parametrize("dt", [0.1, 0.3, 0.7, 1.1])
def test_phases_and_windows_of_flow_are_counted_without_rounding_errors(dt: float) -> None:
    """Times such as 3 * 0.1 differ from 0.3 in their last digit."""
    for begin, phase in itertools.product(range(1, 20), (1, 2, 3)):
        end = begin + 7
        net = Network(
            {"u": (1,)},
            [Population("a", leaky_rate(1, 4.0))],
            [Projection("u", "a", PerStep([times(w) for w in WEIGHTS]), active=(begin * dt, round(end * dt, 9)))],
            step_ms=round(phase * dt, 9),
        ).wiring()
        regimes = Regimes(net, dt)
        for step in range(end + 2):
            regime = regime_of(net, step, dt)
            expected = (("u->a", min((step - begin) // phase, 2)),) if begin <= step < end else ()
            assert (regime.phases, bool(regime.shut)) == (expected, not expected), (begin, phase, step)
            if step and regime != regime_of(net, step - 1, dt):
                assert step in regimes.changes(0, end + 2)


@pytest.mark.parametrize("is_flow", [True, False])
def test_every_change_of_regime_is_announced(is_flow: bool) -> None:
    """A step that is missing from `changes` would keep the regime of the step before."""
    for seed in range(100):
        windows, dt = Windows.drawn(seed, is_flow), 0.3
        net = network(windows, dt if is_flow else None).wiring()
        for spoken in (frozenset(), frozenset("a")):
            at = [regime_of(net, step, dt if is_flow else 10.0, spoken) for step in range(STEPS)]
            for begin in (0, 1, 5):
                changed = {step for step in range(begin + 1, STEPS) if at[step] != at[step - 1]}
                assert changed <= Regimes(net, dt if is_flow else 10.0).changes(begin, STEPS), windows


@pytest.mark.parametrize("before", ["absent", "zeros"])
@pytest.mark.parametrize("method", [Heun, RK4])
def test_delay_that_ends_within_a_step_opens_its_edge_at_the_next_stage(method: type, before: str) -> None:
    """tau db/dt = -b + 2 u(t - 2.5) + 1: the first two and a half steps transmit nothing, or 1 for zeros."""
    net = Network(
        {"u": (1,)},
        [Population("b", leaky_rate(1, 8.0, "identity", bias=False))],
        [Projection("u", "b", times(2.0, 1.0), delay_ms=2.5, before=before)],
    )
    run = simulate(net, torch.full((1, 1), 3.0), solver=method(dt=1.0), steps=4, record=Record(states=["b"]))
    early, b, expected = float(before == "zeros"), 0.0, []
    for step in range(4):

        def rate(fraction: float, x: float, step: int = step) -> float:
            return ((7.0 if step + fraction >= 2.5 else early) - x) / 8.0

        k1 = rate(0.0, b)
        if method is Heun:
            b += (k1 + rate(1.0, b + k1)) / 2
        else:
            k2 = rate(0.5, b + k1 / 2)
            k3 = rate(0.5, b + k2 / 2)
            b += (k1 + 2 * k2 + 2 * k3 + rate(1.0, b + k3)) / 6
        expected.append(b)
    assert run["b"].flatten().tolist() == pytest.approx(expected, rel=1e-12)


def test_lesion_after_the_end_of_the_run_is_reported() -> None:
    images = torch.rand(1, 1, 32, 32)
    blt = pcsim.models.blt(channels=(2, 2))
    with pytest.warns(pcsim.PcsimWarning, match=r"begins at 50 steps, but the run ends at 4 steps.* takes steps"):
        simulate(blt.without("top_down", during=(50, 100)), images, solver=Iterate())
    flow = blt.as_ode(tau=10.0)
    with pytest.warns(pcsim.PcsimWarning, match=r"begins at 100 ms, but the run ends at 100 ms.* takes ms"):
        simulate(flow.without("top_down", during=(100, 200)), images, solver=Euler(5.0), until=100.0)
    simulate(flow.without("top_down", during=(95, 200)), images, solver=Euler(5.0), until=100.0)
    simulate(blt.without("top_down", during=(3, 100)).without("lateral"), images, solver=Iterate())


class Counting(Phased):
    """Return the number of the phase, which differs at every step of a run."""

    def forward(self, value: torch.Tensor, phase: int = 0) -> torch.Tensor:
        return torch.full_like(value, float(phase))


@pytest.mark.parametrize("active", [None, (2, math.inf)])
def test_transform_without_a_last_phase_differs_at_every_step(active: Window | None) -> None:
    edge = Projection("u", "a", Counting(), active=active)
    net = Network({"u": (1,)}, [Population("a", Rate(1, "identity", bias=False))], [edge])
    first = 0 if active is None else 2
    expected = [float(max(0, step - first)) for step in range(9)]
    run = simulate(net, torch.ones(1, 1), solver=Iterate(), steps=9, record=Record(["a"]))
    assert run["a"].flatten().tolist() == expected
    flow = simulate(net.as_ode(10.0), torch.ones(1, 1), solver=Euler(5.0), until=90.0, record=Record(["a"]))
    value, found = 0.0, []
    for half_step in range(18):  # a phase lasts a step of 10 ms, and an Euler step 5 ms
        value += 0.5 * (expected[half_step // 2] - value)
        found.append(value)
    assert torch.allclose(flow["a"].flatten(), torch.tensor(found), rtol=1e-14)
