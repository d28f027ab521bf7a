"""A network whose settings stand still while its tensors live on."""

from __future__ import annotations

import copy
from itertools import chain

from torch import Tensor

from pcsim.core.exceptions import SolverError
from pcsim.network.network import Network
from pcsim.simulation.purity import HOOKS


def frozen(network: Network) -> Network:
    """Return a copy that shares every parameter and buffer. Raises SolverError where a module cannot be copied."""
    memo: dict[int, object] = {id(tensor): tensor for tensor in chain(network.parameters(), network.buffers())}
    for module in network.modules():
        for kind in HOOKS:
            # A hook that is a method belongs to whoever looks on: a copy of its owner would see the calls instead.
            memo |= {id(hook): hook for hook in getattr(module, kind, {}).values()}
    try:
        return copy.deepcopy(network, memo)
    except Exception as reason:
        raise SolverError(
            given=f"{network.name!r}, of which a module cannot be copied ({type(reason).__name__}: {reason})",
            expected="modules that copy.deepcopy takes: a Simulator keeps their settings as they are now",
            remedy="give that module a __deepcopy__, or use pcsim.simulate, which copies nothing",
        ) from reason


class Links:
    """From every tensor of a frozen network to where the original keeps it."""

    def __init__(self, original: Network, frozen_: Network) -> None:
        pairs = zip(original.modules(), frozen_.modules(), strict=True)
        self._links: list[tuple[dict[str, Tensor | None], dict[str, Tensor | None]]] = []
        for theirs, ours in pairs:
            for kind in ("_parameters", "_buffers"):
                there, here = getattr(theirs, kind), getattr(ours, kind)
                if here:
                    self._links.append((there, here))

    def renew(self) -> None:
        """Take the tensors that the original has now: `.to(...)` replaces buffers, users replace parameters."""
        for there, here in self._links:
            here.update((name, there[name]) for name in here if name in there)
