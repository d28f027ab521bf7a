"""Choice of the kernel of a convolution: a fixed rule of its shapes, for float32 on a CPU and without gradients.

oneDNN takes about 27 us (transposed: 30) before it computes anything, and then less for each sample than torch's own
kernels, which copy every window into a matrix (transposed: add every window into the image) and multiply. On small maps
and small batches torch's own are faster. torch takes them by itself for plain convolutions of one sample on one thread.

    own kernel  if  batch * more(shapes) < START          more: us that torch's own takes more for each sample

Measured on one thread of an Intel Xeon (Sapphire Rapids), torch 2.13.0, channels_last, oneDNN / own, us:

    channels, kernel, stride, map    batch 1      2            4            16
    4 > 4     3x3  /1   8x8          28 / 5       29 / 8       32 / 13      43 / 50
    8 > 8     3x3  /1   8x8          29 / 5       30 / 9       33 / 16      56 / 58
    16 > 16   3x3  /1  28x28         53 / 50      73 / 99      120 / 206    402 / 826
    32 > 32   3x3  /1  14x14         48 / 30      67 / 58      107 / 122    335 / 547
    64 > 64   3x3  /1   7x7          56 / 32      77 / 62      118 / 134    361 / 586
    3 > 32    3x3  /2  32x32         36 / 14      40 / 26      48 / 51      96 / 196
    64 > 64   3x3  /2   8x8          45 / 18      59 / 36      72 / 68      150 / 268
    8 > 4     4x4 up    4x4          31 / 4       35 / 6       40 / 10      78 / 31
    64 > 32   4x4 up    7x7          55 / 29      78 / 57      124 / 110    392 / 497
    64 > 32   3x3 up    8x8          23 / 23      74 / 48      116 / 93     327 / 368

The rule measures nothing, so every run gives the same bits; results differ from oneDNN's by rounding, about 2e-7.
`python -m experiments.speed.kernels` measures this table, and shows the choices of the rule.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

START = 27.0
START_UP = 20.0
"""us, less than oneDNN takes: in a step of many operations the windows are not in the cache"""
PER_COPY, PER_NUMBER, PER_PRODUCT = 2.5e-3, 1e-4, 4.5e-6
PER_NUMBER_UP = 4e-4

# Private functions of torch: if they are missing, torch chooses.
_OWN = getattr(torch._C._nn, "thnn_conv2d", None)
_OWN_UP = getattr(torch._C._nn, "slow_conv_transpose2d", None)

Kernel = tuple[Callable[..., Tensor], tuple[Any, ...], tuple[Any, ...]]
"""a function, and its arguments between weight and bias, and after the bias"""


@dataclass(frozen=True)
class Convolution:
    """The settings of a convolution of images, with zero padding; `up` is a transposed one."""

    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    up: bool = False
    extra: tuple[int, int] = (0, 0)
    """output_padding of a transposed one"""

    def chosen(self, image: tuple[int, ...], weight: tuple[int, ...]) -> Kernel:
        """Return the kernel for an image and a weight of these shapes."""
        own = _OWN_UP if self.up else _OWN
        if own is None or not self._is_small(image, weight):
            return self.by_torch
        settings = (self.stride, self.padding, self.extra) if self.up else (self.stride, self.padding)
        return own, (weight[2:],), settings

    @property
    def by_torch(self) -> Kernel:
        """The kernel that torch chooses."""
        if self.up:
            return torch.conv_transpose2d, (), (self.stride, self.padding, self.extra, self.groups, self.dilation)
        return torch.conv2d, (), (self.stride, self.padding, self.dilation, self.groups)

    def _is_small(self, image: tuple[int, ...], weight: tuple[int, ...]) -> bool:
        if self.groups != 1 or self.dilation != (1, 1):
            return False
        batch, channels, height, width = image
        taps = weight[2] * weight[3]
        if self.up:
            # At a larger stride windows overlap less, and less is added.
            added = taps * weight[1] * height * width / max(self.stride)
            return batch * PER_NUMBER_UP * added < START_UP
        rows, columns = _size_after((height, width), weight[2:], self.stride, self.padding)
        copies = taps * rows * columns if taps > 1 else 0
        products = taps * channels * weight[0] * rows * columns
        return batch * (PER_COPY * copies + PER_NUMBER * channels * copies + PER_PRODUCT * products) < START


def _size_after(
    size: Sequence[int], kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int]
) -> tuple[int, int]:
    """Return height and width of the output of a convolution."""
    height, width = (
        (length + 2 * pad - span) // step + 1
        for length, pad, span, step in zip(size, padding, kernel, stride, strict=True)
    )
    return height, width


# ---------------------------------------------------------------------- in compiled steps


MOST_COLUMNS, MOST_ADDED = 200_000, 1_000_000
"""numbers that a convolution as a product may read, and a transposed one write; above that oneDNN is faster"""


def as_product(
    image: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    up: bool,
    extra: Sequence[int],
    groups: int,
) -> Any:
    """Return a small convolution as a product of matrices; NotImplemented for others (the arguments are aten's).

    A compiler fuses the copy of the windows and the sum over them with the operations around them, and a product
    starts in 1 us. Compiled, the three areas of W4 take 305 us a step at batch 1 in this way, 412 by oneDNN.
    """
    if image.dim() != 4 or groups != 1 or tuple(dilation) != (1, 1) or image.device.type != "cpu":
        return NotImplemented
    if image.dtype is not weight.dtype or image.dtype not in (torch.float32, torch.float64):
        return NotImplemented
    if _numbers(image.shape, weight.shape, stride, padding, up) > (MOST_ADDED if up else MOST_COLUMNS):
        return NotImplemented
    if up:
        return _spread(image, weight, bias, stride, padding, extra)
    return _gathered(image, weight, bias, stride, padding)


def _numbers(
    image: Sequence[int],
    weight: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    up: bool,
) -> int:
    """Return how many numbers stand between an image and a small product of matrices."""
    batch, channels, *size = image
    if up:
        return batch * weight[2] * weight[3] * weight[1] * math.prod(size)
    rows, columns = _size_after(size, weight[2:], stride, padding)
    return batch * channels * weight[2] * weight[3] * rows * columns


def _gathered(
    image: Tensor, weight: Tensor, bias: Tensor | None, stride: Sequence[int], padding: Sequence[int]
) -> Tensor:
    """Return a convolution: the windows of the image times the weight."""
    out, channels, height, width = weight.shape
    edges = (0, 0, padding[1], padding[1], padding[0], padding[0])
    windows = functional.pad(image.permute(0, 2, 3, 1), edges).unfold(1, height, stride[0]).unfold(2, width, stride[1])
    batch, rows, columns = windows.shape[:3]
    flat = windows.permute(0, 1, 2, 4, 5, 3).reshape(-1, height * width * channels)
    matrix = weight.permute(2, 3, 1, 0).reshape(-1, out)
    made = torch.mm(flat, matrix) if bias is None else torch.addmm(bias, flat, matrix)
    return made.view(batch, rows, columns, out).permute(0, 3, 1, 2)


def _spread(
    image: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    extra: Sequence[int],
) -> Tensor:
    """Return a transposed convolution: every pixel times the weight is a window, and windows overlap.

    With windows filled up to a multiple of the stride, row k = m stride + r of the one at i is row r of the block at
    i + m: blocks are shifted and added, first those of rows, then those of columns.
    """
    batch, channels, *size = image.shape
    out, spans = weight.shape[1], weight.shape[2:]
    many = [-(-span // step) for span, step in zip(spans, stride, strict=True)]
    missing = [count * step - span for count, step, span in zip(many, stride, spans, strict=True)]
    matrix = weight.permute(0, 2, 3, 1).reshape(channels, -1)
    windows = torch.mm(image.permute(0, 2, 3, 1).reshape(-1, channels), matrix).view(batch, *size, *spans, out)
    windows = functional.pad(windows, (0, 0, 0, missing[1], 0, missing[0]))
    windows = windows.view(batch, *size, many[0], stride[0], many[1], stride[1], out)
    rows = _added([functional.pad(windows[:, :, :, m], (0,) * 10 + (m, many[0] - 1 - m)) for m in range(many[0])])
    both = _added([functional.pad(rows[:, :, :, :, m], (0,) * 6 + (m, many[1] - 1 - m)) for m in range(many[1])])
    full = both.permute(0, 1, 3, 2, 4, 5).flatten(3, 4).flatten(1, 2)
    height, width = (
        (length - 1) * step - 2 * pad + span + more
        for length, step, pad, span, more in zip(size, stride, padding, spans, extra, strict=True)
    )
    ends = (width + padding[1] - full.shape[2], height + padding[0] - full.shape[1])
    made = functional.pad(full, (0, 0, -padding[1], ends[0], -padding[0], ends[1]))
    return (made if bias is None else made + bias).permute(0, 3, 1, 2)


def _added(parts: Sequence[Tensor]) -> Tensor:
    first, *others = parts
    for other in others:
        first = first + other
    return first


def products() -> dict[Any, Callable[..., Tensor]]:
    """Return operator -> its replacement in a trace for a compiler, as make_fx expects it."""
    aten = torch.ops.aten
    # Arguments that are the operators' defaults are left out where they are called.
    none, one = (0, 0), (1, 1)

    def own(image: Tensor, weight: Tensor, _: Any, bias: Any = None, stride: Any = one, padding: Any = none) -> Tensor:
        return torch.convolution(image, weight, bias, stride, padding, one, False, none, 1)

    def own_up(
        image: Tensor,
        weight: Tensor,
        _: Any,
        bias: Any = None,
        stride: Any = one,
        padding: Any = none,
        extra: Any = none,
        dilation: Any = one,
    ) -> Tensor:
        return torch.convolution(image, weight, bias, stride, padding, dilation, True, extra, 1)

    return {
        aten.convolution.default: as_product,
        aten._slow_conv2d_forward.default: own,
        aten.slow_conv_transpose2d.default: own_up,
    }
