"""Data of all kinds train alike; datasets and loaders resume bitwise; validation, callbacks, schedulers, precision."""

from __future__ import annotations

import random
import re
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.paths import ROOT
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, Dataset, IterableDataset, RandomSampler, TensorDataset, WeightedRandomSampler
from tqdm.auto import tqdm

import pcsim
from pcsim import StorageError, TrainingError, models
from pcsim.training import History, Progress, Training, evaluate, score, train

G = torch.Generator().manual_seed(0)
IMAGES, LABELS = torch.rand(22, 1, 8, 8, generator=G), torch.arange(22) % 3
HELD_OUT = TensorDataset(torch.rand(9, 1, 8, 8, generator=G), torch.arange(9) % 3)
SETTINGS = Training(batch=4, learning_rate=1e-2)


def quiet(**options: Any) -> tqdm:
    return tqdm(disable=True, **options)


def net() -> pcsim.Network:
    torch.manual_seed(3)
    return models.blt(channels=(2, 2), image=(1, 8, 8), classes=3)


def bits(network: pcsim.Network) -> list[bytes]:
    return [p.detach().contiguous().numpy().tobytes() for p in network.parameters()]


class Augmented(Dataset):
    """Images with noise from each of the global generators."""

    def __init__(self, as_dict: bool = False) -> None:
        self.as_dict = as_dict

    def __len__(self) -> int:
        return len(IMAGES)

    def __getitem__(self, index: int) -> Any:
        noise = 0.1 * torch.randn(1, 8, 8) + 0.1 * random.random() + 0.1 * float(np.random.rand())
        image, label = IMAGES[index] + noise, int(LABELS[index])
        return {"image": image, "label": label} if self.as_dict else (image, label)


class Endless(IterableDataset):
    def __iter__(self) -> Any:
        yield from zip(IMAGES, LABELS, strict=True)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(7)


SOURCES: dict[str, Callable[[], Any]] = {
    "dataset": lambda: Augmented(),
    "dataset of dicts": lambda: Augmented(as_dict=True),
    "shuffled loader": lambda: DataLoader(Augmented(), batch_size=4, shuffle=True),
    "loader with a generator": lambda: DataLoader(Augmented(), batch_size=4, shuffle=True, generator=generator()),
    "loader with workers": lambda: DataLoader(
        Augmented(as_dict=True), batch_size=4, shuffle=True, num_workers=1, generator=generator()
    ),
    "sampler with a generator": lambda: DataLoader(
        Augmented(), batch_size=4, sampler=RandomSampler(IMAGES, True, 40, generator=generator())
    ),
    "weighted sampler": lambda: DataLoader(Augmented(), batch_size=4, sampler=WeightedRandomSampler([1.0] * 22, 22)),
    "iterable dataset": lambda: DataLoader(Endless(), batch_size=4),
}


class Killed(Exception):
    pass


def kill_at(update: int) -> Callable[[Progress], None]:
    def callback(progress: Progress) -> None:
        if progress.update == update:
            raise Killed

    return callback


def run(source: Any, path: Path | None, callbacks: Any = (), **options: Any) -> tuple[pcsim.Network, History]:
    network = net()
    options = {"updates": 13, "validation": HELD_OUT, "validate_every": 4, "keep": "best"} | options
    history = train(
        network, source, settings=SETTINGS, checkpoint=path, every=1, callbacks=callbacks, bar=quiet, **options
    )
    return network, history


def interrupted(source: Callable[[], Any], path: Path, kills: tuple[int, ...], **options: Any) -> tuple:
    for number, update in enumerate(kills):
        torch.manual_seed(number)
        np.random.seed(number)
        random.seed(number)
        with pytest.raises(Killed):
            run(source(), path, kill_at(update), **options)
    return run(source(), path, **options)


@pytest.mark.parametrize("name", SOURCES)
def test_train_resumes_bitwise_within_epochs(name: str, tmp_path: Path) -> None:
    whole, history = run(SOURCES[name](), None)
    again, resumed = interrupted(SOURCES[name], tmp_path / "c", (3, 6, 7, 12))
    assert bits(again) == bits(whole) and resumed == history and resumed.validation == history.validation
    assert [one.update for one in history.validation] == [4, 8, 12, 13]


SCHEDULERS: dict[str, Callable[[torch.optim.Optimizer], Any]] = {
    "one cycle": lambda optimiser: lr_scheduler.OneCycleLR(optimiser, 0.02, total_steps=13),
    "milestones": lambda optimiser: lr_scheduler.MultiStepLR(optimiser, [5, 5, 9]),
    "sequence": lambda optimiser: lr_scheduler.SequentialLR(
        optimiser,
        [lr_scheduler.LinearLR(optimiser, 0.1, total_iters=4), lr_scheduler.MultiStepLR(optimiser, [3, 3])],
        [5],
    ),
    "plateau": lambda optimiser: lr_scheduler.ReduceLROnPlateau(optimiser, patience=0, threshold=0.5),
}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_train_follows_torch_scheduler_and_resumes_bitwise(name: str, tmp_path: Path) -> None:
    rates: list[float] = []
    options = {"scheduler": SCHEDULERS[name]}
    whole, history = run(Augmented(), None, lambda progress: rates.append(progress.rate), **options)
    again, resumed = interrupted(Augmented, tmp_path / "c", (6, 11), **options)
    assert bits(again) == bits(whole) and resumed == history
    if name != "plateau":
        optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], SETTINGS.learning_rate)
        scheduler, expected = SCHEDULERS[name](optimiser), []
        for _ in range(13):
            expected.append(optimiser.param_groups[0]["lr"])
            optimiser.step()
            scheduler.step()
        assert rates == pytest.approx(expected, rel=1e-12)
    else:
        assert rates[0] == SETTINGS.learning_rate and rates[-1] == pytest.approx(0.01 * SETTINGS.learning_rate)
    with pytest.raises(StorageError, match="scheduler"):
        run(Augmented(), tmp_path / "c")


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_train_in_mixed_precision_resumes_bitwise_and_is_close(precision: str, tmp_path: Path) -> None:
    def fit(path: Path | None, callbacks: Any = (), **options: Any) -> tuple[pcsim.Network, History]:
        network = net()
        settings = Training(batch=11, learning_rate=1e-3, **options)
        return network, train(
            network, IMAGES, LABELS, settings, updates=8, checkpoint=path, every=1, callbacks=callbacks, bar=quiet
        )

    full, _ = fit(None)
    whole, history = fit(None, precision=precision)
    with pytest.raises(Killed):
        fit(tmp_path / "c", kill_at(5), precision=precision)
    again, resumed = fit(tmp_path / "c", precision=precision)
    assert bits(again) == bits(whole) != bits(full) and resumed == history
    assert all(p.dtype == torch.float32 for p in whole.parameters())
    # The first updates of float16 overflow, are skipped, and halve the scale; each changes weights by up to the rate.
    moved = [(p - q).abs().max() for p, q in zip(whole.parameters(), full.parameters(), strict=True)]
    assert max(moved) < 8e-3


def test_float16_gradient_is_unscaled_before_clipping() -> None:
    """Small gradients, which underflow in float16, and clipping, which must see their true size."""
    steps = {}
    for precision in ("float32", "float16"):
        network = net()
        before = [p.detach().clone() for p in network.parameters()]
        settings = Training(
            updates=3,
            batch=22,
            optimiser="sgd",
            momentum=0.0,
            learning_rate=1.0,
            clip=1e-3,
            precision=precision,
            schedule="constant",
        )
        train(network, IMAGES, LABELS, settings, bar=quiet)
        steps[precision] = torch.cat(
            [(p.detach() - q).flatten() for p, q in zip(network.parameters(), before, strict=True)]
        ).norm()
    assert steps["float32"] == pytest.approx(3e-3, rel=0.05)
    assert steps["float16"] == pytest.approx(3e-3, rel=0.05)


def test_all_kinds_of_data_train_to_the_same_bits() -> None:
    targets = torch.nn.functional.one_hot(LABELS, 3)
    same: dict[str, tuple[Any, Any]] = {
        "targets": (IMAGES, targets.float()),
        "whole targets": (IMAGES, targets),
        "labels": (IMAGES, LABELS),
        "arrays": (IMAGES.numpy(), LABELS.numpy().astype(np.uint8)),
        "tuple": ((IMAGES, LABELS), None),
        "dataset": (TensorDataset(IMAGES, LABELS), None),
        "items": ([*zip(IMAGES, LABELS, strict=True)], None),
    }
    found = {}
    for name, (images, labels) in same.items():
        network = net()
        data = type("Items", (Dataset,), {"__len__": lambda s: 22, "__getitem__": lambda s, i: (IMAGES[i], LABELS[i])})
        train(network, data() if name == "items" else images, labels, SETTINGS, epochs=1, bar=quiet)
        found[name] = bits(network)
    assert all(value == found["targets"] for value in found.values())
    read_only = IMAGES.numpy().copy()
    read_only.flags.writeable = False
    train(net(), read_only[::-1], LABELS, SETTINGS, updates=1, bar=quiet)


def test_epochs_are_complete_passes_through_the_data() -> None:
    for source, expected in ((IMAGES, 10), (DataLoader(TensorDataset(IMAGES, LABELS), batch_size=4), 12)):
        seen: list[tuple[int, bool]] = []
        labels = LABELS if source is IMAGES else None
        watch = [lambda progress, seen=seen: seen.append((progress.update, progress.is_end_of_epoch))]
        train(net(), source, labels, SETTINGS, epochs=2, callbacks=watch, bar=quiet)
        assert [update for update, is_end in seen if is_end] == [expected // 2, expected]


def test_loader_order_and_global_generators_are_kept() -> None:
    taken: list[int] = []

    class Watched(Dataset):
        def __len__(self) -> int:
            return 8

        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            taken.append(index)
            return IMAGES[index], index % 3

    torch.manual_seed(5)
    network = net()
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    loader = DataLoader(Watched(), batch_size=4, shuffle=True, generator=generator())
    # The loader is also the validation set, whose order must not disturb that of training.
    train(network, loader, epochs=2, validation=loader, bar=quiet)
    plain = DataLoader(range(8), batch_size=4, shuffle=True, generator=generator())
    expected = [index for _ in range(2) for batch in plain for index in batch.tolist()]
    runs = [taken[n : n + 8] for n in range(len(taken) % 8, len(taken), 8)]
    assert runs[-4] + runs[-2] == expected  # training and validation in turn
    assert torch.equal(torch.get_rng_state(), before[0]) and random.getstate() == before[2]
    assert (np.random.get_state()[1] == before[1]).all()


def test_dropout_resumes_bitwise(tmp_path: Path) -> None:
    def fit(path: Path | None, callbacks: Any = ()) -> list[bytes]:
        network = linear(dropout=0.4)
        train(network, IMAGES, LABELS, SETTINGS, updates=9, checkpoint=path, callbacks=callbacks, every=2, bar=quiet)
        return bits(network)

    whole = fit(None)
    with pytest.raises(Killed):
        fit(tmp_path / "c", kill_at(5))
    assert fit(tmp_path / "c") == whole


def test_score_equals_formula_and_keeps_mode() -> None:
    network = net().train()
    images, labels = HELD_OUT.tensors
    logits = evaluate(network, images)
    for over_time in ("sum", "mean", "last"):
        each = torch.stack([torch.nn.functional.cross_entropy(step, labels) for step in logits])
        expected = {"sum": each.sum(), "mean": each.mean(), "last": each[-1]}[over_time]
        found = score(network, HELD_OUT, None, Training(over_time=over_time), batch=4)
        assert found.loss == pytest.approx(float(expected), rel=1e-5) and found.images == 9
        assert found.accuracy == pytest.approx(float((logits[-1].argmax(1) == labels).double().mean()))
    assert network.training


def linear(dropout: float = 0.0) -> pcsim.Network:
    torch.manual_seed(1)
    parts = [torch.nn.Flatten(), torch.nn.Dropout(dropout), torch.nn.Linear(64, 3)]
    return pcsim.Network(
        {"image": (1, 8, 8)},
        [pcsim.Population("readout", pcsim.rules.Sum())],
        [pcsim.Projection("image", "readout", torch.nn.Sequential(*parts))],
        readout="readout",
        steps=1,
    )


def test_diverged_sample_is_wrong_and_never_best() -> None:
    network, images = linear(), HELD_OUT.tensors[0].clone()
    images[0] = 1e37
    with torch.no_grad():
        next(network.parameters()).mul_(100.0)
    labels = evaluate(network, HELD_OUT.tensors[0])[-1].argmax(1)
    labels[0] = 0
    with pytest.warns(pcsim.PcsimWarning):
        found = score(network, images, labels)
    assert found.accuracy == pytest.approx(8 / 9) and found.loss != found.loss
    history = History([1.0])
    history.validation = [found]
    assert history.best is None


def test_keep_best_restores_weights_of_lowest_validation_loss() -> None:
    seen: list[tuple[float, list[bytes]]] = []

    def watch(progress: Progress) -> None:
        assert progress.network.training
        if progress.validation:
            seen.append((progress.validation.loss, bits(progress.network)))

    settings = Training(batch=4, optimiser="sgd", learning_rate=0.3, schedule="constant", clip=None)
    network = net()
    options = {"updates": 12, "validation": HELD_OUT, "validate_every": 2, "bar": quiet}
    history = train(network, IMAGES, LABELS, settings, keep="best", callbacks=watch, **options)
    assert bits(network) == min(seen, key=lambda one: one[0])[1]
    assert history.best.loss == min(loss for loss, _ in seen)
    last = net()
    train(last, IMAGES, LABELS, settings, **options)
    assert bits(last) == seen[-1][1]


def test_callback_stops_training_for_good(tmp_path: Path) -> None:
    def stop(progress: Progress) -> None:
        if progress.update == 7:
            progress.stop("enough")

    first, history = run(Augmented(), tmp_path / "c", stop)
    second, again = run(Augmented(), tmp_path / "c")
    assert history.stopped == again.stopped == "enough" and history == again and len(history) == 1
    assert bits(first) == bits(second)
    with pytest.warns(pcsim.PcsimWarning, match="cosine"):
        _, longer = run(Augmented(), tmp_path / "c", updates=15)
    assert longer.stopped is None and longer.validation[-1].update == 15


def test_train_to_predict_and_schedules_by_name() -> None:
    from pcsim.training.frames import Goal, train_to_predict

    prednet = models.prednet((1, 2), image=(1, 16, 16))
    clip = np.random.default_rng(0).random((4, 1, 16, 16), dtype=np.float32)
    settings = Training(updates=1, batch=2, precision="float16")
    assert np.isfinite(train_to_predict(prednet, lambda _: clip, 4, settings, Goal("absolute"), bar=quiet)[0])
    linear, step = Training(updates=10, schedule="linear"), Training(schedule="step", decade=5, learning_rate=1.0)
    assert [linear.rate(u) / linear.learning_rate for u in (0, 5, 10)] == pytest.approx([1.0, 0.5, 0.0])
    assert [step.rate(u) for u in (0, 4, 5, 10)] == pytest.approx([1.0, 1.0, 0.1, 0.01])


class Pictures(Dataset):
    def __init__(self, item: Any) -> None:
        self.item = item

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Any:
        return self.item


def loader(**options: Any) -> DataLoader:
    return DataLoader(TensorDataset(IMAGES, LABELS), batch_size=8, **options)


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "epochs and updates": (lambda: train(net(), loader(), epochs=1, updates=2), "omit updates"),
    "epochs and settings": (lambda: train(net(), loader(), Training(updates=5), epochs=1), "omit settings.updates"),
    "targets twice": (lambda: train(net(), loader(), LABELS), "omit the targets"),
    "no targets": (lambda: train(net(), IMAGES), "pass targets"),
    "two settings": (lambda: train(net(), loader(), SETTINGS, SETTINGS), "settings=Training"),
    "two batch sizes": (lambda: train(net(), loader(), Training(batch=4), epochs=1), "omit batch="),
    "iterable": (lambda: train(net(), Endless(), epochs=1), "DataLoader"),
    "epochs of unknown length": (lambda: train(net(), DataLoader(Endless(), batch_size=4), epochs=1), "updates=1000"),
    "validation of unknown interval": (
        lambda: train(net(), DataLoader(Endless(), batch_size=4), updates=1, validation=HELD_OUT),
        "validate_every",
    ),
    "label too large": (lambda: train(net(), IMAGES, LABELS + 1, updates=1), "classes=4"),
    "label in a batch": (lambda: train(net(), Pictures((IMAGES[0], 3)), updates=1), "from 0 to 2"),
    "float labels": (lambda: train(net(), IMAGES, LABELS.float(), updates=1), "labels.long"),
    "PIL-like image": (lambda: train(net(), Pictures((object(), 1)), updates=1), "transform"),
    "keys": (lambda: train(net(), Pictures({"x": IMAGES[0], "label": 1}), updates=1), "pixel_values"),
    "one tensor": (lambda: train(net(), Pictures(IMAGES[0]), updates=1), "collate_fn"),
    "best of nothing": (lambda: train(net(), IMAGES, LABELS, updates=1, keep="best"), "validation="),
    "plateau of nothing": (
        lambda: train(net(), IMAGES, LABELS, updates=1, scheduler=lr_scheduler.ReduceLROnPlateau),
        "validation=",
    ),
    "no scheduler": (lambda: train(net(), IMAGES, LABELS, updates=1, scheduler=lambda o: o), "lr_scheduler"),
    "validation shape": (
        lambda: train(net(), IMAGES, LABELS, updates=1, validation=(torch.rand(2, 3, 8, 8), LABELS[:2])),
        "validation images of shape",
    ),
    "double in half precision": (
        lambda: train(net().double(), IMAGES.double(), LABELS, Training(precision="bfloat16"), updates=1),
        "net.float",
    ),
    "optimise in float16": (
        lambda: pcsim.training.optimise(net(), 4, Training(precision="float16"), lambda *_: torch.zeros(())),
        "GradScaler",
    ),
    "no batches": (lambda: train(net(), DataLoader(Pictures(0), 8, drop_last=True), updates=1), "drop_last"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_a_remedy(name: str) -> None:
    call, words = REFUSED[name]
    with pytest.raises(TrainingError, match=re.escape(words)):
        call()


def test_persistent_workers_refused_with_checkpoint(tmp_path: Path) -> None:
    workers = loader(num_workers=1, persistent_workers=True)
    with pytest.raises(TrainingError, match="persistent_workers"):
        train(net(), workers, epochs=1, checkpoint=tmp_path / "c")


def lightning_block() -> str:
    return re.search(r"^```py\n(.*?)^```", (ROOT / "docs/training.md").read_text(), re.S | re.M)[1]


def test_documented_lightning_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for Lightning, which the tests do not install: its loop for one batch."""

    class Stand(torch.nn.Module):
        def save_hyperparameters(self) -> None:
            self.hparams = types.SimpleNamespace(rate=2e-3)

        def log(self, name: str, value: Any) -> None:
            logged[name] = float(value.detach())

    logged: dict[str, float] = {}
    monkeypatch.setitem(sys.modules, "lightning", types.SimpleNamespace(LightningModule=Stand))
    names: dict[str, Any] = {}
    exec(lightning_block(), names)
    module = names["Recurrent"]()
    batch = torch.rand(6, 1, 16, 16), torch.arange(6) % 3
    optimiser, losses = module.configure_optimizers(), []
    for index in range(6):
        loss = module.training_step(batch, index)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    module.eval()
    module.validation_step(batch, 0)
    assert losses[-1] < losses[0] and 0 <= logged["accuracy"] <= 1
