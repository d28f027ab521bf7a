"""One population in the straight list of a plan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from pcsim.core.state import State

Deliver = Callable[[Any], Tensor]
Read = tuple[int, str | None, Deliver | None]
"""(table, key, what is done with the value); without a key, with the table"""


@dataclass
class Node:
    """One population as a list evaluates it: what each port sums, and what is done with the sums."""

    name: str
    ports: list[tuple[str, list[Read]]]
    respond: Callable[..., Any] | None
    variables: dict[str, str]
    """variable -> key"""
    reads_own: bool
    update: Callable[[Tensor, Tensor, Any], Tensor] | None = None
    gates: Callable[..., State] | None = None
    ratios: dict[str, str] = field(default_factory=dict)
    """variable -> where its ratio (or time constant) is held"""

    def __post_init__(self) -> None:
        alone = all(len(reads) == 1 for _, reads in self.ports)
        self.single = [(port, *reads[0]) for port, reads in self.ports] if alone else None
        """(port, table, key, what is done) where nothing is summed, which most nodes are"""
