"""Replayed steps give the bits of steps that are run, for every model; and they notice what they must."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from small import SMALL, shown, small, stepping
from torch.utils._python_dispatch import TorchDispatchMode

import pcsim
from pcsim import RK4, Euler, ExponentialEuler, Heun, Iterate, Network, Population, Projection, Record, Run, simulate
from pcsim.simulation import scan as stepping_
from pcsim.simulation.program import Program
from pcsim.rules import Map, leaky_rate
from pcsim.simulation.scan import directly

NAMES = tuple(SMALL)


@pytest.fixture
def replayed(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Programs are made at once; counts the steps that were replayed."""
    monkeypatch.setattr(stepping_, "WARM", 0)
    monkeypatch.setattr(stepping_, "ASKED", 0)
    counts = {"steps": 0, "longest": 0}
    original = stepping_.Stepper._replay

    def replay(self: stepping_.Stepper, program: Program, steps: int, state: dict) -> tuple:
        counts["steps"] += steps
        counts["longest"] = max(counts["longest"], steps)
        return original(self, program, steps, state)

    monkeypatch.setattr(stepping_.Stepper, "_replay", replay)
    return counts


def same(one: Run, other: Run) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one.values)
    assert set(one.final.state) == set(other.final.state)
    assert all(torch.equal(value, other.final.state[name]) for name, value in one.final.state.items())


@pytest.mark.parametrize("name", NAMES)
def test_a_replayed_run_has_the_bits_of_one_that_is_run(name: str, replayed: dict[str, int]) -> None:
    net = small(name)
    solver, steps = stepping(net)
    steps = min(max(steps, 6), 8)
    record = Record(states="all", errors="all")
    arguments = {"solver": solver, "until": steps * solver.dt, "record": record}
    with directly():
        run = simulate(net, shown(net, 2), **arguments)
    assert replayed["steps"] == 0
    for _ in range(2):
        same(simulate(net, shown(net, 2), **arguments), run)
    assert replayed["steps"] == 2 * steps, "every step of every model can be traced"


@pytest.mark.parametrize("solver", [Euler(dt=2.0), Heun(dt=2.0), RK4(dt=2.0), ExponentialEuler(dt=2.0)])
def test_every_solver_is_replayed_in_long_programs(solver: pcsim.solvers.Solver, replayed: dict[str, int]) -> None:
    net = small("blt").relaxed(tau={"l1": 10.0, "l2": 20.0})
    arguments = {"solver": solver, "until": 200.0, "record": Record(states=["l1", "readout"], every=7)}
    with directly():
        run = simulate(net, shown(net, 2), **arguments)
    same(simulate(net, shown(net, 2), **arguments), run)
    assert replayed == {"steps": 100, "longest": 28}, "stretches are a multiple of what is recorded"


@pytest.mark.parametrize("every", [33, 100, 1_000])
def test_a_long_run_is_made_of_few_programs(every: int, replayed: dict[str, int]) -> None:
    """Or memory would grow with the number of odd pieces that have come back."""
    net = small("leaky_rcnn")
    simulate(net, shown(net, 1), solver=Euler(dt=2.0), until=8_000.0, record=Record(states=["readout"], every=every))
    programs = [len(found.programs) for found in stepping_._known[net].values()]
    assert replayed["steps"] == 4_000 and sum(programs) <= 6


def test_a_rounded_network_is_replayed_to_the_bit(replayed: dict[str, int]) -> None:
    net = small("leaky_rcnn").rounded()
    with directly():
        run = simulate(net, shown(net, 2), solver=Euler(dt=2.0), until=80.0)
    same(simulate(net, shown(net, 2), solver=Euler(dt=2.0), until=80.0), run)
    assert replayed["steps"] == 40


def test_the_state_a_run_starts_from_is_left_alone(replayed: dict[str, int]) -> None:
    net = small("leaky_rcnn")
    first = simulate(net, shown(net, 2), solver=Euler(dt=2.0), until=20.0)
    before = {name: value.clone() for name, value in first.final.state.items()}
    simulate(net, shown(net, 2), solver=Euler(dt=2.0), until=220.0, start=first.final)
    assert all(torch.equal(value, first.final.state[name]) for name, value in before.items())


def test_a_lesion_in_the_middle_and_a_change_of_the_stimulus_are_in_time(replayed: dict[str, int]) -> None:
    net = small("leaky_rcnn").without("lateral", during=(30.0, 70.0))
    image = shown(net, 2)["image"]
    stimulus = pcsim.stimuli.held(image, 50.0).then(pcsim.stimuli.blank(130.0, like=image))
    arguments = {"solver": Euler(dt=2.0), "record": Record(states="all")}
    with directly():
        run = simulate(net, stimulus, **arguments)
    same(simulate(net, stimulus, **arguments), run)
    assert replayed["longest"] > 10


def test_what_is_changed_between_runs_is_noticed(replayed: dict[str, int]) -> None:
    net = small("predictive_coding")

    def run() -> Run:
        return simulate(net, shown(net, 2), solver=Euler(dt=2.0), until=40.0, record=Record(states="all"))

    def check() -> None:
        with directly():
            expected = run()
        same(run(), expected)

    first = run()
    net.populations["e0"].rule.precision = 0.25
    check()
    assert not torch.equal(run()["e0"], first["e0"])
    with torch.no_grad():
        next(net.parameters()).mul_(0.5)
    check()
    net.double()
    check()
    net.load_state_dict({name: value * 0.9 for name, value in net.state_dict().items()})
    check()


class Plus(torch.nn.Module):
    """A transform of a user's own."""

    def __init__(self, what: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.what = what

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        return self.what(value)


def one_area(what: Callable[[torch.Tensor], torch.Tensor]) -> Network:
    torch.manual_seed(1)
    return Network(
        {"image": (2, 4, 4)},
        [Population("area", leaky_rate(2, 10.0))],
        [Projection("image", "area"), Projection("area", "area", Plus(what), "lateral")],
    )


@pytest.mark.parametrize(
    ("what", "can"),
    [
        (
            lambda value: value / 2 if value.device.type != "meta" and value.sum() > 1 else value,
            False,
        ),  # looks at numbers
        (lambda value: value.clone().relu_(), False),  # writes in place
        (lambda value: 0.1 * value + torch.randn_like(value), True),  # draws
        (lambda value: 0.1 * value.transpose(2, 3).flip(2) * value, True),  # reads a view of what it multiplies
        (lambda value: torch.cat([value[:, 1:], value[:, :1]], 1).sub(value), True),
        (
            lambda value: torch.tensor([0.1, 0.2], device=value.device)[:, None, None] * value,
            True,
        ),  # makes a tensor of its own
    ],
)
def test_any_transform_gives_the_same_bits(
    what: Callable[[torch.Tensor], torch.Tensor], can: bool, replayed: dict[str, int]
) -> None:
    net = one_area(what)
    image = torch.rand(3, 2, 4, 4)

    def run() -> Run:
        torch.manual_seed(5)
        return simulate(net, image, solver=Euler(dt=1.0), until=70.0, record=Record(states="all"))

    with directly():
        expected = run()
    same(run(), expected)
    assert (replayed["steps"] > 0) == can


def test_hooks_see_every_step(replayed: dict[str, int]) -> None:
    net = small("leaky_rcnn")
    seen = []
    net.transforms["l1_to_l2"].register_forward_hook(lambda *_: seen.append(1))
    simulate(net, shown(net, 2), solver=Euler(dt=2.0), until=80.0)
    assert len(seen) == 40 and replayed["steps"] == 0


def test_noise_from_elsewhere_is_not_frozen(replayed: dict[str, int]) -> None:
    noise = np.random.default_rng(0)
    net = one_area(lambda value: 0.1 * value + torch.from_numpy(noise.standard_normal(4)).to(value))
    simulate(net, torch.rand(3, 2, 4, 4), solver=Euler(dt=1.0), until=70.0)
    assert replayed["steps"] == 0


class Counting(torch.nn.Module):
    """Passes on ever more: it keeps something besides tensors."""

    calls = 0

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return value * (0.01 * self.calls)


def test_a_module_that_counts_is_run(replayed: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stepping_, "WARM", 3)
    net = one_area(lambda value: value)
    net.transforms["area_to_area"].what = Counting()
    simulate(net, torch.rand(3, 2, 4, 4), solver=Euler(dt=1.0), until=70.0)
    assert replayed["steps"] == 0 and net.transforms["area_to_area"].what.calls >= 70


class Growing(Map):
    """h(t) = 4 h(t-1) + drive, and 0 once it is infinite: it forgets."""

    def forward(self, own: torch.Tensor, *, drive: torch.Tensor) -> torch.Tensor:
        return torch.where(torch.isfinite(own), 4.0 * own + drive, 0.0)


def test_an_infinity_that_a_map_forgets_is_found_in_its_step(replayed: dict[str, int]) -> None:
    net = Network({"u": (1,)}, [Population("h", Growing())], [Projection("u", "h")])
    shown_ = torch.tensor([[1.0], [0.0]])
    with directly(), pytest.warns(pcsim.PcsimWarning, match="sample 0 in 'h'"):
        run = simulate(net, shown_, solver=Iterate(), until=100.0)
    with pytest.warns(pcsim.PcsimWarning, match="sample 0 in 'h'"):
        again = simulate(net, shown_, solver=Iterate(), until=100.0)
    assert run.valid_until.tolist() == again.valid_until.tolist() == [64.0, 100.0]
    assert torch.equal(torch.nan_to_num(run["h"], 7.0), torch.nan_to_num(again["h"], 7.0))


class Reads(TorchDispatchMode):
    """Counts values that go back to the host."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.item.default)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ["leaky_rcnn", "blt", "predictive_coding", "prednet"])
def test_nothing_is_read_back_between_two_looks(name: str) -> None:
    net = small(name)
    solver, _ = stepping(net)
    counts = []
    for steps in (128, 256):
        with Reads() as reads:
            simulate(net, shown(net, 2), solver=solver, until=steps * solver.dt, record=Record(states="all"))
        counts.append(reads.count)
    assert counts[0] <= 2 and counts[1] <= 4


@pytest.fixture
def blocks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Blocks of steps are made as for compiling, and run without: no C++ compiler is needed. Their lengths."""
    lengths: list[int] = []
    original = Program.__init__

    def init(self: Program, advance: object, observe: object, due: tuple, compiled: bool = False) -> None:
        original(self, advance, observe, due, False)
        self.is_compiled = compiled
        if compiled:
            lengths.append(len(due))

    monkeypatch.setattr(Program, "__init__", init)
    return lengths


@pytest.mark.parametrize("every", [1, 2, 5, 7, 12, 60])
def test_compiled_blocks_end_where_steps_do_and_are_few(
    every: int, blocks: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    net = small("leaky_rcnn").without("top_down", during=(46.0, 90.0))
    arguments = {"solver": Euler(dt=2.0), "until": 240.0, "record": Record(states="all", every=every)}
    with directly():
        run = simulate(net, shown(net, 2), **arguments)
    compiled = simulate(net, shown(net, 2), **arguments, compile=True)
    same(compiled, run)
    assert len(set(blocks)) == 1 and len(blocks) <= 2, "one program for each situation"
    assert compiled.about["compiled"] and "compiling" in capsys.readouterr().err


def test_a_film_with_a_frame_a_step_is_compiled_step_by_step(blocks: list[int]) -> None:
    net = small("prednet")
    film = pcsim.stimuli.sequence(torch.rand(9, 2, *net.inputs["frame"]), every=1.0)
    arguments = {"solver": Iterate(), "record": Record(states="all", every=3)}
    with directly():
        run = simulate(net, film, **arguments)
    same(simulate(net, film, **arguments, compile=True), run)
    assert set(blocks) == {1} and len(blocks) <= 3, "the first steps have absent edges"


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["leaky_rcnn", "blt", "predictive_coding/outside", "pcn_global", "prednet", "convlstm"]
)
@pytest.mark.filterwarnings("ignore")  # of the compiler, about itself
def test_compiled_code_agrees_to_rounding(name: str, float64: None) -> None:
    net = small(name)
    solver, steps = stepping(net)
    until = max(steps, 12) * solver.dt
    runs = [
        simulate(net, shown(net, 2), solver=solver, until=until, record=Record(states="all"), compile=compiled)
        for compiled in (False, True)
    ]
    for key in runs[0].values:
        assert torch.allclose(runs[0][key], runs[1][key], rtol=1e-10, atol=1e-12), key


def test_what_holds_is_computed_once() -> None:
    """The prediction from a clamped layer, and everything else that follows from inputs and weights."""
    net = pcsim.models.predictive_coding(
        ((3,), (4,), (5,)), clamped=("r0", "r2"), activation="tanh", nonlinearity="outside", start="predictions"
    )
    inputs = shown(net, 2)
    with torch.no_grad():
        stepper = stepping_.Stepper(net.eval(), Euler(dt=1.0))
        stepper.show(net.held(inputs))
        trace = stepper._trace(lambda state: stepper.advance(pcsim.Clock(1.0), state), net.initial_state(inputs))
    body = Program(trace, None, (True,) * 3).body
    products = [node for node in body.nodes if "mm" in str(node.target)]
    assert len(products) == 6, "down to r0 and back to r1, three times; what r2 predicts of r1 is held"
