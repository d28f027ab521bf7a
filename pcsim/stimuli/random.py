"""Random numbers that are a function of (seed, index): the same for an item, whatever else is drawn.

A counter-based generator (Philox, Salmon et al. 2011) is advanced to the first index, so a range of items is one
vectorised draw.
"""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray


def uniform(seed: int, purpose: str, first: int, count: int, draws: int) -> NDArray[np.float64]:
    """Draw U(0, 1) of shape (count, draws) for the items first, first + 1, ...; `purpose` keeps streams apart."""
    blocks = -(-draws // 4)  # Philox makes four 64-bit numbers a counter step
    generator = np.random.Philox(key=[seed % 2**64, zlib.crc32(purpose.encode())]).advance(first * blocks)
    return np.random.Generator(generator).random((count, 4 * blocks))[:, :draws]


def normal(seed: int, purpose: str, first: int, count: int, draws: int) -> NDArray[np.float64]:
    """Draw N(0, 1) of shape (count, draws) for the items first, first + 1, ... (Box & Muller 1958)."""
    pairs = uniform(seed, purpose, first, count, 2 * draws)
    radius = np.sqrt(-2.0 * np.log1p(-pairs[:, :draws]))
    return radius * np.cos(2.0 * np.pi * pairs[:, draws:])


def integers(uniforms: NDArray[np.float64], below: NDArray | int) -> NDArray[np.int64]:
    """Return integers 0 <= n < below from U(0, 1)."""
    return (uniforms * below).astype(np.int64)
