"""Memory layout and shape of activities."""

import torch

from pcsim.core.state import laid_out, per_channel


def test_images_use_channels_last_layout() -> None:
    image = torch.randn(2, 3, 4, 5)
    made = laid_out(image)
    assert torch.equal(made, image) and made.is_contiguous(memory_format=torch.channels_last)
    for other in (torch.randn(2, 3), torch.randn(2, 3, 4), torch.randn(2, 3, 4, 5, 6)):
        assert laid_out(other) is other


def test_layout_is_unchanged_under_vmap() -> None:
    images = torch.randn(6, 2, 3, 4, 5)
    assert torch.equal(torch.func.vmap(laid_out)(images), images)


def test_per_channel_broadcasts_over_space() -> None:
    values = torch.arange(3.0)
    for shape in ((2, 3), (2, 3, 4), (2, 3, 4, 5)):
        like = torch.zeros(shape, dtype=torch.float64)
        made = per_channel(values, like)
        assert made.shape == (3, *(1,) * (len(shape) - 2)) and made.dtype is torch.float64
        assert torch.equal((like + made)[0, 2].unique(), torch.tensor([2.0], dtype=torch.float64))
