"""Images and cues of `experiments.routing`.

What and where   a digit at one of four places, and a scrambled digit at another; the cue asks for one of the two
Shifter          four digits at four places; the cue names a place
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from pcsim import stimuli

KEYS, CELL, BLOCK = 4, 20, 5
"""number of response keys, size of a place in pixels, and size of the scrambled blocks in pixels"""
TASKS = ("what", "where")


@dataclass(frozen=True)
class Trials:
    """Images (n, 1, 40, 40) with a background of 0, the answer of each task (n, task), and the cued task, (n,).

    For the shifter, each place counts as a separate task.
    """

    images: Tensor
    answers: Tensor
    cued: Tensor

    def cues(self, count: int, shift: int = 0) -> Tensor:
        """Return one-hot cues (n, count) to the task or place that is `shift` positions after the cued one."""
        return torch.nn.functional.one_hot((self.cued + shift) % count, count).float()

    def targets(self) -> Tensor:
        """Return the answer to the cued task or place, (n,)."""
        return self.answers.gather(1, self.cued[:, None])[:, 0]


def streams(seed: int, count: int) -> Trials:
    """Draw trials of the task "what and where". Key k stands for digit k and for place k."""
    rng = np.random.default_rng(seed)
    digits, labels = _singles(seed, count, range(KEYS))
    others, _ = _singles(seed + 1, count, range(KEYS, 10))
    place = rng.integers(KEYS, size=count)
    elsewhere = (place + rng.integers(1, KEYS, size=count)) % KEYS
    order = np.argsort(rng.random((count, (CELL // BLOCK) ** 2)), axis=1)
    blocks = rearrange(others, "n (r h) (c w) -> n (r c) h w", h=BLOCK, w=BLOCK)
    scrambled = np.take_along_axis(blocks, order[:, :, None, None], axis=1)
    cells = np.zeros((count, KEYS, CELL, CELL), np.float32)
    rows = np.arange(count)
    cells[rows, place] = digits
    cells[rows, elsewhere] = rearrange(scrambled, "n (r c) h w -> n (r h) (c w)", r=CELL // BLOCK)
    images = rearrange(cells, "n (r c) h w -> n 1 (r h) (c w)", r=2)
    answers = torch.from_numpy(np.stack([labels, place], axis=1))
    return Trials(torch.from_numpy(images), answers, torch.from_numpy(rng.integers(2, size=count)))


def arrays(seed: int, count: int) -> Trials:
    """Draw trials of the shifter's task: the answer for place k is the digit at place k."""
    shown = stimuli.digit_arrays(seed, 0, count, cell=CELL)
    images = shown.pixels()
    return Trials(images - images.median(), torch.from_numpy(shown.identities), torch.from_numpy(shown.target))


def _singles(seed: int, count: int, classes: range) -> tuple[np.ndarray, np.ndarray]:
    """Return images (count, 20, 20) of centred digits from the given classes, and their labels."""
    found = stimuli.scenes(stimuli.Condition(spread=0.0), seed, 0, 20 + 20 * count // len(classes))
    identities = found.identities[:, 0]
    chosen = np.flatnonzero(np.isin(identities, classes))[:count]
    start = (found.images.shape[-1] - CELL) // 2
    images = found.images[chosen, 0, start : start + CELL, start : start + CELL] / np.float32(255)
    grey = np.median(images, axis=(1, 2), keepdims=True)
    return images - grey, identities[chosen]
