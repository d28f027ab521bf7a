"""Normalisation of pixels: values of a direct computation, inverse, and refused scales."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pcsim import StimulusError, stimuli

# Red, green and blue of ImageNet, as in the documentation of torchvision's pretrained weights.
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


@pytest.mark.parametrize("shape", [(3, 4, 5), (2, 3, 4, 5), (6, 2, 3, 4, 5)])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
def test_normalise_equals_numpy_and_denormalise_is_its_inverse(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    values = np.random.default_rng(0).integers(0, 256, shape)
    images = torch.from_numpy(values).to(dtype) if dtype == torch.uint8 else torch.from_numpy(values / 255).to(dtype)
    expected = (values / 255 - MEAN[:, None, None]) / STD[:, None, None]
    found = stimuli.normalise(images)
    assert found.dtype == (torch.float32 if dtype == torch.uint8 else dtype)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)
    np.testing.assert_allclose(stimuli.denormalise(found).numpy(), values / 255, atol=1e-6)


def test_normalise_with_own_statistics() -> None:
    found = stimuli.normalise(torch.full((2, 1, 3, 3), 0.75), mean=[0.25], std=[0.5])
    assert torch.equal(found, torch.ones(2, 1, 3, 3))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: stimuli.normalise(stimuli.normalise(torch.zeros(1, 3, 2, 2))), "finite floating-point values from 0"),
        (lambda: stimuli.normalise(torch.full((1, 3, 2, 2), 255.0)), "frames / 255"),
        (lambda: stimuli.normalise(torch.rand(1, 1, 2, 2)), "expand"),
        (lambda: stimuli.normalise(torch.rand(2, 2, 3)), "mean"),
        (lambda: stimuli.normalise(torch.rand(1, 1, 2, 2), [0.5], [0.0]), "positive std"),
        (lambda: stimuli.denormalise(torch.zeros(1, 3, 2, 2, dtype=torch.uint8)), "normalised floating-point images"),
    ],
)
def test_normalise_refuses_other_scales_and_channels(call: object, words: str) -> None:
    with pytest.raises(StimulusError, match=words):
        call()


def test_normalised_images_are_refused_with_the_advice_to_pass_them_as_they_are() -> None:
    with pytest.raises(StimulusError) as caught:
        stimuli.normalise(stimuli.normalise(torch.rand(2, 3, 4, 4)))
    assert "already normalised" in caught.value.remedy
    with pytest.raises(StimulusError, match="255"):
        stimuli.normalise(255 * torch.rand(2, 3, 4, 4))
