"""The state of a network: a dict of named tensors, each (batch, ...).

A population `v1` stores its value under "v1", any extra variable of its rule under "v1.c", and, where a delay reads
it, its value n steps before under "v1@n"; "image@n" is the input `image` n steps before. The keys are the same from the
first step of a run to the last.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

State = dict[str, Tensor]
Shape = tuple[int, ...]


def variable_key(name: str, variable: str) -> str:
    """Return the key of a variable: the name of the population for its value, "name.variable" for others."""
    return name if variable == "value" else f"{name}.{variable}"


def axpy(state: State, terms: Iterable[tuple[float, State]], names: Iterable[str]) -> State:
    """Return state + sum_i a_i x_i for the variables in `names`, the others unchanged."""
    result = dict(state)
    for factor, other in terms:
        for name in names:
            result[name] = torch.add(result[name], other[name], alpha=factor)
    return result


def finite(value: Tensor, first: int = 1) -> Tensor:
    """Return where a value is finite in all axes from `first` on: (batch,) by default.

    Checks the largest and the smallest value (NaN is both): a sum can overflow where no value does.
    """
    axes = tuple(range(first, value.dim()))
    if not axes:
        return torch.isfinite(value)
    return torch.isfinite(value.amax(axes)) & torch.isfinite(value.amin(axes))


def units(value: Tensor) -> tuple[int, ...]:
    """Return all axes of an activity but the batch. Flattening them first would copy a channels_last tensor."""
    return tuple(range(1, value.dim()))


def per_channel(values: Tensor, like: Tensor) -> Tensor:
    """Reshape (channel,) so that it broadcasts over an activity (batch, channel, ...) such as `like`."""
    return values.to(like).reshape(-1, *(1,) * (like.dim() - 2))


def laid_out(value: Tensor) -> Tensor:
    """Return an activity in channels_last format, the fastest for convolutions, if it has four axes."""
    if value.dim() != 4:
        return value
    try:
        return value.contiguous(memory_format=torch.channels_last)
    except RuntimeError:  # torch.func.vmap does not support memory formats
        return value


def zeros(shape: Shape, like: Tensor) -> Tensor:
    """Return a zero activity (batch, *shape) with the batch, type and device of `like`."""
    return laid_out(like.new_zeros((like.shape[0], *shape)))
