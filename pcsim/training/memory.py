"""Estimates of the memory that a computation needs."""

from __future__ import annotations

import os
import re
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

FEW, MORE = 2, 4
"""numbers of samples in the two trial runs from which the estimate is extrapolated"""


class Live(TorchDispatchMode):
    """A mode that tracks the memory of tensors created in its context, in bytes: the total `now` and peak `most`."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operation and add the memory of its results."""
        result = function(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, Tensor):
                storage = value.untyped_storage()
                key, size = storage._cdata, storage.nbytes()
                if key not in self._known:
                    self._known.add(key)
                    self.now += size
                    self.most = max(self.most, self.now)
                    weakref.finalize(storage, self._gone, key, size)
        return result

    def _gone(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


def predict_peak_memory(work: Callable[[int], object], samples: int) -> float:
    """Estimate the extra memory of work(samples), in bytes, by extrapolation from runs with 2 and 4 samples.

    The estimate is a + b * samples, where b is the memory of tensors per sample, and a includes the memory allocated by
    libraries on first use (about 100 MB for convolutions), measured as the growth of this process in the two runs.
    The states of the random number generators are restored.
    """
    taken: dict[int, int] = {}
    before = _held()
    for count in (min(FEW, samples), min(MORE, samples)):
        if count not in taken:
            with torch.random.fork_rng(), Live() as live:
                work(count)
            taken[count] = live.most
    (few, less), (more, most) = min(taken.items()), max(taken.items())
    libraries = max(0, _held() - before)
    return most + (samples - more) * (most - less) / max(1, more - few) + libraries


def _held() -> int:
    """Return the resident memory of this process in bytes, or 0 if the system does not report it."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if statm.exists() else 0


def free_memory(device: torch.device) -> float:
    """Return the memory of a device that a computation can still use, in bytes, or infinity if it is unknown.

    On a GPU this includes the memory that PyTorch has reserved but does not use. On a CPU it is the memory available on
    the machine (only known on Linux), regardless of a smaller limit for this process, such as that of a container.
    """
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return float(torch.cuda.mem_get_info(device)[0] + unused)
    meminfo = Path("/proc/meminfo")
    found = re.search(r"^MemAvailable: +(\d+) kB$", meminfo.read_text(), re.M) if meminfo.exists() else None
    return 1024.0 * int(found[1]) if found else float("inf")
