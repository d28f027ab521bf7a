"""Models by name."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pcsim.core.exceptions import WiringError
from pcsim.network import Network

Model = TypeVar("Model", bound=Callable[..., Network])


@dataclass(frozen=True)
class Entry:
    """A registered model: what builds it, and the paper it is from."""

    build: Callable[..., Network]
    paper: str


MODELS: dict[str, Entry] = {}


def register(*, paper: str) -> Callable[[Model], Model]:
    """Make a function that returns a `Network` known by its name.

    @register(paper="Lotter et al. 2017")
    """

    def known(model: Model) -> Model:
        MODELS[model.__name__] = Entry(model, paper)
        return model

    return known


def available() -> tuple[str, ...]:
    """The registered models."""
    return tuple(MODELS)


def paper(name: str) -> str:
    """Return where a registered model was published. Raises WiringError for an unknown one."""
    if name not in MODELS:
        raise unknown("model", name, available())
    return MODELS[name].paper


def construct(name: str, **options: Any) -> Network:
    """Build the registered model `name` with fresh weights. Raises WiringError for an unknown model or option."""
    if name not in MODELS:
        raise unknown("model", name, available())
    model = MODELS[name].build
    parameters = inspect.signature(model).parameters
    known = tuple(option for option, parameter in parameters.items() if parameter.kind is not parameter.VAR_KEYWORD)
    for option in options:
        if option not in known and len(known) == len(parameters):
            raise unknown(f"option of {name}", option, known)
    return model(**options)


def unknown(what: str, given: str, known: Sequence[str]) -> WiringError:
    """The failure for a name that is not among `known`, with the nearest one."""
    near = difflib.get_close_matches(given, known, 1)
    return WiringError(
        given=f"{what} {given!r}",
        expected=f"one of {', '.join(known)}",
        remedy=f"did you mean {near[0]!r}?" if near else "choose one of these",
    )
