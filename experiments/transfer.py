"""Measure how well features learned from digits separate the characters of other alphabets, by area and step.

The experiment trains BLT and the feed-forward network B on handwritten digits (MNIST) under light debris and freezes
them. It then fits linear decoders for the characters of five Omniglot alphabets to each area and step, with
cross-validation over drawings. The controls are untrained networks and raw pixels.

    python -m experiments.transfer --mnist FOLDER --omniglot FOLDER     about 2 minutes on 2 cores

If a folder is not specified, its data set is downloaded once.
"""

from __future__ import annotations

import dataclasses
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor
from torch.nn import functional

from pcsim import Iterate, Network, Record, models, plots, simulate, stimuli
from pcsim.analysis import decoding, estimate
from pcsim.core import storage
from pcsim.training import Training, evaluate

from . import base
from .base import OPTIONS, TEST_SEED, Count, Parallel
from .report import Picture, Report, Table

NETWORKS = {"blt": "BLT", "blt_b": "B, feed-forward"}
AREAS = ("l1", "l2")
STATES = ("trained", "untrained")
GRID = 4
"""side of the grid to which maps are averaged before decoding; pixels are averaged to a similar number of values"""


@dataclass(frozen=True, config=OPTIONS)
class Transfer(Parallel):
    """Options of the experiment, whose defaults depend on the preset."""

    out: Path = Path("results/transfer")
    """output folder"""
    width: Count = 16
    """number of feature maps in each area"""
    fragments: Annotated[int, Field(ge=0)] = 5
    """number of debris fragments covering each training digit"""
    images: Count = 10_000
    """number of training images"""
    training: Training = Training(updates=1_000, batch=20)
    """training settings; --seed overrides their seed"""
    part: Literal["small1", "small2"] = "small1"
    """which of the two sets of five Omniglot alphabets to use"""
    drawings: Annotated[int, Field(ge=2, le=20)] = 20
    """number of drawings per character"""
    folds: Annotated[int, Field(ge=2)] = 5
    """number of cross-validation folds"""
    penalty: Annotated[float, Field(gt=0)] = 100.0
    """L2 penalty of the decoders, 1 / C"""
    mnist: Path | None = None
    """folder with the MNIST idx files; if omitted, PCSIM_MNIST is used or, if that is unset, MNIST is downloaded"""
    omniglot: Path | None = None
    """folder of Omniglot zip files; if omitted, PCSIM_OMNIGLOT is used or, if that is unset, they are downloaded"""


PRESETS = {
    "smoke": Transfer(
        smoke=True,
        out=Path("results/transfer-smoke"),
        width=4,
        images=60,
        training=Training(updates=10, batch=10),
        drawings=4,
        folds=2,
        workers=1,
    ),
    "quick": Transfer(),
    "standard": Transfer(
        out=Path("results/transfer-standard"), width=32, images=40_000, training=Training(updates=8_000)
    ),
}


def run(config: Transfer) -> None:
    """Run the experiment, skipping any training and decoding already completed in the output folder."""
    base.conduct(config, find, report, check=lambda options: characters(options.part, options.omniglot))


def find(config: Transfer) -> dict[str, Any]:
    """Train both networks, decode every alphabet, and return the accuracies."""
    names = characters(config.part, config.omniglot).names
    base.train_all(config, fit, [(name,) for name in NETWORKS])
    jobs = [(config, name, state, alphabet) for alphabet in names for name in NETWORKS for state in STATES]
    for _ in base.run_jobs(decode, jobs, config.workers, "decoding"):
        pass
    return {
        "chance": float(np.mean([1 / len(np.unique(labels_of(config, alphabet))) for alphabet in names])),
        "alphabets": list(names),
        "networks": {name: summarise(config, name, names) for name in NETWORKS},
        "pixels": pixel_accuracy(config, names),
        "digits": {name: digit_accuracy(config, name) for name in NETWORKS},
    }


@cache
def characters(part: Literal["small1", "small2"], folder: Path | None) -> stimuli.Characters:
    """Load the Omniglot characters once per process."""
    return stimuli.load_omniglot(part, folder)


@cache
def glyphs(split: str, folder: Path | None) -> stimuli.Glyphs:
    """Load the MNIST digits once per process."""
    return stimuli.HandwrittenGlyphs(split, folder)


def build(config: Transfer, name: str) -> Network:
    """Build an untrained network."""
    torch.manual_seed(config.seed)
    return models.build(name, channels=(config.width, config.width))


def fit(config: Transfer, name: str) -> list[float]:
    """Train one network, or resume its training, and return the loss curve."""
    condition = stimuli.Condition(fragments=config.fragments)
    shown = stimuli.scenes(condition, config.seed, 0, config.images, glyphs("train", config.mnist))
    settings = dataclasses.replace(config.training, seed=config.seed)
    return base.fit(config, build(config, name), torch.from_numpy(shown.images), shown.targets(), settings, name)


def digit_accuracy(config: Transfer, name: str) -> float:
    """Return the accuracy of a trained network on MNIST test digits with the same amount of debris as in training."""
    condition = stimuli.Condition(fragments=config.fragments)
    shown = stimuli.scenes(condition, TEST_SEED, 0, 500, glyphs("test", config.mnist))
    network = base.trained(config, build(config, name), name)
    return float((evaluate(network, shown.pixels())[-1].argmax(1) == shown.targets().argmax(1)).double().mean())


def images_of(config: Transfer, alphabet: str) -> Tensor:
    """Return the drawings of one alphabet, white on the same grey background as the digits, (n, 1, 32, 32)."""
    found = characters(config.part, config.omniglot).of(alphabet)
    return 0.5 + 0.5 * found.pixels()[torch.from_numpy(first_drawings(config, found))]


def labels_of(config: Transfer, alphabet: str) -> np.ndarray:
    """Return the character label of each drawing, (n,)."""
    found = characters(config.part, config.omniglot).of(alphabet)
    return found.characters[first_drawings(config, found)]


def first_drawings(config: Transfer, found: stimuli.Characters) -> np.ndarray:
    """Return the indices of the first `config.drawings` drawings of each character."""
    return np.concatenate(
        [np.flatnonzero(found.characters == c)[: config.drawings] for c in np.unique(found.characters)]
    )


def decode(config: Transfer, name: str, state: str, alphabet: str) -> None:
    """Decode the characters of an alphabet from each area at each step, and write the accuracies (step,) per area."""
    path = base.kept(config, "decoded", name, state, alphabet)
    if path.exists():
        return
    network = build(config, name)
    if state == "trained":
        network = base.trained(config, network, name)
    network.eval()
    with torch.no_grad():
        run_ = simulate(network, images_of(config, alphabet), solver=Iterate(), record=Record(states=list(AREAS)))
    labels = labels_of(config, alphabet)
    tensors = {area: torch.from_numpy(accuracy(config, pool(run_[area]), labels)) for area in AREAS}
    storage.write_tensors(path, tensors, {"kind": "transfer"})


def pool(maps: Tensor) -> Tensor:
    """Average maps (time, n, channel, height, width) within the cells of a grid; return (time, n, feature)."""
    return functional.adaptive_avg_pool2d(maps.flatten(0, 1), GRID).flatten(1).unflatten(0, maps.shape[:2])


def accuracy(config: Transfer, features: Tensor, labels: np.ndarray) -> np.ndarray:
    """Return the accuracy of cross-validated decoders, (time,)."""
    found = decoding.decode_over_time(features, labels, penalty=config.penalty, folds=config.folds, seed=config.seed)
    return found.accuracy


def summarise(config: Transfer, name: str, alphabets: tuple[str, ...]) -> dict[str, Any]:
    """Return accuracies by area, training state and step, per alphabet and on average, and the gain from training."""
    rows: dict[str, Any] = {}
    for area in AREAS:
        for state in STATES:
            paths = [base.kept(config, "decoded", name, state, alphabet) for alphabet in alphabets]
            each = np.stack([storage.read_tensors(path, "transfer")[0][area].numpy() for path in paths])
            rows.setdefault(area, {})[state] = {"alphabets": each.tolist(), "mean": each.mean(0).tolist()}
        trained, untrained = (np.array(rows[area][state]["alphabets"])[:, -1] for state in STATES)
        rows[area]["gain"] = dataclasses.asdict(estimate(trained - untrained))
    return rows


def pixel_accuracy(config: Transfer, alphabets: tuple[str, ...]) -> list[float]:
    """Return the accuracy of decoding each alphabet from pixels averaged to about as many values as an area has."""
    side = round((GRID**2 * config.width) ** 0.5)
    found = []
    for alphabet in alphabets:
        images = functional.interpolate(images_of(config, alphabet), (side, side), mode="area")
        found.append(float(accuracy(config, images.flatten(1)[None], labels_of(config, alphabet))[0]))
    return found


def report(config: Transfer, results: dict[str, Any]) -> Report:
    """Build the report page."""
    networks, pixels = results["networks"], float(np.mean(results["pixels"]))
    curves: dict[str, Any] = {}
    for name, rows in networks.items():
        steps = len(rows["l1"]["trained"]["mean"])
        times = [build(config, name).time_of("l1", step) for step in range(steps)]
        curves[NETWORKS[name]] = {
            f"{area} {state}": (times, rows[area][state]["mean"]) for area in AREAS for state in STATES
        } | {"pixels": (times, [pixels] * steps)}
    chance = dict.fromkeys(curves, results["chance"])
    figure = plots.decoding_over_time(curves, chance)
    rows = [
        (
            NETWORKS[name],
            area,
            *(f"{100 * found[area][state]['mean'][-1]:.1f}" for state in STATES),
            "{:+.1f} [{:+.1f}, {:+.1f}]".format(*(100 * found[area]["gain"][key] for key in ("mean", "low", "high"))),
        )
        for name, found in networks.items()
        for area in AREAS
    ]
    rows.append(("pixels", "-", f"{100 * pixels:.1f}", "-", "-"))
    head = ("network", "area", "trained (%)", "untrained (%)", "gain (points)")
    alphabets = ", ".join(results["alphabets"]).replace("_", " ")
    sentence = (
        f"Accuracy of decoding the characters of an alphabet, averaged over {alphabets}. Maps are averaged to "
        f"a {GRID} x {GRID} grid. Dashed line: chance. The networks are frozen; only the decoders are fitted to the "
        "alphabets."
    )
    accuracies = ", ".join(f"{NETWORKS[name]} {100 * share:.0f} %" for name, share in results["digits"].items())
    summary = (
        f"Networks are trained on {config.images:,} handwritten digits under {config.fragments} pieces of debris. "
        f"Accuracy on test digits: {accuracies}. Decoders use {config.drawings} drawings of each character and "
        f"{config.folds}-fold cross-validation. Brackets contain 95 % bootstrap intervals over the five alphabets."
    )
    return Report(
        "Transfer from digits to other alphabets",
        summary,
        [Picture("transfer", figure, sentence, ("networks", "pixels", "chance"))],
        [Table("Character decoding accuracy at the last step, and gain from training", head, rows)],
    )


if __name__ == "__main__":
    base.main()
