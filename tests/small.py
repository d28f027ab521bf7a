"""Every registered model at a size that tests can afford, and what each is shown."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pcsim import Euler, Iterate, Network, models
from pcsim.models import Architecture
from pcsim.solvers import Solver

SMALL: dict[str, dict[str, Any]] = {
    **{name: {"width": 3, "size": 8} for name in ("blt_b", "blt_bk", "blt_bf", "blt_bl", "blt_bt", "blt")},
    "leaky_rcnn": {"channels": (3, 4), "tau": (10.0, 10.0), "size": 8},
    "rcnn": {"channels": 4, "iterations": 2, "size": 8, "image_channels": 1, "classes": 3},
    "convlstm": {"channels": (4, 3), "kernel": 3, "seen": 3, "unseen": 3, "image": (1, 16, 16)},
    "subconvlstm": {"channels": (4, 3), "kernel": 3, "seen": 3, "unseen": 3, "image": (1, 16, 16)},
    "sublstm": {"units": 5, "inputs": 3, "layers": 2, "steps": 5, "classes": 3},
    "pcn_global": {"channels": (4, 5, 6), "pooled": (2,), "cycles": 4, "image": (2, 8, 8), "classes": 3},
    "pcn_local": {"architecture": Architecture((4, 5), (1,)), "cycles": 3, "image": (2, 8, 8), "classes": 3},
    "prednet": {"channels": (1, 4, 5), "size": (16, 16)},
    "prednet_kitti": {"channels": (3, 4, 5), "size": (16, 24)},
    "predictive_coding": {"layers": ((2, 8, 8), (4, 4, 4), (6,), (3,)), "activation": "tanh"},
    "hopfield": {"units": 20, "count": 2},
    "hopfield_continuous": {"units": 20, "count": 2},
    "hopfield_modern": {"units": 20, "count": 3},
}

PUBLISHED_COUNTS = {  # of the defaults, where a number is published or follows from published code
    "blt_b": 9_898,
    "blt_bk": 26_794,
    "blt_bf": 38_218,
    "blt_bl": 28_330,
    "blt_bt": 19_114,
    "blt": 37_546,
    "rcnn": 672_202,
    "convlstm": 7_585_296,
    "pcn_global": 4_653_450,
    "pcn_local": 9_898_192,
    "prednet_kitti": 6_915_948,
}


def small(name: str) -> Network:
    """A small network, its weights scattered so that nothing hides behind zeros."""
    net = models.build(name, **SMALL[name])
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.requires_grad:
                noise = torch.randn(parameter.shape, generator=generator).to(parameter)
                parameter.add_(0.1 * noise)
    return net.eval()


def shown(net: Network, batch: int, seed: int = 2) -> dict[str, Tensor]:
    """Something for every input: U(0, 1), each sample its own."""
    generator = torch.Generator().manual_seed(seed)
    like = torch.zeros(())
    return {
        name: torch.stack([torch.rand(shape, generator=generator, dtype=like.dtype) for _ in range(batch)])
        for name, shape in net.inputs.items()
    }


def stepping(net: Network) -> tuple[Solver, int]:
    """A solver that suits, and how many of its steps to take."""
    return (Euler(dt=2.0), 8) if net.is_flow else (Iterate(), min(net.steps or 8, 12))
