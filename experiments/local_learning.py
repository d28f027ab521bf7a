"""Train predictive coding with its local rule to classify digits, and compare it with backpropagation.

A fully connected predictive-coding network (Whittington & Bogacz 2017), with the image clamped at the top and the label
at the bottom, learns from the product of activity and prediction error at each synapse. A control network with the same
initial weights computes the predictions in one feed-forward pass and learns by backpropagation. The report compares the
test accuracies during training and shows the angle between the two weight updates before training.

    python -m experiments.local_learning                     rendered digits, about 30 s on 2 cores
    python -m experiments.local_learning --preset standard   MNIST, three repetitions
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from matplotlib.axes import Axes
from numpy.typing import ArrayLike
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from pcsim import Euler, Network, initial_state, models, stimuli
from pcsim.plots import axes
from pcsim.training import Training, local, optimise

from . import base
from .base import OPTIONS, TEST_SEED, Count, Repeated
from .report import Picture, Report, Table, counted

RULES = ("local", "backpropagation")


@dataclass(frozen=True, config=OPTIONS)
class LocalLearning(Repeated):
    """Options of the experiment, whose defaults depend on the preset."""

    out: Path = Path("results/local_learning")
    """output folder"""
    hidden: tuple[Count, ...] = (256,)
    """number of units in each layer between label and image"""
    activation: Literal["tanh", "sigmoid", "softplus", "relu", "identity"] = "tanh"
    """activation function f in the predictions W f(r)"""
    precision: Annotated[float, Field(gt=0)] = 0.1
    """precision of the label error (all others: 1); smaller values make the local rule closer to backpropagation"""
    dt: Annotated[float, Field(gt=0)] = 2.0
    """Euler step, ms; time constants are 10 ms. --precision 1 makes the energy so steep that --dt 0.5 is needed"""
    relax: Annotated[float, Field(gt=0)] = 40.0
    """duration of the relaxation before each weight update, ms"""
    images: Count = 10_000
    """number of training images"""
    test_images: Count = 2_000
    """number of test images"""
    training: Training = Training(updates=3_000, batch=50, learning_rate=2e-3)
    """training settings; each repetition uses its own seed"""
    digits: Literal["rendered", "handwritten"] = "rendered"
    """source of the digits: rendered at random positions, or MNIST images"""
    mnist: Path | None = None
    """folder with the MNIST idx files; if omitted, PCSIM_MNIST is used or, if that is unset, MNIST is downloaded"""


PRESETS = {
    "smoke": LocalLearning(
        smoke=True,
        out=Path("results/local_learning-smoke"),
        hidden=(32,),
        images=500,
        test_images=200,
        training=Training(updates=60, batch=20),
        workers=1,
    ),
    "quick": LocalLearning(),
    "standard": LocalLearning(
        out=Path("results/local_learning-standard"),
        repetitions=3,
        images=60_000,
        test_images=10_000,
        training=Training(updates=6_000, batch=50, learning_rate=1e-3),
        digits="handwritten",
    ),
    "paper": LocalLearning(
        out=Path("results/local_learning-paper"),
        hidden=(600, 600),
        repetitions=5,
        images=60_000,
        test_images=10_000,
        training=Training(updates=30_000, batch=20, optimiser="sgd", learning_rate=0.01, momentum=0.0),
        digits="handwritten",
    ),
}


def run(config: LocalLearning) -> None:
    """Run the experiment, skipping networks that have already been trained in the output folder."""
    base.conduct(config, find, report)


def find(config: LocalLearning) -> dict[str, Any]:
    """Train networks with both rules and compare their weight updates."""
    base.train_all(config, fit, [(rule, seed) for seed in config.seeds for rule in RULES])
    found = {rule: [outcome(config, rule, seed) for seed in config.seeds] for rule in RULES}
    aligned = base.run_jobs(alignment, [(config, seed) for seed in config.seeds], 1, "alignment")
    return {
        "accuracy": {rule: [row["accuracy"] for row in rows] for rule, rows in found.items()},
        "energy": {rule: [row["energy"] for row in rows] for rule, rows in found.items()},
        "alignment": [row for _, row in aligned],
    }


def data(config: LocalLearning, split: str, seed: int, count: int) -> tuple[Tensor, Tensor]:
    """Return images (n, pixels) in [-0.5, 0.5] and one-hot targets (n, 10)."""
    if config.digits == "handwritten":
        pixels, labels = stimuli.load_mnist(split, config.mnist)
        images = torch.from_numpy(pixels[:count].copy()).float() / 255
        targets = torch.nn.functional.one_hot(torch.from_numpy(labels[:count].astype(int)), 10).float()
    else:
        shown = stimuli.scenes("clean", seed, 0, count)
        images, targets = shown.pixels(), shown.targets()
    return images.flatten(1) - 0.5, targets


def build(config: LocalLearning, repetition: int, pixels: int, precision: float) -> Network:
    """Build a network with label r0 at the bottom and the image at the top; `precision` applies to the label error."""
    torch.manual_seed(repetition)
    sizes = [(10,), *((units,) for units in config.hidden[::-1]), (pixels,)]
    top = f"r{len(sizes) - 1}"
    precisions = [precision, *(1.0 for _ in config.hidden)]
    return models.predictive_coding(
        sizes, clamped=(top,), activation=config.activation, precision=precisions, start="predictions"
    )


def answers(network: Network, images: Tensor) -> Tensor:
    """Return the label that is inferred with only the image clamped. One pass reaches the fixed point, where E = 0."""
    (top,) = network.inputs
    with torch.no_grad():
        return initial_state(network, {top: images})["r0"]


def fit(config: LocalLearning, rule: str, repetition: int) -> list[float]:
    """Train one network; return its energy (or loss, for backpropagation) during training."""
    return outcome(config, rule, repetition)["energy"]


def outcome(config: LocalLearning, rule: str, repetition: int) -> dict[str, Any]:
    """Return (update, test accuracy) pairs and the energy during training, after training the network if necessary."""
    path = base.kept(config, "training", rule, repetition, suffix="json")
    return base.once(path, lambda: _trained(config, rule, repetition))


def _trained(config: LocalLearning, rule: str, repetition: int) -> dict[str, Any]:
    images, targets = data(config, "train", repetition, config.images)
    shown, wanted = data(config, "test", TEST_SEED, config.test_images)
    network = build(config, repetition, images.shape[1], config.precision)
    (top,) = network.inputs
    learning = network.clamped("r0")
    relaxation = local.Relaxation(learning, Euler(dt=config.dt), config.relax)
    settings = dataclasses.replace(config.training, seed=repetition)
    accuracy: list[tuple[int, float]] = []

    def gradient(chosen: Tensor, update: int) -> Tensor:
        if update % max(1, settings.updates // 20) == 0:
            accuracy.append((update, score(network, shown, wanted)))
        batch = {top: images[chosen], "r0": targets[chosen]}
        if rule == "local":
            return relaxation.local_gradient(relaxation(batch)).mean()
        loss = 0.5 * (batch["r0"] - initial_state(network, {top: batch[top]})["r0"]).square().sum(1).mean()
        loss.backward()
        return loss.detach()

    energy = optimise(learning, len(images), settings, gradient, bar=base.job_bar(f"{rule} {repetition}"))
    accuracy.append((settings.updates, score(network, shown, wanted)))
    return {"accuracy": accuracy, "energy": energy}


def score(network: Network, images: Tensor, targets: Tensor) -> float:
    """Return the accuracy of the inferred labels."""
    return float((answers(network, images).argmax(1) == targets.argmax(1)).double().mean())


def alignment(config: LocalLearning, repetition: int) -> dict[str, Any]:
    """Return the cosine between the local and backpropagation weight updates for several label precisions.

    With a lower label precision, relaxation moves the layers less far from their feed-forward values, so their errors
    are closer to those of backpropagation. In theory, the cosine approaches 1 as the precision approaches 0.
    """
    images, targets = data(config, "train", repetition, 50)
    precisions, cosines = [1.0, 0.3, 0.1, 0.03, 0.01], []
    # With a high label precision, the energy is so steep that the dt used in training exceeds the stability limit.
    solver = Euler(dt=config.dt / 4)
    for precision in precisions:
        network = build(config, repetition, images.shape[1], precision)
        (top,) = network.inputs
        learning = network.clamped("r0")
        end = local.relax(learning, {top: images, "r0": targets}, solver, 20 * config.relax)
        local.local_gradient(learning, end)
        ours = flat_gradient(learning)
        learning.zero_grad()
        loss = 0.5 * (targets - initial_state(network, {top: images})["r0"]).square().sum(1).mean()
        loss.backward()
        cosines.append(float(torch.nn.functional.cosine_similarity(ours, flat_gradient(learning), dim=0)))
    return {"precision": precisions, "cosine": cosines}


def flat_gradient(network: Network) -> Tensor:
    """Concatenate all gradients into one vector."""
    return torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])


def report(config: LocalLearning, results: dict[str, Any]) -> Report:
    """Build the report page."""
    pictures = [
        Picture(
            "error",
            learning_curves(results["accuracy"]),
            "Test error during training with the local rule and with backpropagation, which use the same initial "
            "weights and the same order of images. Each line shows one repetition.",
            ("accuracy",),
        ),
        Picture(
            "alignment",
            alignment_curves([(row["precision"], row["cosine"]) for row in results["alignment"]]),
            "1 - cosine of the angle between the weight updates of the local rule and of backpropagation before "
            "training, as a function of the precision of the label error. The updates become more similar as the "
            "precision decreases (Whittington & Bogacz 2017). Each line shows one repetition.",
            ("alignment",),
        ),
    ]
    rows = []
    for rule, runs in results["accuracy"].items():
        ends = [100 * curve[-1][1] for curve in runs]
        rows.append((rule, ", ".join(f"{value:.2f}" for value in ends), f"{sum(ends) / len(ends):.2f}"))
    return Report(
        "Predictive coding with its local learning rule",
        f"{config.images:,} training and {config.test_images:,} test images ({config.digits} digits), hidden layers "
        f"{'-'.join(map(str, config.hidden))}, {config.training.updates:,} updates, "
        f"{counted(config.repetitions, 'repetition')}.",
        pictures,
        [Table("Test accuracy (%)", ("rule", "each repetition", "mean"), rows)],
    )


def learning_curves(curves: Mapping[str, Sequence[ArrayLike]], ax: Axes | None = None) -> Axes:
    """Plot error (log scale) against updates. curves[rule] lists (update, accuracy) pairs per repetition."""
    ax = ax or axes()
    for index, (name, repetitions) in enumerate(curves.items()):
        for number, repetition in enumerate(repetitions):
            update, accuracy = np.asarray(repetition).T
            label = name if number == 0 else None
            ax.plot(update, 100 * (1 - accuracy), ("-", "--")[index % 2], color=f"C{index}", linewidth=1.3, label=label)
    ax.set(xlabel="update", ylabel="error (%)", yscale="log")
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:g}"[0] in "235" else "")
    ax.legend(frameon=False)
    return ax


def alignment_curves(curves: Sequence[tuple[ArrayLike, ArrayLike]], ax: Axes | None = None) -> Axes:
    """Plot 1 - cosine between two weight updates against the label precision (log-log), one line per repetition."""
    ax = ax or axes()
    for precision, cosine in curves:
        ax.plot(precision, np.clip(1.0 - np.asarray(cosine), 1e-8, None), "o-", ms=4)
    ax.set(xscale="log", yscale="log", xlabel="precision of the label error")
    ax.set(ylabel="1 - cosine with backpropagation")
    return ax


if __name__ == "__main__":
    base.main()
