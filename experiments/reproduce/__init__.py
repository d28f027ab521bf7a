"""Retrain the networks whose weights ship with pcsim, and compare their scores with the stored ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pcsim import models
from pcsim.core import storage
from pcsim.core.exceptions import StorageError
from pcsim.models.registry import unknown

from .. import base
from . import science
from .recipe import Recipe
from .recipes import RECIPES

__all__ = ["RECIPES", "full_name", "reproduce"]


def reproduce(name: str, out: Path | None = None, recipes: Mapping[str, Recipe] = RECIPES) -> bool:
    """Retrain a network, or resume its training in `out`; compare and print its scores, and return whether all agree.

    name  MODEL.WEIGHTS, or MODEL if it has a single set of weights

    Raises WiringError for an unknown name, and StorageError if `out` was used for another network.
    """
    name = full_name(name, recipes)
    card = models.weights.card(*name.split("."))
    recipe, count = recipes[name], card["data"]["test_count"]
    out = Path("results/reproduce") / name if out is None else storage.full_path(out)
    base.claim(out, {"name": name, "seed": card["seed"], "test_count": count, "recipe": recipe})
    print(f"{name}: {card['trained_on']}; seed {card['seed']}, {card['updates']:,} updates", flush=True)
    _, found = science.train_and_score(name, recipe, card["seed"], out, count)
    compared = science.compare(found["scores"], card["scores"])
    agrees = all(row["agrees"] for row in compared.values())
    storage.write_json(out / "results.json", found | {"compared": compared, "agrees": agrees})
    print(science.table(compared))
    print(f"tolerance: {card['tolerance']}")
    print("all scores agree" if agrees else "some scores differ by more than their tolerance")
    return agrees


def full_name(name: str, recipes: Mapping[str, Recipe] = RECIPES) -> str:
    """Return the full name MODEL.WEIGHTS; WEIGHTS may be omitted if the model has only one set."""
    if name in recipes:
        return name
    of_model = [each for each in recipes if each.split(".")[0] == name]
    if len(of_model) > 1:
        raise StorageError(
            given=f"{name!r}, which has several sets of weights",
            expected=f"one of {', '.join(of_model)}",
            remedy=f"pass {of_model[0]}",
        )
    if not of_model:
        raise unknown("trained network", name, tuple(recipes))
    return of_model[0]
