"""The BLT family against published values; test_references.py has its equations."""

from __future__ import annotations

import pytest
import torch

import pcsim
from pcsim import Iterate, models

COUNTS = {"blt_b": 9_898, "blt_bt": 19_114, "blt_bk": 26_794, "blt_bl": 28_330, "blt": 37_546, "blt_bf": 38_218}


@pytest.mark.parametrize(("name", "count"), COUNTS.items())
def test_blt_family_parameter_counts_match_paper(name: str, count: int) -> None:
    for unroll in ("engineering", "biological"):
        assert sum(p.numel() for p in models.build(name, unroll=unroll).parameters()) == count


def test_blt_biological_readout_depends_on_image_from_step_2() -> None:
    net = models.blt(channels=(4, 4), unroll="biological")
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, 0.0, 0.3)
    images = torch.rand(2, 1, 32, 32, requires_grad=True)
    for clock, values in pcsim.rollout(net, images, Iterate(), 3, ["readout"]):
        (gradient,) = torch.autograd.grad(
            values["readout"].sum(),
            images,
            retain_graph=True,
            materialize_grads=True,
        )
        arrived = clock.step >= 2  # the image reaches the second layer one step after the first
        assert bool((gradient != 0).any()) is arrived


@pytest.mark.parametrize(
    ("name", "expected"), [("blt_b", [8]), ("blt_bk", [14]), ("blt_bl", [8, 12, 16, 20]), ("blt", [8, 14, 20, 26])]
)
def test_blt_family_receptive_fields_match_paper(name: str, expected: list[int]) -> None:
    net = models.build(name, channels=(2, 2))
    for parameter in net.parameters():
        torch.nn.init.constant_(parameter, 0.1)
    for module in net.modules():
        if isinstance(module, torch.nn.Sequential):
            for position, part in enumerate(module):
                if isinstance(part, torch.nn.MaxPool2d):  # a maximum has a gradient at one position only
                    module[position] = torch.nn.AvgPool2d(2)
    images = torch.rand(1, 1, 32, 32, requires_grad=True)
    sides = []
    for _, state in pcsim.rollout(net, images, Iterate(), len(expected)):
        (gradient,) = torch.autograd.grad(state["l2"][0, :, 7, 7].sum(), images, retain_graph=True)
        rows = gradient[0, 0].abs().sum(1).nonzero()
        sides.append(int(rows.max() - rows.min() + 1))
    assert sides == expected


def test_models_reject_unknown_names_and_indivisible_size() -> None:
    with pytest.raises(pcsim.WiringError, match="did you mean 'blt_bl'"):
        models.build("blt_bll")
    with pytest.raises(pcsim.WiringError, match="blt option 'widht'"):
        models.build("blt", widht=3)
    with pytest.raises(pcsim.WiringError, match="divisible by 4"):
        models.leaky_rcnn(image=(1, 30, 30))
