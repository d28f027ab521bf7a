"""Random numbers that depend only on (seed, index), not on which other items are drawn.

The counter-based generator Philox (Salmon et al. 2011) is advanced to the first index, so the numbers for a range of
items are drawn in a single vectorised call.
"""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray


def uniform(seed: int, purpose: str, first: int, count: int, draws: int) -> NDArray[np.float64]:
    """Draw U(0, 1) numbers (count, draws) for items starting at `first`; each `purpose` has a separate stream."""
    blocks = -(-draws // 4)  # Philox generates four 64-bit numbers per counter step
    generator = np.random.Philox(key=[seed % 2**64, zlib.crc32(purpose.encode())]).advance(first * blocks)
    return np.random.Generator(generator).random((count, 4 * blocks))[:, :draws]


def normal(seed: int, purpose: str, first: int, count: int, draws: int) -> NDArray[np.float64]:
    """Draw N(0, 1) numbers (count, draws) for items starting at index `first` (Box & Muller 1958)."""
    pairs = uniform(seed, purpose, first, count, 2 * draws)
    radius = np.sqrt(-2.0 * np.log1p(-pairs[:, :draws]))
    return radius * np.cos(2.0 * np.pi * pairs[:, draws:])


def integers(uniforms: NDArray[np.float64], below: NDArray | int) -> NDArray[np.int64]:
    """Convert U(0, 1) numbers to uniform integers 0 <= n < below."""
    return (uniforms * below).astype(np.int64)
