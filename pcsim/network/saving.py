"""Networks stored in files: their tensors, the recipe for rebuilding them, and a description of their wiring."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from pcsim.core import storage
from pcsim.core.exceptions import PcsimError, StorageError
from pcsim.network.fingerprint import description, differences, fingerprint
from pcsim.network.graph import Graph
from pcsim.network.recipe import Recipe
from pcsim.network.weights import load_tensors, trained_tensors

KIND = "network"


def save_network(
    network: Graph, path: str | Path, overwrite: bool = False, about: Mapping[str, Any] | None = None
) -> None:
    """Save a network as described in `Network.save`, together with metadata `about` it, such as scores."""
    storage.require_own_extension(path, "net")
    storage.require_new(path, overwrite)
    tensors = _all_tensors(network)
    if any(tensor.is_meta for tensor in tensors.values()):
        raise StorageError(
            given=f"{network.name!r} on the meta device, whose tensors have no values",
            expected="a network on the CPU or a GPU",
            remedy="build it outside `with torch.device('meta')`",
        )
    described = description(network)
    recipe, why, tensors = _checked_recipe(network, tensors, described)
    contents = {
        "kind": KIND,
        "name": network.name,
        "recipe": recipe.facts() if recipe else None,
        "own_because": why,
        "modes": _modes(network),
        "strides": {name: list(t.stride()) for name, t in tensors.items() if _is_dense(t)},
        "fingerprint": fingerprint(described),
        "wiring": described,
        "about": dict(about or {}),
    }
    storage.write_tensors(path, tensors | (recipe.tensors() if recipe else {}), contents)


@dataclass(frozen=True)
class SavedNetwork:
    """The contents of a file written by `save_network`."""

    path: str
    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]

    @property
    def recipe(self) -> Recipe | None:
        """The recipe of a registered model, or None for other networks."""
        facts = self.facts["recipe"]
        inner = {name: value for name, value in self.tensors.items() if name.startswith("recipe/")}
        return Recipe.read(facts, inner) if facts is not None else None

    def rebuild(self) -> Graph:
        """Rebuild the network with the same tensors, modes and wiring as when it was saved."""
        with storage.content_of(self.path, "a network", "save it again with net.save(path)"):
            recipe = self.recipe
            if recipe is None:
                raise StorageError(
                    given=f"{self.path}, a file of {self.facts['name']!r}: {self.facts['own_because']}",
                    expected="a network to load the weights into, because the file cannot contain your code",
                    remedy="build the network as before, and call pcsim.load(path, into=net)",
                )
            network: Graph = recipe.build(_construct())
            _fill(network, self._own(), self.facts["strides"], self.path)
            _set_modes(network, self.facts["modes"])
            network.name = str(self.facts["name"])
            self._require_wiring(network, "install the version of pcsim that wrote the file, or train again")
        return network

    def rebuild_with(self, **options: Any) -> Graph:
        """Build the network (`options` override stored ones), load its weights, and put it in evaluation mode."""
        with storage.content_of(self.path, "a network", "save it again with net.save(path)"):
            recipe = self.recipe
            if recipe is None:
                raise ValueError("the recipe")
            network: Graph = recipe.build(_construct(), **options)
            load_tensors(network, self._trained(), self.path)
        return network.eval()

    def fill(self, network: Graph) -> Graph:
        """Copy the weights into `network`, which must have the same wiring, and return it."""
        with storage.content_of(self.path, "a network", "save it again with net.save(path)"):
            self._require_wiring(network, "build the network with the same settings as when it was saved")
            load_tensors(network, self._trained(), self.path)
        return network

    def _trained(self) -> dict[str, Tensor]:
        return {name: self.tensors[name] for name in self.facts["wiring"]["tensor"]}

    def _own(self) -> dict[str, Tensor]:
        return {name: value for name, value in self.tensors.items() if not name.startswith("recipe/")}

    def _require_wiring(self, network: Graph, remedy: str) -> None:
        described = description(network)
        if fingerprint(described) == self.facts["fingerprint"]:
            return
        raise StorageError(
            given=f"{self.path}, a file of {self.facts['name']!r}, and {network.name!r}, which differ: "
            + "; ".join(differences(self.facts["wiring"], described)),
            expected="the same populations, edges, settings and tensors",
            remedy=remedy,
        )


def _checked_recipe(
    network: Graph, tensors: dict[str, Tensor], described: Mapping[str, Any]
) -> tuple[Recipe | None, str, dict[str, Tensor]]:
    """Return the recipe (None if it does not reproduce the network), the reason if None, and the tensors to store.

    Fixed buffers are stored only if they differ from those of a newly built network.
    """
    recipe, own = network.recipe, trained_tensors(network)
    if recipe is None:
        return None, "it was not built by a registered model", own
    if recipe.unkept:
        return None, f"the argument {recipe.unkept!r} contains an object that a file cannot store", own
    try:
        rebuilt = recipe.build(_construct())
        fresh = _all_tensors(rebuilt)
        kept = {n: t for n, t in tensors.items() if n in own or n not in fresh or not _is_alike(t, fresh[n])}
        _fill(rebuilt, tensors, {}, network.name)
    except PcsimError:
        return None, "it was changed after it was built, and has other tensors", own
    if changed := differences(described, description(rebuilt)):
        what = changed[0].replace("in the file", "now").replace("in this network", "as built")
        return None, f"it was changed after it was built ({what})", own
    return recipe, "", kept


def _construct() -> Callable[..., Any]:
    """Return the function that builds registered models."""
    if Graph.construct is None:  # only pcsim.network has been imported, as after unpickling
        import_module("pcsim.models")
    return cast(Callable[..., Any], Graph.construct)


def _all_tensors(network: Graph) -> dict[str, Tensor]:
    """Return each parameter and buffer once, under its first name; unlike `trained_tensors`, include fixed buffers."""
    found = trained_tensors(network)
    known = {id(tensor) for tensor in found.values()}
    return found | {name: buffer for name, buffer in network.named_buffers() if id(buffer) not in known}


def _fill(network: Graph, tensors: Mapping[str, Tensor], strides: Mapping[str, list[int]], origin: str) -> None:
    """Replace the values of all tensors, and also their dtype and memory layout, because these affect rounding."""
    own, needed = _all_tensors(network), trained_tensors(network)
    missing = [name for name in needed if name not in tensors]
    if wrong := missing + [n for n, value in tensors.items() if n not in own or own[n].shape != value.shape]:
        raise StorageError(
            given=f"{origin}, whose tensors {', '.join(wrong[:4])} differ from those of {network.name!r}",
            expected=f"the {len(own)} tensors of {network.name!r}",
            remedy="build the network with the options used when it was saved",
        )
    for name, value in tensors.items():
        new = value.detach()
        if name in strides:
            new = torch.empty_strided(value.shape, strides[name], dtype=value.dtype).copy_(value)
        own[name].data = new.to(own[name].device)


def _is_alike(value: Tensor, other: Tensor) -> bool:
    """Return whether a rebuilt tensor needs no replacement."""
    same = value.dtype == other.dtype and value.stride() == other.stride()
    return same and torch.equal(value.cpu(), other.cpu())


def _is_dense(tensor: Tensor) -> bool:
    """Return whether the elements fill their memory without gaps, so that the strides can be restored."""
    return torch.empty_like(tensor).stride() == tensor.stride()


def _modes(network: Graph) -> dict[str, Any]:
    """Return the mode of the network, the modules in the other mode, and the parameters that are not trained."""
    training = network.training
    return {
        "training": training,
        "otherwise": [name for name, module in network.named_modules() if module.training != training],
        "frozen": [name for name, parameter in network.named_parameters() if not parameter.requires_grad],
    }


def _set_modes(network: Graph, modes: Mapping[str, Any]) -> None:
    otherwise, frozen = set(modes["otherwise"]), set(modes["frozen"])
    for name, module in network.named_modules():
        module.training = bool(modes["training"]) != (name in otherwise)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name not in frozen)
