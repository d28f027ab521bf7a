"""Kernel selection for convolutions: a fixed rule based on shapes, for float32 on a CPU without gradients.

oneDNN has an overhead of about 27 us (30 us for transposed convolutions) but takes less time per sample than torch's
native kernels. A native kernel copies all windows into a matrix and multiplies it by the weight; a transposed one
multiplies first and then adds the windows. Native kernels are faster for small feature maps and batches. By default,
torch uses them only for ordinary convolutions of a single sample on one thread.

    native kernel  if  batch * extra(shapes) < START       extra: additional time per sample in a native kernel, us

Measured on one thread of an Intel Xeon (Sapphire Rapids), torch 2.13.0, channels_last, oneDNN / native, us:

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

The rule needs no measurement at run time, so results are bitwise reproducible. They differ from those of oneDNN by
rounding errors of about 2e-7. `python -m experiments.speed.kernels` reproduces this table and shows the rule's choices.
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
"""in us; less than the overhead of oneDNN, because the windows are not in the cache if a step has many operations"""
PER_COPY, PER_NUMBER, PER_PRODUCT = 2.5e-3, 1e-4, 4.5e-6
PER_NUMBER_UP = 4e-4

# These are private functions of torch. If they are missing, torch selects the kernel.
_OWN = getattr(torch._C._nn, "thnn_conv2d", None)
_OWN_UP = getattr(torch._C._nn, "slow_conv_transpose2d", None)

Kernel = tuple[Callable[..., Tensor], tuple[Any, ...], tuple[Any, ...]]
"""a function, its arguments between weight and bias, and its arguments after the bias"""


@dataclass(frozen=True)
class Convolution:
    """The settings of a zero-padded 2-d convolution, which is transposed if `up` is True."""

    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    up: bool = False
    extra: tuple[int, int] = (0, 0)
    """output_padding of a transposed convolution"""

    def chosen(self, image: tuple[int, ...], weight: tuple[int, ...]) -> Kernel:
        """Return the kernel for an image and a weight of these shapes."""
        own = _OWN_UP if self.up else _OWN
        if own is None or not self._is_small(image, weight):
            return self.by_torch
        settings = (self.stride, self.padding, self.extra) if self.up else (self.stride, self.padding)
        return own, (weight[2:],), settings

    @property
    def by_torch(self) -> Kernel:
        """The kernel that torch selects by default."""
        if self.up:
            return torch.conv_transpose2d, (), (self.stride, self.padding, self.extra, self.groups, self.dilation)
        return torch.conv2d, (), (self.stride, self.padding, self.dilation, self.groups)

    def _is_small(self, image: tuple[int, ...], weight: tuple[int, ...]) -> bool:
        if self.groups != 1 or self.dilation != (1, 1):
            return False
        batch, channels, height, width = image
        taps = weight[2] * weight[3]
        if self.up:
            # With a larger stride, windows overlap less and fewer values are added.
            added = taps * weight[1] * height * width / max(self.stride)
            return batch * PER_NUMBER_UP * added < START_UP
        rows, columns = _size_after((height, width), weight[2:], self.stride, self.padding)
        copies = taps * rows * columns if taps > 1 else 0
        products = taps * channels * weight[0] * rows * columns
        return batch * (PER_COPY * copies + PER_NUMBER * channels * copies + PER_PRODUCT * products) < START


def _size_after(
    size: Sequence[int], kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int]
) -> tuple[int, int]:
    """Return the height and width of the output of a convolution."""
    height, width = (
        (length + 2 * pad - span) // step + 1
        for length, pad, span, step in zip(size, padding, kernel, stride, strict=True)
    )
    return height, width


# ---------------------------------------------------------------------- convolutions in compiled steps


MOST_COLUMNS, MOST_ADDED = 200_000, 1_000_000
"""maximum number of values that a product reads (or writes, if transposed); for larger products, oneDNN is faster"""


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
    """Compute a small convolution as a matrix product; return NotImplemented for other convolutions.

    The arguments are those of the corresponding aten op. A matrix product has an overhead of only 1 us, and a compiler
    can fuse its copies and sums of windows with neighbouring operations. With batch size 1, a compiled step of the
    three areas of W4 takes 305 us, compared with 412 us with oneDNN.
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
    """Return the number of values in the windows of a convolution."""
    batch, channels, *size = image
    if up:
        return batch * weight[2] * weight[3] * weight[1] * math.prod(size)
    rows, columns = _size_after(size, weight[2:], stride, padding)
    return batch * channels * weight[2] * weight[3] * rows * columns


def _gathered(
    image: Tensor, weight: Tensor, bias: Tensor | None, stride: Sequence[int], padding: Sequence[int]
) -> Tensor:
    """Compute a convolution as the matrix product of the image's windows and the weight."""
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
    """Compute a transposed convolution: multiply each pixel by the weight, and add the overlapping windows.

    Windows are padded to a multiple of the stride. Row k = m stride + r of the window at i is then row r of the block
    at i + m. The blocks are therefore shifted and added, first along rows and then along columns.
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
    """Return the operator replacements for traces to be compiled, as a dict for make_fx."""
    aten = torch.ops.aten
    # Traced calls omit arguments that equal the defaults of the operator.
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
