"""The state of a network: a dict of named tensors, each (batch, ...).

A population `v1` keeps its value under "v1", any further variable of its rule under "v1.c", and
values that a delay of n > 1 steps still needs under "v1@n".
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

State = dict[str, Tensor]
Shape = tuple[int, ...]


def axpy(state: State, terms: Iterable[tuple[float, State]]) -> State:
    """state + sum_i a_i x_i, name by name."""
    result = dict(state)
    for factor, other in terms:
        for name, value in other.items():
            result[name] = torch.add(result[name], value, alpha=factor)
    return result


def finite(state: State) -> Tensor:
    """Which samples are finite, population by population: bool (name, batch); reads nothing back to the host."""
    return torch.isfinite(torch.stack([value.sum(units(value)) for value in state.values()]))


def units(value: Tensor) -> tuple[int, ...]:
    """All axes of an activity but the batch. Flattening them first would copy what is laid out in channels_last."""
    return tuple(range(1, value.dim()))


def per_channel(values: Tensor, like: Tensor) -> Tensor:
    """(channel,) in a shape that broadcasts over an activity (batch, channel, ...) such as `like`."""
    return values.to(like).reshape(-1, *(1,) * (like.dim() - 2))


def laid_out(value: Tensor) -> Tensor:
    """The same activity with channels side by side in memory, if it is an image: convolutions are fastest then."""
    return value.contiguous(memory_format=torch.channels_last) if value.dim() == 4 else value


def zeros(shape: Shape, like: Tensor) -> Tensor:
    """A zero activity (batch, *shape) with the batch, type and device of `like`, laid out."""
    return laid_out(like.new_zeros((like.shape[0], *shape)))
