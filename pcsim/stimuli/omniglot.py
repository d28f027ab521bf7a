"""Omniglot's two small background sets, each with five alphabets, drawn by 20 people (Lake et al. 2015).

Omniglot (Brenden Lake) is released under the MIT licence and is not shipped with pcsim. It is loaded from a local
folder or from a verified download.
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, from_numpy
from torch.nn import functional

from pcsim.core.checks import Count, checked
from pcsim.core.exceptions import StimulusError, StorageError
from pcsim.stimuli import files

VARIABLE, WHAT = "PCSIM_OMNIGLOT", "images_background_small1.zip and images_background_small2.zip"
MIRRORS = ("https://raw.githubusercontent.com/brendenlake/omniglot/master/python/",)
FILES = {
    "small1": ("images_background_small1.zip", "f38eb80f801274ac2b4dff5b24289016bfaba4a7d5bb50deebf27104ad6cb8a4"),
    "small2": ("images_background_small2.zip", "3ccaa407515a8778e5d0861875af38b17e418f301ad5bb3b5a6b65d901a41c7f"),
}


@checked(StimulusError)
@dataclass(frozen=True, repr=False)
class Characters:
    """A set of n drawings of characters.

    images      (n, 105, 105), uint8, where ink is 255
    alphabets   (n,), index of each drawing's alphabet in `names`
    characters  (n,), index of each drawing's character in its alphabet, from 0
    """

    images: NDArray[np.uint8]
    alphabets: NDArray[np.int64]
    characters: NDArray[np.int64]
    names: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Characters({len(self.images)} drawings: {', '.join(self.names)})"

    @checked(StimulusError)
    def of(self, alphabet: str) -> Characters:
        """Return the drawings of one alphabet."""
        if alphabet not in self.names:
            raise StorageError(
                given=f"alphabet {alphabet!r}",
                expected=f"one of {', '.join(self.names)}",
                remedy=f"call characters.of({self.names[0]!r})",
            )
        chosen = self.alphabets == self.names.index(alphabet)
        return Characters(self.images[chosen], np.zeros(chosen.sum(), np.int64), self.characters[chosen], (alphabet,))

    @checked(StimulusError)
    def pixels(self, side: Count = 32) -> Tensor:
        """Return the images resized by area averaging, with ink as 1: float32 (n, 1, side, side)."""
        return functional.interpolate(from_numpy(self.images)[:, None].float() / 255, (side, side), mode="area")


@checked(StimulusError)
def load_omniglot(part: Literal["small1", "small2"] = "small1", folder: Path | str | None = None) -> Characters:
    """Load one of the two small sets, each with five alphabets.

    The zip files are loaded from `folder` or from the folder in the environment variable PCSIM_OMNIGLOT. If neither is
    set, they are downloaded once to the user's cache. Raises StorageError for a missing or altered file.
    """
    from PIL import Image

    (name, digest), where = FILES[part], files.folder_of(folder, VARIABLE)
    if where:
        path = files.local(where, (name,), VARIABLE, WHAT)
    else:
        path = files.cached("omniglot", name, MIRRORS, VARIABLE, WHAT)
    content = files.checked(path, files.unpacked(path), name, digest)
    images, labels = [], []
    with zipfile.ZipFile(io.BytesIO(content)) as opened:
        for inside in sorted(name for name in opened.namelist() if name.endswith(".png")):
            *_, alphabet, character, _ = inside.split("/")
            labels.append((alphabet, int(character.removeprefix("character")) - 1))
            with opened.open(inside) as file:
                images.append(255 - 255 * np.array(Image.open(file), np.uint8))
    names = tuple(dict.fromkeys(alphabet for alphabet, _ in labels))
    return Characters(
        np.stack(images),
        np.array([names.index(alphabet) for alphabet, _ in labels]),
        np.array([character for _, character in labels]),
        names,
    )
