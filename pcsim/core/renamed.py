"""Public names that changed in version 0.2.0: an old name raises an exception whose message states the new name.

CHANGELOG.md lists the same names. Remove the old names in 0.3.0.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import NoReturn

from pcsim.core.exceptions import PcsimError

NAMES = {
    "pcsim.assemblies": "pcsim.brain.recordings",
    "pcsim.executors": "pcsim.sweeps.executors",
    "pcsim.frame_training": "pcsim.training.frames",
    "pcsim.memory": "pcsim.training.memory",
    "pcsim.parallel": "pcsim.training.distributed",
    "pcsim.plasticity": "pcsim.training.local",
    "pcsim.search": "pcsim.sweeps.search",
    "pcsim.storage": "pcsim.core.storage",
    "pcsim.subject": "pcsim.brain.subject",
    "pcsim.sweep": "pcsim.sweeps.sweep",
    "pcsim.together": "pcsim.batched",
    "pcsim.weights": "pcsim.network.weights",
    "pcsim.analysis.check_order": "pcsim.dynamics.check_order",
    "pcsim.analysis.largest_eigenvalue": "pcsim.dynamics.largest_eigenvalue",
    "pcsim.analysis.latencies": "pcsim.brain.latencies",
    "pcsim.analysis.neural": "pcsim.brain.regression",
    "pcsim.analysis.similarity": "pcsim.brain.similarity",
    "pcsim.analysis.stability": "pcsim.dynamics.stability",
    "pcsim.models.names": "pcsim.models.available",
    "pcsim.models.weights.load": "pcsim.load",
    "pcsim.models.weights.save": "pcsim.Network.save",
    "pcsim.plots.circuit": "pcsim.plots.network",
    "pcsim.rules.HandOver": "pcsim.rules.Switch",
    "pcsim.rules.Relaxed": "pcsim.rules.Leaky",
    "pcsim.sweeps.executors.Here": "pcsim.sweeps.executors.SerialExecutor",
    "pcsim.sweeps.executors.Submits": "pcsim.sweeps.executors.SupportsSubmit",
    "pcsim.training.load_tensors": "pcsim.network.weights.load_tensors",
    "pcsim.training.published": "pcsim.training.published_settings",
    "pcsim.training.trained_tensors": "pcsim.network.weights.trained_tensors",
    "pcsim.training.distributed.agree": "pcsim.training.distributed.broadcast",
    "pcsim.training.distributed.average": "pcsim.training.distributed.all_reduce_mean",
    "pcsim.training.distributed.group": "pcsim.training.distributed.process_group",
    "pcsim.training.distributed.share": "pcsim.training.distributed.shard",
    "pcsim.training.distributed.wait": "pcsim.training.distributed.barrier",
}
"""modules, functions and classes"""
ATTRIBUTES = {
    "Network.initial_state": "pcsim.initial_state",
    "Network.relaxed": "Network.as_ode",
    "Network.rounded": "Network.autocast",
}
OPTIONS = {
    "copies": "starts_from",
    "extrapolate_from": "closed_loop_from",
    "hand_over": "closed_loop_from",
    "precision": "compute_dtype",
    "seen": "input_frames",
    "sweeps": "rounds",
    "unseen": "output_frames",
}
"""arguments of functions and fields of classes, wherever the new name exists"""


class RenamedError(PcsimError, AttributeError):
    """An attribute that was renamed in version 0.2.0."""


def names_of(module: str) -> Callable[[str], NoReturn]:
    """Return a `__getattr__` for a module that raises RenamedError for the module's old names."""

    def missing(name: str) -> NoReturn:
        if new := NAMES.get(f"{module}.{name}"):
            raise RenamedError(**_renamed(f"{module}.{name}", new))
        raise AttributeError(f"module {module!r} has no attribute {name!r}")

    return missing


def attribute(owner: str, name: str) -> None:
    """Raise RenamedError if `name` is an old attribute of the class `owner`."""
    if new := ATTRIBUTES.get(f"{owner}.{name}"):
        raise RenamedError(**_renamed(f"{owner}.{name}", new))


def _renamed(old: str, new: str) -> dict[str, str]:
    return {"given": old, "expected": f"{new}, its name since pcsim 0.2.0", "remedy": f"write {new}"}


class _OldModules(MetaPathFinder):
    """An import finder for old module names, such as `pcsim.storage`; used only if all other finders fail."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if new := NAMES.get(fullname):
            raise PcsimError(**_renamed(fullname, new))
        return None


sys.meta_path.append(_OldModules())
