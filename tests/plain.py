"""The operations of the published equations in float64 NumPy, written from their definitions: loops over kernel
positions, nothing shared with torch. Arrays are (batch, channel, height, width)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]


def array(tensor: Tensor) -> Array:
    return tensor.detach().numpy().astype(np.float64)


def conv(x: Array, weight: Array, bias: Array | None = None, stride: int = 1, padding: int | None = None) -> Array:
    """y[o, i, j] = b[o] + sum_c sum_uv w[o, c, u, v] x[c, s i + u - p, s j + v - p]."""
    out, _, height, width = weight.shape
    pad = height // 2 if padding is None else padding
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    rows, columns = (x.shape[2] - height) // stride + 1, (x.shape[3] - width) // stride + 1
    y = np.zeros((len(x), out, rows, columns))
    for u in range(height):
        for v in range(width):
            seen = x[:, :, u : u + stride * rows : stride, v : v + stride * columns : stride]
            y += np.einsum("oc,bcij->boij", weight[:, :, u, v], seen)
    return y if bias is None else y + bias[None, :, None, None]


def conv_transpose(x: Array, weight: Array, stride: int = 1, bias: Array | None = None) -> Array:
    """The transpose of `conv` with that weight and padding kernel // 2, onto a map `stride` times as large."""
    batch, _, rows, columns = x.shape
    _, out, height, width = weight.shape
    pad = height // 2
    y = np.zeros((batch, out, stride * rows + height, stride * columns + width))
    for u in range(height):
        for v in range(width):
            sent = np.einsum("co,bcij->boij", weight[:, :, u, v], x)
            y[:, :, u : u + stride * rows : stride, v : v + stride * columns : stride] += sent
    y = y[:, :, pad : pad + stride * rows, pad : pad + stride * columns]
    return y if bias is None else y + bias[None, :, None, None]


def max_pool(x: Array) -> Array:
    return np.maximum.reduce([x[:, :, u::2, v::2] for u in (0, 1) for v in (0, 1)])


def nearest_up(x: Array) -> Array:
    return x.repeat(2, axis=2).repeat(2, axis=3)


def bilinear_up(x: Array) -> Array:
    """Twice the size, sample positions (i + 1/2) / 2 - 1/2, clipped at the border."""
    for axis in (2, 3):
        size = x.shape[axis]
        at = np.clip((np.arange(2 * size) + 0.5) / 2 - 0.5, 0, None)
        low = np.floor(at).astype(int)
        high = np.minimum(low + 1, size - 1)
        share = (at - low).reshape([-1 if a == axis else 1 for a in range(4)])
        x = (1 - share) * x.take(low, axis) + share * x.take(high, axis)
    return x


def relu(x: Array) -> Array:
    return np.maximum(x, 0.0)


def sigmoid(x: Array) -> Array:
    return 1.0 / (1.0 + np.exp(-x))


def hard_sigmoid(x: Array) -> Array:
    return np.clip(0.2 * x + 0.5, 0.0, 1.0)


def per_channel(values: Array) -> Array:
    return values[None, :, None, None]
