"""Copies of networks with frozen settings and shared tensors."""

from __future__ import annotations

import copy
from itertools import chain

from torch import Tensor, nn

from pcsim.core.exceptions import SolverError
from pcsim.network.network import Network
from pcsim.simulation.purity import HOOKS


def frozen(network: Network) -> Network:
    """Return a copy of the network that shares its parameters and buffers.

    Raises SolverError if a module cannot be copied.
    """
    memo: dict[int, object] = {id(tensor): tensor for tensor in chain(network.parameters(), network.buffers())}
    for module in network.modules():
        for kind in HOOKS:
            # Do not copy hooks that are bound methods, because a copy of their owner would then receive the calls.
            memo |= {id(hook): hook for hook in getattr(module, kind, {}).values()}
        # Detach tensors computed from parameters (by prune, weight_norm): torch cannot copy them with their history.
        computed = [value for value in vars(module).values() if isinstance(value, Tensor) and not value.is_leaf]
        memo |= {id(value): value.detach().clone() for value in computed}
    try:
        made = copy.deepcopy(network, memo)
    except Exception as reason:
        raise SolverError(
            given=f"{network.name!r}, in which a module cannot be copied ({type(reason).__name__}: {reason})",
            expected="modules that copy.deepcopy supports, because a Simulator uses a copy of the network",
            remedy="define __deepcopy__ in that module, or use pcsim.simulate, which does not copy the network",
        ) from reason
    for theirs, ours in zip(network.modules(), made.modules(), strict=True):
        vars(ours).update(_parameters=theirs._parameters, _buffers=theirs._buffers)
    return made


def without_compilers(network: Network) -> None:
    """Replace modules wrapped by torch.compile with the original modules, which are compiled as part of the steps."""
    for module in network.modules():
        for name, child in module._modules.items():
            if (original := getattr(child, "_orig_mod", None)) is not None:
                module._modules[name] = original


class Places:
    """The locations of a network's parameters and buffers, stored so that `now()` need not traverse the modules."""

    def __init__(self, network: nn.Module) -> None:
        self._places = [
            (f"{path}.{name}" if path else name, kept, name)
            for path, module in network.named_modules()
            for kept in (module._parameters, module._buffers)
            for name in kept
        ]

    def now(self) -> dict[str, Tensor]:
        """Return all current parameters and buffers by path. Raises SolverError if one has been removed."""
        try:
            return {path: value for path, kept, name in self._places if (value := kept[name]) is not None}
        except KeyError:
            gone = next(path for path, kept, name in self._places if name not in kept)
            raise SolverError(
                given=f"a Simulator of a network whose {gone!r} has been removed",
                expected="the parameters and buffers that existed when it was created; only their values may change",
                remedy="create a new Simulator after weight_norm, prune, parametrize or a similar change",
            ) from None
