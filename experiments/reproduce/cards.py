"""Make the weights and cards that ship with pcsim.

    python -m experiments.reproduce.cards predictive_coding.digits              train three seeds
    python -m experiments.reproduce.cards blt.debris-light --shipped            score the weights that ship with pcsim

The files are written to results/cards/weights. A card contains the recipe, seeds, scores and tolerances of a network,
and the size and checksum of its weights.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from pcsim import Network, models
from pcsim.core import storage
from pcsim.core.command_line import program
from pcsim.network.saving import save_network

from .. import base
from ..base import TEST_SEED
from . import full_name, science
from .recipe import Recipe
from .recipes import RECIPES

TEST_COUNT = 2_000
"""number of test images or clips"""
SEVERAL = (
    "twice the range over the seeds, but at least half the width of the 95 % interval over the test images, and 3 / n "
    "for a proportion of n images; on the machine and versions named here, the seed gives the same scores exactly"
)
ONE = "5 points, chosen by hand: one seed was trained, so the spread over seeds is unknown"
BY_HAND = 0.05


def make(name: str, recipe: Recipe, seeds: Sequence[int], out: Path, count: int = TEST_COUNT) -> dict[str, Any]:
    """Train the network with each seed, and write the weights of the first seed and their card to `out`/weights."""
    networks, rows = {}, {}
    for seed in seeds:
        networks[seed], rows[seed] = science.train_and_score(name, recipe, seed, out, count)
    path = storage.make_folder(out / "weights") / f"{name}.safetensors"
    about = {"trained_with": storage.plain(recipe) | {"seed": seeds[0]}}
    save_network(networks[seeds[0]], path, overwrite=True, about=about)
    card = describe(name, recipe, networks[seeds[0]], path, {seed: row["scores"] for seed, row in rows.items()}, count)
    card |= {"training_cpu_s": max(row["training_cpu_s"] for row in rows.values())}  # resumed training takes less
    storage.write_json(path.with_suffix(".json"), card)
    return card


def from_shipped(name: str, recipe: Recipe, seed: int, out: Path, count: int = TEST_COUNT) -> dict[str, Any]:
    """Score the weights that ship with pcsim, trained earlier with `seed`, and write their card to `out`/weights."""
    model, weights = name.split(".")
    network = models.build(model, weights=weights)
    shipped = Path(str(models.weights.FOLDER)) / f"{name}.safetensors"
    card = describe(name, recipe, network, shipped, {seed: science.score(recipe, network, count)}, count)
    storage.write_json(storage.make_folder(out / "weights") / f"{name}.json", card)
    return card


def describe(
    name: str, recipe: Recipe, network: Network, path: Path, by_seed: Mapping[int, science.Scores], count: int
) -> dict[str, Any]:
    """Return the card of a network with the weights of the first seed."""
    first, *others = by_seed
    rows = {}
    for score, row in by_seed[first].items():
        means = [by_seed[seed][score]["mean"] for seed in by_seed]
        spread = {"seeds": {str(seed): by_seed[seed][score]["mean"] for seed in by_seed}}
        rows[score] = row | spread | {"tolerance": tolerance(score, row, means)}
    content = path.read_bytes()
    return {
        "model": recipe.model,
        "weights": name.split(".")[1],
        "trained_on": recipe.task,
        "command": f"pcsim reproduce {name}",
        "seed": first,
        "other_seeds": others,
        "updates": updates(recipe),
        "data": {"training_seed": first, "test_seed": TEST_SEED, "test_count": count},
        "headline": recipe.headline,
        "scores": rows,
        "tolerance": SEVERAL if others else ONE,
        "parameters": network.parameter_count,
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "date": datetime.now(UTC).date().isoformat(),
        "recipe": storage.plain(recipe),
    } | base.environment(torch.device("cpu"))


def tolerance(score: str, row: Mapping[str, Any], means: Sequence[float]) -> float:
    """Return the largest difference at which a score still agrees; `means` contains one value per seed."""
    if len(means) == 1:
        return BY_HAND
    is_proportion = score.startswith(("accuracy", "energy", "image error falls"))
    least = 3.0 / row["n"] if is_proportion else 0.0
    return max(2.0 * (max(means) - min(means)), 0.5 * (row["high"] - row["low"]), least)


def updates(recipe: Recipe) -> int:
    """Return the total number of updates in all training stages."""
    return sum(settings.updates for settings in recipe.settings)


def markdown() -> str:
    """Return the table of all weights that ship with pcsim, for docs/models/README.md."""
    lines = ["| weights | trained on | score | three seeds | parameters | kB |", "|---|---|---|---|---|---|"]
    for name, card in models.weights.cards().items():
        row = card["scores"][card["headline"]]
        seeds = ", ".join(f"{value:.4g}" for value in row["seeds"].values()) if card["other_seeds"] else "one seed"
        score = f"{card['headline']}: {row['mean']:.4g} [{row['low']:.4g}, {row['high']:.4g}]"
        size = f"{card['parameters']:,} | {card['bytes'] / 1000:.0f}"
        lines.append(f"| `{name}` | {card['trained_on']} | {score} | {seeds} | {size} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(description="Make the weights and cards that ship with pcsim.")
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="MODEL.WEIGHTS; if omitted, print the table for the docs"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="the first gives the weights")
    parser.add_argument("--out", type=Path, default=Path("results/cards"))
    parser.add_argument("--shipped", action="store_true", help="score the weights that ship with pcsim, seed 0")
    options = parser.parse_args(arguments)
    if not options.names:
        print(markdown())
    for name in map(full_name, options.names):
        recipe = RECIPES[name]
        card = (
            from_shipped(name, recipe, 0, options.out)
            if options.shipped
            else make(name, recipe, options.seeds, options.out)
        )
        print(name, {score: row["seeds"] for score, row in card["scores"].items()}, flush=True)


if __name__ == "__main__":
    with program():
        main()
