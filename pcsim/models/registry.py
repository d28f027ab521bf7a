"""Registry of models by name."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from pcsim.core.checks import checked
from pcsim.core.exceptions import WiringError
from pcsim.network import Network
from pcsim.network.graph import Graph
from pcsim.network.recipe import Recipe

Model = TypeVar("Model", bound=Callable[..., Network])


@dataclass(frozen=True)
class Entry:
    """A registered model: the function that builds it and the paper that describes it."""

    build: Callable[..., Network]
    paper: str


MODELS: dict[str, Entry] = {}
RENAMED = {
    "size": "image=(channel, height, width)",
    "image_channels": "image=(channel, height, width)",
    "width": "channels=(8, 8), with one number per layer",
    "maps": "channels=(8, 8), with one number per layer",
    "layers": "channels=(96, 96, 96, 96), with one number per layer",
    "times": "iterations=(2, 4, 2)",
}
"""options of pcsim 0.1 -> what to pass instead"""


@checked(WiringError)
def register(*, paper: str) -> Callable[[Model], Model]:
    """Return a decorator that registers a `Network`-building function as a model of the same name.

    The function's options are checked against their annotations.

    @register(paper="Lotter et al. 2017")
    """

    def known(model: Model) -> Model:
        build, signature = checked(WiringError)(model), inspect.signature(model)

        @functools.wraps(model)
        def recorded(*arguments: Any, **options: Any) -> Network:
            _require_current(model, options)
            network = build(*arguments, **options)
            given = signature.bind(*arguments, **options).arguments
            inner = [name for name, each in signature.parameters.items() if each.kind is each.VAR_KEYWORD]
            for name in inner:
                given |= given.pop(name, {})
            network.recipe = Recipe.of(model.__name__, given)
            return network

        MODELS[model.__name__] = Entry(recorded, paper)
        return cast(Model, recorded)

    return known


def available() -> tuple[str, ...]:
    """Return the names of the registered models."""
    return tuple(MODELS)


@checked(WiringError)
def paper(name: str) -> str:
    """Return the paper of a registered model. Raises WiringError for an unknown model."""
    if name not in MODELS:
        raise unknown("model", name, available())
    return MODELS[name].paper


def construct(name: str, **options: Any) -> Network:
    """Build the registered model `name` with fresh weights. Raises WiringError for an unknown model or option."""
    if name not in MODELS:
        raise unknown("model", name, available())
    model = MODELS[name].build
    parameters = inspect.signature(model).parameters
    _require_current(model, options)
    known = tuple(option for option, parameter in parameters.items() if parameter.kind is not parameter.VAR_KEYWORD)
    for option in options:
        if option not in known and len(known) == len(parameters):
            raise unknown(f"{name} option", option, known)
    return model(**options)


Graph.construct = staticmethod(construct)


def _require_current(model: Callable[..., Network], options: Mapping[str, Any]) -> None:
    """Raise WiringError for an option that has been renamed since pcsim 0.1, and for trained weights."""
    known = inspect.signature(model).parameters
    if "weights" in options and "weights" not in known:
        raise WiringError(
            given=f"{model.__name__}(weights={options['weights']!r})",
            expected="a call that builds the model with fresh weights",
            remedy=f"call pcsim.models.build({model.__name__!r}, weights={options['weights']!r})",
        )
    for option in options:
        if option in RENAMED and option not in known:
            raise WiringError(
                given=f"{model.__name__}({option}=...), an option of pcsim 0.1",
                expected=f"the options {', '.join(known)}",
                remedy=f"pass {RENAMED[option]} instead of {option}",
            )


def unknown(what: str, given: str, known: Sequence[str]) -> WiringError:
    """Return an exception that suggests the closest known name for a name that is not in `known`."""
    near = difflib.get_close_matches(given, known, 1)
    return WiringError(
        given=f"{what} {given!r}",
        expected=f"one of {', '.join(known)}",
        remedy=f"did you mean {near[0]!r}?" if near else f"use a known name, such as {next(iter(known), None)!r}",
    )
