"""Recipe for networks that predict the frames of moving digits."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from pcsim import Network, models, predict, stimuli
from pcsim.stimuli import MovingDigits
from pcsim.stimuli.pixels import as_pixels
from pcsim.training import Training
from pcsim.training.frames import Goal, train_to_predict

from .recipe import Recipe, Saving, Values, set_bias

BATCH = 250
"""number of clips that are predicted simultaneously"""


@dataclass(frozen=True, kw_only=True)
class Frames(Recipe):
    """Prediction of the next frame, then fine-tuning in closed loop, on moving digits."""

    options: Mapping[str, Any]
    moving: MovingDigits
    clips: int
    input_frames: int
    horizon: int
    training: Training
    closing: Training
    bias: float = 0.1
    """initial bias of the predicted frame, so that its rectified output starts above zero"""

    @property
    def settings(self) -> tuple[Training, ...]:
        """The settings of each training stage."""
        return (self.training, self.closing)

    def fit(self, seed: int, saving: Saving) -> Network:
        """Train a network, or resume its training."""
        torch.manual_seed(seed)
        network = models.build(self.model, **self.options)
        set_bias(network, "p0", self.bias)
        together = self.input_frames + self.horizon
        film = self.moving.film(seed, 0, self.clips, together)
        closed = Goal(loss="squared", closed_loop_from=self.input_frames)
        stages = {
            "next": (self.training, Goal(loss="squared"), self.input_frames),
            "ahead": (self.closing, closed, together),
        }
        for name, (settings, goal, length) in stages.items():
            clip = partial(_clip, film, seed, length)
            settings = dataclasses.replace(settings, seed=seed)
            train_to_predict(network, clip, self.clips, settings, goal, **saving.options(name))
        return network.eval()

    def score(self, network: Network, seed: int, count: int) -> Values:
        """Return the squared error of each clip's predicted frames, for the network and for copying the last frame."""
        together, first = self.input_frames + self.horizon, self.input_frames
        film = self.moving.film(seed, 0, count, together)
        frames = as_pixels(torch.from_numpy(film.sequences(together)))
        made = [predict(network, part, closed_loop_from=first).predictions for part in frames.split(BATCH)]
        off = (torch.cat(made) - frames).double().square().mean((2, 3, 4))
        step = (frames[:, 1:first] - frames[:, : first - 1]).double().square().mean((1, 2, 3, 4))
        stays = (frames[:, -1] - frames[:, first - 1]).double().square().mean((1, 2, 3))
        found = {
            "MSE of the next frame": off[:, 1:first].mean(1),
            f"MSE {self.horizon} frames ahead": off[:, -1],
            "next frame, network / copying": off[:, 1:first].mean(1) / step.mean(),
            f"{self.horizon} frames ahead, network / copying": off[:, -1] / stays.mean(),
        }
        return {name: values.numpy() for name, values in found.items()}


def _clip(film: stimuli.Film, seed: int, length: int, index: int) -> Any:
    return film.draw(seed, index, 1, length)[0]
