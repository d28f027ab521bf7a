"""Published models: each a function that wires populations and projections into a `Network`."""

from pcsim.models import weights
from pcsim.models.blt import blt, blt_b, blt_bf, blt_bk, blt_bl, blt_bt
from pcsim.models.rcnn import leaky_rcnn
from pcsim.models.registry import build, names, register

__all__ = [
    "blt",
    "blt_b",
    "blt_bf",
    "blt_bk",
    "blt_bl",
    "blt_bt",
    "build",
    "leaky_rcnn",
    "names",
    "register",
    "weights",
]
