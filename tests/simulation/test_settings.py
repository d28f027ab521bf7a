"""Settings of every kind that change between two runs.

`simulate` uses the changed setting, like a newly built network. A `Simulator` uses changed tensors but no other change.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from pcsim import RK4, Euler, Iterate, Network, Population, Projection, Record, Simulator, simulate
from pcsim.rules import Rate, leaky_rate

GLOBAL = {"gain": 0.1}


class Everything(nn.Module):
    """A transform whose output depends on every kind of setting."""

    of_class = 0.1

    def __init__(self, units: int) -> None:
        super().__init__()
        self.in_list, self.in_dict, self.plain = [0.1], {"gain": 0.1}, 0.1
        self.scalar, self.array = np.float32(0.1), np.full(2, 0.1)
        box = [0.1]
        self.closed_over = lambda: box[0]
        self.box = lambda gain: box.__setitem__(0, gain)
        self.linear = nn.Linear(units, units)
        self.dropout = nn.Dropout(0.0)
        self.register_buffer("buffer", torch.tensor(0.1))

    def forward(self, value: Tensor) -> Tensor:
        gain = self.in_list[0] + self.in_dict["gain"] + self.plain + float(self.scalar) + float(self.array[1])
        gain = gain + self.closed_over() + GLOBAL["gain"] + self.of_class
        return self.dropout(self.linear(value)) * gain * self.buffer


def network(kind: str) -> Network:
    torch.manual_seed(0)
    edge = Everything(3)
    rule = leaky_rate(3, 10.0, "tanh") if kind == "flow" else Rate(3, "tanh")
    edges = [Projection("u", "a", nn.Linear(3, 3)), Projection("a", "a", edge, "lateral", 1)]
    return Network({"u": (3,)}, [Population("a", rule)], edges, readout="a").eval()


def edge_of(net: Network) -> Everything:
    return net.transforms["a_to_a"]


def replaced_module(net: Network, gain: float) -> None:
    torch.manual_seed(7)
    other = Everything(3)
    other.plain = gain
    net.transforms["a_to_a"] = other.to(edge_of(net).linear.weight)


def weight_in_place(net: Network, gain: float) -> None:
    with torch.no_grad():
        edge_of(net).linear.weight.mul_(gain)


def eye(net: Network, gain: float) -> Tensor:
    return gain * torch.eye(3).to(edge_of(net).linear.weight)


def hooked(net: Network, gain: float) -> None:
    edge_of(net).linear.register_forward_hook(lambda module, given, made: made * gain)


def unhooked(net: Network, gain: float) -> None:
    edge_of(net).linear._forward_hooks.clear()


@dataclass
class Change:
    """A change of a setting, and whether the setting is a tensor."""

    do: Callable[[Network, float], object]
    is_tensor: bool = False
    undo: Callable[[], object] = field(default=lambda: None)


CHANGES = {
    "list element": Change(lambda net, gain: edge_of(net).in_list.__setitem__(0, gain)),
    "dict value": Change(lambda net, gain: edge_of(net).in_dict.__setitem__("gain", gain)),
    "NumPy scalar": Change(lambda net, gain: setattr(edge_of(net), "scalar", np.float32(gain))),
    "array in place": Change(lambda net, gain: edge_of(net).array.__setitem__(1, gain)),
    "attribute": Change(lambda net, gain: setattr(edge_of(net), "plain", gain)),
    "class attribute": Change(
        lambda net, gain: setattr(Everything, "of_class", gain), undo=lambda: setattr(Everything, "of_class", 0.1)
    ),
    "closure": Change(lambda net, gain: edge_of(net).box(gain)),
    "global": Change(lambda net, gain: GLOBAL.__setitem__("gain", gain), undo=lambda: GLOBAL.__setitem__("gain", 0.1)),
    "replaced module": Change(replaced_module),
    "added hook": Change(hooked),
    "removed hook": Change(unhooked),
    "mode": Change(lambda net, gain: (setattr(edge_of(net).dropout, "p", 0.9), net.train())),
    "requires_grad": Change(lambda net, gain: net.requires_grad_(False)),
    "dtype": Change(lambda net, gain: net.double(), True),
    "weight in place": Change(weight_in_place, True),
    "weight by data": Change(lambda net, gain: setattr(edge_of(net).linear.weight, "data", eye(net, gain)), True),
    "weight replaced": Change(
        lambda net, gain: setattr(edge_of(net).linear, "weight", nn.Parameter(eye(net, gain))), True
    ),
    "weights loaded": Change(
        lambda net, gain: net.load_state_dict({name: gain * v for name, v in net.state_dict().items()}), True
    ),
    "buffer": Change(lambda net, gain: edge_of(net).buffer.fill_(gain), True),
    "buffer replaced": Change(lambda net, gain: setattr(edge_of(net), "buffer", eye(net, gain)[0, 0]), True),
}
SOLVERS = {"flow": (Euler(dt=2.0), RK4(dt=2.0)), "map": (Iterate(),)}
OUTSIDE = ("class attribute", "closure", "global")
"""settings that a Simulator reads at its first run with inputs of a given form"""


def shown(net: Network) -> Tensor:
    torch.manual_seed(3)
    return torch.rand(2, 3).to(next(net.parameters()))


def state(run: object) -> Tensor:
    return run["a"]


@settings(max_examples=300, deadline=None)
@given(
    kind=st.sampled_from(["flow", "map"]),
    names=st.lists(st.sampled_from(sorted(CHANGES)), min_size=1, max_size=3, unique=True),
    gain=st.sampled_from([0.0, 0.3, 1.5, -0.7]),
    steps=st.integers(3, 40),
    data=st.data(),
)
def test_simulate_after_change_equals_fresh_network(
    kind: str, names: list[str], gain: float, steps: int, data: st.DataObject
) -> None:
    solver = data.draw(st.sampled_from(SOLVERS[kind]))

    def prepared() -> Network:
        net = network(kind)
        if "removed hook" in names:
            hooked(net, 0.5)
        return net

    def run(net: Network) -> Tensor:
        torch.manual_seed(4)
        return state(simulate(net, shown(net), solver=solver, steps=steps, record=Record(states=["a"])))

    def change(net: Network) -> None:
        for name in names:
            CHANGES[name].do(net, gain)

    try:
        net = prepared()
        for _ in range(data.draw(st.integers(1, 3))):
            run(net)
        change(net)
        second = run(net)
        fresh = prepared()
        change(fresh)
        assert torch.equal(second, run(fresh)), names
    finally:
        for name in names:
            CHANGES[name].undo()


@pytest.mark.parametrize("ran_before", [True, False], ids=["after a run", "before a run"])
@pytest.mark.parametrize(
    ("kind", "solver"),
    [(kind, solver) for kind, solvers in SOLVERS.items() for solver in solvers],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
@pytest.mark.parametrize("name", sorted(CHANGES))
def test_simulator_reads_settings_once_and_tensors_live(
    name: str, kind: str, solver: Euler | RK4 | Iterate, ran_before: bool
) -> None:
    net, change = network(kind), CHANGES[name]
    if name == "removed hook":
        hooked(net, 0.5)

    def run(simulator: Simulator, of: Network) -> Tensor:
        torch.manual_seed(4)
        return state(simulator(shown(of), steps=5))

    def simulator() -> Simulator:
        return Simulator(net, solver=solver, record=Record(states=["a"]))

    try:
        sim = simulator()
        first = run(sim if ran_before or name in OUTSIDE else simulator(), net)
        change.do(net, 1.5)
        second = run(sim, net)
        expected = first
        if change.is_tensor:
            torch.manual_seed(4)
            expected = state(simulate(net, shown(net), solver=solver, steps=5, record=Record(states=["a"])))
        assert torch.equal(second, expected)
    finally:
        change.undo()


def test_every_change_alters_the_run() -> None:
    """Without this, the properties above would also hold for changes without effect."""
    for name, change in CHANGES.items():
        net = network("flow")
        if name == "removed hook":
            hooked(net, 0.5)
        arguments = {"solver": Euler(dt=2.0), "steps": 20, "record": Record(states=["a"])}
        before = state(simulate(net, shown(net), **arguments))
        try:
            change.do(net, 1.5)
            after = state(simulate(net, shown(net), **arguments))
        finally:
            change.undo()
        # Runs without gradients are in evaluation mode, and an unused gradient does not change results.
        assert torch.equal(before.double(), after.double()) == (name in ("mode", "requires_grad")), name


@pytest.mark.parametrize("kind", ["flow", "map"])
def test_simulate_bitwise_equal_in_fresh_process(kind: str) -> None:
    """A network changed here equals one that is built and changed in a new process."""
    import subprocess
    import sys
    from pathlib import Path

    code = f"""
import sys; sys.path[:0] = [{str(Path(__file__).parents[1])!r}, {str(Path(__file__).parent)!r}]
import torch; torch.set_num_threads(1)
import test_settings as t
net = t.network({kind!r})
for name in ("list element", "weight in place", "attribute"): t.CHANGES[name].do(net, 1.5)
print(t.state(t.simulate(net, t.shown(net), solver=t.SOLVERS[{kind!r}][0], steps=300)).double().sum().item().hex())
"""
    net = network(kind)
    simulate(net, shown(net), solver=SOLVERS[kind][0], steps=300)
    for name in ("list element", "weight in place", "attribute"):
        CHANGES[name].do(net, 1.5)
    here = state(simulate(net, shown(net), solver=SOLVERS[kind][0], steps=300)).double().sum().item().hex()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == here
