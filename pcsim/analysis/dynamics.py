"""How a network's state moves."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pcsim.core.state import Shape


def state_change(values: Tensor) -> Tensor:
    """|x(t) - x(t-1)| / |x(t)|, the relative change of every step, per sample: (time - 1, batch).

    values (time, batch, ...). Zero where a state is all zero and stays so.
    """
    flat = values.flatten(2)
    change, size = torch.linalg.vector_norm(flat.diff(dim=0), dim=2), torch.linalg.vector_norm(flat[1:], dim=2)
    return torch.where(size > 0, change / size.clamp_min(torch.finfo(size.dtype).tiny), torch.zeros_like(change))


def largest_eigenvalue(
    operator: Callable[[Tensor], Tensor], shape: Shape, iterations: int = 500, seed: int = 0
) -> float:
    """lambda_max of a symmetric, positive linear `operator` on activities (1, *shape), by power iteration.

    The relative error is below (lambda_2 / lambda_max)^(2 iterations).
    """
    value = torch.randn(1, *shape, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        for _ in range(iterations):
            value = operator(value / value.norm())
    return float(value.norm())
