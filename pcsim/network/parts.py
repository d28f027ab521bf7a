"""The parts of a network: populations and projections."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import nn

from pcsim.core.clock import Window
from pcsim.core.state import Shape
from pcsim.rules.base import Rule
from pcsim.rules.time_constants import TimeConstant

Kind = Literal["bottom_up", "lateral", "top_down", "prediction", "error"]
ALWAYS: Window = (-math.inf, math.inf)


@dataclass(frozen=True)
class Population:
    """A named group of units with one rule.

    shape   (channel, height, width), inferred from the inputs unless declared
    active  (a, b): responds from a on and before b only, and holds its value outside; in steps, in a flow in ms
    starts_from  a population whose value (and extra variables) it takes over when its window opens
    """

    name: str
    rule: Rule
    shape: Shape | None = None
    active: Window | None = None
    starts_from: str | None = None


@dataclass(frozen=True)
class Projection:
    """An edge: `transform` of the source's value, added to what arrives at a port of the target.

    delay   0 reads the source's value of this step, 1 that of the step before, n that of n steps before.
            None (the default) means 0 in a discrete network; in a flow every edge reads the present.
    port    the input of the target's rule; by default the one with the name of `kind`, else the rule's first.
    before  the value that a delayed edge delivers before its source has one: nothing ("absent"), or the
            transform of zeros ("zeros").
    active  (a, b): delivers from a on and before b only, and nothing outside; in steps, in a flow in ms. A
            transform that differs from step to step (`connections.Phased`) counts its steps from a.
    delay_ms  in a flow, a conduction delay: reads the source's value that long ago, interpolated between steps.
            A number, or a `LearnableTau(1, ...)` for a learnable delay.
    lesioned  windows [from, to) during which the edge delivers nothing, in the same unit as `active`.
    compute_dtype  the type in which convolutions and matrix products of the transform are computed, such as
            torch.bfloat16; what it delivers has the type of the source's value. None: that type.
    name    "source->target" unless two projections share both.
    """

    source: str
    target: str
    transform: nn.Module = field(default_factory=nn.Identity)
    kind: Kind = "bottom_up"
    delay: int | None = None
    port: str | None = None
    before: Literal["absent", "zeros"] = "absent"
    active: Window | None = None
    delay_ms: float | TimeConstant | None = None
    lesioned: tuple[Window, ...] = ()
    compute_dtype: torch.dtype | None = None
    name: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.name or f"{self.source}->{self.target}")

    @property
    def key(self) -> str:
        """The name under which the parameters of the edge are stored."""
        return re.sub(r"\W", "_", self.name.replace("->", "_to_"))
