"""Recipes for rebuilding networks: a registered model, its options, and the variants derived from it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from pcsim.core.nested import flatten_nested, restore_nested

VARIANTS = ("as_ode", "autocast", "clamped", "without")


@dataclass(frozen=True)
class Recipe:
    """The calls that built a network: a registered model with its options, then variants such as "as_ode".

    Arguments are stored as they were at the time of the call. `unkept` is the name of an argument that cannot be
    stored in a file, such as a module, or "" if there is none.
    """

    model: str
    _options: object
    _calls: tuple[tuple[str, object], ...] = ()
    _tensors: Mapping[str, Tensor] = field(default_factory=dict)
    unkept: str = ""

    @classmethod
    def of(cls, model: str, options: Mapping[str, Any]) -> Recipe:
        """Return the recipe of a registered model built with `options`."""
        return cls(model, {"dict": []})._with("", dict(options))

    def then(self, variant: str, *arguments: Any, **options: Any) -> Recipe:
        """Return the recipe followed by a call to a variant."""
        return self._with(variant, {"arguments": arguments, "options": options})

    @property
    def options(self) -> dict[str, Any]:
        """The options given to the model."""
        return dict(restore_nested(self._tensors, self._options))

    @property
    def calls(self) -> tuple[tuple[str, dict[str, Any]], ...]:
        """The variants in order, each with its "arguments" and "options"."""
        return tuple((name, restore_nested(self._tensors, given)) for name, given in self._calls)

    def build(self, construct: Callable[..., Any], **options: Any) -> Any:
        """Build the network with `construct`, which builds registered models; `options` override the stored ones.

        Torch's random number generators are left unchanged.
        """
        with _own_random_state():
            network = construct(self.model, **{**self.options, **options})
            for name, given in self.calls:
                network = getattr(network, name)(*given["arguments"], **given["options"])
        return network

    def facts(self) -> dict[str, Any]:
        """Return the recipe without its tensors, as JSON types."""
        return {"model": self.model, "options": self._options, "calls": [list(call) for call in self._calls]}

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors among the arguments, by path."""
        return dict(self._tensors)

    @classmethod
    def read(cls, facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Recipe:
        """Return the recipe stored as `facts` and `tensors`. Raises ValueError for an unknown variant."""
        calls = tuple((name, given) for name, given in facts["calls"])
        if unknown := [name for name, _ in calls if name not in VARIANTS]:
            raise ValueError(f"the variant {unknown[0]!r}")
        return cls(facts["model"], facts["options"], calls, tensors)

    def __deepcopy__(self, memo: object) -> Recipe:
        return self

    def _with(self, variant: str, given: dict[str, Any]) -> Recipe:
        prefix = f"recipe/{len(self._calls) + 1 if variant else 0}"
        tensors, skeleton = flatten_nested(given, prefix)
        unkept = self.unkept or (f"{variant}()" if variant and _unkept(given) else _unkept(given))
        kept = {} if unkept else {name: value.detach().clone() for name, value in tensors.items()}
        skeleton = {"dict": []} if unkept else json.loads(json.dumps(skeleton))
        made = replace(self, _tensors={**self._tensors, **kept}, unkept=unkept)
        if variant:
            return replace(made, _calls=(*self._calls, (variant, skeleton)))
        return replace(made, _options=skeleton)


def _unkept(given: Mapping[str, Any]) -> str:
    """Return the name of the first argument that JSON and tensors cannot represent, or an empty string."""
    for name, value in given.items():
        try:
            json.dumps(flatten_nested(value)[1])
        except (TypeError, ValueError, RecursionError):
            return name
    return ""


@contextmanager
def _own_random_state() -> Iterator[None]:
    """Restore torch's random number generators on exit."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()  # type: ignore[no-untyped-call]
    with torch.random.fork_rng(devices=devices):
        yield
