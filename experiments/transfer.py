"""Does what a network learned from digits help to tell the characters of other alphabets, and at which area and step?

Trains BLT and the feed-forward B on handwritten digits (MNIST) under a little debris, freezes them, and fits linear
decoders to the characters of five alphabets of Omniglot: for every area and every step, cross-validated over drawings.
Beside them the same networks before training, and pixels.

    python -m experiments.transfer --mnist FOLDER --omniglot FOLDER     about 6 minutes on 2 cores

Without the folders both are downloaded once.
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

from experiments import base
from experiments.base import OPTIONS, TEST_SEED, Count, Options
from experiments.report import Picture, Report, Table
from pcsim import Iterate, Network, Record, models, plots, simulate, stimuli
from pcsim.analysis import decoding, estimate
from pcsim.core import storage
from pcsim.training import Training, evaluate

NETWORKS = {"blt": "BLT", "blt_b": "B, feed-forward"}
AREAS = ("l1", "l2")
STATES = ("trained", "untrained")
GRID = 4
"""maps are averaged to 4 x 4 places before they are decoded, pixels to as many numbers as an area then has"""


@dataclass(frozen=True, config=OPTIONS)
class Transfer(Options):
    """Options of the experiment; a preset gives the defaults."""

    out: Path = Path("results/transfer")
    """folder for everything that comes out"""
    width: Count = 16
    """feature maps"""
    fragments: Annotated[int, Field(ge=0)] = 5
    """pieces of debris over each digit in training"""
    images: Count = 10_000
    """training images"""
    training: Training = Training(updates=1_000, batch=20)
    """how to train; its seed is that of the experiment"""
    part: Literal["small1", "small2"] = "small1"
    """which five alphabets"""
    drawings: Annotated[int, Field(ge=2, le=20)] = 20
    """of each character"""
    folds: Annotated[int, Field(ge=2)] = 5
    """of cross-validation"""
    penalty: Annotated[float, Field(gt=0)] = 100.0
    """of the decoders, 1 / C"""
    mnist: Path | None = None
    """folder with the idx files of MNIST (else PCSIM_MNIST, else a download)"""
    omniglot: Path | None = None
    """folder with the zip files of Omniglot (else PCSIM_OMNIGLOT, else a download)"""


PRESETS = {
    "smoke": Transfer(
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
    """Run the whole experiment. What is trained or decoded already is not done again."""
    base.conduct(config, find, report, check=lambda options: characters(options.part, options.omniglot))


def find(config: Transfer) -> dict[str, Any]:
    """Train, decode every alphabet, and gather the accuracies."""
    names = characters(config.part, config.omniglot).names
    base.train_all(config, fit, [(name,) for name in NETWORKS])
    jobs = [(config, name, state, alphabet) for alphabet in names for name in NETWORKS for state in STATES]
    for _ in base.run_jobs(decode, jobs, config.workers, "decoding"):
        pass
    return {
        "chance": float(np.mean([1 / len(np.unique(labels_of(config, alphabet))) for alphabet in names])),
        "alphabets": list(names),
        "networks": {name: told(config, name, names) for name in NETWORKS},
        "pixels": of_pixels(config, names),
        "digits": {name: digits_named(config, name) for name in NETWORKS},
    }


@cache
def characters(part: Literal["small1", "small2"], folder: Path | None) -> stimuli.Characters:
    """Omniglot, read once in a process."""
    return stimuli.load_omniglot(part, folder)


@cache
def glyphs(split: str, folder: Path | None) -> stimuli.Glyphs:
    """MNIST, read once in a process."""
    return stimuli.HandwrittenGlyphs(split, folder)


def build(config: Transfer, name: str) -> Network:
    """The network before training."""
    torch.manual_seed(config.seed)
    return models.build(name, width=config.width)


def fit(config: Transfer, name: str) -> list[float]:
    """Train one network, or go on with it; returns the loss curve."""
    condition = stimuli.Condition(fragments=config.fragments)
    shown = stimuli.scenes(condition, config.seed, 0, config.images, glyphs("train", config.mnist))
    settings = dataclasses.replace(config.training, seed=config.seed)
    return base.fit(config, build(config, name), torch.from_numpy(shown.images), shown.targets(), settings, name)


def digits_named(config: Transfer, name: str) -> float:
    """Share of MNIST's test digits that the trained network names, under the debris it was trained with."""
    condition = stimuli.Condition(fragments=config.fragments)
    shown = stimuli.scenes(condition, TEST_SEED, 0, 500, glyphs("test", config.mnist))
    network = base.trained(config, build(config, name), name)
    return float((evaluate(network, shown.pixels())[-1].argmax(1) == shown.targets().argmax(1)).double().mean())


def drawn(config: Transfer, alphabet: str) -> Tensor:
    """Drawings of one alphabet in the grey of the digits' background, ink white: (n, 1, 32, 32)."""
    found = characters(config.part, config.omniglot).of(alphabet)
    return 0.5 + 0.5 * found.pixels()[torch.from_numpy(chosen(config, found))]


def labels_of(config: Transfer, alphabet: str) -> np.ndarray:
    """Which characters they are."""
    found = characters(config.part, config.omniglot).of(alphabet)
    return found.characters[chosen(config, found)]


def chosen(config: Transfer, found: stimuli.Characters) -> np.ndarray:
    """The first drawings of each character."""
    return np.concatenate(
        [np.flatnonzero(found.characters == c)[: config.drawings] for c in np.unique(found.characters)]
    )


def decode(config: Transfer, name: str, state: str, alphabet: str) -> None:
    """Decode the characters of an alphabet from every area at every step; kept is the accuracy, (step,) an area."""
    path = base.kept(config, "decoded", name, state, alphabet)
    if path.exists():
        return
    network = build(config, name)
    if state == "trained":
        network = base.trained(config, network, name)
    network.eval()
    with torch.no_grad():
        run_ = simulate(network, drawn(config, alphabet), solver=Iterate(), record=Record(states=list(AREAS)))
    labels = labels_of(config, alphabet)
    tensors = {area: torch.from_numpy(accuracy(config, pooled(run_[area]), labels)) for area in AREAS}
    storage.write_tensors(path, tensors, {"kind": "transfer"})


def pooled(maps: Tensor) -> Tensor:
    """(time, n, channel, height, width) -> (time, n, feature), means over a grid of places."""
    return functional.adaptive_avg_pool2d(maps.flatten(0, 1), GRID).flatten(1).unflatten(0, maps.shape[:2])


def accuracy(config: Transfer, features: Tensor, labels: np.ndarray) -> np.ndarray:
    """Of cross-validated decoders, (time,)."""
    found = decoding.decode_over_time(features, labels, penalty=config.penalty, folds=config.folds, seed=config.seed)
    return found.accuracy


def told(config: Transfer, name: str, alphabets: tuple[str, ...]) -> dict[str, Any]:
    """Accuracy by area, state and step: of every alphabet, and their mean."""
    rows: dict[str, Any] = {}
    for area in AREAS:
        for state in STATES:
            paths = [base.kept(config, "decoded", name, state, alphabet) for alphabet in alphabets]
            each = np.stack([storage.read_tensors(path, "transfer")[0][area].numpy() for path in paths])
            rows.setdefault(area, {})[state] = {"alphabets": each.tolist(), "mean": each.mean(0).tolist()}
        trained, untrained = (np.array(rows[area][state]["alphabets"])[:, -1] for state in STATES)
        rows[area]["gain"] = dataclasses.asdict(estimate(trained - untrained))
    return rows


def of_pixels(config: Transfer, alphabets: tuple[str, ...]) -> list[float]:
    """Accuracy of decoders of the pixels, at as many places as an area has numbers."""
    side = round((GRID**2 * config.width) ** 0.5)
    found = []
    for alphabet in alphabets:
        images = functional.interpolate(drawn(config, alphabet), (side, side), mode="area")
        found.append(float(accuracy(config, images.flatten(1)[None], labels_of(config, alphabet))[0]))
    return found


def report(config: Transfer, results: dict[str, Any]) -> Report:
    """Return the page."""
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
    head = ("network", "area", "trained (%)", "untrained (%)", "gain over alphabets")
    sentence = (
        f"Accuracy for the characters of an alphabet, mean over {', '.join(results['alphabets'])}; maps averaged to "
        f"{GRID} x {GRID} places. Dashed: chance. Networks are frozen; only the decoders see the alphabets."
    )
    named = ", ".join(f"{NETWORKS[name]} {100 * share:.0f} %" for name, share in results["digits"].items())
    summary = (
        f"Trained on {config.images:,} handwritten digits under {config.fragments} pieces of debris; of test digits "
        f"they name: {named}. {config.drawings} drawings of each character, {config.folds} folds; 95 % bootstrap "
        "intervals over the five alphabets."
    )
    return Report(
        "From digits to other alphabets",
        summary,
        [Picture("transfer", figure, sentence, ("networks", "pixels", "chance"))],
        [Table("Characters told at the last step", head, rows)],
    )


if __name__ == "__main__":
    base.main()
