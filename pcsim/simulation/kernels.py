"""Which kernel computes a convolution: a fixed rule of its shapes, for float32 on a CPU and without gradients.

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

The rule times nothing, so a run gives the same bits on every day; results differ from oneDNN's by rounding, about 2e-7.
`python -m experiments.speed --works convolutions` measures what it chooses.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

START, START_UP = 27.0, 30.0
PER_COPY, PER_NUMBER, PER_PRODUCT = 2.5e-3, 1e-4, 4.5e-6
PER_NUMBER_UP = 4e-4

# Not promised to stay: without them torch chooses.
_OWN = getattr(torch._C._nn, "thnn_conv2d", None)
_OWN_UP = getattr(torch._C._nn, "slow_conv_transpose2d", None)


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

    def chosen(self, image: tuple[int, ...], weight: tuple[int, ...]) -> Callable[..., Tensor]:
        """Return the kernel for an image and a weight of these shapes: (image, weight, bias) -> image."""
        kernel = weight[2:]
        if self._is_small(image, weight) and (own := _OWN_UP if self.up else _OWN) is not None:
            if self.up:
                return lambda x, w, b: own(x, w, kernel, b, self.stride, self.padding, self.extra)
            return lambda x, w, b: own(x, w, kernel, b, self.stride, self.padding)
        return self.by_torch

    def by_torch(self, image: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Convolve as torch chooses."""
        if self.up:
            return torch.conv_transpose2d(
                image, weight, bias, self.stride, self.padding, self.extra, self.groups, self.dilation
            )
        return torch.conv2d(image, weight, bias, self.stride, self.padding, self.dilation, self.groups)

    def _is_small(self, image: tuple[int, ...], weight: tuple[int, ...]) -> bool:
        if self.groups != 1 or self.dilation != (1, 1):
            return False
        batch, channels, height, width = image
        taps = weight[2] * weight[3]
        if self.up:
            # At a larger stride windows overlap less, and less is added.
            added = taps * weight[1] * height * width / max(self.stride)
            return batch * PER_NUMBER_UP * added < START_UP
        rows, columns = (
            (size + 2 * padding - span) // stride + 1
            for size, padding, span, stride in zip((height, width), self.padding, weight[2:], self.stride, strict=True)
        )
        copies = taps * rows * columns if taps > 1 else 0
        products = taps * channels * weight[0] * rows * columns
        return batch * (PER_COPY * copies + PER_NUMBER * channels * copies + PER_PRODUCT * products) < START
