"""Conversions between tensors and JAX arrays for the implementations in `experiments.speed`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from .work import Result

RATE, STRIDE, PADDING = 0.1, 2, ((1, 1), (1, 1))
TRANSPOSED = ((1, 2), (1, 2))
"""padding for which the transposed convolution is the gradient of the convolution"""


@cache
def threads_of_jax() -> int:
    """Start JAX with PyTorch's number of threads, which JAX cannot change later, and return this number."""
    threads = torch.get_num_threads()
    os.environ |= {"JAX_PLATFORMS": "cpu", "NPROC": str(threads)}  # the size of XLA's thread pools on the CPU
    import jax

    jax.devices()
    return threads


def to_jax(value: Tensor, order: tuple[int, ...]) -> Any:
    """Convert a tensor to a JAX array, with its axes permuted to `order`."""
    import jax.numpy as jnp

    return jnp.array(value.permute(order).numpy())


def transposed(weight: Any) -> Any:
    """Return the transposed weight, which propagates errors backwards."""
    return (weight[::-1, ::-1] if weight.ndim == 4 else weight).swapaxes(-1, -2)


def answer(z1: Any, z2: Any) -> Result:
    """Convert z_1 and z_2 to tensors with the names and axis order of the plain loop."""
    found = {"r2": torch.from_dlpack(z1.block_until_ready()), "r1": torch.from_dlpack(z2.block_until_ready())}
    return {name: z.permute(0, 3, 1, 2) if z.dim() == 4 else z for name, z in found.items()}


def layers(weights: Sequence[Any], image: Any) -> list[tuple[int, ...]]:
    """Return the shapes of z_0 to z_3, without the batch axis."""
    shapes = [image.shape[1:]]
    for weight in weights:
        shapes.append((*(-(-size // STRIDE) for size in shapes[-1][:-1]), weight.shape[-1]))
    return shapes
