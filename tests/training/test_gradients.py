"""Gradient methods agree with backpropagation, except for terms that they are documented to omit."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.small import SMALL, shown, small, stepping
from torch import Tensor

import pcsim
from pcsim import Euler, Iterate, Network, Population, Projection, TorchDiffEq, TrainingError, models
from pcsim.rules import leaky_rate
from pcsim.simulation.scan import Moment
from pcsim.solvers import Solver
from pcsim.training import (
    Adjoint,
    Checkpointed,
    Full,
    Gradient,
    Implicit,
    Training,
    Truncated,
    loss_over_time,
    losses_over_time,
    memory_of_update,
    train,
)
from pcsim.training.gradients import square_root
from pcsim.training.memory import Live, free_memory

EXACT = 1e-12
END = pcsim.Record(states=["b"], every=3)


def trajectory(
    net: Network, shown: Tensor, solver: Solver, steps: int, names: list[str], way: Gradient
) -> Iterator[Moment]:
    """Return the values of `names` after every step, with gradients."""
    for window in pcsim.Simulator(net, solver=solver, record=pcsim.Record(), gradient=way).windows(shown, steps, names):
        yield from window


def gradient(net: Network, settings: Training, solver: Solver, steps: int) -> Tensor:
    """Return the gradient of the loss in all parameters, as one vector."""
    torch.manual_seed(3)
    images = shown(net, 4)[next(iter(net.inputs))]
    targets = torch.eye(net.shape(net.readout or "")[0])[torch.arange(4) % net.shape(net.readout or "")[0]]
    net.zero_grad()
    for loss in losses_over_time(net, images, targets.to(images), settings, solver, steps):
        loss.backward()
    return torch.cat([(p.grad if p.grad is not None else torch.zeros_like(p)).reshape(-1) for p in net.parameters()])


def near(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / other.norm())


CLASSIFIERS = ("blt", "rcnn_sat_bl", "convrnn", "cornet_s", "pcn_global", "leaky_rcnn", "shared_resnet", "multi_state")


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_checkpointed_exact_and_counts_statistics_once(name: str, float64: None) -> None:
    net = small(name).train()
    solver, steps = stepping(net)
    steps = net.steps or steps
    start = {key: value.clone() for key, value in net.state_dict().items()}
    full = gradient(net, Training(), solver, steps)
    after = {key: value.clone() for key, value in net.state_dict().items()}
    for span in (None, 2, steps):
        net.load_state_dict(start)
        again = gradient(net, Training(gradient=Checkpointed(span)), solver, steps)
        assert near(again, full) <= EXACT
        assert all(torch.allclose(value, after[key], rtol=EXACT) for key, value in net.state_dict().items())


def test_truncated_exact_only_over_whole_run(float64: None) -> None:
    net = small("leaky_rcnn").train()
    full = gradient(net, Training(), Euler(dt=2.0), 12)
    truncated = [gradient(net, Training(gradient=Truncated(n)), Euler(dt=2.0), 12) for n in (12, 20, 6, 2)]
    assert near(truncated[0], full) <= EXACT and near(truncated[1], full) <= EXACT
    assert 1e-3 < near(truncated[2], full) < near(truncated[3], full)


def test_truncated_equals_gradient_with_past_detached(float64: None) -> None:
    """Compute two windows manually; the second starts from a detached state."""
    net = small("leaky_rcnn").train()
    found = gradient(net, Training(gradient=Truncated(3), over_time="last"), Euler(dt=2.0), 6)
    images = shown(net, 4)["image"]
    torch.manual_seed(3)
    images = shown(net, 4)["image"]
    targets = torch.eye(net.shape("readout")[0])[torch.arange(4) % net.shape("readout")[0]].to(images)
    half = pcsim.simulate(net, images, solver=Euler(dt=2.0), until=6.0).final
    *_, (_, values) = pcsim.rollout(net, images, Euler(dt=2.0), 3, ["readout"], start=half)
    logits = values["readout"]
    net.zero_grad()
    pcsim.training.loss_at_step(logits, targets, "softmax").backward()
    by_hand = torch.cat([(p.grad if p.grad is not None else torch.zeros_like(p)).reshape(-1) for p in net.parameters()])
    assert near(found, by_hand) <= EXACT


def contraction() -> Network:
    torch.manual_seed(1)
    return Network(
        {"u": (5,)},
        [Population("a", leaky_rate(6, 10.0, "tanh")), Population("b", leaky_rate(4, 20.0, "tanh"))],
        [
            Projection("u", "a", torch.nn.Linear(5, 6)),
            Projection("a", "a", torch.nn.Linear(6, 6, bias=False), "lateral"),
            Projection("a", "b", torch.nn.Linear(6, 4)),
            Projection("b", "a", torch.nn.Linear(4, 6, bias=False), "top_down"),
        ],
        readout="b",
    )


@pytest.mark.parametrize("solver", [Euler(dt=5.0), pcsim.RK4(dt=5.0)])
def test_implicit_equals_gradient_of_long_run(solver: Solver, float64: None) -> None:
    net = contraction()
    settings = Training(over_time="last")
    full = gradient(net, settings, solver, 400)
    found = gradient(net, replace(settings, gradient=Implicit()), solver, 400)
    assert near(found, full) < 1e-5  # measured 9e-7


def test_implicit_refuses_unsettled_run() -> None:
    net = contraction()
    with pytest.raises(TrainingError, match="one more step changes"):
        pcsim.simulate(net, torch.randn(2, 5), solver=Euler(dt=1.0), steps=3, record=END, gradient=Implicit())


def test_adjoint_with_restarts_accurate_and_coarse_refused(float64: None) -> None:
    net = contraction()
    solver = TorchDiffEq(dt=10.0, method="dopri5", rtol=1e-8, atol=1e-8)
    full = gradient(net, Training(), solver, 10)
    found = gradient(net, Training(gradient=Adjoint()), solver, 10)
    assert near(found, full) <= 1e-5  # ten times the smaller tau, with a restart every tau
    images, targets = torch.randn(8, 5), torch.eye(4)[torch.arange(8) % 4]
    settings = Training(updates=2, batch=4, gradient=Adjoint())
    train(net, images, targets, settings, solver=solver, steps=4)
    coarse = TorchDiffEq(dt=10.0, method="euler")
    with pytest.raises(TrainingError, match=r"differs from backpropagation by .*[\s\S]*Adjoint\(tolerance="):
        train(net, images, targets, settings, solver=coarse, steps=4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (Training(gradient=Adjoint()), r"solver=TorchDiffEq"),
        (Training(gradient=Implicit()), r"Checkpointed\(\), which is exact"),
    ],
)
def test_train_refuses_adjoint_and_implicit_for_map(settings: Training, message: str) -> None:
    net = small("blt")
    images, targets = torch.rand(4, *net.inputs["image"]), torch.eye(net.shape("readout")[0])[:4]
    with pytest.raises(pcsim.PcsimError, match=message):
        train(net, images, targets, replace(settings, batch=2), solver=Iterate())


def peak_bytes(net: Network, image: Tensor, steps: int, way: Gradient) -> tuple[int, Tensor]:
    """Return the peak bytes of live tensors during backpropagation, and the gradient."""
    with Live() as live:
        for _, values in trajectory(net, image, Euler(dt=1.0), steps, ["l3"], way):
            last = values["l3"]
        found = torch.autograd.grad(last.square().sum(), [p for p in net.parameters() if p.dim() == 4])
    return live.most, torch.cat([g.reshape(-1) for g in found])


def test_checkpointed_square_root_takes_quarter_of_memory(float64: None) -> None:
    net = models.leaky_rcnn((4, 4, 4), image=(1, 8, 8))
    image = torch.rand(2, 1, 8, 8)
    (most, full), (less, again) = (peak_bytes(net, image, 400, way) for way in (Full(), Checkpointed(square_root(400))))
    assert less <= 0.25 * most  # measured 0.076
    assert near(again, full) <= EXACT


@pytest.mark.parametrize("batch", [1, 3, 16])
@pytest.mark.parametrize("mode", [Full(), Checkpointed(5), Truncated(5)])
def test_memory_of_update_matches_training(
    mode: Gradient, batch: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "pcsim.training.memory._held", lambda: 0
    )  # tensors only: the memory of libraries depends on other tests
    net = models.leaky_rcnn((4, 8, 8), image=(1, 16, 16))
    images, targets = torch.rand(20, 1, 16, 16), torch.eye(10)[torch.arange(20) % 10]
    settings = Training(updates=2, batch=batch, gradient=mode)
    solver, before = Euler(dt=1.0), [p.clone() for p in net.parameters()]
    told = memory_of_update(net, images, targets, settings, solver=solver, steps=30)
    assert all(p.grad is None and torch.equal(p, q) for p, q in zip(net.parameters(), before, strict=True))
    with Live() as live:
        train(net, images, targets, settings, solver=solver, steps=30)
    assert "will need about" not in capsys.readouterr().err, "far below available memory, no estimate may be printed"
    assert told == pytest.approx(live.most, rel=0.25)  # measured: 0.02 to 0.17, the latter for a batch of one image
    monkeypatch.setattr("pcsim.training.through_time.free_memory", lambda device: 1.1 * told)
    train(net, images, targets, settings, solver=solver, steps=30)
    assert f"about {told / 1e6:.3g} MB" in capsys.readouterr().err


GROWING = """
import sys, torch
from pathlib import Path
from pcsim import Euler, models
from pcsim.training.memory import _held
from pcsim.training import Training, memory_of_update, train
torch.manual_seed(0)
net = models.leaky_rcnn(({channels}, 32, 64), tau=(5.0, 10.0, 20.0), image=(1, 28, 28))
images, targets = torch.rand(64, 1, 28, 28), torch.eye(10)[torch.arange(64) % 10]
settings, how = Training(updates=3, batch={batch}), {{"solver": Euler(1.0), "steps": 20}}
before = _held()
if sys.argv[1] == "foresee":
    print(memory_of_update(net, images, targets, settings, **how))
else:
    train(net, images, targets, settings, **how)
    # Not ru_maxrss: a process begins with that of the one that started it.
    print(1024 * int(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0]) - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize(("channels", "batch"), [(16, 32), (32, 16), (4, 4)])
def test_memory_of_update_matches_process_growth(channels: int, batch: int) -> None:
    script = GROWING.format(channels=channels, batch=batch)
    told, grew = (
        float(subprocess.run([sys.executable, "-c", script, what], capture_output=True, text=True, check=True).stdout)
        for what in ("foresee", "train")
    )
    assert told == pytest.approx(grew, rel=0.25), (told / 1e6, grew / 1e6)


def test_train_warns_when_memory_is_too_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pcsim.training.through_time.free_memory", lambda device: 1e3)
    net = small("leaky_rcnn")
    images = shown(net, 4)["image"]
    targets = torch.eye(net.shape("readout")[0])[:4]
    with pytest.warns(pcsim.PcsimWarning, match="Checkpointed"):
        train(net, images, targets, Training(updates=1, batch=4), solver=Euler(dt=2.0), steps=3)


@pytest.mark.parametrize(("batch", "free", "is_predicted"), [(1_000_000, 1e7, False), (1_000_000, 1e3, True)])
def test_train_predicts_memory_for_samples_that_exist(
    batch: int, free: float, is_predicted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch larger than the data set needs no more memory than the data set."""
    monkeypatch.setattr("pcsim.training.through_time.free_memory", lambda device: free)
    predicted: list[bool] = []
    monkeypatch.setattr("pcsim.training.through_time.memory_of_update", lambda *_, **__: predicted.append(True) or 0.0)
    net = small("leaky_rcnn")
    images, targets = shown(net, 4)["image"], torch.eye(net.shape("readout")[0])[:4]
    train(net, images, targets, Training(updates=1, batch=batch), solver=Euler(dt=2.0), steps=3)
    assert bool(predicted) is is_predicted


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="memory is read from /proc")
def test_free_memory_is_between_unused_and_total() -> None:
    unused, total = (os.sysconf("SC_PAGE_SIZE") * os.sysconf(name) for name in ("SC_AVPHYS_PAGES", "SC_PHYS_PAGES"))
    assert 0.8 * unused < free_memory(torch.device("cpu")) < total


def test_free_memory_of_gpu_includes_unused_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"mem_get_info": (30, 80), "memory_reserved": 40, "memory_allocated": 25}.items():
        monkeypatch.setattr(torch.cuda, name, lambda device, value=value: value)
    assert free_memory(torch.device("cuda")) == 30 + 40 - 25


def test_loss_over_time_same_for_every_gradient_method() -> None:
    """`loss_over_time` has the same value for every gradient method."""
    net = small("leaky_rcnn")
    image = shown(net, 3)["image"]
    targets = torch.eye(net.shape("readout")[0])[:3]
    losses = []
    for mode in (Full(), Checkpointed(3), Truncated(3)):
        settings = Training(gradient=mode)
        losses.append(loss_over_time(net, image, targets, settings, Euler(dt=2.0), 8).item())
    assert losses[1] == losses[0] and losses[2] == pytest.approx(losses[0], rel=1e-6)


@pytest.mark.parametrize("span", [4, 7])
def test_checkpointed_replays_random_numbers(span: int, float64: None) -> None:
    across = torch.nn.Sequential(torch.nn.Linear(6, 6, bias=False), torch.nn.Dropout(0.3))
    edges = [Projection("u", "a", torch.nn.Linear(5, 6)), Projection("a", "a", across, "lateral")]
    net = Network({"u": (5,)}, [Population("a", leaky_rate(6, 10.0, "tanh"))], edges).train()
    found, after = [], []
    for each in (Full(), Checkpointed(span)):
        torch.manual_seed(1)
        rows = [row["a"] for _, row in trajectory(net, torch.randn(3, 5), Euler(dt=2.0), 20, ["a"], each)]
        pulled = torch.autograd.grad(torch.stack(rows).square().sum(), list(net.parameters()))
        found.append(torch.cat([g.reshape(-1) for g in pulled]))
        after.append(torch.rand(1))
    assert near(found[1], found[0]) <= EXACT and torch.equal(*after)


assert set(CLASSIFIERS) <= set(SMALL)


def test_adjoint_of_network_with_kinks_refused_unless_accepted(float64: None) -> None:
    """Where ReLU and max pooling switch during a run, the adjoint is 1e-4 to 1e-2 off."""
    net = models.leaky_rcnn((3, 4), tau=(10.0, 10.0), image=(1, 8, 8))
    images, targets = torch.rand(4, 1, 8, 8), torch.eye(net.shape("readout")[0])[:4]
    solver = TorchDiffEq(dt=10.0, method="dopri5", rtol=1e-6, atol=1e-6)
    settings = Training(updates=1, batch=4, gradient=Adjoint())
    with pytest.raises(TrainingError, match=r"differs from backpropagation by"):
        train(net, images, targets, settings, solver=solver, steps=3)
    train(net, images, targets, replace(settings, gradient=Adjoint(tolerance=0.1)), solver=solver, steps=3)
