"""Copies of networks with frozen settings and shared tensors."""

from __future__ import annotations

import copy
from itertools import chain

from torch import Tensor, nn

from pcsim.core.exceptions import SolverError
from pcsim.network.network import Network
from pcsim.simulation.purity import HOOKS


def frozen(network: Network) -> Network:
    """Return a copy that shares its parameters and buffers with the original.

    Raises SolverError if a module cannot be copied.
    """
    memo: dict[int, object] = {id(tensor): tensor for tensor in chain(network.parameters(), network.buffers())}
    for module in network.modules():
        for kind in HOOKS:
            # A hook that is a method keeps its owner: otherwise a copy of the owner would receive the calls.
            memo |= {id(hook): hook for hook in getattr(module, kind, {}).values()}
        # Tensors computed from a parameter (by prune, weight_norm): torch copies no tensor with a history.
        computed = [value for value in vars(module).values() if isinstance(value, Tensor) and not value.is_leaf]
        memo |= {id(value): value.detach().clone() for value in computed}
    try:
        made = copy.deepcopy(network, memo)
    except Exception as reason:
        raise SolverError(
            given=f"{network.name!r}, of which a module cannot be copied ({type(reason).__name__}: {reason})",
            expected="modules that copy.deepcopy takes: a Simulator keeps their settings as they are now",
            remedy="give that module a __deepcopy__, or use pcsim.simulate, which copies nothing",
        ) from reason
    for theirs, ours in zip(network.modules(), made.modules(), strict=True):
        vars(ours).update(_parameters=theirs._parameters, _buffers=theirs._buffers)
    return made


def without_compilers(network: Network) -> None:
    """Replace each module that torch.compile wraps by the module itself, which is compiled with the rest."""
    for module in network.modules():
        for name, child in module._modules.items():
            if (original := getattr(child, "_orig_mod", None)) is not None:
                module._modules[name] = original


class Places:
    """Places of the tensors of a network, found once: `now()` reads them without a walk over its modules."""

    def __init__(self, network: nn.Module) -> None:
        self._places = [
            (f"{path}.{name}" if path else name, kept, name)
            for path, module in network.named_modules()
            for kept in (module._parameters, module._buffers)
            for name in kept
        ]

    def now(self) -> dict[str, Tensor]:
        """Return every parameter and buffer by path and name. Raises SolverError for one that is gone."""
        try:
            return {path: value for path, kept, name in self._places if (value := kept[name]) is not None}
        except KeyError:
            gone = next(path for path, kept, name in self._places if name not in kept)
            raise SolverError(
                given=f"a Simulator of a network whose {gone!r} has been taken away",
                expected="the parameters and buffers that it had when the Simulator was made, with any values",
                remedy="make a new Simulator after weight_norm, prune, parametrize and the like",
            ) from None
