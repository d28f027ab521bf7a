"""Test whether cycles improve accuracy and reduce prediction errors in PCNs with global loops (Wen et al. 2018).

The experiment trains networks with T = 0, 1 and 3 cycles on a small set of occluded digits to answer two separate
questions. Does accuracy increase with T across networks? Does the prediction error decrease over the cycles of a single
network? The error is measured at initialisation, after training as published, after training with a reconstruction
term, and in two networks designed to reduce it.

    python -m experiments.pcn_cycles                     rendered digits, one repetition, about 2 minutes on 2 cores
    python -m experiments.pcn_cycles --preset standard   MNIST, 1,000 training images, three repetitions
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from pcsim import Iterate, Network, Record, models, plots, rules, simulate, stimuli
from pcsim.dynamics import largest_eigenvalue
from pcsim.training import Training, evaluate

from . import base
from .base import OPTIONS, TEST_SEED, Count, Device, Repeated, Some
from .report import Picture, Report, Table, counted

WATCHED = 64
"""number of test images used to measure the prediction error"""


@dataclass(frozen=True, config=OPTIONS)
class Cycles(Repeated):
    """Options of the experiment, whose defaults depend on the preset."""

    out: Path = Path("results/pcn_cycles")
    """output folder"""
    device: Device = "auto"
    """device on which to train and run the networks"""
    cycles: Some[Annotated[int, Field(ge=0)]] = (0, 1, 3)
    """numbers of cycles T of the networks to compare"""
    channels: Some[Count] = (16, 32, 32)
    """number of feature maps in each layer; each of the first two layers halves the height and width"""
    fragments: Annotated[int, Field(ge=0)] = 3
    """number of debris fragments covering each digit"""
    images: Count = 1_000
    """number of training images"""
    test_images: Count = 1_000
    """number of test images"""
    training: Training = Training(
        updates=600, batch=50, optimiser="sgd", learning_rate=0.02, clip=5.0, over_time="last"
    )
    """training settings of the networks as published; each repetition uses its own seed"""
    predicting: Training = Training(
        updates=1_200, batch=50, optimiser="sgd", learning_rate=0.05, clip=5.0, over_time="last", reconstruction=0.3
    )
    """training settings of the network that also learns to predict; each repetition uses its own seed"""
    long: Count = 10
    """number of cycles over which the error is measured"""
    digits: Literal["rendered", "handwritten"] = "rendered"
    """source of the digits: rendered from a font, or MNIST"""
    mnist: Path | None = None
    """folder with the MNIST idx files; if omitted, PCSIM_MNIST is used or, if that is unset, MNIST is downloaded"""
    checkpoint_every: Count = 100
    """number of updates between checkpoints"""


PRESETS = {
    "smoke": Cycles(
        smoke=True,
        out=Path("results/pcn_cycles-smoke"),
        cycles=(0, 1),
        channels=(4, 4),
        images=100,
        test_images=100,
        training=Training(updates=20, batch=20, optimiser="sgd", learning_rate=0.02, over_time="last"),
        predicting=Training(
            updates=20, batch=20, optimiser="sgd", learning_rate=0.05, over_time="last", reconstruction=0.3
        ),
        checkpoint_every=20,
        workers=1,
    ),
    "quick": Cycles(
        training=dataclasses.replace(Cycles().training, updates=400),
        predicting=dataclasses.replace(Cycles().predicting, updates=600),
    ),
    "standard": Cycles(out=Path("results/pcn_cycles-standard"), repetitions=3, digits="handwritten"),
    "paper": Cycles(
        out=Path("results/pcn_cycles-paper"),
        cycles=(0, 1, 2, 3, 4, 5, 6),
        channels=(64, 64, 128, 128, 256, 256, 256, 256),
        repetitions=3,
        images=50_000,
        test_images=10_000,
        training=Training(
            updates=97_500, batch=128, optimiser="sgd", learning_rate=0.01, weight_decay=5e-4, over_time="last"
        ),
        predicting=dataclasses.replace(Cycles().predicting, updates=97_500, batch=128),
        digits="handwritten",
        workers=1,
    ),
}


def run(config: Cycles) -> None:
    """Run the experiment, or resume it from its output folder."""
    base.conduct(config, find, report, check=lambda options: build(options, "published", max(options.cycles)))


def find(config: Cycles) -> dict[str, Any]:
    """Train all networks; return their accuracies and prediction errors over cycles."""
    keys = [("published", cycles, seed) for seed in config.seeds for cycles in config.cycles[::-1]]
    keys += [("predicting", max(config.cycles), seed) for seed in config.seeds]
    base.train_all(config, fit, keys)
    return analyse(config)


def build(config: Cycles, kind: str, cycles: int) -> Network:
    """Build an untrained network with the given number of cycles."""
    predicting = kind == "predicting"
    return models.pcn_global(
        config.channels,
        tuple(range(1, min(3, len(config.channels) + 1))),
        cycles,
        tied=predicting,
        rates=(0.1, 0.1) if predicting else (0.5, 1.0),
        image=(1, 32, 32),
    )


def data(config: Cycles, seed: int, count: int, split: str) -> tuple[Tensor, Tensor]:
    """Return the images, normalised to mean 0 and sd 1 over all pixels of the set, and the targets."""
    glyphs = stimuli.HandwrittenGlyphs(split, config.mnist) if config.digits == "handwritten" else None
    shown = stimuli.scenes(stimuli.Condition(fragments=config.fragments), seed, 0, count, glyphs)
    pixels = shown.pixels()
    return (pixels - pixels.mean()) / pixels.std(), shown.targets()


def fit(config: Cycles, kind: str, cycles: int, repetition: int) -> list[float]:
    """Train one network, or resume its training, and return the loss curve."""
    torch.manual_seed(1_000 * repetition + cycles)
    network = build(config, kind, cycles)
    images, targets = data(config, repetition, config.images, "train")
    settings = dataclasses.replace(config.predicting if kind == "predicting" else config.training, seed=repetition)
    return base.fit(config, network, images, targets, settings, kind, cycles, repetition)


def trained(config: Cycles, kind: str, cycles: int, repetition: int) -> Network:
    """Return the trained network."""
    return base.trained(config, build(config, kind, cycles), kind, cycles, repetition)


def analyse(config: Cycles) -> dict[str, Any]:
    """Return the accuracy of each network at each cycle, and the prediction errors over cycles."""
    images, targets = data(config, TEST_SEED, config.test_images, "test")
    choices = targets.argmax(1)

    def accuracy(network: Network) -> list[float]:
        logits = evaluate(network, images, steps=max(config.long, network.steps or 1) if network.errors else 1)
        return (logits.argmax(-1) == choices).double().mean(1).tolist()

    networks: dict[str, Any] = {}
    for kind, cycles in [*(("published", c) for c in config.cycles), ("predicting", max(config.cycles))]:
        rows = [accuracy(trained(config, kind, cycles, seed)) for seed in config.seeds]
        at = max(cycles - 1, 0)
        parameters = build(config, kind, cycles).parameter_count
        networks[f"{kind} T={cycles}"] = {
            "cycles": cycles,
            "parameters": parameters,
            "accuracy": [row[at] for row in rows],
            "accuracy_over_cycles": rows,
        }
    return {
        "networks": networks,
        "errors": {
            name: measure_errors(net, images[:WATCHED], config.long)
            for name, net in networks_to_measure(config).items()
        },
    }


def networks_to_measure(config: Cycles) -> dict[str, Network]:
    """Return the networks whose error is measured over cycles, keyed by description."""
    longest = max(config.cycles)
    torch.manual_seed(0)
    single = models.pcn_global((16,), (), tied=True, activation="identity", image=(1, 32, 32))
    (edge,) = (edge.transform for edge in single.projections if edge.name == "e0->r1")
    (predicting,) = (edge.transform for edge in single.projections if edge.name == "r1->p0")
    largest = largest_eigenvalue(lambda value: edge(predicting(value)), single.shape("r1"))
    with torch.no_grad():
        cast(rules.Correction, single.populations["r1"].rule).rate.weight.fill_(1.8 / largest)
    deep = models.pcn_global(config.channels, (), tied=True, rates=(0.0, 0.3), image=(1, 32, 32))
    return {
        "as published, before training": build(config, "published", longest),
        "as published, trained": trained(config, "published", longest, config.seed),
        "tied, taught to predict (not in the paper)": trained(config, "predicting", longest, config.seed),
        "one tied linear layer, b < 2/lambda_max: must fall": single,
        "tied, a = 0, b = 0.3, before training": deep,
    }


def measure_errors(network: Network, images: Tensor, cycles: int) -> dict[str, list[float]]:
    """Return the relative error of each layer at each cycle (median over images)."""
    record = Record(errors="all", relative=True)
    run_ = simulate(network, images, solver=Iterate(), steps=cycles, record=record)
    return {name: value.median(1).values.tolist() for name, value in run_.relative_errors.items()}


def report(config: Cycles, results: dict[str, Any]) -> Report:
    """Build the report page."""
    networks = results["networks"]
    pictures = [
        Picture(
            "accuracy",
            plots.accuracy_by_cycles(
                {name: row["accuracy_over_cycles"] for name, row in networks.items()},
                {name: row["cycles"] for name, row in networks.items()},
            ),
            "Left: accuracy at the last cycle of networks trained with T cycles, one dot per repetition. This is the "
            "published comparison across networks. Right: accuracy of each network at every cycle, including cycles "
            "beyond the T used in training (large dot). The two panels answer different questions.",
            ("networks",),
        ),
        Picture(
            "errors",
            errors_over_cycles(results["errors"]),
            "Squared prediction error divided by the squared activity of the predicted layer (median over images), "
            "with one line per layer (e0: image). The published update does not reduce this error, either at "
            "initialisation or after training on the task. In a single tied linear layer, the "
            "error must decrease because b is below 2 / lambda_max. With tied weights, no blending (a = 0) and small "
            "b, the image error decreases. With a reconstruction term in the loss (not in the paper), the network can "
            "learn to reduce the error.",
            ("errors",),
        ),
        Picture(
            "network", plots.network(build(config, "published", max(config.cycles))), "The network as a graph.", ()
        ),
    ]
    head = ("network", "parameters", "accuracy (%), each repetition", "mean")
    rows = [
        (
            name,
            f"{row['parameters']:,}",
            ", ".join(f"{100 * value:.1f}" for value in row["accuracy"]),
            f"{100 * sum(row['accuracy']) / len(row['accuracy']):.1f}",
        )
        for name, row in networks.items()
    ]
    first, last = "image error at cycle 1", f"at cycle {config.long}"
    falls = [(name, f"{row['e0'][0]:.3g}", f"{row['e0'][-1]:.3g}") for name, row in results["errors"].items()]
    return Report(
        "Cycles of a predictive coding network: accuracy and prediction error",
        f"{config.images:,} training and {config.test_images:,} test images ({config.digits} digits under "
        f"{config.fragments} pieces of debris), {counted(config.repetitions, 'repetition')}. After Wen et al. 2018.",
        pictures,
        [
            Table("Accuracy on occluded digits", head, rows),
            Table("Relative image error", ("network", first, last), falls),
        ],
    )


def errors_over_cycles(errors: Mapping[str, Mapping[str, ArrayLike]], trained: int | None = None) -> Figure:
    """Plot relative prediction errors over cycles, with one panel per network.

    errors[network][error] has shape (cycles,). `trained` marks the last cycle used in training; the dashed line marks
    the error of a zero prediction.
    """
    columns = min(3, len(errors))
    rows = -(-len(errors) // columns)
    figure = Figure(figsize=(1.0 + 3.2 * columns, 0.8 + 2.7 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel in panels[len(errors) :]:
        panel.remove()
    for panel, (network_name, layers) in zip(panels, errors.items(), strict=False):
        for layer, curve in layers.items():
            values = np.asarray(curve)
            panel.plot(np.arange(1, len(values) + 1), values, "o-", ms=3.5, label=layer)
        panel.axhline(1.0, color="0.6", linestyle="--", linewidth=1, zorder=0)
        if trained is not None:
            panel.axvline(trained, color="0.7", linestyle=":", linewidth=1, zorder=0)
        panel.set(yscale="log", xlabel="cycle")
        panel.set_title(network_name, fontsize=10)
        panel.legend(frameon=False, fontsize=8)
    figure.supylabel("squared error / squared activity", fontsize=10)
    return figure


if __name__ == "__main__":
    base.main()
