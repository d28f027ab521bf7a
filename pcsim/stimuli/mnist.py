"""MNIST from idx files in a local folder or from a verified download.

MNIST (LeCun, Cortes & Burges) is licensed under CC BY-SA 3.0 and is not shipped with pcsim.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pcsim.core.checks import checked
from pcsim.core.exceptions import StimulusError, StorageError
from pcsim.stimuli import files

VARIABLE, WHAT = "PCSIM_MNIST", "the four idx files"
MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
# SHA-256 of the decompressed files, because the same file can be compressed in different ways.
FILES = {
    "train": {
        "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    },
    "test": {
        "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
}


@checked(StimulusError)
def load_mnist(split: str, folder: Path | str | None = None) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Load the images (n, 28, 28) and labels (n,) of a `split`, "train" or "test".

    The idx files, raw or .gz, are loaded from `folder` or from the folder in the environment variable PCSIM_MNIST. If
    neither is set, they are downloaded once to the user's cache. Raises StorageError for a missing or altered file.
    """
    if split not in FILES:
        raise StorageError(given=f"split {split!r}", expected="train or test", remedy="pass split='train'")
    where, found = files.folder_of(folder, VARIABLE), []
    for name, digest in FILES[split].items():
        if where:
            path = files.local(where, (name, f"{name}.gz"), VARIABLE, WHAT)
        else:
            path = files.cached("mnist", f"{name}.gz", MIRRORS, VARIABLE, WHAT)
        found.append(_read_idx(files.checked(path, files.unpacked(path), name, digest)))
    images, labels = found
    return images, labels


def _read_idx(content: bytes) -> NDArray[np.uint8]:
    """Parse an idx file of unsigned bytes: magic number (0, 0, 8, rank), big-endian sizes, then the data."""
    rank = content[3]
    shape = np.frombuffer(content, ">u4", rank, 4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(shape)
