"""The state of a network: a dict of named tensors, each (batch, ...).

A population `v1` keeps its value under "v1", any further variable of its rule under "v1.c", and what it was n steps
before under "v1@n" where a delay reads that; an input `image` under "image@n" what was shown n steps ago. The keys are
the same from the first step of a run to the last.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

State = dict[str, Tensor]
Shape = tuple[int, ...]


def variable_key(name: str, variable: str) -> str:
    """Return the key of a variable: the population's own name for its value, "name.variable" for others."""
    return name if variable == "value" else f"{name}.{variable}"


def axpy(state: State, terms: Iterable[tuple[float, State]], names: Iterable[str]) -> State:
    """Return state + sum_i a_i x_i for the variables named; the others as they are."""
    result = dict(state)
    for factor, other in terms:
        for name in names:
            result[name] = torch.add(result[name], other[name], alpha=factor)
    return result


def finite(value: Tensor, first: int = 1) -> Tensor:
    """Tell where a value is finite, all axes from `first` on taken together: (batch,) by default.

    The largest and the smallest are looked at (NaN is both): a sum overflows where no value does.
    """
    axes = tuple(range(first, value.dim()))
    if not axes:
        return torch.isfinite(value)
    return torch.isfinite(value.amax(axes)) & torch.isfinite(value.amin(axes))


def units(value: Tensor) -> tuple[int, ...]:
    """Return all axes of an activity but the batch. Flattening them first would copy what is laid out channels_last."""
    return tuple(range(1, value.dim()))


def per_channel(values: Tensor, like: Tensor) -> Tensor:
    """Reshape (channel,) so that it broadcasts over an activity (batch, channel, ...) such as `like`."""
    return values.to(like).reshape(-1, *(1,) * (like.dim() - 2))


def laid_out(value: Tensor) -> Tensor:
    """Return the same activity with channels side by side in memory, if it is an image: fastest for convolutions."""
    if value.dim() != 4:
        return value
    try:
        return value.contiguous(memory_format=torch.channels_last)
    except RuntimeError:  # under torch.func.vmap a layout cannot be asked for
        return value


def zeros(shape: Shape, like: Tensor) -> Tensor:
    """Return a zero activity (batch, *shape) with the batch, type and device of `like`, laid out."""
    return laid_out(like.new_zeros((like.shape[0], *shape)))
