"""Videos, networks and training of `experiments.extrapolation`."""

from __future__ import annotations

import dataclasses
import math
from functools import cache, partial
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from pcsim import Network, StimulusError, models, stimuli
from pcsim.rules import Prediction
from pcsim.stimuli import Film
from pcsim.stimuli.film import Frames
from pcsim.stimuli.pixels import as_pixels
from pcsim.stimuli.random import uniform
from pcsim.training import Training
from pcsim.training.frames import Goal, train_to_predict

from .. import base
from ..base import TEST_SEED
from .options import Extrapolation, Name

PATCH = 4
"""side length of the encoder-forecaster's patches, in pixels"""
BIAS = {"p0": 0.1, "forecast": -2.0}
"""initial biases of the predictions: PredNet's rectified output starts above zero, the forecaster's below grey"""


@cache
def films(config: Extrapolation) -> tuple[Film, Film]:
    """Return the training and test videos: two parts of the user's video, or moving digits from different seeds."""
    if config.data is None:
        moving, longer = config.moving, config.length
        return (
            moving.film(config.seed, 0, config.clips, longer),
            moving.film(TEST_SEED, 0, config.test_clips, longer),
        )
    film = stimuli.read_film(config.data, config.rate)
    film = film.grey() if config.grey else film
    film = film.fitted(config.size, how="resize") if config.size else film
    train, test = film.split(0.2)
    test = test.fitted(config.crop).fitted(multiple=math.lcm(2 ** (len(config.channels) - 1), PATCH))
    if max(len(clip) for clip in test.clips) < config.length:
        raise StimulusError(
            given=f"{film!r}, of which the last fifth is used for testing",
            expected=f"at least {5 * config.length} frames for sequences of {config.length} frames",
            remedy="pass a longer video, or use shorter sequences, such as --input-frames 4 --horizon 2",
        )
    return train, test


def build(config: Extrapolation, name: Name) -> Network:
    """Build an untrained network."""
    _, test = films(config)
    if name == "forecaster-convlstm":
        network = models.convlstm(
            config.forecaster,
            kernel=3,
            input_frames=config.input_frames,
            output_frames=config.horizon,
            image=test.shape,
            patch=PATCH,
        )
    else:
        channels = (test.shape[0], *config.channels[1:])
        cell: Literal["convlstm", "subconvlstm"] = "convlstm" if name == "prednet-convlstm" else "subconvlstm"
        network = models.prednet(channels, config.representations, cell=cell, size=test.shape[1:])
    for predicting in network.populations.keys() & BIAS.keys():
        rule = network.populations[predicting].rule
        if isinstance(rule, Prediction) and rule.bias is not None:
            torch.nn.init.constant_(rule.bias, BIAS[predicting])
    return network


def parts(config: Extrapolation, name: Name) -> dict[str, tuple[Training, Goal, int]]:
    """Return the training stages of a network in order: name -> (settings, goal, sequence length)."""
    pixels: Literal["absolute", "squared"] = "squared" if config.loss == "squared" else "absolute"
    if name == "forecaster-convlstm":
        return {"ahead": (config.training, Goal(loss=pixels), config.length)}
    return {
        "next": (config.training, Goal(loss=config.loss, above=config.above), config.input_frames),
        "ahead": (config.closing, Goal(loss=pixels, closed_loop_from=config.input_frames), config.length),
    }


def fit(config: Extrapolation, name: Name, repetition: int) -> list[float]:
    """Train one network; return the loss curve of its first stage (next-frame prediction for a PredNet)."""
    torch.manual_seed(1_000 + repetition)
    network = build(config, name).to(base.device_of(config))
    train, test = films(config)
    curves = []
    for part, (settings, goal, length) in parts(config, name).items():
        curves.append(
            train_to_predict(
                network,
                partial(sequence, train, test.shape[1:], repetition, length),
                config.clips,
                dataclasses.replace(settings, seed=repetition),
                goal,
                checkpoint=base.kept(config, "training", name, repetition, part),
                every=config.checkpoint_every,
                bar=base.job_bar(f"{name} {repetition} {part}"),
            )
        )
    return curves[0]


def sequence(film: Film, size: tuple[int, int], seed: int, length: int, index: int) -> Frames:
    """Sample a training sequence, cropped to the test frame size at a position determined by (seed, index)."""
    drawn = film.draw(seed, index, 1, length)[0]
    room = np.array(film.shape[1:]) - size
    top, left = (uniform(seed, "crops", index, 1, 2)[0] * (room + 1)).astype(int)
    return drawn[..., top : top + size[0], left : left + size[1]]


def trained(config: Extrapolation, name: Name, repetition: int, part: str) -> Network:
    """Return the network after the given training stage."""
    return base.trained(config, build(config, name), name, repetition, part)


def sequences(config: Extrapolation) -> Tensor:
    """Return the non-overlapping test sequences, (n, time, channel, height, width) in [0, 1]."""
    _, test = films(config)
    frames = torch.from_numpy(test.sequences(config.length)[: config.test_clips])
    return as_pixels(frames).to(base.device_of(config))
