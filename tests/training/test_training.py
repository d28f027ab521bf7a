"""Training: losses against formulas, bitwise resuming, divergence."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import torch
from support.examples import two_layers

import pcsim
from pcsim import Iterate, StorageError, TrainingError, models, stimuli
from pcsim.connections import Standardise
from pcsim.core.exceptions import PcsimWarning
from pcsim.training import Training, evaluate, loss_at_step, loss_over_time, published_settings, train


def debris(count: int = 60) -> tuple[torch.Tensor, torch.Tensor]:
    shown = stimuli.scenes("debris-light", 0, 0, count)
    return torch.from_numpy(shown.images), shown.targets()


def fresh(name: str = "blt") -> pcsim.Network:
    torch.manual_seed(3)
    return models.build(name, channels=(3, 3))


def bits(net: pcsim.Network) -> list[bytes]:
    return [p.detach().contiguous().numpy().tobytes() for p in net.parameters()]


def test_loss_at_step_equals_formula() -> None:
    logits, targets = torch.randn(5, 10, dtype=torch.float64), torch.zeros(5, 10, dtype=torch.float64)
    targets[torch.arange(5), torch.arange(5)] = 1
    picked = logits.exp()[torch.arange(5), torch.arange(5)] / logits.exp().sum(1)
    assert loss_at_step(logits, targets, "softmax").item() == pytest.approx(-picked.log().mean().item())
    p = 1 / (1 + torch.exp(-logits))
    expected = -(targets * p.log() + (1 - targets) * (1 - p).log()).sum(1).mean()
    assert loss_at_step(logits, targets, "sigmoid").item() == pytest.approx(expected.item())


def test_loss_over_time_is_sum_mean_or_last() -> None:
    net, shown = two_layers(), torch.randn(2, 4)
    targets = torch.eye(3)[:2]
    logits = evaluate(net, shown)
    each = [loss_at_step(step, targets, "softmax").item() for step in logits]
    for how, expected in (("sum", sum(each)), ("mean", sum(each) / 4), ("last", each[-1])):
        loss = loss_over_time(net, shown, targets, Training(over_time=how), Iterate(), 4)
        assert loss.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("optimiser", ["adam", "sgd"])
def test_train_resumes_bitwise(optimiser: str, tmp_path: Path) -> None:
    images, targets = debris()
    settings = Training(updates=24, batch=8, optimiser=optimiser, learning_rate=1e-2, weight_decay=1e-4)
    whole = fresh()
    history = train(whole, images, targets, settings, checkpoint=tmp_path / "whole", every=100)

    class Stopped(Exception):
        pass

    stopped = fresh()
    calls = 0

    def counting_bar(*args: object, **options: object) -> object:
        from tqdm.auto import tqdm

        bar = tqdm(*args, disable=True, **options)
        original = bar.update

        def update(n: int = 1) -> None:
            nonlocal calls
            calls += 1
            if calls == 22:
                raise Stopped
            original(n)

        bar.update = update
        return bar

    with pytest.raises(Stopped):
        train(stopped, images, targets, settings, checkpoint=tmp_path / "part", every=20, bar=counting_bar)
    resumed = fresh("blt")
    torch.manual_seed(99)  # resuming must not depend on the state of the global generator
    again = train(resumed, images, targets, settings, checkpoint=tmp_path / "part", every=20)
    assert bits(resumed) == bits(whole) and again == history


def test_train_in_stages_bitwise_equals_single_call(tmp_path: Path) -> None:
    images, targets = debris()
    settings = Training(updates=50, batch=8, learning_rate=1e-2)
    whole = fresh()
    history = train(whole, images, targets, settings)
    for until, means in ((20, 1), (33, 2), (100, 3)):
        staged = fresh("blt")
        again = train(staged, images, targets, settings, checkpoint=tmp_path / "staged", until=until)
        assert len(again) == means  # the last one of the updates since the last multiple of 20
    assert bits(staged) == bits(whole) and again == history


def test_train_does_not_repeat_finished_training(tmp_path: Path) -> None:
    images, targets = debris(20)
    settings = Training(updates=20, batch=5)
    first = fresh()
    train(first, images, targets, settings, checkpoint=tmp_path / "c")
    written = (tmp_path / "c").read_bytes()
    second = fresh()
    train(second, images, targets, settings, checkpoint=tmp_path / "c")
    assert bits(first) == bits(second) and (tmp_path / "c").read_bytes() == written


def test_checkpoint_of_other_settings_refused_and_kept(tmp_path: Path) -> None:
    images, targets = debris(20)
    settings = Training(updates=20, batch=5)
    train(fresh(), images, targets, settings, checkpoint=tmp_path / "c")
    written = (tmp_path / "c").read_bytes()
    with pytest.raises(StorageError, match="another folder"):
        train(fresh(), images, targets, dataclasses.replace(settings, batch=6), checkpoint=tmp_path / "c")
    with pytest.raises(StorageError, match="another folder"):
        train(fresh("blt_b"), images, targets, settings, checkpoint=tmp_path / "c")
    assert (tmp_path / "c").read_bytes() == written


def test_train_stops_on_divergence(tmp_path: Path) -> None:
    images, targets = debris(20)
    settings = Training(updates=5_000, batch=5, optimiser="sgd", learning_rate=1e4, clip=None)
    with pytest.raises(TrainingError, match="lower the learning rate"):
        train(fresh(), images, targets, settings, checkpoint=tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_train_lowers_loss_and_standardises_images() -> None:
    images, targets = debris(40)
    net = fresh("blt_bl")
    history = train(net, images, targets, Training(updates=120, batch=20, learning_rate=1e-2))
    assert history[-1] < 0.97 * history[0]
    standard = next(m for m in net.modules() if isinstance(m, Standardise))
    pixels = images.double() / 255
    assert standard.mean.item() == pytest.approx(pixels.mean().item(), rel=1e-5)
    assert standard.sd.item() == pytest.approx(pixels.std().item(), rel=1e-5)


def test_batch_of_shuffles_all_images_each_epoch() -> None:
    from pcsim.training.batches import batch_of

    settings = Training(batch=4, seed=5)
    epochs = [torch.cat([batch_of(20, settings, 5 * epoch + i) for i in range(5)]) for epoch in range(2)]
    assert all(sorted(epoch.tolist()) == list(range(20)) for epoch in epochs)
    assert not torch.equal(*epochs)


def test_training_rate_follows_schedule() -> None:
    cosine = Training(updates=100, learning_rate=1.0)
    assert cosine.rate(0) == 1.0 and cosine.rate(50) == pytest.approx(0.5) and cosine.rate(100) == pytest.approx(0.0)
    paper = published_settings()
    assert paper.rate(40_000) == pytest.approx(0.01) and paper.rate(20_000) == pytest.approx(0.1 * math.sqrt(0.1))


def test_train_network_as_ode() -> None:
    images, targets = debris(20)
    flow = fresh().as_ode(tau=10.0)
    history = train(flow, images, targets, Training(updates=20, batch=5), solver=pcsim.Euler(dt=5.0), steps=4)
    assert math.isfinite(history[0]) and flow.populations["l1"].rule.rule.bias.grad is not None


@pytest.mark.parametrize(
    "bad", [{"updates": 0}, {"batch": -1}, {"learning_rate": 0.0}, {"optimiser": "lion"}, {"beta": 1}]
)
def test_training_refuses_settings_out_of_range(bad: dict) -> None:
    with pytest.raises(TrainingError, match=next(iter(bad))):
        Training(**bad)


@pytest.mark.parametrize("schedule", ["constant", "exponential"])
def test_finished_training_continues_like_a_longer_one(
    schedule: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, targets = debris(16)
    monkeypatch.setenv("HOME", str(tmp_path))
    short = Training(updates=20, batch=8, schedule=schedule, learning_rate=1e-2)
    longer = dataclasses.replace(short, updates=40)
    whole, parts = fresh("blt_b"), fresh("blt_b")
    history = train(whole, images, targets, longer)
    train(parts, images, targets, short, checkpoint="~/trained/file")
    assert (tmp_path / "trained" / "file").exists()
    again = fresh("blt_b")
    assert train(again, images, targets, longer, checkpoint="~/trained/file") == history
    assert bits(again) == bits(whole)
    with pytest.raises(StorageError, match="only updates may increase"):
        train(again, images, targets, short, checkpoint="~/trained/file")
    with pytest.raises(StorageError, match="only updates may increase"):
        train(again, images, targets, dataclasses.replace(longer, batch=4), checkpoint="~/trained/file")


def test_longer_cosine_schedule_is_reported(tmp_path: Path) -> None:
    images, targets = debris(16)
    settings = Training(updates=20, batch=8)
    train(fresh("blt_b"), images, targets, settings, checkpoint=tmp_path / "file")
    longer = dataclasses.replace(settings, updates=40)
    with pytest.warns(pcsim.PcsimWarning, match=r"from update 20 with a cosine schedule over 40.* jumps to 0.001"):
        train(fresh("blt_b"), images, targets, longer, checkpoint=tmp_path / "file")


def test_refused_resume_names_only_the_settings_that_differ(tmp_path: Path) -> None:
    images, targets = debris()
    settings = Training(updates=4, batch=8)
    train(fresh(), images, targets, settings, checkpoint=tmp_path / "c")
    with pytest.raises(StorageError) as caught:
        train(fresh(), images, targets, dataclasses.replace(settings, batch=4, seed=3), checkpoint=tmp_path / "c")
    assert caught.value.given.endswith("with batch=8, seed=0") and caught.value.expected.endswith(
        "with batch=4, seed=3"
    )
    with pytest.raises(StorageError, match=r"4 updates with updates=4\n"):
        train(fresh(), images, targets, dataclasses.replace(settings, updates=2), checkpoint=tmp_path / "c")


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_finished_training_that_is_continued_warns_about_the_schedule(schedule: str, tmp_path: Path) -> None:
    images, targets = debris()
    settings = Training(updates=4, batch=8, schedule=schedule)
    train(fresh(), images, targets, settings, checkpoint=tmp_path / "c")
    with pytest.warns(PcsimWarning, match="rate jumps"):
        train(fresh(), images, targets, dataclasses.replace(settings, updates=6), checkpoint=tmp_path / "c")
