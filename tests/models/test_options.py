"""One name for one option in all models; the names of pcsim 0.1 raise with the present ones."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from pcsim import PcsimError, WiringError, models
from pcsim.models.registry import RENAMED

WITHOUT_IMAGE = {"sublstm", "hopfield", "hopfield_continuous", "hopfield_modern", "predictive_coding", "laminar"}
WITHOUT_IMAGE |= {"wilson_cowan", "ssn", "organics", "dynamic_synapses", "bump_attractor"}


def options(name: str) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(getattr(models, name)).parameters)


@pytest.mark.parametrize("name", models.available())
def test_option_names_are_shared(name: str) -> None:
    own = options(name)
    assert ("image" in own) == (name not in WITHOUT_IMAGE)
    if "image" in own:
        channels, height, width = own["image"].default
        assert channels in (1, 3) and min(height, width) >= 32
    if name not in ("sublstm", "predictive_coding", "laminar", "convrnn"):
        assert not set(RENAMED) & set(own)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        *((name, {"width": 8}, "channels=") for name in ("blt", "blt_bf", "convrnn_shallow", "convrnn_intermediate")),
        *((name, {"size": 8}, "image=") for name in ("blt", "rcnn", "grcnn", "leaky_rcnn", "prednet", "rcnn_sat_b")),
        *((name, {"image_channels": 1}, "image=") for name in ("rcnn", "grcnn", "leaky_rcnn")),
        ("prednet_kitti", {"size": (128, 160)}, "image="),
        ("rcnn_sat_bl", {"maps": (8, 8)}, "channels="),
        ("rcnn", {"layers": 2}, "channels="),
        ("cornet_s", {"times": (1, 1, 1)}, "iterations="),
    ],
)
def test_old_option_raises_with_new_name(name: str, old: dict[str, Any], new: str) -> None:
    for build in (getattr(models, name), lambda **given: models.build(name, **given)):
        with pytest.raises(WiringError) as caught:
            build(**old)
        assert new in caught.value.remedy and next(iter(old)) in caught.value.given


def test_old_values_are_not_taken_for_new_ones() -> None:
    """`channels` was the number of channels of the image, and the first argument one number for all layers."""
    for build in (
        lambda: models.blt(channels=3),
        lambda: models.blt(32),
        lambda: models.rcnn(96),
        lambda: models.rcnn_sat_bl(channels=3),
    ):
        with pytest.raises(PcsimError, match="channels"):
            build()


def test_image_may_be_wider_than_high() -> None:
    for name in ("blt", "leaky_rcnn", "rcnn", "grcnn"):
        few = {"channels": (2, 2)}
        assert models.build(name, image=(3, 16, 32), **few).inputs == {"image": (3, 16, 32)}
    assert models.rcnn_sat_bl((2, 3), (3, 3), image=(3, 16, 32)).inputs == {"image": (3, 16, 32)}


def test_layers_of_different_width() -> None:
    net = models.blt((2, 5), image=(1, 8, 8))
    assert net.shape("l1") == (2, 8, 8) and net.shape("l2") == (5, 4, 4)
    assert models.blt_bf((2, 5), image=(1, 8, 8)).shape("l2") == (10, 4, 4)
    assert models.rcnn((2, 3, 4, 5), image=(1, 8, 8)).shape("x4")[0] == 5


def test_prednet_refuses_channels_of_another_image() -> None:
    with pytest.raises(WiringError, match="channels=") as caught:
        models.prednet((1, 4), image=(3, 16, 16))
    assert caught.value.remedy == "pass channels=(3, 4)"
