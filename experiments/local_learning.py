"""Does predictive coding learn to name digits by its local rule alone, and how close does it come to backpropagation?

A dense predictive-coding network (Whittington & Bogacz 2017), the image clamped above and the label below, learns from
the products of activity and prediction error at each synapse; a twin with the same first weights learns by
backpropagation through the feed-forward pass that the network's predictions make. Compared: test accuracy over
training, and the angle between the two weight changes at the start.

    python -m experiments.local_learning                     rendered digits, 2 minutes
    python -m experiments.local_learning --preset standard   MNIST, three repetitions
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import Tensor
from tqdm.auto import tqdm

from experiments import common
from pcsim import Euler, Network, initial_state, models, plots, stimuli
from pcsim.core import storage
from pcsim.training import Training, local, optimise

TEST_SEED = 1_000_000
RULES = ("local", "backpropagation")


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class LocalLearning:
    """Options of the experiment; a preset gives the defaults."""

    out: Path = Path("results/local_learning")
    """folder for everything that comes out"""
    seed: int = 0
    """of the first repetition"""
    hidden: tuple[int, ...] = (256,)
    """units of the layers between label and image"""
    activation: Literal["tanh", "sigmoid", "softplus", "relu", "identity"] = "tanh"
    """f in the predictions W f(r)"""
    precision: Annotated[float, Field(gt=0)] = 0.1
    """of the label's error, against 1 for the others: the smaller, the nearer is the local rule to backpropagation"""
    dt: Annotated[float, Field(gt=0)] = 2.0
    """ms; every layer has a time constant of 10 ms. With a precision of 1 take 0.5: the energy is steeper then"""
    relax: Annotated[float, Field(gt=0)] = 40.0
    """ms for which every batch is relaxed before its weights change"""
    repetitions: Annotated[int, Field(gt=0)] = 1
    """how many times to train each network"""
    images: Annotated[int, Field(gt=0)] = 10_000
    """training images"""
    test_images: Annotated[int, Field(gt=0)] = 2_000
    """test images"""
    training: Training = Training(updates=3_000, batch=50, learning_rate=2e-3)
    """how to train; its seed is that of the repetition"""
    digits: Literal["rendered", "handwritten"] = "rendered"
    """rendered digits at random places, or the images of MNIST as they are"""
    mnist: Path | None = None
    """folder with the idx files of MNIST (else PCSIM_MNIST, else a download)"""
    workers: Annotated[int, Field(gt=0)] = 2
    """processes that train side by side; results do not depend on it"""

    @property
    def seeds(self) -> range:
        """Of the repetitions."""
        return range(self.seed, self.seed + self.repetitions)


PRESETS = {
    "smoke": LocalLearning(
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
    """The whole experiment. A network that is trained already is not trained again."""
    begun = time.perf_counter()
    common.claim(config.out, config)
    jobs = [(config, rule, seed) for seed in config.seeds for rule in RULES]
    for job, accuracy in common.run_jobs(fit, jobs, config.workers, "training"):
        tqdm.write(f"trained by {job[1]}, repetition {job[2]}: {100 * accuracy[-1][1]:.1f} % correct")
    common.leave_the_rest_to_the_first()
    kept = {rule: [storage.read_json(path_of(config, rule, seed)) for seed in config.seeds] for rule in RULES}
    results: dict[str, Any] = {
        "config": common.recorded(config),
        "accuracy": {rule: [row["accuracy"] for row in rows] for rule, rows in kept.items()},
        "energy": {rule: [row["energy"] for row in rows] for rule, rows in kept.items()},
        "alignment": [
            row for _, row in common.run_jobs(alignment, [(config, seed) for seed in config.seeds], 1, "alignment")
        ],
    }
    results |= common.environment(torch.device("cpu"))
    results["wall_time_s"] = round(time.perf_counter() - begun, 1)
    storage.write_json(config.out / "results.json", results)
    report(config, results)


def path_of(config: LocalLearning, rule: str, repetition: int) -> Path:
    """Where the outcome of a training is kept."""
    return config.out / "training" / f"{rule}-{repetition}.json"


def data(config: LocalLearning, split: str, seed: int, count: int) -> tuple[Tensor, Tensor]:
    """Images (n, pixels) in [-0.5, 0.5] and targets (n, 10), 1 at the digit."""
    if config.digits == "handwritten":
        pixels, labels = stimuli.load_mnist(split, config.mnist)
        images = torch.from_numpy(pixels[:count].copy()).float() / 255
        targets = torch.nn.functional.one_hot(torch.from_numpy(labels[:count].astype(int)), 10).float()
    else:
        shown = stimuli.scenes("clean", seed, 0, count)
        images, targets = shown.pixels(), shown.targets()
    return images.flatten(1) - 0.5, targets


def build(config: LocalLearning, repetition: int, pixels: int, precision: float) -> Network:
    """Label r0 below, image on top, starting from the predictions; `precision` is that of the label's error."""
    torch.manual_seed(repetition)
    sizes = [(10,), *((units,) for units in config.hidden[::-1]), (pixels,)]
    top = f"r{len(sizes) - 1}"
    precisions = [precision, *(1.0 for _ in config.hidden)]
    return models.predictive_coding(
        sizes, clamped=(top,), activation=config.activation, precision=precisions, start="predictions"
    )


def answers(network: Network, images: Tensor) -> Tensor:
    """What the network says of images when nothing but the image is clamped: its fixed point, E = 0, is one pass."""
    (top,) = network.inputs
    with torch.no_grad():
        return initial_state(network, {top: images})["r0"]


def fit(config: LocalLearning, rule: str, repetition: int) -> list[tuple[int, float]]:
    """Train one network; returns (updates, test accuracy) over training."""
    path = path_of(config, rule, repetition)
    if path.exists():
        return storage.read_json(path)["accuracy"]
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

    energy = optimise(learning, len(images), settings, gradient, bar=common.job_bar(f"{rule} {repetition}"))
    accuracy.append((settings.updates, score(network, shown, wanted)))
    storage.write_json(path, {"accuracy": accuracy, "energy": energy})
    return accuracy


def score(network: Network, images: Tensor, targets: Tensor) -> float:
    """Share of images whose digit has the largest answer."""
    return float((answers(network, images).argmax(1) == targets.argmax(1)).double().mean())


def alignment(config: LocalLearning, repetition: int) -> dict[str, Any]:
    """Cosine between the local weight change and that of backpropagation, by the precision of the output's error.

    The less precise the output, the less the relaxation moves the layers away from their feed-forward values, and
    the nearer the errors are to those that backpropagation sends: as the precision goes to 0, theory says 1.
    """
    images, targets = data(config, "train", repetition, 50)
    precisions, cosines = [1.0, 0.3, 0.1, 0.03, 0.01], []
    # A precise label makes the energy steeper: the step that is stable in training is too long for it.
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
    """All gradients as one vector."""
    return torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])


def report(config: LocalLearning, results: dict[str, Any]) -> None:
    """Figures, page, and the table in the terminal."""
    figures: list[tuple[str, Figure | Axes, str]] = [
        (
            "error",
            plots.learning_curves(results["accuracy"]),
            "Test error over training, a line a repetition, by the local rule and by backpropagation from "
            "the same first weights and the same order of images.",
        ),
        (
            "alignment",
            plots.alignment([(row["precision"], row["cosine"]) for row in results["alignment"]]),
            "Angle between the weight changes of the local rule and of backpropagation before training, against the "
            "precision of the label's error: the less precise the output, the nearer (Whittington & Bogacz 2017).",
        ),
    ]
    rows = []
    for rule, runs in results["accuracy"].items():
        ends = [100 * rows_[-1][1] for rows_ in runs]
        rows.append((rule, ", ".join(f"{value:.2f}" for value in ends), f"{sum(ends) / len(ends):.2f}"))
    table = ("Test accuracy (%)", ("rule", "a repetition each", "mean"), rows)
    title = "Predictive coding learns by its local rule"
    summary = (
        f"{config.images:,} training and {config.test_images:,} test images ({config.digits}), layers "
        f"{'-'.join(map(str, config.hidden))}, {config.training.updates:,} updates, {config.repetitions} repetition(s)."
    )
    common.publish(config.out, title, summary, figures, [table], results["wall_time_s"])


if __name__ == "__main__":
    common.main(run, lambda: common.parse(PRESETS, None, str(__doc__)))
