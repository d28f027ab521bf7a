"""Runs: start, records, time, gradients, divergence, and user modules and tensors, which must stay unchanged."""

from __future__ import annotations

import io
import pickle
import warnings

import numpy as np
import pytest
import torch
from support.examples import chain, dense, leaky_net, linear_pc, two_layers
from support.small import SMALL, shown, small, stepping
from torch import Tensor, nn

import pcsim
from pcsim import (
    RK4,
    Dopri5,
    Euler,
    Full,
    Iterate,
    Network,
    PcsimError,
    PcsimWarning,
    Population,
    Projection,
    Record,
    RecordError,
    Settled,
    Simulator,
    SolverError,
    StimulusError,
    WiringError,
    models,
    rollout,
    rules,
    simulate,
    stimuli,
)
from pcsim.connections import Adjoint as Transpose
from pcsim.connections import Strided, Tied
from pcsim.rules import Rate, leaky_rate
from pcsim.training import Adjoint, Checkpointed, Implicit, Training, Truncated, evaluate, train

# ------------------------------------------------------------------ start of a run


def test_initial_state_of_flow_decays_as_closed_form(float64: None) -> None:
    net = Network({"u": (3,)}, [Population("r", leaky_rate(3, 10.0, "identity", bias=False))], [Projection("u", "r")])
    begin = torch.tensor([[1.0, -2.0, 0.5]])
    run = simulate(
        net, torch.zeros(1, 3), solver=RK4(dt=0.5), until=20.0, record=Record(states=["r"]), initial={"r": begin}
    )
    assert torch.allclose(run["r"][-1], begin * np.exp(-2.0), atol=1e-8)


def test_initial_state_reaches_delayed_edge_at_first_step() -> None:
    """A delayed edge transmits from the first step on if its source has an initial value, and is absent otherwise."""
    biased = nn.Linear(1, 1)
    nn.init.ones_(biased.weight), nn.init.ones_(biased.bias)
    net = Network(
        {"u": (1,)},
        [Population(name, Rate(1, "identity", bias=False)) for name in "ab"],
        [Projection("u", "a"), Projection("a", "b", biased, delay=1)],
    )
    arguments = {"solver": Iterate(), "steps": 2, "record": Record(states=["b"])}
    assert simulate(net, torch.full((1, 1), 5.0), **arguments)["b"].flatten().tolist() == [0.0, 6.0]
    given = simulate(net, torch.full((1, 1), 5.0), **arguments, initial={"a": torch.full((1, 1), 3.0)})
    assert given["b"].flatten().tolist() == [4.0, 6.0]


def test_initial_state_in_delay_buffer_survives_restart() -> None:
    """With a delay of 3, nothing arrives in the first two steps, even if the source has an initial value."""
    net, image = chain((0, 3)), torch.full((1, 1), 2.0)
    record, initial = Record(states=["a2"]), {"a1": torch.full((1, 1), 7.0)}
    plain = simulate(net, image, solver=Iterate(), steps=6, record=record)["a2"].flatten().tolist()
    given = simulate(net, image, solver=Iterate(), steps=6, record=record, initial=initial)["a2"].flatten().tolist()
    assert plain == [0, 0, 0, 2, 2, 2] and given == [0, 0, 7, 2, 2, 2]
    half = simulate(net, image, solver=Iterate(), steps=1, record=record, initial=initial)
    rest = simulate(net, image, solver=Iterate(), steps=6, record=record, start=half.final)["a2"]
    assert [0, *rest.flatten().tolist()] == given


@pytest.mark.parametrize(
    ("initial", "message"),
    [
        ({"v9": torch.zeros(2, 3)}, "one of the memories of 'network': a, b"),
        ({"y": torch.zeros(2, 3)}, "one of the memories of 'network': a, b"),
        ({"a": torch.zeros(1, 4)}, r"tensor \(2, 4\)"),
        ({"a": torch.full((2, 4), float("nan"))}, "NaN or infinite"),
        ({"a": [1.0]}, "a Tensor"),
    ],
)
def test_initial_refuses_wrong_names_shapes_and_values(initial: dict, message: str) -> None:
    with pytest.raises(StimulusError, match=message):
        simulate(two_layers(), torch.zeros(2, 4), solver=Iterate(), initial=initial)


def test_start_refuses_other_network_batch_and_initial() -> None:
    final = simulate(two_layers(), torch.zeros(2, 4), solver=Iterate(), steps=2).final
    with pytest.raises(StimulusError, match="number of samples as in the earlier run"):
        simulate(two_layers(), torch.zeros(1, 4), solver=Iterate(), steps=4, start=final)
    with pytest.raises(StimulusError, match="missing"):
        simulate(chain((0, 1)), torch.zeros(2, 1), solver=Iterate(), steps=4, start=final)
    with pytest.raises(SolverError, match="no other initial"):
        simulate(
            two_layers(), torch.zeros(2, 4), solver=Iterate(), steps=4, start=final, initial={"a": torch.zeros(2, 4)}
        )
    for steps in (1, 2):
        with pytest.raises(SolverError, match="starts at step 2 and ends at step"):
            simulate(two_layers(), torch.zeros(2, 4), solver=Iterate(), steps=steps, start=final)


# ------------------------------------------------------------------ records


def mean_of_first(value: Tensor) -> Tensor:
    return value[:, 0].flatten(1).mean(1)


def test_record_at_times_and_initial_row() -> None:
    net, images = leaky_net(), torch.randn(2, 16)
    whole = simulate(net, images, solver=Euler(dt=2.0), until=40.0, record=Record(states=["r"]))
    at = simulate(net, images, solver=Euler(dt=2.0), until=40.0, record=Record(states=["r"], at=[10.0, 4.0, 40.0]))
    assert at.times.tolist() == [4.0, 10.0, 40.0] and torch.equal(at["r"], whole["r"][[1, 4, 19]])
    first = simulate(net, images, solver=Euler(dt=2.0), until=40.0, record=Record(states=["r"], every=10, initial=True))
    assert first.times.tolist() == [0.0, 20.0, 40.0] and (first["r"][0] == 0).all()
    assert torch.equal(first["r"][1:], whole["r"][9::10])


def test_record_initial_error_is_mean_square_of_target() -> None:
    weights, images = dense(6, 3), torch.randn(4, 6)
    run = simulate(
        linear_pc(weights), images, solver=Euler(dt=1.0), until=5.0, record=Record(errors="all", initial=True)
    )
    assert torch.allclose(run.errors["e"][0], images.square().mean(1)) and run.times[0] == 0.0


def test_record_initial_row_equals_initialiser() -> None:
    net, image = small("pcn_global"), shown(small("pcn_global"), 2)
    run = simulate(net, image, solver=Iterate(), record=Record(states=["r1"], initial=True))
    assert torch.equal(run["r1"][0], pcsim.initial_state(net, image)["r1"]) and run.times[:2].tolist() == [0.0, 10.0]
    with pytest.raises(RecordError, match="has a value before the first step"):
        simulate(two_layers(), torch.zeros(1, 4), solver=Iterate(), record=Record(states=["y"], initial=True))


def test_record_reduce_accepts_user_function() -> None:
    net = models.blt(channels=(2, 2), image=(1, 8, 8))
    record = Record(states=["l1"], reduce={"l1": [mean_of_first, "norm"]})
    run = simulate(net, torch.rand(3, 1, 8, 8), solver=Iterate(), record=record)
    assert torch.equal(run["l1.mean_of_first"], run["l1"][:, :, 0].flatten(2).mean(2))
    with pytest.raises(RecordError, match="define the function with def"):
        simulate(net, torch.rand(3, 1, 8, 8), solver=Iterate(), record=Record(reduce={"l1": lambda value: value}))


def test_records_keep_separate_times(tmp_path: object) -> None:
    net, images = leaky_net(), torch.randn(2, 16)
    records = [Record(states=["r"], every=5), Record(reduce={"r": "norm"}), Record(reduce={"r": "mean"}, at=[7.0])]
    run = simulate(net, images, solver=Euler(dt=1.0), until=20.0, record=records)
    assert {key: len(times) for key, times in run.times_of.items()} == {"r": 4, "r.norm": 20, "r.mean": 1}
    assert torch.allclose(run["r"].norm(dim=2), run["r.norm"][4::5]) and run.times_of["r.mean"].tolist() == [7.0]
    with pytest.raises(RecordError, match=r"run\.times_of"):
        _ = run.times
    with pytest.raises(RecordError, match="in several records"):
        simulate(net, images, solver=Euler(dt=1.0), until=20.0, record=[Record(states=["r"]), Record(states=["r"])])
    run.save(tmp_path / "run")
    back = pcsim.Run.load(tmp_path / "run")
    assert all(np.array_equal(back.times_of[key], times) for key, times in run.times_of.items())
    (line, *_) = pcsim.plots.activity(run, keys=["r"]).get_lines()
    assert line.get_xdata().tolist() == [5.0, 10.0, 15.0, 20.0]
    pytest.importorskip("xarray")
    data = run.to_xarray()
    assert data["r"].dims[0] == "time_r" and data["time_r.norm"].values.tolist() == run.times_of["r.norm"].tolist()


def test_record_cell_and_gates_match_lstm_equation(float64: None) -> None:
    net = small("prednet")
    names = ["r0", "r0.c", "r0.i", "r0.f", "r0.o"]
    run = simulate(net, shown(net, 2), solver=Iterate(), steps=5, record=Record(states=names))
    h, c = run["r0.o"] * torch.tanh(run["r0.c"]), run["r0.c"]
    assert torch.allclose(run["r0"], h, atol=1e-12)
    assert ((run["r0.f"] >= 0) & (run["r0.f"] <= 1)).all()
    with pytest.raises(RecordError, match=r"one of .*r0\.c.*r0\.i"):
        simulate(net, shown(net, 2), solver=Iterate(), steps=5, record=Record(states=["r0.z"]))
    flow = simulate(net.as_ode(tau=8.0), shown(net, 2), solver=RK4(dt=4.0), steps=3, record=Record(states=names))
    assert flow["r0.f"].shape == run["r0.f"][:3].shape and c.shape == run["r0"].shape


def test_record_accepts_every_gate_inside_its_window() -> None:
    for name in SMALL:
        net = small(name)
        gates = [f"{n}.{gate}" for n, p in net.populations.items() for gate in p.rule.gates if not p.active]
        if gates:
            solver, _ = stepping(net)
            run = simulate(net, shown(net, 2), solver=solver, steps=4, record=Record(states=gates))
            assert all(torch.isfinite(run[gate]).all() for gate in gates)
    net = small("convlstm")
    with pytest.raises(RecordError, match="outside the window"):
        simulate(net, shown(net, 2), solver=Iterate(), steps=6, record=Record(states=["forecaster1.f"]))
    run = simulate(
        net, shown(net, 2), solver=Iterate(), steps=6, record=Record(states=["forecaster1.f"], at=[40.0, 60.0])
    )
    assert run["forecaster1.f"].shape[0] == 2


# ------------------------------------------------------------------ time


def test_simulate_until_in_ms_equals_steps() -> None:
    net = models.blt(channels=(2, 2), image=(1, 8, 8))
    image = torch.rand(1, 1, 8, 8)
    assert simulate(net, image, solver=Iterate()).times.tolist() == [10.0, 20.0, 30.0, 40.0]
    assert torch.equal(
        simulate(net, image, solver=Iterate(), until=30.0)["readout"],
        simulate(net, image, solver=Iterate(), steps=3)["readout"],
    )
    for wrong in (
        {"steps": 0},
        {"steps": 2.0},
        {"steps": True},
        {"steps": 3, "until": 30.0},
        {"until": 35.0},
        {"until": "3"},
    ):
        with pytest.raises(SolverError):
            simulate(net, image, solver=Iterate(), **wrong)


def test_settled_ends_flow_when_all_samples_settle() -> None:
    net = Network({"u": (1,)}, [Population("r", leaky_rate(1, 10.0, "identity", bias=False))], [Projection("u", "r")])
    until = Settled(1e-3, at_most=400.0, every=5)
    run = simulate(net, torch.tensor([[1.0], [0.0]]), solver=Euler(dt=1.0), until=until, record=Record(states=["r"]))
    # |dr| / |r| per ms is (1/10) 0.9^(n-1) / (1 - 0.9^n) after step n: 1.09e-3 at 44, 0.98e-3 at 45. At 0 it is zero.
    assert run.settled_at.tolist() == [45.0, 1.0] and run.times[-1] == 45.0
    with pytest.warns(PcsimWarning, match="1 of 2 samples had not settled"):
        short = simulate(net, torch.tensor([[1.0], [0.0]]), solver=Euler(dt=1.0), until=Settled(1e-3, at_most=20.0))
    assert np.isnan(short.settled_at[0])


def test_settled_ends_map_and_reports_time() -> None:
    net = Network(
        {"u": (1,)},
        [Population("h", Rate(1, "identity", bias=False))],
        [Projection("u", "h"), Projection("h", "h", Half(), "lateral", 1)],
    )
    run = simulate(net, torch.ones(1, 1), solver=Iterate(), until=Settled(1e-4, at_most=1_000.0, every=1))
    assert run.settled_at.tolist() == [140.0] and run.final.clock.step == 14  # 2^-13 / (2 - 2^-13) < 1e-4 < 2^-12 / 2
    with pytest.raises(SolverError, match="above 0"):
        Settled(0.0, at_most=10.0)


def test_settled_waits_for_stimuli_delays_and_lesions() -> None:
    """A network at rest can change again, because of an image after a blank, a conduction delay, or a later lesion."""
    net, image = models.leaky_rcnn((2, 3), tau=(5.0, 10.0), image=(1, 8, 8)), torch.rand(1, 1, 8, 8)
    until = Settled(1e-3, at_most=2_000.0)
    line = stimuli.blank(50.0, like=image).then(stimuli.held(image, 1_000.0))
    assert simulate(net, line, solver=RK4(dt=2.0), until=until).settled_at[0] > 60.0
    late = simulate(net.without("lateral", during=(600.0, 650.0)), image, solver=RK4(dt=2.0), until=until)
    assert late.settled_at[0] > 650.0
    areas = [Population(name, leaky_rate(4, 5.0, "tanh")) for name in "ab"]
    edges = [Projection("u", "a", dense(4, 4), delay_ms=40.0), Projection("a", "b", dense(4, 4), delay_ms=100.0)]
    run = simulate(Network({"u": (4,)}, areas, edges), torch.randn(2, 4), solver=RK4(dt=1.0), until=until)
    assert (run.settled_at > 140.0).all() and all((run.final.state[name] != 0).all() for name in "ab")
    with pytest.warns(PcsimWarning, match="had not settled"):
        simulate(net, line, solver=RK4(dt=2.0), until=Settled(1e-3, at_most=61.0))


def test_simulate_refuses_empty_record_and_run_as_start() -> None:
    net, image = two_layers(), torch.zeros(1, 4)
    for record in (Record(every=2), Record(errors="all")):
        with pytest.raises(RecordError, match="keeps nothing"):
            simulate(net, image, solver=Iterate(), record=record)
    run = simulate(net, image, solver=Iterate(), record=Record())
    assert run.keys() == ()
    with pytest.raises(StimulusError, match=r"start=run\.final"):
        simulate(net, image, solver=Iterate(), steps=8, start=run)
    with pytest.raises(StimulusError, match="a dict that maps a string to a Tensor"):
        simulate(net, image, solver=Iterate(), steps=8, initial=run.final)


def test_train_and_evaluate_of_ode_need_steps() -> None:
    flow = two_layers().as_ode(tau=10.0)
    with pytest.raises(pcsim.TrainingError, match="no number of steps"):
        train(flow, torch.zeros(4, 4), torch.eye(3)[[0, 1, 2, 0]], Training(updates=1, batch=2), solver=Euler(dt=2.0))
    with pytest.raises(pcsim.TrainingError, match="no number of steps"):
        evaluate(flow, torch.zeros(4, 4), solver=Euler(dt=2.0))


class Half(nn.Module):
    def forward(self, value: Tensor) -> Tensor:
        return 0.5 * value


# ------------------------------------------------------------------ gradients


@pytest.mark.parametrize("way", [Checkpointed(), Checkpointed(3), Truncated(50), Adjoint(), Implicit(1e-9)])
def test_simulate_gradients_agree_with_full(way: pcsim.simulation.Gradient, float64: None) -> None:
    torch.manual_seed(1)
    net = leaky_net(6, scale=0.5)
    image = torch.randn(3, 6)
    solver = (
        pcsim.TorchDiffEq(dt=4.0, method="dopri5", rtol=1e-10, atol=1e-10) if way.kind == "adjoint" else RK4(dt=4.0)
    )
    steps = 400 if way.kind == "implicit" else 10
    found = []
    for each in (way, Full()):
        net.zero_grad()
        run = simulate(net, image, solver=solver, steps=steps, record=Record(states=["r"], every=steps), gradient=each)
        run["r"][-1].square().sum().backward()
        found.append(torch.cat([p.grad.flatten() for p in net.parameters()]))
    assert torch.allclose(*found, rtol=1e-6, atol=1e-8), way


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # warnings from torch itself
def test_rollout_under_torch_func_transforms(float64: None) -> None:
    net = models.leaky_rcnn((2, 3), tau=(10.0, 20.0), image=(1, 8, 8)).double().eval()
    images = torch.rand(3, 1, 8, 8)
    weights = {name: p.detach() for name, p in net.named_parameters()}
    (name, *_) = (n for n in weights if "l1_to_l2" in n)

    def response(image: Tensor) -> Tensor:
        *_, (_, values) = rollout(net, image[None], Euler(dt=2.0), 4, ["readout"])
        return values["readout"][0]

    class Running(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, image: Tensor) -> Tensor:
            return response(image)

    each = torch.stack([response(image) for image in images])
    assert torch.allclose(torch.func.vmap(response)(images), each, atol=1e-12)
    forward, reverse = torch.func.jacfwd(response)(images[0]), torch.func.jacrev(response)(images[0])
    assert torch.allclose(forward, reverse, atol=1e-12) and forward.abs().sum() > 0
    changed = {f"net.{n}": (2.0 * w if n == name else w) for n, w in weights.items()}
    by_call = torch.func.functional_call(Running(), changed, (images[0],))
    with torch.no_grad():
        net.get_parameter(name).mul_(2.0)
    assert torch.allclose(by_call, response(images[0]), atol=1e-12) and not torch.allclose(by_call, each[0])


def test_network_call_returns_last_readout() -> None:
    net, images = models.blt(channels=(2, 2), image=(1, 8, 8)), torch.rand(3, 1, 8, 8, requires_grad=True)
    assert torch.equal(net.eval()(images), simulate(net, images.detach(), solver=Iterate())["readout"][-1])
    net(images).sum().backward()
    assert images.grad.abs().sum() > 0
    with pytest.raises(SolverError, match=r"pcsim\.simulate"):
        models.leaky_rcnn((2,), tau=(10.0,), image=(1, 8, 8))(torch.rand(1, 1, 8, 8))


# ------------------------------------------------------------------ user modules and tensors


def test_module_weights_and_modes_unchanged_by_run() -> None:
    convolution = nn.Conv2d(2, 3, 3, padding=1)
    before = (convolution.weight.data_ptr(), convolution.weight.stride())
    net = Network(
        {"x": (2, 8, 8)}, [Population("a", Rate(3))], [Projection("x", "a", convolution)], readout="a", steps=1
    )
    assert (convolution.weight.data_ptr(), convolution.weight.stride()) == before
    net.train()
    convolution.eval()
    modes = [module.training for module in net.modules()]
    simulate(net, torch.rand(2, 2, 8, 8), solver=Iterate())
    evaluate(net, torch.rand(2, 2, 8, 8))
    pcsim.Simulator(net, solver=Iterate())(torch.rand(2, 2, 8, 8))
    assert [module.training for module in net.modules()] == modes
    assert (convolution.weight.data_ptr(), convolution.weight.stride()) == before


@pytest.mark.parametrize("place", ["stage of retrofit", "image", "rule"])
def test_inplace_module_changes_no_other_value(place: str) -> None:
    image, record = torch.randn(2, 1, 8, 8), Record(states="all")

    def net(inplace: bool) -> Network:
        torch.manual_seed(0)
        act = nn.ReLU(inplace=inplace)
        if place == "stage of retrofit":
            return models.retrofit(
                [nn.Conv2d(1, 4, 3, 1, 1), nn.Sequential(act, nn.Conv2d(4, 4, 3, 2, 1))], (1, 8, 8)
            ).eval()
        if place == "rule":
            populations = [Population("b", Rate(1, "identity")), Population("a", Rate(1, "identity", normalise=act))]
            return Network({"image": (1, 8, 8)}, populations, [Projection("image", "b"), Projection("b", "a")], steps=2)
        edges = [Projection("image", "a", act), Projection("image", "b")]
        return Network({"image": (1, 8, 8)}, [Population(n, Rate(1, "identity")) for n in "ab"], edges, steps=2)

    kept = image.clone()
    one, two = (simulate(net(inplace), image, solver=Iterate(), record=record) for inplace in (False, True))
    assert torch.equal(image, kept)
    assert all(torch.equal(one[key], two[key]) for key in one.values)


class Writes(nn.Module):
    def forward(self, value: Tensor) -> Tensor:
        return value.mul_(2.0)


class WritesOnItsDrive(pcsim.rules.Map):
    def forward(self, own: Tensor, *, drive: Tensor) -> Tensor:
        return drive.add_(1.0)


def test_user_module_writing_in_place_refused_by_name() -> None:
    populations = [Population("a", Rate(2)), Population("b", Rate(2))]
    net = Network({"x": (2,)}, populations, [Projection("x", "a"), Projection("a", "b", Writes())], steps=2)
    with pytest.raises(WiringError, match=r"edge a->b, a Writes that modifies its arguments in place"):
        simulate(net, torch.rand(1, 2), solver=Iterate(), record=Record(states="all"))
    ruled = Network({"x": (2,)}, [Population("a", WritesOnItsDrive())], [Projection("x", "a")], steps=2)
    with pytest.raises(WiringError, match="the rule of 'a', a WritesOnItsDrive"):
        simulate(ruled, torch.rand(1, 2), solver=Iterate(), record=Record(states="all"))


class Noise(nn.Module):
    def forward(self, value: Tensor) -> Tensor:
        return value + torch.randn_like(value)


@pytest.mark.parametrize("noise", [Noise(), nn.Sequential(nn.Identity(), Noise())])
def test_noise_module_draws_anew_each_step(noise: nn.Module) -> None:
    net = Network({"x": (50,)}, [Population("a", Rate(50, "identity"))], [Projection("x", "a", noise)])
    run = simulate(net, torch.zeros(1, 50), solver=Iterate(), steps=40, record=Record(states=["a"]))
    assert 0.8 < float(run["a"].std(0).mean()) < 1.2


def test_dropout_on_image_edge_draws_anew_each_training_step() -> None:
    net = Network(
        {"x": (50,)}, [Population("a", Rate(50, "identity"))], [Projection("x", "a", nn.Dropout(0.5))], steps=4
    ).train()
    values = torch.stack([values["a"] for _, values in rollout(net, torch.ones(1, 50), Iterate(), 4)])
    assert not torch.equal(values[0], values[1])
    assert torch.equal(
        simulate(net, torch.ones(1, 50), solver=Iterate(), record=Record(states=["a"]))["a"][0], torch.ones(1, 50)
    )


def test_batchnorm_on_image_edge_updates_each_step() -> None:
    edge = nn.Sequential(nn.Conv2d(1, 2, 3, 1, 1), nn.BatchNorm2d(2))
    net = Network({"x": (1, 8, 8)}, [Population("a", Rate(2))], [Projection("x", "a", edge)], steps=5).train()
    list(rollout(net, torch.rand(4, 1, 8, 8), Iterate(), 5))
    assert int(edge[1].num_batches_tracked) == 5


OPTIONS = [
    {"padding": 1},
    {"padding": 2, "dilation": 2},
    {"padding": 1, "groups": 2},
    {"padding": 1, "stride": 2},
    {"padding": 0},
    {"padding": (1, 0), "dilation": (1, 2)},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_tied_is_transpose_for_all_conv_options(options: dict, float64: None) -> None:
    forward = nn.Conv2d(4, 2, 3, bias=False, **options)
    x = torch.randn(2, 4, 8, 8)
    y = torch.randn_like(forward(x))
    back = Tied(forward)(y)
    assert back.shape == x.shape
    assert torch.allclose((forward(x) * y).sum(), (x * back).sum())


@pytest.mark.parametrize(
    "convolution",
    [
        nn.Conv2d(3, 2, 3, padding=1, padding_mode="circular"),
        nn.Conv2d(3, 2, 3, padding="same"),
        nn.ConvTranspose2d(3, 2, 3),
    ],
)
def test_tied_and_strided_refuse_unsupported_convolutions(convolution: nn.Module) -> None:
    with pytest.raises(WiringError, match="transpose"):
        Tied(convolution)
    if isinstance(convolution, nn.Conv2d):
        with pytest.raises(WiringError, match="stride"):
            Strided(convolution, 2)


def test_strided_keeps_dilation_and_groups(float64: None) -> None:
    forward = nn.Conv2d(4, 2, 3, padding=2, dilation=2, groups=2)
    x = torch.randn(2, 4, 9, 9)
    assert torch.allclose(Strided(forward, 2)(x), forward(x)[..., ::2, ::2])
    circular = nn.Conv2d(4, 2, 3, padding=1, padding_mode="circular", bias=False)
    y = torch.randn(2, 2, 9, 9)
    assert torch.allclose((circular(x) * y).sum(), (x * Transpose(circular, (4, 9, 9))(y)).sum())


def test_simulate_refuses_changing_or_wrong_batch_size() -> None:
    two, one = torch.rand(2, 1, 8, 8), torch.rand(1, 1, 8, 8)
    with pytest.raises(StimulusError, match="the same \\(batch, channel, height, width\\) throughout"):
        stimuli.held(two, 20.0).then(stimuli.held(one, 20.0))
    line = stimuli.Timeline((stimuli.timeline.Epoch(40.0, 20.0, lambda number: (two, one)[number]),))
    with pytest.raises(StimulusError, match="1 samples for input 'image' at 20 ms, but 2 earlier"):
        simulate(models.blt(channels=(2, 2), image=(1, 8, 8)), line, solver=Iterate())
    many = pcsim.batched(leaky_net(), taus={"r": [5.0, 10.0, 20.0]})
    with pytest.raises(WiringError, match="pass many.tile"):
        simulate(many.network, torch.rand(1, 16), solver=Euler(dt=1.0), until=5.0)


class FlatByView(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(128, 5)

    def forward(self, value: Tensor) -> Tensor:
        return self.out(value.view(value.size(0), -1))


def test_network_refuses_flatten_by_view_at_build() -> None:
    with pytest.raises(WiringError, match="edge x->a"):
        Network({"x": (2, 8, 8)}, [Population("a", Rate(5))], [Projection("x", "a", FlatByView())], steps=1)


def test_replaced_module_is_used_and_checked() -> None:
    net = Network(
        {"x": (4,)},
        [Population("a", Rate(4))],
        [Projection("x", "a", nn.Linear(4, 4, bias=False))],
        readout="a",
        steps=1,
    )
    zero = nn.Linear(4, 4, bias=False)
    nn.init.zeros_(zero.weight)
    net.transforms["x_to_a"] = zero
    assert (simulate(net, torch.ones(1, 4), solver=Iterate())["a"] == 0).all()
    assert (Simulator(net, solver=Iterate())(torch.ones(1, 4))["a"] == 0).all()
    assert net.projections[0].transform is zero and net.without("x->a").projections[0].transform is zero
    net.rules["a"] = Rate(4, "sigmoid")
    assert (simulate(net, torch.ones(1, 4), solver=Iterate())["a"] == 0.5).all()
    net.transforms["x_to_a"] = nn.Linear(4, 3)
    with pytest.raises(WiringError, match="4"):
        simulate(net, torch.ones(1, 4), solver=Iterate())


@pytest.mark.parametrize("name", SMALL)
def test_network_survives_torch_save_and_pickle(name: str) -> None:
    net, file = small(name), io.BytesIO()
    solver, steps = stepping(net)
    torch.save(net, file)
    file.seek(0)
    for back in (torch.load(file, weights_only=False), pickle.loads(pickle.dumps(net))):  # noqa: S301
        runs = [simulate(n, shown(net, 2), solver=solver, steps=min(steps, 3)) for n in (net, back)]
        assert all(torch.equal(runs[0][key], runs[1][key]) for key in runs[0].values)


@pytest.mark.parametrize("name", SMALL)
def test_float64_network_ignores_default_dtype(name: str) -> None:
    """A float64 network stays in float64, with bitwise the same results, whatever torch's default dtype."""
    net = small(name).double()
    solver, steps = stepping(net)
    image = {key: value.double() for key, value in shown(net, 2).items()}
    runs = []
    try:
        for default in (torch.float32, torch.float64):
            torch.set_default_dtype(default)
            runs.append(
                simulate(net, image, solver=solver, steps=min(steps, 6), record=Record(states="all", errors="all"))
            )
    finally:
        torch.set_default_dtype(torch.float32)
    for key in runs[0].values:
        assert runs[0][key].dtype == torch.float64 and torch.equal(runs[0][key], runs[1][key]), key


def test_lesions_add_up_and_count_steps() -> None:
    net, image = two_layers(), torch.randn(2, 4)
    record = Record(states=["a"])
    twice = net.without("top_down", during=(1, 2)).without("top_down", during=(3, 4))
    runs = [simulate(n, image, solver=Iterate(), steps=6, record=record)["a"] for n in (net, twice)]
    assert [torch.equal(a, b) for a, b in zip(*runs, strict=True)][:2] == [True, False]
    assert twice.describe().count("LESIONED 1..2 3..4") == 1
    with pytest.raises(WiringError, match="whole numbers of steps"):
        net.without("top_down", during=(0.5, 2.0))


# ------------------------------------------------------------------ divergence


def runaway() -> Network:
    net = two_layers()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(1e30)
    for rule in net.rules.values():
        rule.function = rules.base.activation_named("identity")
    return net


def test_divergence_warned_by_every_entry_point() -> None:
    net, images = runaway(), torch.randn(3, 4)
    ways = {
        "simulate": lambda: simulate(net, images, solver=Iterate(), steps=6),
        "rollout": lambda: list(rollout(net, images, Iterate(), 6)),
        "evaluate": lambda: evaluate(net, images, steps=6),
        "gradient": lambda: simulate(net, images, solver=Iterate(), steps=6, gradient=Full()),
        "checkpointed": lambda: simulate(net, images, solver=Iterate(), steps=6, gradient=Checkpointed(2)),
        "truncated": lambda: simulate(net, images, solver=Iterate(), steps=6, gradient=Truncated(2)),
    }
    for name, way in ways.items():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            way()
        assert any("3 of 3 samples diverged" in str(warning.message) for warning in caught), name
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert evaluate(net, images, steps=6)[-1].isnan().all()
        with pytest.raises(pcsim.TrainingError, match="finite loss"):
            train(net, images, torch.eye(3), Training(updates=20, batch=3), steps=6)


def test_diverged_predict_warns_and_returns_nan() -> None:
    net = models.prednet((1, 2), image=(1, 8, 8))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(float("inf"))
    with pytest.warns(PcsimWarning, match="diverged"):
        forecast = pcsim.predict(net, torch.rand(1, 4, 1, 8, 8))
    assert forecast.predictions[:, 1:].isnan().all()


class Log(nn.Module):
    def forward(self, value: Tensor) -> Tensor:
        return torch.log(value - 5.0)


def test_divergence_of_readout_alone_is_named() -> None:
    net = Network(
        {"image": (1, 4, 4)},
        [Population("r", leaky_rate(1, 10.0)), Population("out", rules.Sum())],
        [Projection("image", "r"), Projection("r", "out", Log())],
        readout="out",
    )
    with pytest.warns(PcsimWarning, match="in 'out' at 1 ms"):
        run = simulate(net, torch.rand(2, 1, 4, 4), solver=Euler(dt=1.0), until=5.0)
    assert run.diverged_in == ("out", "out")


def test_divergence_check_ignores_overflowing_sum() -> None:
    net = Network(
        {"image": (16, 32, 32)},
        [Population("r", leaky_rate(16, 10.0, "identity"))],
        [Projection("image", "r")],
        readout="r",
    )
    for dtype, level in ((torch.float16, 10.0), (torch.float32, 2e37)):
        image = torch.full((1, 16, 32, 32), level)
        run = simulate(net.to(dtype), image.to(dtype), solver=Euler(dt=1.0), until=50.0)
        assert run.status[0] is pcsim.Status.COMPLETED and torch.isfinite(run["r"]).all()


def test_dopri5_sample_independent_of_batch(float64: None) -> None:
    net, images = leaky_net(8), torch.randn(4, 8)
    images[0] *= 30.0
    solver = Dopri5(dt=20.0, rtol=1e-4, atol=1e-4)
    whole = simulate(net, images, solver=solver, until=40.0, record=Record(states=["r"]))["r"]
    for sample in range(4):
        alone = simulate(net, images[sample : sample + 1], solver=solver, until=40.0, record=Record(states=["r"]))["r"]
        assert torch.allclose(alone[:, 0], whole[:, sample], rtol=0, atol=1e-13)


def test_non_network_refused_by_every_entry_point() -> None:
    for call in (
        lambda: simulate(nn.Linear(2, 2), torch.rand(1, 2), solver=Iterate()),
        lambda: Simulator(nn.Linear(2, 2), solver=Iterate()),
        lambda: next(rollout(nn.Linear(2, 2), torch.rand(1, 2), Iterate(), 1)),
    ):
        with pytest.raises(PcsimError, match=r"pcsim\.Network"):
            call()


def test_patched_forward_is_called_each_step() -> None:
    """A layer of known type may have a patched `forward` that draws random numbers."""
    edge = nn.Identity()
    edge.forward = lambda value: value + torch.randn_like(value)
    net = Network({"x": (50,)}, [Population("a", Rate(50, "identity"))], [Projection("x", "a", edge)])
    run = simulate(net, torch.zeros(1, 50), solver=Iterate(), steps=40, record=Record(states=["a"]))
    assert 0.8 < float(run["a"].std(0).mean()) < 1.2


def test_labels_of_named_timelines_are_kept_and_must_agree() -> None:
    net = Network(
        {"u": (3,), "v": (3,)}, [Population("r", leaky_rate(3, 10.0))], [Projection("u", "r"), Projection("v", "r")]
    )
    labelled = stimuli.held(torch.rand(2, 3)).with_labels(torch.tensor([1, 2]))
    run = simulate(net, {"u": labelled, "v": torch.rand(2, 3)}, solver=Euler(dt=1.0), until=3.0)
    assert run.labels is not None and run.labels.tolist() == [1, 2]
    other = stimuli.held(torch.rand(2, 3)).with_labels(torch.tensor([1, 3]))
    with pytest.raises(StimulusError, match="different labels"):
        simulate(net, {"u": labelled, "v": other}, solver=Euler(dt=1.0), until=3.0)


def test_record_at_the_start_or_after_the_end_is_refused() -> None:
    net = models.leaky_rcnn((2, 2), image=(1, 8, 8))
    for at in ([0.0], [10.0, 22.0], [5.0]):
        with pytest.raises(RecordError, match="multiples of dt = 2 ms after the start and up to the end"):
            simulate(net, torch.rand(1, 1, 8, 8), solver=Euler(2.0), until=20.0, record=Record(states=["l1"], at=at))
    run = simulate(net, torch.rand(1, 1, 8, 8), solver=Euler(2.0), until=20.0, record=Record(["l1"], at=[2.0, 20.0]))
    assert run.times_of["l1"].tolist() == [2.0, 20.0]


def test_transform_with_an_absent_part_runs() -> None:
    layer = nn.Conv2d(1, 2, 3, padding=1)
    layer.register_module("norm", None)
    net = Network({"image": (1, 4, 4)}, [Population("a", Rate(2))], [Projection("image", "a", layer)])
    assert simulate(net, torch.rand(1, 1, 4, 4), solver=Iterate(), steps=1, record=Record(["a"]))["a"].shape[0] == 1
