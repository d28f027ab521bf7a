"""Transforms for network edges: modules that take activity of shape (batch, channel, height, width).

Any `torch.nn.Module` can serve as a transform. Those defined here are shared by several models.
"""

from pcsim.connections.constrained import Signed, Symmetric, signed
from pcsim.connections.functions import Function, Gain
from pcsim.connections.routing import Opening, Window
from pcsim.connections.transforms import (
    Activation,
    Adjoint,
    Chain,
    GlobalMaxPool,
    GlobalMeanPool,
    HalfSquare,
    LocalResponseNorm,
    PerStep,
    Phased,
    Resize,
    ScaledLinear,
    Standardise,
    StepNorm,
    Strided,
    Tied,
    channels_last,
    conv,
    draw,
    pool,
    same_conv,
    summary,
    up_conv,
)

__all__ = [
    "Activation",
    "Adjoint",
    "Chain",
    "Function",
    "Gain",
    "GlobalMaxPool",
    "GlobalMeanPool",
    "HalfSquare",
    "LocalResponseNorm",
    "Opening",
    "PerStep",
    "Phased",
    "Resize",
    "ScaledLinear",
    "Signed",
    "Standardise",
    "StepNorm",
    "Strided",
    "Symmetric",
    "Tied",
    "Window",
    "channels_last",
    "conv",
    "draw",
    "pool",
    "same_conv",
    "signed",
    "summary",
    "up_conv",
]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
