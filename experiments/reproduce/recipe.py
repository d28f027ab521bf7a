"""Recipes: how the networks whose weights ship with pcsim are trained and scored."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pcsim import Network
from pcsim.rules import Prediction
from pcsim.training import Training

Values = dict[str, NDArray[np.float64]]
"""score -> its value for each test image or clip, (n,)"""


@dataclass(frozen=True)
class Saving:
    """The folder of the training checkpoints, the interval between them in updates, and the progress bar."""

    folder: Path
    every: int = 100
    bar: Callable[..., Any] | None = None

    def options(self, name: str) -> dict[str, Any]:
        """Return the keyword arguments of the training functions."""
        bar = {} if self.bar is None else {"bar": self.bar}
        return {"checkpoint": self.folder / f"{name}.safetensors", "every": self.every} | bar


@dataclass(frozen=True, kw_only=True)
class Recipe(ABC):
    """A network with its training and its scores."""

    model: str
    """name of the registered model"""
    task: str
    """what the network was trained on, in a phrase"""
    headline: str
    """the score shown in lists"""
    page: Mapping[str, Any] = field(default_factory=dict)
    """default options of `pcsim export-page` for this network"""

    @property
    @abstractmethod
    def settings(self) -> tuple[Training, ...]:
        """The settings of each training stage."""

    @abstractmethod
    def fit(self, seed: int, saving: Saving) -> Network:
        """Train a network, or resume its training; `seed` determines its weights, its data and their order."""

    @abstractmethod
    def score(self, network: Network, seed: int, count: int) -> Values:
        """Return the scores of a network on `count` test images or clips drawn with `seed`."""


def set_bias(network: Network, population: str, value: float) -> None:
    """Set the bias of a prediction to one value for all channels."""
    rule = network.populations[population].rule
    if isinstance(rule, Prediction) and rule.bias is not None:
        torch.nn.init.constant_(rule.bias, value)
