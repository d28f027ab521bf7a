"""The parts of a network: populations and projections."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import torch
from pydantic import Field
from torch import nn

from pcsim.connections.functions import as_transform
from pcsim.core.checks import checked
from pcsim.core.clock import Window
from pcsim.core.exceptions import WiringError
from pcsim.core.state import Shape
from pcsim.rules.base import Rule
from pcsim.rules.time_constants import TimeConstant

Kind = Literal["bottom_up", "lateral", "top_down", "prediction", "error", "modulatory"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Delay = Annotated[int, Field(ge=0, examples=["0 for the current step, or delay=1 for the previous step"])]
ALWAYS: Window = (-math.inf, math.inf)


@checked(WiringError)
@dataclass(frozen=True)
class Population:
    """A named group of units that share one rule.

    shape   (channel, height, width), inferred from the inputs unless declared
    active  window [a, b) in which the population responds, in steps (or ms in a flow); its value is constant outside
            the window
    starts_from  a population from which the value and extra variables are copied when the window opens
    """

    name: str
    rule: Rule
    shape: Shape | None = None
    active: Window | None = None
    starts_from: str | None = None


if TYPE_CHECKING:

    class _AsModule:
        """The type of `Projection.transform`: a module when read; a module, a function or a number when passed."""

        def __get__(self, owner: object, kind: type) -> nn.Module: ...
        def __set__(self, owner: object, value: nn.Module | Callable[..., torch.Tensor] | float) -> None: ...


@checked(WiringError, transform=None)
@dataclass(frozen=True)
class Projection:
    """An edge that adds `transform` of the source's value to the input at a port of the target.

    transform  a module, a stateless function (see `connections.Function`), or a number (a fixed gain); by default,
            the identity
    delay   number of steps by which the source's value is delayed: 0 for the current step, 1 for the previous step.
            None (the default) means 0 in a discrete network. In a flow, every edge transmits the current value.
    port    input port of the target's rule; by default the port named after `kind`, or else the rule's first port. A
            modulatory edge targets the port "gain"; see `rules.modulated`.
    before  output of a delayed edge before its source has a value: nothing ("absent"), or the transform applied to
            zeros ("zeros").
    active  window [a, b) in which the edge delivers its output, in steps (or ms in a flow). The phase of a
            `connections.Phased` transform is counted from a.
    delay_ms  conduction delay in a flow: a number, or a `LearnableTau(1, ...)` for a learnable delay. The source's
            value is interpolated between steps.
    lesioned  windows [from, to) in which the edge delivers nothing, in the same units as `active`.
    compute_dtype  dtype of the convolutions and matrix products in the transform, such as torch.bfloat16. Defaults to
            the dtype of the source's value, which is always the dtype of the output.
    name    "source->target" by default; two projections between the same populations need different names.
    """

    source: str
    target: str
    if TYPE_CHECKING:
        transform: _AsModule = _AsModule()
    else:
        transform: nn.Module | Callable[..., torch.Tensor] | float = field(default_factory=nn.Identity)
    kind: Kind = "bottom_up"
    delay: Delay | None = None
    port: str | None = None
    before: Literal["absent", "zeros"] = "absent"
    active: Window | None = None
    delay_ms: float | torch.Tensor | TimeConstant | None = None
    lesioned: tuple[Window, ...] = ()
    compute_dtype: torch.dtype | None = None
    name: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "transform", as_transform(self.transform))
        object.__setattr__(self, "name", self.name or f"{self.source}->{self.target}")

    @property
    def key(self) -> str:
        """The name under which the parameters of the edge are stored."""
        return re.sub(r"\W", "_", self.name.replace("->", "_to_"))
