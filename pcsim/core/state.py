"""The state of a network: a dict of named tensors, each of shape (batch, ...).

The value of population `v1` is stored under "v1", and an extra variable `c` of its rule under "v1.c". If an edge has a
delay, the value n steps earlier is stored under "v1@n", or "image@n" for the input `image`. The keys do not change
during a run.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, cast

import torch
from pydantic import Field
from torch import Tensor

from pcsim.core.checks import Count

State = dict[str, Tensor]
Shape = Annotated[tuple[Count, ...], Field(min_length=1)]


def variable_key(name: str, variable: str) -> str:
    """Return the state key of a variable: "name" for the value of a population, "name.variable" for other variables."""
    return name if variable == "value" else f"{name}.{variable}"


def axpy(state: State, terms: Iterable[tuple[float, State]], names: Iterable[str]) -> State:
    """Return state + sum_i a_i x_i for the variables in `names`, leaving the others unchanged."""
    result = dict(state)
    for factor, other in terms:
        for name in names:
            result[name] = torch.add(result[name], other[name], alpha=factor)
    return result


def finite(value: Tensor, first: int = 1) -> Tensor:
    """Return whether all values are finite along the axes from `first` onwards; by default for each sample, (batch,).

    Only the maximum and the minimum are checked, as both propagate NaN. A sum could overflow even if all values are
    finite.
    """
    axes = tuple(range(first, value.dim()))
    if not axes:
        return torch.isfinite(value)
    return torch.isfinite(value.amax(axes)) & torch.isfinite(value.amin(axes))


def units(value: Tensor) -> tuple[int, ...]:
    """Return all axes except the batch axis, for reductions. Flattening instead would copy a channels_last tensor."""
    return tuple(range(1, value.dim()))


def norm(value: Tensor) -> Tensor:
    """Return the norm of each sample, (batch,), in one pass over memory; float32 for half precision."""
    half = value.dtype in (torch.float16, torch.bfloat16)
    return cast(Tensor, torch.linalg.vector_norm(value, dim=units(value), dtype=torch.float32 if half else None))


def per_channel(values: Tensor, like: Tensor) -> Tensor:
    """Reshape `values`, (channel,), to broadcast against the activity `like`, (batch, channel, ...)."""
    return values.to(like).reshape(-1, *(1,) * (like.dim() - 2))


def laid_out(value: Tensor) -> Tensor:
    """Convert a 4-d activity to channels_last format, the fastest for convolutions; return other values unchanged."""
    if value.dim() != 4:
        return value
    try:
        return value.contiguous(memory_format=torch.channels_last)
    except RuntimeError:  # torch.func.vmap does not support memory formats
        return value


def zeros(shape: Shape, like: Tensor) -> Tensor:
    """Return zeros of shape (batch, *shape) with the batch size, dtype and device of `like`."""
    return laid_out(like.new_zeros((like.shape[0], *shape)))
