"""The evaluation of one population within a plan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from pcsim.core.state import State

Deliver = Callable[[Any], Tensor]
Read = tuple[int, str | None, Deliver | None]
"""(table, key, function of the value with this key), or a function of the table if the key is None"""


@dataclass
class Node:
    """A population in a plan: the inputs to each port, and the function applied to their sums."""

    name: str
    ports: list[tuple[str, list[Read]]]
    respond: Callable[..., Any] | None
    variables: dict[str, str]
    """variable -> key in the state"""
    reads_own: bool
    update: Callable[[Tensor, Tensor, Any], Tensor] | None = None
    gates: Callable[..., State] | None = None
    ratios: dict[str, str] = field(default_factory=dict)
    """variable -> key of its precomputed ratio (or time constant)"""

    def __post_init__(self) -> None:
        alone = all(len(reads) == 1 for _, reads in self.ports)
        self.single = [(port, *reads[0]) for port, reads in self.ports] if alone else None
        """(port, table, key, function) of each port, or None if a port has several inputs"""
