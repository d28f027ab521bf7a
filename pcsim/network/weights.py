"""The tensors of a network under unique names, as stored in weight files and checkpoints."""

from __future__ import annotations

from itertools import chain

import torch
from torch import Tensor

from pcsim.core.exceptions import StorageError
from pcsim.network.graph import Graph


def trained_tensors(network: Graph) -> dict[str, Tensor]:
    """Return every parameter and persistent buffer once, under its first name, as stored in weight files."""
    lasting = network.state_dict(keep_vars=True)
    unique: dict[int, str] = {}
    for name, tensor in lasting.items():
        unique.setdefault(id(tensor), name)
    return {name: lasting[name] for name in unique.values()}


def load_tensors(network: Graph, tensors: dict[str, Tensor], origin: str) -> None:
    """Copy the result of `trained_tensors` into a network. Raises StorageError unless all names and shapes match."""
    wanted = trained_tensors(network)
    mismatched = [
        f"{name}: {tuple(tensors[name].shape) if name in tensors else 'missing'}"
        for name in chain(wanted, tensors)
        if name not in wanted or name not in tensors or wanted[name].shape != tensors[name].shape
    ]
    if mismatched:
        raise StorageError(
            given=f"{origin} with {', '.join(mismatched[:4])}{' ...' if len(mismatched) > 4 else ''}",
            expected=f"the {len(wanted)} tensors of {network.name!r}",
            remedy="build the network with the options used when the weights were trained",
        )
    with torch.no_grad():
        for name, tensor in wanted.items():
            tensor.copy_(tensors[name])
