"""How a network's state moves."""

from __future__ import annotations

import torch
from torch import Tensor


def state_change(values: Tensor) -> Tensor:
    """|x(t) - x(t-1)| / |x(t)|, the relative change of every step, per sample: (time - 1, batch).

    values (time, batch, ...). Zero where a state is all zero and stays so.
    """
    flat = values.flatten(2)
    change, size = torch.linalg.vector_norm(flat.diff(dim=0), dim=2), torch.linalg.vector_norm(flat[1:], dim=2)
    return torch.where(size > 0, change / size.clamp_min(torch.finfo(size.dtype).tiny), torch.zeros_like(change))
