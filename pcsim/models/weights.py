"""Trained weights included in pcsim: small safetensors files that also store settings and scores."""

from __future__ import annotations

from importlib.resources import as_file, files
from typing import Any, cast

from pcsim.core import storage
from pcsim.core.checks import checked
from pcsim.core.exceptions import StorageError
from pcsim.core.renamed import names_of
from pcsim.models.registry import construct
from pcsim.network import Network
from pcsim.network.saving import KIND, SavedNetwork

__getattr__ = names_of(__name__)
FOLDER = files("pcsim.models") / "trained"


@checked(StorageError)
def build(name: str, *, weights: str | None = None, **options: Any) -> Network:
    """Build the registered model `name` with `options`, and load the trained `weights` included in pcsim, if given.

    Raises WiringError for an unknown model or option, and StorageError for unknown weights.

        pcsim.models.build("blt", channels=(16, 16))
        pcsim.models.build("blt", weights="debris-light")
    """
    return construct(name, **options) if weights is None else pretrained(name, weights, **options)


def available() -> dict[str, tuple[str, ...]]:
    """Return the names of the included weights for each model."""
    found: dict[str, list[str]] = {}
    for entry in sorted(item.name for item in FOLDER.iterdir() if item.name.endswith(".safetensors")):
        model, weights = entry.removesuffix(".safetensors").split(".")
        found.setdefault(model, []).append(weights)
    return {model: tuple(names) for model, names in found.items()}


@checked(StorageError)
def pretrained(model: str, weights: str, **options: Any) -> Network:
    """Build `model` with the trained `weights`; `options` override those used in training.

    Raises StorageError if the weights do not exist for this model or do not match the `options`.
    """
    known = available().get(model, ())
    if weights not in known:
        raise StorageError(
            given=f"weights {weights!r} for {model!r}",
            expected=f"one of {', '.join(known)}" if known else "a model for which pcsim includes weights",
            remedy="choose from models.weights.available(), or train your own with python -m experiments.occlusion",
        )
    with as_file(FOLDER / f"{model}.{weights}.safetensors") as path:
        saved = SavedNetwork(str(path), *storage.read_tensors(path, KIND))
        return cast(Network, saved.rebuild_with(**options))


@checked(StorageError)
def about(model: str, weights: str) -> dict[str, Any]:
    """Return the settings and scores stored with the included weights."""
    with as_file(FOLDER / f"{model}.{weights}.safetensors") as path:
        saved = SavedNetwork(str(path), *storage.read_tensors(path, KIND))
        options = saved.recipe.options if saved.recipe is not None else {}
        return {"model": model, "options": options, **saved.facts["about"]}


__all__ = ["about", "available", "build", "pretrained"]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
