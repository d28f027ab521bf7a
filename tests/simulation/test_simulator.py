"""A Simulator bitwise equals one-off runs, traced or not; it uses current tensors and fixed settings."""

from __future__ import annotations

import math
import random
import re
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from support.small import SMALL, shown, small, stepping
from torch import nn
from torch.nn.utils import prune
from torch.utils._python_dispatch import TorchDispatchMode

import pcsim
from pcsim import (
    RK4,
    Dopri5,
    Euler,
    ExponentialEuler,
    Heun,
    Iterate,
    Network,
    PcsimWarning,
    Population,
    Projection,
    Record,
    Run,
    Settled,
    Simulator,
    SolverError,
    simulate,
)
from pcsim.rules import Map, leaky_rate
from pcsim.simulation import replay
from pcsim.simulation.purity import nature

NAMES = tuple(SMALL)


def same(one: Run, other: Run) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one.values)
    assert set(one.final.state) == set(other.final.state)
    assert all(torch.equal(value, other.final.state[name]) for name, value in one.final.state.items())


@pytest.mark.parametrize("name", NAMES)
def test_trace_bitwise_equals_plain_run(name: str) -> None:
    net = small(name)
    solver, steps = stepping(net)
    steps = min(max(steps, 6), 8)
    record = Record(states="all", errors="all")
    plain = simulate(net, shown(net, 2), solver=solver, steps=steps, record=record)
    sim = Simulator(net, solver=solver, record=record)
    for _ in range(2):
        run = sim(shown(net, 2), steps=steps)
        same(run, plain)
    assert plain.about["how"] == "step by step" and run.about["how"] == "traced"


@pytest.mark.parametrize("every", [1, 7, 33, 100])
@pytest.mark.parametrize("solver", [Euler(dt=2.0), Heun(dt=2.0), RK4(dt=2.0), ExponentialEuler(dt=2.0)])
def test_trace_bitwise_for_every_solver_and_record(solver: pcsim.solvers.FlowSolver, every: int) -> None:
    net = small("blt").as_ode(tau={"l1": 10.0, "l2": 20.0})
    record = [Record(states=["l1", "readout"], every=every), Record(reduce={"l1": "norm"}, at=[6.0, 100.0])]
    plain = simulate(net, shown(net, 2), solver=solver, until=210.0, record=record)
    sim = Simulator(net, solver=solver, record=record)
    same(sim(shown(net, 2), until=210.0), plain)
    same(sim(shown(net, 2), until=210.0), plain)


def test_trace_keeps_bounded_number_of_programs() -> None:
    """Beyond the bound, steps run one by one, recorded or not, for any number of steps."""
    net = small("leaky_rcnn")
    sim = Simulator(net, solver=Euler(dt=2.0), record=Record(states=["readout"]))
    for steps in range(1, 70):
        sim(shown(net, 1), steps=steps)
    kept = [len(traced.programs) for traced in sim._replay._traced.values()]
    assert 0 < max(kept) <= replay.KEPT + 2


def test_trace_bitwise_for_autocast_network() -> None:
    net = small("leaky_rcnn").autocast()
    plain = simulate(net, shown(net, 2), solver=Euler(dt=2.0), until=80.0)
    same(Simulator(net, solver=Euler(dt=2.0))(shown(net, 2), until=80.0), plain)


def test_ambient_autocast_equals_network_autocast() -> None:
    net = small("leaky_rcnn")
    arguments = {"solver": Euler(dt=2.0), "until": 80.0, "record": Record(states="all")}
    before = simulate(net, shown(net, 2), **arguments)
    with torch.autocast("cpu", torch.bfloat16):
        inside = simulate(net, shown(net, 2), **arguments)
        made_inside = Simulator(net, solver=Euler(dt=2.0), record=Record(states="all"))
    same(inside, simulate(net.autocast(), shown(net, 2), **arguments))
    assert all(value.dtype == torch.float32 for value in inside.values.values())
    same(simulate(net, shown(net, 2), **arguments), before)
    same(made_inside(shown(net, 2), until=80.0), inside)
    made_outside = Simulator(net, solver=Euler(dt=2.0), record=Record(states="all"))
    with torch.autocast("cpu", torch.bfloat16):
        same(made_outside(shown(net, 2), until=80.0), before)


def test_called_network_under_ambient_autocast_equals_network_autocast() -> None:
    """Autocast applies to edges only: the rule of `hopfield_modern` multiplies matrices, in float32."""
    net = small("hopfield_modern")
    images, solver = shown(net, 2), Iterate()
    expected = [values for _, values in pcsim.rollout(net.autocast(), images, solver, 4)]
    with torch.autocast("cpu", torch.bfloat16):
        found = [values for _, values in pcsim.rollout(net, images, solver, 4)]
    assert all(torch.equal(one[key], other[key]) for one, other in zip(found, expected, strict=True) for key in one)


def test_simulator_leaves_start_state_unchanged() -> None:
    net = small("leaky_rcnn")
    sim = Simulator(net, solver=Euler(dt=2.0))
    first = sim(shown(net, 2), until=20.0)
    before = {name: value.clone() for name, value in first.final.state.items()}
    sim(shown(net, 2), until=220.0, start=first.final)
    assert all(torch.equal(value, first.final.state[name]) for name, value in before.items())


def test_trace_bitwise_with_lesion_and_stimulus_change() -> None:
    net = small("leaky_rcnn").without("lateral", during=(30.0, 70.0))
    image = shown(net, 2)["image"]
    stimulus = pcsim.stimuli.held(image, 50.0).then(pcsim.stimuli.blank(130.0, like=image))
    plain = simulate(net, stimulus, solver=Euler(dt=2.0), record=Record(states="all"))
    same(Simulator(net, solver=Euler(dt=2.0), record=Record(states="all"))(stimulus), plain)


class Plus(nn.Module):
    """A user-defined transform."""

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
    ("what", "how"),
    [
        (lambda v: v / 2 if v.device.type != "meta" and v.sum() > 1 else v, "step by step: "),  # depends on values
        (lambda v: v.clone().relu_(), "traced"),
        (lambda v: 0.1 * v + torch.randn_like(v), "traced"),
        (lambda v: 0.1 * v + torch.randn(v.shape, device=v.device), "traced"),  # a draw that depends on no tensor
        (lambda v: 0.1 * v.transpose(2, 3).flip(2) * v, "traced"),  # uses a view of the tensor it multiplies
        (lambda v: torch.cat([v[:, 1:], v[:, :1]], 1).sub(v), "traced"),
        (lambda v: torch.tensor([0.1, 0.2], device=v.device)[:, None, None] * v, "traced"),  # creates a tensor
        (lambda v: random.random() * v, "step by step: a module returns a different result"),
    ],
)
def test_trace_bitwise_for_user_transforms_and_reported(what: Callable, how: str) -> None:
    net, image = one_area(what), torch.rand(3, 2, 4, 4)
    runs = []
    for run in (
        lambda: simulate(net, image, solver=Euler(dt=1.0), until=70.0, record=Record(states="all")),
        lambda: Simulator(net, solver=Euler(dt=1.0), record=Record(states="all"))(image, until=70.0),
    ):
        torch.manual_seed(5), random.seed(5)
        runs.append(run())
    same(*runs)
    assert runs[1].about["how"].startswith(how)


class Learning(nn.Module):
    """A module that counts its calls in a buffer, in place."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return 0.01 * value * self.calls


def convolution(**options: object) -> nn.Conv2d:
    return nn.Conv2d(2, 2, 3, padding=1, **options)


@pytest.mark.parametrize(
    ("module", "how"),
    [
        (lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Upsample(size=(4, 4))), "traced"),  # uses as_strided_
        (lambda: nn.Sequential(convolution(), nn.ReLU(inplace=True)), "traced"),
        (lambda: convolution(padding_mode="circular"), "traced"),  # writes to slices
        (lambda: torch.nn.utils.spectral_norm(convolution()), "traced"),  # has a hook that is part of its computation
        (lambda: torch.nn.utils.parametrizations.weight_norm(convolution()), "traced"),
        (lambda: prune.l1_unstructured(convolution(), "weight", 0.5), "traced"),
        (lambda: torch.compile(convolution(), backend="eager"), "step by step: .*edge area->area"),
        (Learning, r"step by step: it writes to its own tensors in place \[modules of unknown type: edge area->area"),
    ],
)
@pytest.mark.filterwarnings(
    "ignore:The .grad attribute of a Tensor that is not a leaf"
)  # torch.compile on the meta device
def test_trace_bitwise_for_torch_modules_and_reported(module: Callable[[], nn.Module], how: str) -> None:
    def made() -> Network:
        net = one_area(torch.sin)
        net.transforms["area_to_area"] = module()
        return net

    image, record = torch.rand(3, 2, 4, 4), Record(states="all")
    plain = simulate(made(), image, solver=Euler(dt=1.0), until=40.0, record=record)
    run = Simulator(made(), solver=Euler(dt=1.0), record=record)(image, until=40.0)
    same(run, plain)
    assert re.match(how, run.about["how"])


def test_simulator_names_removed_parameter() -> None:
    net = one_area(convolution())
    sim = Simulator(net, solver=Euler(dt=1.0))
    sim(torch.rand(1, 2, 4, 4), until=10.0)
    prune.l1_unstructured(net.transforms["area_to_area"].what, "weight", 0.5)
    for simulator in (sim, Simulator(one_area(convolution()), solver=Euler(dt=1.0), gradient=pcsim.Full())):
        if simulator is not sim:
            prune.l1_unstructured(simulator.network.transforms["area_to_area"].what, "weight", 0.5)
        with pytest.raises(SolverError, match="'transforms.area_to_area.what.weight' has been removed"):
            simulator(torch.rand(1, 2, 4, 4), until=10.0)
        with pytest.raises(SolverError, match="has been removed"):
            simulator(torch.rand(1, 2, 4, 4), until=Settled(1e-3, at_most=50.0))


def test_simulator_uses_bias_added_later() -> None:
    net, image = one_area(convolution(bias=False)), torch.rand(2, 2, 4, 4)
    sim = Simulator(net, solver=Euler(dt=1.0))
    sim(image, until=40.0), sim(image, until=40.0)
    net.transforms["area_to_area"].what.bias = nn.Parameter(torch.ones(2))
    same(sim(image, until=40.0), simulate(net, image, solver=Euler(dt=1.0), until=40.0))


def test_trace_renewed_for_new_weight_layout() -> None:
    net, image = one_area(convolution()), torch.rand(2, 2, 4, 4)
    sim = Simulator(net, solver=Euler(dt=1.0))
    sim(image, until=40.0), sim(image, until=40.0)
    weight = net.transforms["area_to_area"].what.weight
    weight.data = weight.data.permute(1, 0, 3, 2).contiguous().permute(1, 0, 3, 2)
    same(sim(image, until=40.0), simulate(net, image, solver=Euler(dt=1.0), until=40.0))
    assert len(sim._replay._traced) == 2


@pytest.mark.slow
@pytest.mark.timeout(1_800)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # warnings from the compiler itself
def test_compile_renewed_for_new_weight_layout() -> None:
    net, image = small("leaky_rcnn"), shown(small("leaky_rcnn"), 40)
    sim = Simulator(net, solver=Euler(dt=2.0), compile=True)
    sim(image, until=40.0)
    for parameter in net.parameters():
        if parameter.dim() == 4:
            parameter.data = (2 * parameter.data).permute(1, 0, 3, 2).contiguous().permute(1, 0, 3, 2)
    run, plain = sim(image, until=40.0), simulate(net, image, solver=Euler(dt=2.0), until=40.0)
    assert run.about["how"] == "compiled"
    assert all(torch.allclose(run[key], plain[key], rtol=1e-4, atol=1e-5) for key in plain.values)


def test_simulate_traces_long_run_of_known_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    net, mine = small("blt").as_ode(tau=10.0), one_area(torch.sin)
    plain = simulate(net, shown(net, 2), solver=Euler(dt=2.0), until=200.0, record=Record(states="all"))
    assert plain.about["how"] == "step by step" and plain.about["steps_by"] == {"step by step": 100}
    monkeypatch.setattr("pcsim.simulation.simulator.TRACED_FROM", 100)
    net.train()
    run = simulate(net, shown(net, 2), solver=Euler(dt=2.0), until=200.0, record=Record(states="all"))
    same(run, plain)
    assert run.about["how"] == "traced" and sum(run.about["steps_by"].values()) == 100 and net.training
    assert simulate(net, shown(net, 2), solver=Euler(dt=2.0), until=198.0).about["how"] == "step by step"
    own = simulate(mine, torch.rand(1, 2, 4, 4), solver=Euler(dt=1.0), until=200.0)
    assert own.about["how"] == "step by step"


def test_compile_failure_falls_back_to_trace_with_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("no C++ here")

    monkeypatch.setattr("pcsim.simulation.loop._compiled", refuse)
    net, record = small("leaky_rcnn"), Record(states="all", every=5)
    plain = simulate(net, shown(net, 2), solver=Euler(dt=2.0), steps=40, record=record)
    sim = Simulator(net, solver=Euler(dt=2.0), record=record, compile=True)
    with pytest.warns(PcsimWarning, match="traced instead of compiled: .*no C\\+\\+ here"):
        run = sim(shown(net, 2), steps=40)
    same(run, plain)
    assert run.about["how"] == "traced" and run.about["steps_by"] == {"traced": 40}
    same(sim(shown(net, 2), steps=40), plain)  # the warning is given only once


@pytest.mark.parametrize(
    ("due", "step", "expected"),
    [
        ({5}, 0, (1, 4)),  # one row after four unrecorded steps
        (set(), 0, (0, 60)),  # no rows until the end
        (set(range(1, 61)), 0, (replay.ROWS, 0)),
        (set(range(1, 61)), 50, (10, 0)),
        (set(range(3, 61, 3)), 0, (20, 2)),
        ({2, 4, 7}, 0, (2, 1)),  # an irregular cadence
        ({10, 20}, 0, (1, 9)),  # rows too far apart for one call
    ],
)
def test_cadence_counts_rows_and_steps_between(due: set[int], step: int, expected: tuple[int, int]) -> None:
    class Due:
        def due(self, number: int) -> bool:
            return number in due

    assert replay._cadence(step, 60, Due(), replay.ROWS) == expected
    assert replay._cadence(step, 60, Due(), 1) == (min(1, expected[0]), expected[1])


def test_trace_declines_noise_from_numpy() -> None:
    noise = np.random.default_rng(0)
    net = one_area(lambda value: 0.1 * value + torch.from_numpy(noise.standard_normal(4)).to(value))
    run = Simulator(net, solver=Euler(dt=1.0))(torch.rand(3, 2, 4, 4), until=70.0)
    assert "a different result at every call" in run.about["how"]


class Counting(nn.Module):
    """A module that scales its input by the number of calls, which is not a tensor."""

    calls = 0

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return value * (0.01 * self.calls)


def test_trace_declines_counting_module() -> None:
    net, image = one_area(Counting()), torch.rand(3, 2, 4, 4)
    run = Simulator(net, solver=Euler(dt=1.0))(image, until=70.0)
    assert "a different result at every call" in run.about["how"]
    same(run, simulate(net, image, solver=Euler(dt=1.0), until=70.0))


class Growing(Map):
    """h(t) = 4 h(t-1) + drive, reset to 0 once infinite, so that the infinity disappears."""

    def forward(self, own: torch.Tensor, *, drive: torch.Tensor) -> torch.Tensor:
        return torch.where(torch.isfinite(own), 4.0 * own + drive, 0.0)


def test_divergence_of_map_found_at_step_of_transient_infinity() -> None:
    net = Network({"u": (1,)}, [Population("h", Growing())], [Projection("u", "h")])
    runs = []
    for run in (simulate, lambda net, shown, solver, steps: Simulator(net, solver=solver)(shown, steps=steps)):
        with pytest.warns(PcsimWarning, match="sample 0 became non-finite in 'h'"):
            runs.append(run(net, torch.tensor([[1.0], [0.0]]), solver=Iterate(), steps=100))
    assert all(run.valid_until.tolist() == [640.0, 1000.0] for run in runs)
    assert runs[1].about["how"] == "step by step: a sample diverged"


def test_divergence_of_one_of_two_maps_is_found_in_traced_steps() -> None:
    areas = [Population("h", Growing()), Population("still", pcsim.rules.Rate(1))]
    net = Network({"u": (1,)}, areas, [Projection("u", "h"), Projection("u", "still")])
    with pytest.warns(PcsimWarning, match="sample 0 became non-finite in 'h'"):
        run = Simulator(net, solver=Iterate(), record=Record(states=["still"]))(torch.tensor([[1.0], [0.0]]), steps=100)
    assert run.valid_until.tolist() == [640.0, 1000.0]


def test_divergence_in_traced_block_found_at_correct_step() -> None:
    net = one_area(lambda value: 60.0 * value)
    image = torch.rand(3, 2, 4, 4)
    image[1] = 0.0
    runs = []
    for _ in range(2):
        with pytest.warns(PcsimWarning, match="2 of 3 samples diverged; sample 0"):
            runs.append(simulate(net, image, solver=Euler(dt=5.0), until=600.0, record=Record(states="all")))
        with pytest.warns(PcsimWarning, match="2 of 3 samples diverged; sample 0"):
            runs.append(Simulator(net, solver=Euler(dt=5.0), record=Record(states="all"))(image, until=600.0))
    assert [run.about["how"] for run in runs] == ["step by step", "step by step: a sample diverged"] * 2
    for run in runs[1:]:
        assert run.valid_until.tolist() == runs[0].valid_until.tolist()
        assert torch.equal(run["area"].nan_to_num(7.0), runs[0]["area"].nan_to_num(7.0))


def test_hooks_are_called_in_every_step() -> None:
    net = small("leaky_rcnn")
    seen: list[int] = []
    net.transforms["l1_to_l2"].register_forward_hook(lambda *_: seen.append(1))
    run = Simulator(net, solver=Euler(dt=2.0))(shown(net, 2), until=80.0)
    assert len(seen) == 40 and run.about["how"] == "step by step: a hook must receive every call of edge l1->l2"
    simulate(net, shown(net, 2), solver=Euler(dt=2.0), until=80.0)
    assert len(seen) == 80


class Watcher:
    """An object with a method used as a hook; calls must reach the object itself, not a copy."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, *_: object) -> None:
        self.calls += 1

    def look(self, *_: object) -> None:
        self.calls += 1


def test_hooks_as_methods_or_global_see_every_step() -> None:
    net, watcher = small("leaky_rcnn"), Watcher()
    net.transforms["image_to_l1"].register_forward_hook(watcher.look)
    Simulator(net, solver=Euler(dt=2.0))(shown(net, 2), until=80.0)
    assert watcher.calls == 40, "with a hook, an edge from a constant image must also run in every step"
    sim, everywhere = Simulator(small("leaky_rcnn"), solver=Euler(dt=2.0)), []
    sim(shown(net, 2), until=80.0)
    hook = nn.modules.module.register_module_forward_hook(
        lambda module, *_: everywhere.append(1) if isinstance(module, nn.Conv2d) else None
    )
    try:
        sim(shown(net, 2), until=80.0)
    finally:
        hook.remove()
    convolutions = sum(isinstance(m, nn.Conv2d) for m in net.modules())
    assert len(everywhere) >= 40 * (convolutions - 1)


def test_simulator_uses_changed_weights_and_dtype() -> None:
    net = small("predictive_coding")
    sim = Simulator(net, solver=Euler(dt=2.0), record=Record(states="all"))

    def check() -> None:
        same(
            sim(shown(net, 2), until=40.0), simulate(net, shown(net, 2), solver=Euler(dt=2.0), until=40.0, record=all_)
        )

    all_ = Record(states="all")
    check()
    with torch.no_grad():
        next(net.parameters()).mul_(0.5)
    check()
    net.load_state_dict({name: value * 0.9 for name, value in net.state_dict().items()})
    check()
    net.double()
    check()


def test_simulator_refuses_uncopyable_network() -> None:
    net = one_area(lambda value: 0.5 * value)
    net.transforms["area_to_area"].generator = (number for number in range(3))
    with pytest.raises(SolverError, match="cannot be copied"):
        Simulator(net, solver=Euler(dt=1.0))
    simulate(net, torch.rand(1, 2, 4, 4), solver=Euler(dt=1.0), until=5.0)


def test_compile_obstacles_are_reported() -> None:
    net = one_area(lambda v: v / 2 if v.device.type != "meta" and v.sum() > 1 else v)
    sim = Simulator(net, solver=Euler(dt=1.0), compile=True)
    with pytest.warns(PcsimWarning, match=r"run step by step instead of compiled: .*edge area->area"):
        run = sim(torch.rand(1, 2, 4, 4), until=50.0)
    assert run.about["steps_by"] == {"step by step": 50}
    with pytest.warns(PcsimWarning, match="Settled checks every step"):
        Simulator(small("leaky_rcnn"), solver=Euler(dt=1.0), compile=True)(
            shown(small("leaky_rcnn"), 1), until=Settled(0.5, at_most=50.0)
        )
    with pytest.raises(SolverError, match="compile=True with gradient"):
        Simulator(net, solver=Euler(dt=1.0), compile=True, gradient=pcsim.Full())


def test_trace_declines_adaptive_solver() -> None:
    run = Simulator(small("leaky_rcnn"), solver=Dopri5(dt=10.0, rtol=1e-4, atol=1e-4))(
        shown(small("leaky_rcnn"), 2), until=20.0
    )
    assert run.about["how"] == "step by step: the steps of Dopri5 depend on computed values"


def test_trace_falls_back_without_proxy_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "torch.fx.experimental.proxy_tensor", None)
    net = small("leaky_rcnn")
    run = Simulator(net, solver=Euler(dt=2.0))(shown(net, 2), until=400.0)
    assert run.about["how"].startswith("step by step")
    same(run, simulate(net, shown(net, 2), solver=Euler(dt=2.0), until=400.0))


class Operations(TorchDispatchMode):
    """Count the calls of each operation."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: dict[str, int] = {}

    def __torch_dispatch__(
        self, function: object, types: object, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        name = str(function).split(".")[1]
        self.counts[name] = self.counts.get(name, 0) + 1
        return function(*args, **(kwargs or {}))


CONVOLUTIONS = ("convolution", "_slow_conv2d_forward", "slow_conv_transpose2d")


def test_constant_drive_precomputed_and_unrecorded_readout_skipped() -> None:
    net = models_with_errors()
    image = shown(net, 2)
    for record, convolutions in (
        (Record(states=["l1"]), 1 + 4 * 20),
        (Record(states=["readout"], every=20), 1 + 4 * 20),
    ):
        with Operations() as done:
            simulate(net, image, solver=Euler(dt=2.0), steps=20, record=record)
        assert sum(done.counts.get(name, 0) for name in CONVOLUTIONS) == convolutions
        assert done.counts.get("addmm", 0) == (0 if "l1" in record.states else 1), (
            "the readout must be computed only where it is recorded"
        )


def models_with_errors() -> Network:
    return pcsim.models.leaky_rcnn((3, 4), tau=(10.0, 10.0), image=(1, 8, 8))


@pytest.mark.slow
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize(
    "name", ["leaky_rcnn", "predictive_coding", "blt", "prednet", "pcn_global", "grcnn", "multi_state", "convrnn/gru"]
)
def test_compiled_steps_agree_to_rounding(name: str) -> None:
    net = small(name)
    solver, _ = stepping(net)
    steps = 45 if net.is_flow else 12  # in untrained loops, activity and rounding errors grow
    plain = simulate(net, shown(net, 2), solver=solver, steps=steps, record=Record(states="all"))
    sim = Simulator(net, solver=solver, record=Record(states="all"), compile=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # warnings from the compiler itself
        run = sim(shown(net, 2), steps=steps)
    assert run.about["how"] == "compiled" and run.about["compile_seconds"] > 0
    for key in plain.values:
        assert torch.allclose(run[key], plain[key], rtol=1e-4, atol=1e-5), key


@pytest.mark.slow
@pytest.mark.timeout(1_800)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # warnings from the compiler itself
@pytest.mark.parametrize("every", [1, 100])
def test_compiled_loop_draws_new_noise_each_step(every: int) -> None:
    """a <- 0.9 a + 0.1 relu(noise): relu(noise) has the sd sqrt(1/2 - 1/(2 pi)), a has sqrt(0.1 / 1.9) of it."""
    net, image = one_area(lambda value: 0.0 * value + torch.randn_like(value)), torch.zeros(200, 2, 4, 4)
    sim = Simulator(net, solver=Euler(dt=1.0), record=Record(states=["area"], every=every), compile=True)
    runs = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        runs.append(sim(image, steps=100))
    assert runs[0].about["how"] == "compiled"
    same(runs[0], runs[1])
    assert not torch.equal(runs[0]["area"], runs[2]["area"])
    expected = math.sqrt(0.5 - 0.5 / math.pi) * math.sqrt(0.1 / 1.9)
    assert float(runs[0]["area"][-1].std()) == pytest.approx(expected, rel=0.05)


@pytest.mark.slow
@pytest.mark.timeout(1_800)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # warnings from the compiler itself
def test_compiled_loop_keeps_rows_of_every_record() -> None:
    """Regular and irregular rows, a change of image, a tail without rows, several numbers of steps."""
    net = small("leaky_rcnn")
    image = shown(net, 2)["image"]
    film = pcsim.stimuli.held(image, 100.0).then(pcsim.stimuli.blank(200.0, like=image))
    record = [Record(states=["l1"], every=3), Record(reduce={"l2": "norm"}, at=[26.0, 250.0])]
    sim = Simulator(net, solver=Euler(dt=2.0), record=record, compile=True)
    for until in (300.0, 280.0, 254.0):
        run, plain = (f(film, until=until) for f in (sim, Simulator(net, solver=Euler(dt=2.0), record=record)))
        assert run.about["how"] == "compiled" and run.about["steps_by"]["compiled"] >= 0.9 * until / 2.0
        for key in plain.values:
            assert run.times_of[key].tolist() == plain.times_of[key].tolist()
            assert torch.allclose(run[key], plain[key], rtol=1e-4, atol=1e-5), key
    assert run.about["compile_seconds"] > 0 and sim(film, until=254.0).final.clock.step == 127


@pytest.mark.parametrize(
    ("layer", "in_training", "in_evaluation"),
    [
        (nn.Conv2d(1, 1, 3), True, True),
        (nn.BatchNorm2d(2), False, True),
        (nn.Dropout(), False, True),
        (pcsim.connections.StepNorm(2, steps=3), False, True),
    ],
)
def test_layers_that_learn_or_draw_in_training_are_not_constants(
    layer: nn.Module, in_training: bool, in_evaluation: bool
) -> None:
    chain = nn.Sequential(layer)
    assert nature(chain.train()).is_pure == in_training
    assert nature(chain.eval()).is_pure == in_evaluation
