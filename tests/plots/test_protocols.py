"""Pictures of timelines show each epoch at its time."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from matplotlib.patches import Rectangle

import pcsim
from pcsim import plots, stimuli


def _protocol(images: torch.Tensor) -> stimuli.Timeline:
    first = stimuli.blank(50.0, like=images, name="fixation")
    return first.then(stimuli.held(images, 100.0)).then(
        stimuli.noise(images, 0.2, 80.0, every=20.0, seed=0, name="mask")
    )


def test_stimulus_draws_epochs_and_pictures() -> None:
    images = torch.rand(3, 1, 8, 8)
    timeline = _protocol(images)
    ax = plots.stimulus(timeline, sample=1)
    bars = [(bar.get_x(), bar.get_width()) for bar in ax.patches if isinstance(bar, Rectangle)]
    assert np.allclose(bars, [(0, 50), (50, 100), (150, 80)])
    assert [text.get_text() for text in ax.texts] == ["fixation", "image", "mask"]
    pictures = [child.images[0].get_array() for child in ax.child_axes]
    times = [0.0, 50.0, 150.0, 170.0, 190.0, 210.0]
    assert len(pictures) == len(times)
    for picture, time in zip(pictures, times, strict=True):
        assert np.allclose(picture, timeline.at(time)[1, 0])
    assert ax.get_xlim() == (0, 230)


def test_stimulus_limits_pictures_and_keeps_one_of_each_epoch() -> None:
    images = torch.rand(2, 3, 8, 8)
    ax = plots.stimulus(stimuli.sequence(torch.rand(40, 2, 3, 8, 8), 10.0).then(stimuli.held(images)), most=5)
    assert len(ax.child_axes) == 5 and ax.child_axes[0].images[0].get_array().shape == (8, 8, 3)
    assert math.isclose(ax.get_xlim()[1], 800.0), "the last epoch has no end and is as long as the other"
    with pytest.raises(pcsim.StimulusError, match="sample=2"):
        plots.stimulus(stimuli.held(images), sample=2)


def test_stimulus_draws_frames_without_height() -> None:
    ax = plots.stimulus(stimuli.turns(5, batch=1, rounds=1))
    assert ax.child_axes[0].images[0].get_array().shape == (1, 5)
