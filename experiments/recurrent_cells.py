"""Compare recurrent cells, numbers of steps, and weight sharing over time on occluded digits.

The experiment trains two groups of small networks on occluded digits and compares their answers to the same test images
with McNemar's test:

    cells      ConvRNNs with reciprocal gated cells, simple RNN cells, LSTM cells or no recurrence, all with about the
               same number of parameters (Nayebi et al. 2018). "minimal" uses reciprocal gated cells but runs for only
               one step more than the image needs to reach the readout.
    residual   residual networks whose blocks either share their weights over time or do not (Liao & Poggio 2016)

    python -m experiments.recurrent_cells                     one repetition, about 3 minutes on 2 cores
    python -m experiments.recurrent_cells --preset standard   three repetitions, about an hour
"""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass

from pcsim import Network, models, plots, stimuli
from pcsim.analysis import compare_pairs, correct_choices
from pcsim.training import Training, evaluate

from . import base
from .base import OPTIONS, TEST_SEED, Count, Device, Repeated
from .report import Picture, Report, Table, counted

CELLS = ("reciprocal", "simple_rnn", "lstm", "none")
RESIDUAL = ("shared", "unshared")
NAMES = (*CELLS, "minimal", *RESIDUAL)


@dataclass(frozen=True, config=OPTIONS)
class RecurrentCells(Repeated):
    """Options of the experiment, whose defaults depend on the preset."""

    out: Path = Path("results/recurrent_cells")
    """output folder"""
    device: Device = "auto"
    """device on which to train and run the networks"""
    parameters: Annotated[int, Field(ge=2_000)] = 23_000
    """approximate number of parameters of each ConvRNN; the number of feature maps is chosen to match it"""
    steps: Annotated[int, Field(ge=6)] = 8
    """number of steps of the ConvRNNs; the image reaches the readout at step 4, and "minimal" runs for 5 steps"""
    blocks: Annotated[int, Field(ge=1)] = 5
    """number of blocks in the residual networks"""
    channels: Annotated[int, Field(ge=1)] = 16
    """number of feature maps in the residual networks"""
    fragments: Annotated[int, Field(ge=0)] = 10
    """number of debris fragments covering each digit"""
    images: Count = 10_000
    """number of training images"""
    test_images: Count = 2_000
    """number of test images"""
    training: Training = Training(updates=1_000, batch=20, over_time="last")
    """training settings; each repetition uses its own seed"""
    checkpoint_every: Count = 200
    """number of updates between checkpoints"""


PRESETS = {
    "smoke": RecurrentCells(
        smoke=True,
        out=Path("results/recurrent_cells-smoke"),
        parameters=2_000,
        steps=6,
        blocks=2,
        channels=4,
        images=60,
        test_images=60,
        training=Training(updates=5, batch=10, over_time="last"),
        workers=1,
    ),
    "quick": RecurrentCells(),
    "standard": RecurrentCells(
        out=Path("results/recurrent_cells-standard"),
        repetitions=3,
        training=dataclasses.replace(RecurrentCells().training, updates=2_000),
    ),
    "large": RecurrentCells(
        out=Path("results/recurrent_cells-large"),
        parameters=1_000_000,
        steps=17,
        blocks=9,
        channels=64,
        repetitions=3,
        images=100_000,
        test_images=10_000,
        training=Training(updates=100_000, batch=100, over_time="last"),
        workers=1,
    ),
}


def run(config: RecurrentCells) -> None:
    """Run the experiment, or resume it from its output folder."""
    base.conduct(config, find, report, check=lambda options: [build(options, name) for name in NAMES])


def find(config: RecurrentCells) -> dict[str, Any]:
    """Train all networks; return their errors and the statistical tests that compare them."""
    base.train_all(config, fit, [(name, seed) for seed in config.seeds for name in NAMES])
    return analyse(config)


def build(config: RecurrentCells, name: str) -> Network:
    """Build an untrained network. All ConvRNNs have about the same number of parameters."""
    if name in RESIDUAL:
        return models.shared_resnet(
            config.channels, config.blocks + 1, shared=name == "shared", stride=2, image=(1, 32, 32)
        )
    cell = "reciprocal" if name == "minimal" else name
    return models.matched(partial(convrnn, cell, 5 if name == "minimal" else config.steps), config.parameters)


def convrnn(cell: str, steps: int, width: int) -> Network:
    """Build three layers, with cells in the upper two. Without cells, runs end when the image reaches the readout."""
    layers = [models.Layer(width, True), models.Layer(width, True), models.Layer(width)]
    return models.convrnn(layers, cell, recurrent=(2, 3), feedback=(), steps=4 if cell == "none" else steps)


def data(config: RecurrentCells, seed: int, count: int) -> stimuli.Scenes:
    """Generate digits under debris."""
    return stimuli.scenes(stimuli.Condition(fragments=config.fragments), seed, 0, count)


def fit(config: RecurrentCells, name: str, repetition: int) -> list[float]:
    """Train one network, or resume its training, and return the loss curve."""
    torch.manual_seed(repetition)
    network, shown = build(config, name), data(config, repetition, config.images)
    settings = dataclasses.replace(config.training, seed=repetition)
    return base.fit(config, network, torch.from_numpy(shown.images), shown.targets(), settings, name, repetition)


def analyse(config: RecurrentCells) -> dict[str, Any]:
    """Test all networks; return their errors, their accuracy at each step, and McNemar tests between networks."""
    shown = data(config, TEST_SEED, config.test_images)
    images, targets = shown.pixels(), shown.targets()
    correct = {}
    for name in NAMES:
        networks = [base.trained(config, build(config, name), name, seed) for seed in config.seeds]
        correct[name] = torch.stack([correct_choices(evaluate(network, images), targets) for network in networks])
    final = {name: value[:, -1].numpy() for name, value in correct.items()}
    groups = {"ConvRNN": (*CELLS, "minimal"), "residual": RESIDUAL}
    return {
        "networks": {
            name: {
                "parameters": build(config, name).parameter_count,
                "steps": value.shape[1],
                "error": (1 - value[:, -1].double().mean(1)).tolist(),
                "accuracy_over_time": value.double().mean(2).tolist(),
            }
            for name, value in correct.items()
        },
        "mcnemar": {
            group: [
                vars(pair) | {"significant": pair.significant} for pair in compare_pairs({n: final[n] for n in members})
            ]
            for group, members in groups.items()
        },
    }


def report(config: RecurrentCells, results: dict[str, Any]) -> Report:
    """Build the report page."""
    networks = results["networks"]
    pictures = [
        Picture(
            "accuracy",
            plots.accuracy_by_cycles(
                {name: row["accuracy_over_time"] for name, row in networks.items()},
                {name: row["steps"] for name, row in networks.items()},
                unit="step",
            ),
            "Left: accuracy at the last step, one dot per repetition. Right: accuracy at every step. The loss "
            "applies only to the last step (large dot). In a ConvRNN, the image reaches the readout at step 4.",
            ("networks",),
        ),
        Picture(
            "network",
            plots.network(build(config, "reciprocal")),
            "Graph of the ConvRNN with reciprocal gated cells.",
            (),
        ),
    ]
    rows = [
        (
            name,
            f"{row['parameters']:,}",
            str(row["steps"]),
            ", ".join(f"{100 * value:.1f}" for value in row["error"]),
            f"{100 * sum(row['error']) / len(row['error']):.1f}",
        )
        for name, row in networks.items()
    ]
    pairs = [
        (group, f"{pair['first']} - {pair['second']}", f"{pair['p']:.2g}", "yes" if pair["significant"] else "no")
        for group, found in results["mcnemar"].items()
        for pair in found
    ]
    head = ("network", "parameters", "steps", "each repetition", "mean")
    return Report(
        "Recurrent cells, number of steps, and weight sharing over time",
        f"{config.images:,} training and {config.test_images:,} test images under {config.fragments} pieces of debris, "
        f"{config.training.updates:,} updates with batches of {config.training.batch}, "
        f"{counted(config.repetitions, 'repetition')}.",
        pictures,
        [
            Table("Error on digits under debris (%)", head, rows),
            Table("McNemar tests over all repetitions", ("group", "pair", "p", "significant (FDR 0.05)"), pairs),
        ],
    )


if __name__ == "__main__":
    base.main()
