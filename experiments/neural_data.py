"""Loaders for two public data sets of inferior temporal (IT) cortex, which are not distributed with pcsim.

neural_it_zhang_desimone/it_counts_10ms.npz   132 macaque IT units, 7 objects at 3 positions, 19 repeats; spike
                                              counts in 10 ms bins (Zhang et al. 2011, from NeuroDecodeR)
neural_rsa92_kriegeskorte/rsa92.npz           92 images, dissimilarity matrices of monkey and human IT
                                              (Kriegeskorte et al. 2008, from rsatoolbox)
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from einops import reduce
from numpy.typing import NDArray

from pcsim import StorageError
from pcsim.core import storage

VARIABLE = "PCSIM_NEURAL"
SPIKES = Path("neural_it_zhang_desimone", "it_counts_10ms.npz")
DISSIMILARITIES = Path("neural_rsa92_kriegeskorte", "rsa92.npz")
BINS = 5
"""number of 10 ms bins in each window"""


@dataclass(frozen=True)
class Spikes:
    """Spike counts (time, presentation, unit) in 50 ms windows that start at `times` (ms).

    `objects` and `conditions` label each presentation. The units form a pseudo-population, because they were recorded
    in several sessions and not simultaneously.
    """

    counts: NDArray[np.float64]
    times: NDArray[np.float64]
    objects: NDArray[np.int64]
    conditions: NDArray[np.int64]


@dataclass(frozen=True)
class Dissimilarities:
    """Images (92, 175, 175, 3) uint8, and dissimilarity matrices (92, 92) of monkey IT, human IT and each subject."""

    images: NDArray[np.uint8]
    monkey: NDArray[np.float64]
    human: NDArray[np.float64]
    subjects: NDArray[np.float64]


def folder(given: Path | None) -> Path | None:
    """Return the folder with both data sets: `given`, otherwise the value of PCSIM_NEURAL, or None if neither is set.

    Raises StorageError if either data set is missing from the folder.
    """
    named = given or (storage.full_path(os.environ[VARIABLE]) if VARIABLE in os.environ else None)
    missing = [path for path in (SPIKES, DISSIMILARITIES) if named is not None and not (named / path).is_file()]
    if missing:
        raise StorageError(
            given=f"folder {named}, which lacks {', '.join(map(str, missing))}",
            expected=f"a folder that contains {SPIKES} and {DISSIMILARITIES}",
            remedy=f"download both (see docs/neural.md), or omit --neural and unset {VARIABLE} to run only the models",
        )
    return named


@contextmanager
def _opened(path: Path) -> Iterator[Mapping[str, NDArray]]:
    """Open a data set. Raises StorageError if the file or an array read from it is missing or damaged."""
    try:
        with np.load(storage.require_file(path)) as file:
            yield file
    except (OSError, EOFError, KeyError, ValueError, BadZipFile, zlib.error) as reason:
        if isinstance(reason, StorageError):
            raise
        raise StorageError(
            given=f"{path}, which cannot be read ({type(reason).__name__}: {reason})",
            expected="the unmodified downloaded file",
            remedy="download it again as described in docs/neural.md",
        ) from reason


def spikes(folder_: Path) -> Spikes:
    """Load the spike counts, summed over non-overlapping 50 ms windows."""
    with _opened(folder_ / SPIKES) as file:
        counts, centres = file["counts"], file["time_ms"]
    _, objects, positions, repeats, _ = counts.shape
    of_object, of_condition = np.arange(objects), np.arange(objects * positions)
    return Spikes(
        reduce(counts.astype(float), "unit o p r (time bin) -> time (o p r) unit", "sum", bin=BINS),
        centres[::BINS] - 0.5 * (centres[1] - centres[0]),
        of_object.repeat(positions * repeats),
        of_condition.repeat(repeats),
    )


def dissimilarities(folder_: Path) -> Dissimilarities:
    """Load the images and dissimilarity matrices, averaging the matrices of each human subject over sessions."""
    with _opened(folder_ / DISSIMILARITIES) as file:
        sessions = file["rdm_human_IT_subject_session"].astype(float)
        return Dissimilarities(
            file["images"],
            file["rdm_monkey_IT"].astype(float),
            file["rdm_human_IT"].astype(float),
            sessions.mean(1),
        )
