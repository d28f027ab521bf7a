"""Operations of the published equations in float64 NumPy, independent of torch.

They follow the definitions, as loops over kernel positions. Arrays are (batch, channel, height, width).
"""

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
    """Apply the transpose of `conv` with this weight and padding kernel // 2; maps become `stride` times as large."""
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
    """Upsample to twice the size, with sample positions (i + 1/2) / 2 - 1/2, clipped at the border."""
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


def elu(x: Array) -> Array:
    return np.where(x > 0, x, np.exp(np.minimum(x, 0.0)) - 1.0)


def same_conv(x: Array, weight: Array, bias: Array | None = None, stride: int = 1) -> Array:
    """Convolve with TensorFlow's SAME padding: kernel - stride rows in total, with any odd row at the end."""
    extra = weight.shape[2] - stride
    before, after = extra // 2, extra - extra // 2
    x = np.pad(x, ((0, 0), (0, 0), (before, after), (before, after)))
    return conv(x, weight, bias, stride, padding=0)


def batch_norm(x: Array, mean: Array, variance: Array, weight: Array, bias: Array, eps: float = 1e-5) -> Array:
    """Apply batch norm with running statistics."""
    scaled = (x - per_channel(mean)) / np.sqrt(per_channel(variance) + eps)
    return scaled * per_channel(weight) + per_channel(bias)


def group_norm(x: Array, groups: int, weight: Array, bias: Array) -> Array:
    """Normalise to mean 0 and variance 1 over the maps of each group and all positions."""
    parts = []
    for part in np.split(x, groups, axis=1):
        mean, variance = part.mean((1, 2, 3), keepdims=True), part.var((1, 2, 3), keepdims=True)
        parts.append((part - mean) / np.sqrt(variance + 1e-5))
    return np.concatenate(parts, 1) * per_channel(weight) + per_channel(bias)


def max_pool3(x: Array) -> Array:
    """Take the maximum of 3x3 windows, with stride 2 and padding 1."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
    rows, columns = (x.shape[2] + 1) // 2, (x.shape[3] + 1) // 2
    seen = [padded[:, :, u : u + 2 * rows : 2, v : v + 2 * columns : 2] for u in range(3) for v in range(3)]
    return np.maximum.reduce([part[:, :, :rows, :columns] for part in seen])


def resize(x: Array, size: tuple[int, int]) -> Array:
    """Resize bilinearly with aligned corners."""
    for axis, wanted in ((2, size[0]), (3, size[1])):
        given = x.shape[axis]
        at = np.arange(wanted) * ((given - 1) / max(wanted - 1, 1))
        low = np.minimum(np.floor(at).astype(int), given - 1)
        high = np.minimum(low + 1, given - 1)
        share = (at - low).reshape([-1 if a == axis else 1 for a in range(4)])
        x = (1 - share) * x.take(low, axis) + share * x.take(high, axis)
    return x
