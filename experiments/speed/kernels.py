"""Time convolutions with oneDNN and with torch's own kernels, and show which kernel pcsim selects.

python -m experiments.speed.kernels        print the table in `pcsim/simulation/kernels.py`; a minute on one thread
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import torch

from pcsim.simulation.kernels import Convolution

from ..report import Table, text_table
from .science import on_threads

SHAPES = (
    # input channels, output channels, kernel, stride, side of the map, transposed
    (4, 4, 3, 1, 8, False),
    (8, 8, 3, 1, 8, False),
    (16, 16, 3, 1, 28, False),
    (32, 32, 3, 1, 14, False),
    (64, 64, 3, 1, 7, False),
    (3, 32, 3, 2, 32, False),
    (64, 64, 3, 2, 8, False),
    (8, 4, 4, 2, 4, True),
    (64, 32, 4, 2, 7, True),
    (64, 32, 3, 2, 8, True),
)
BATCHES = (1, 2, 4, 16)
SECONDS, ROUNDS = 0.02, 5


def fastest(call: Callable[[], object]) -> float:
    """Return the duration of a call in microseconds: the minimum over `ROUNDS` rounds."""
    call()
    begun = time.perf_counter()
    call()
    count = max(1, int(SECONDS / (time.perf_counter() - begun)))
    rounds = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        for _ in range(count):
            call()
        rounds.append((time.perf_counter() - begun) / count)
    return 1e6 * min(rounds)


def row(inputs: int, outputs: int, kernel: int, stride: int, side: int, up: bool) -> tuple[str, ...]:
    """Return the times of oneDNN and torch's own kernel in us for each batch size, with * at pcsim's choice."""
    extra = 1 if up and kernel % 2 else 0
    settings = Convolution((stride, stride), (1, 1), up=up, extra=(extra, extra))
    shape = (inputs, outputs) if up else (outputs, inputs)
    weight = torch.randn(*shape, kernel, kernel).contiguous(memory_format=torch.channels_last)
    own_kernel = getattr(torch._C._nn, "slow_conv_transpose2d" if up else "thnn_conv2d")
    after = ((stride, stride), (1, 1), (extra, extra)) if up else ((stride, stride), (1, 1))
    cells = []
    for batch in BATCHES:
        image = torch.randn(batch, inputs, side, side).contiguous(memory_format=torch.channels_last)
        function, between, rest = settings.by_torch
        by_library = partial(function, image, weight, *between, None, *rest)
        if not up:  # call oneDNN explicitly: for one sample, torch would select its own kernel
            by_library = partial(torch.mkldnn_convolution, image, weight, None, (1, 1), (stride, stride), (1, 1), 1)
        by_onednn = fastest(by_library)
        by_own = fastest(partial(own_kernel, image, weight, weight.shape[2:], None, *after))
        chosen, _, _ = settings.chosen(tuple(image.shape), tuple(weight.shape))
        marks = ("", "*") if chosen is own_kernel else ("*", "")
        cells.append(f"{by_onednn:.0f}{marks[0]} / {by_own:.0f}{marks[1]}")
    name = f"{inputs} > {outputs}, {kernel}x{kernel} {'up' if up else f'/{stride}'}, {side}x{side}"
    return (name, *cells)


if __name__ == "__main__":
    with torch.no_grad(), on_threads(1):
        head = ("channels, kernel, map", *(f"batch {batch}" for batch in BATCHES))
        print("oneDNN / torch's own kernel, us; * selected by pcsim\n")
        print(text_table(Table("", head, [row(*shape) for shape in SHAPES])))
