"""What a network is made of: populations and projections."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from pcsim.core.clock import Clock
from pcsim.rules.base import Rule
from pcsim.rules.time_constants import TimeConstant
from pcsim.core.state import Shape

Kind = Literal["bottom_up", "lateral", "top_down", "prediction", "error"]
Window = tuple[float, float]


@dataclass(frozen=True)
class Population:
    """A named group of units with one rule.

    shape   (channel, height, width), inferred from the inputs unless declared
    active  (a, b): responds in steps a <= step < b only (in a flow: ms) and holds its value outside them
    copies  a population from whose value (and further variables) it starts when its window opens
    """

    name: str
    rule: Rule
    shape: Shape | None = None
    active: Window | None = None
    copies: str | None = None


@dataclass(frozen=True)
class Projection:
    """An edge: `transform` of the source's value, added to what arrives at a port of the target.

    delay   0 reads the source's value of this step, 1 that of the step before, n that of n steps before.
            None (the default) means 0 in a discrete network; in a flow every edge reads the present.
    port    the input of the target's rule; by default the one called like `kind`, else the rule's first.
    before  what a delayed edge gives until its source has spoken: nothing ("absent"), or the transform of
            zeros ("zeros").
    active  (a, b): delivers in steps a <= step < b only (in a flow: ms), and nothing outside them. A transform
            that differs from step to step (`connections.Phased`) counts its steps from a.
    delay_ms  in a flow, a conduction delay: the source's value that long ago, interpolated between steps. A
            number, or a `LearnableTau(1, ...)`, which then is a learnable delay.
    silent  a window [from, to) in ms during which the edge is lesioned.
    precision  the type in which convolutions and matrix products of the transform are computed, such as
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
    silent: Window | None = None
    precision: torch.dtype | None = None
    name: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.name or f"{self.source}->{self.target}")

    @property
    def key(self) -> str:
        """The name under which its parameters are stored."""
        return re.sub(r"\W", "_", self.name.replace("->", "_to_"))

    def deliver(self, value: Tensor, *phase: int) -> Tensor:
        """The transform of the source's value (and of the step, if it differs between steps)."""
        if self.precision is None:
            return self.transform(value, *phase)
        with torch.autocast(value.device.type, self.precision):
            return self.transform(value, *phase).to(value.dtype)

    def is_silent(self, clock: Clock) -> bool:
        """Whether the edge is lesioned in the step that begins now."""
        return self.silent is not None and clock.within(self.silent)
