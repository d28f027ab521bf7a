"""Two curves of dashes among distractors, with two dots on the same curve or on different curves.

The curves are self-avoiding walks on a lattice. Every step of a walk is a dash of two pixels, and the dots lie in the
gaps between dashes, so the path between dots on the same curve is a whole number of dashes.

Four trials share a scene. Let A and B be nodes of one curve, and A' and B' nodes of the other, the same number of
dashes apart. The trials are AB (same), AB' (different), A'B' (same) and A'B (different). Scenes are redrawn until AB'
and A'B have the same straight-line lengths as AB and A'B'. Within the four trials of a scene, therefore, neither the
ink, nor either dot alone, nor the distance between the dots predicts the class.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from pcsim.core.checks import Count, Whole, checked
from pcsim.core.exceptions import StimulusError
from pcsim.stimuli.pixels import as_pixels
from pcsim.stimuli.random import integers, uniform

SPACING = 3
"""distance between lattice nodes in pixels"""
DASH, DOT = 128, 255
"""pixel values"""
TRIALS = 4
"""trials of each scene: AB, AB', A'B', A'B"""
ATTEMPTS = 2_000

Ints = NDArray[np.int64]


@checked(StimulusError)
@dataclass(frozen=True, repr=False)
class Contours:
    """A batch of n trials. Trials 4 s to 4 s + 3 share scene s.

    images      (n, 1, height, width), uint8
    same        (n,), True if both dots are on the same curve
    path        (n,), number of dashes between the dots along the curve; NaN if they are on different curves
    scene_path  (n,), number of dashes between the dots in the "same" trials of the scene
    straight    (n,), distance between the dots in the plane, in pixels
    dots        (n, 2, 2), row and column of both dots
    curves      (n, 2, nodes, 2), row and column of the nodes of both curves, starting with the curve of the first dot
    """

    images: NDArray[np.uint8]
    same: NDArray[np.bool_]
    path: NDArray[np.float64]
    scene_path: Ints
    straight: NDArray[np.float64]
    dots: Ints
    curves: Ints

    def __repr__(self) -> str:
        return f"Contours({len(self.images)} trials, {int(self.same.sum())} of them 'same')"

    def pixels(self) -> Tensor:
        """Return the images as float32 (n, 1, height, width), where black is 0 and white is 1."""
        return as_pixels(torch.from_numpy(self.images))

    def targets(self) -> Tensor:
        """Return float32 targets (n, 2): (1, 0) for different curves and (0, 1) for the same curve."""
        return torch.nn.functional.one_hot(torch.from_numpy(self.same.astype(np.int64)), 2).float()


@checked(StimulusError)
def contours(
    seed: Whole,
    first: Whole,
    count: Count,
    *,
    paths: Annotated[tuple[Count, ...], Field(min_length=1)] = (2, 3, 4, 5, 6, 7, 8, 9, 10),
    length: Count = 11,
    lattice: Count = 8,
    distractors: Whole = 8,
) -> Contours:
    """Draw trials with two dots on one or two curves of `length` dashes, (n, 1, 3 * lattice, 3 * lattice).

    first        index of the first trial; every trial is a function of (seed, index) and the options
    paths        numbers of dashes between dots on the same curve, all equally probable
    lattice      number of nodes in a row and in a column
    distractors  maximum number of single dashes that are not part of a curve

    Raises StimulusError for a path longer than the curves, or if the curves do not fit on the lattice.

        trials = stimuli.contours(0, 0, 8, paths=(4, 8))
    """
    if max(paths) > length or 2 * (length + 1) > lattice**2 // 2:
        raise StimulusError(
            given=f"paths={paths} on two curves of {length} dashes, and a lattice of {lattice} x {lattice} nodes",
            expected="paths of at most `length` dashes, and curves that cover at most half of the nodes",
            remedy=f"pass length={max(paths)}, lattice={int(np.ceil(np.sqrt(4 * (max(paths) + 1))))}",
        )
    begin, end = first // TRIALS, -(-(first + count) // TRIALS)
    path = np.asarray(paths)[integers(uniform(seed, "contour path", begin, end - begin, 1)[:, 0], len(paths))]
    curves, chosen = _scenes(seed, begin, path, length, lattice)
    priority = uniform(seed, "contour distractors", begin, end - begin, 2 * lattice * (lattice - 1))
    ink = np.stack([_ink(*each, distractors, lattice) for each in zip(curves, priority, strict=True)])
    scene, trial = np.divmod(np.arange(first, first + count), TRIALS)
    scene -= begin
    one = trial // 2  # the curve of the first dot
    same = trial % 2 == 0
    nodes = SPACING * np.stack([curves[scene, one], curves[scene, 1 - one]], 1) + 1
    rows, far = np.arange(count), np.where(same, 0, 1)  # the curve of the second dot, relative to that of the first
    first_dot = nodes[rows, 0, chosen[scene, one, 0]]
    dots = np.stack([first_dot, nodes[rows, far, chosen[scene, (one + far) % 2, 1]]], 1)
    images = ink[scene]
    images[np.arange(count)[:, None], dots[..., 0], dots[..., 1]] = DOT
    straight = np.hypot(*(dots[:, 0] - dots[:, 1]).T)
    return Contours(images[:, None], same, np.where(same, path[scene], np.nan), path[scene], straight, dots, nodes)


def _scenes(seed: int, begin: int, path: Ints, length: int, lattice: int) -> tuple[Ints, Ints]:
    """Return the nodes of both curves (scene, 2, length + 1, 2), and which of them are the dots (scene, 2, 2)."""
    count = len(path)
    curves, dots = np.zeros((count, 2, length + 1, 2), np.int64), np.zeros((count, 2, 2), np.int64)
    pending = np.arange(count)
    for attempt in range(ATTEMPTS):
        drawn = uniform(seed, f"contour {attempt}", begin, count, 3 + 8 * length)[pending]
        walks, complete = _walks(drawn[:, 1:], length, lattice)
        kept = np.flatnonzero(complete)
        for scene, curve, share in zip(pending[kept], walks[kept], drawn[kept, 0], strict=True):
            choices = _choices(curve, int(path[scene]), lattice)
            if len(choices):
                curves[scene], dots[scene] = curve, choices[int(share * len(choices))]
                pending = pending[pending != scene]
        if not len(pending):
            return curves, dots
    raise StimulusError(
        given=f"two curves of {length} dashes on {lattice} x {lattice} nodes, which were not found in {ATTEMPTS} "
        "attempts",
        expected="curves that fit on the lattice",
        remedy=f"pass lattice={lattice + 2}, or shorter curves",
    )


def _choices(curves: Ints, path: int, lattice: int) -> Ints:
    """Return all pairs of dots on both curves, (n, 2, 2), for which AB' and A'B are as long as AB and A'B'."""
    nodes = curves.reshape(-1, 2)
    offset = np.sort(np.abs(nodes[:, None] - nodes), -1) @ (1, lattice)  # smaller, larger coordinate difference
    size = curves.shape[1]
    a, other = (each.ravel() for each in np.indices((size - path, size - path)))
    b = a + path
    found = []
    for a2, b2 in ((other, other + path), (other + path, other)):
        within = np.sort([offset[a, b], offset[size + a2, size + b2]], 0)
        between = np.sort([offset[a, size + b2], offset[size + a2, b]], 0)
        found.append(np.stack([a, b, a2, b2], 1)[(within == between).all(0)])
    return np.concatenate(found).reshape(-1, 2, 2)


def _walks(drawn: NDArray[np.float64], length: int, lattice: int) -> tuple[Ints, NDArray[np.bool_]]:
    """Return two disjoint self-avoiding walks (n, 2, length + 1, 2), and whether both are complete (n,)."""
    wide = lattice + 2  # includes a border that is never free
    free = np.zeros((wide, wide), np.bool_)
    free[1:-1, 1:-1] = True
    free = np.tile(free.ravel(), (len(drawn), 1))
    rows, complete = np.arange(len(drawn)), np.ones(len(drawn), np.bool_)
    found = np.empty((len(drawn), 2, length + 1), np.int64)
    inner = np.flatnonzero(free[0]) if len(drawn) else np.zeros(0, np.int64)
    for curve in range(2):
        node = inner[integers(drawn[:, curve], lattice**2)]
        complete &= free[rows, node]
        for dash in range(length + 1):
            free[rows, node] = False
            found[:, curve, dash] = node
            if dash < length:
                first = 2 + 4 * (curve * length + dash)
                next_nodes = node[:, None] + np.array([-wide, -1, 1, wide])
                score = np.where(free[rows[:, None], next_nodes], drawn[:, first : first + 4], -1.0)
                complete &= score.max(1) >= 0
                node = np.where(score.max(1) >= 0, next_nodes[rows, score.argmax(1)], node)
    return np.stack(np.divmod(found, wide), -1) - 1, complete


def _ink(curves: Ints, priority: NDArray[np.float64], distractors: int, lattice: int) -> NDArray[np.uint8]:
    """Return the image of a scene without dots. Distractors join nodes that no curve or other distractor visits."""
    size = SPACING * lattice
    image, free = np.zeros((size, size), np.uint8), np.ones((lattice, lattice), np.bool_)
    free[tuple(curves.reshape(-1, 2).T)] = False
    dashes = [(one, other) for curve in curves for one, other in pairwise(map(tuple, curve))]
    edges = [((r, c), (r, c + 1)) for r in range(lattice) for c in range(lattice - 1)]
    edges += [((r, c), (r + 1, c)) for r in range(lattice - 1) for c in range(lattice)]
    most = len(dashes) + distractors
    for number in priority.argsort():
        one, other = edges[number]
        if len(dashes) < most and free[one] and free[other]:
            dashes.append((one, other))
            free[one] = free[other] = False
    for one, other in np.array(dashes):
        for part in (1, 2):
            image[tuple(SPACING * one + 1 + part * (other - one))] = DASH
    return image
