"""The BLT family against published values and a NumPy implementation of the paper's equations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view
from support import tolerances

import pcsim
from pcsim import Iterate, Record, models, simulate
from pcsim.connections import LocalResponseNorm

COUNTS = {"blt_b": 9_898, "blt_bt": 19_114, "blt_bk": 26_794, "blt_bl": 28_330, "blt": 37_546, "blt_bf": 38_218}


@pytest.mark.parametrize(("name", "count"), COUNTS.items())
def test_blt_family_parameter_counts_match_paper(name: str, count: int) -> None:
    for unroll in ("engineering", "biological"):
        assert sum(p.numel() for p in models.build(name, unroll=unroll).parameters()) == count


def correlate(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Return the 'same' convolution of (n, c, h, w) with weights (out, c, k, k)."""
    r = w.shape[-1] // 2
    windows = sliding_window_view(np.pad(x, ((0, 0), (0, 0), (r, r), (r, r))), w.shape[-2:], (2, 3))
    return np.einsum("nchwij,ocij->nohw", windows, w)


def transposed(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Return the stride-2 transposed 3x3 convolution at twice the size, to which every input adds its scaled kernel."""
    n, _, height, width = x.shape
    canvas = np.zeros((n, w.shape[1], 2 * height + 2, 2 * width + 2))
    for i in range(height):
        for j in range(width):
            canvas[:, :, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3] += np.einsum("nc,coij->noij", x[:, :, i, j], w)
    return canvas[:, :, 1:-1, 1:-1]


def response_norm(x: np.ndarray, n: int, alpha: float, beta: float) -> np.ndarray:
    result = np.empty_like(x)
    for k in range(x.shape[1]):
        window = x[:, max(0, k - n // 2) : k + n // 2 + 1]
        result[:, k] = x[:, k] * (1 + alpha * (window**2).sum(1)) ** -beta
    return result


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("unroll", ["engineering", "biological"])
@pytest.mark.parametrize("lrn", ["state", "output"])
def test_blt_matches_numpy(unroll: str, lrn: str) -> None:
    net = models.blt(width=6, unroll=unroll, lrn=lrn, size=8)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, 0.0, 0.3)
    for module in net.modules():
        if isinstance(module, LocalResponseNorm):
            module.band.mul_(1e3)  # alpha = 0.1, because at 1e-4 rounding would hide errors in the norm
        if isinstance(module, pcsim.connections.Standardise):
            module.mean.fill_(0.4)
            module.sd.fill_(0.2)
    p = {name: value.detach().numpy() for name, value in net.named_parameters()}
    t = "transforms."
    images = torch.rand(3, 1, 8, 8)
    x = (images.numpy() - 0.4) / 0.2

    def norm(h: np.ndarray) -> np.ndarray:
        return response_norm(h, 5, 0.1, 0.5)

    kept = norm if lrn == "state" else (lambda h: h)
    upward = (lambda h: h) if lrn == "state" else norm
    h1, h2 = np.zeros((3, 6, 8, 8)), np.zeros((3, 6, 4, 4))
    run = simulate(net, images, solver=Iterate(), steps=5, record=Record(states=["l1", "l2", "readout"]))
    for step in range(5):
        z1 = correlate(x, p[t + "image_to_l1.1.weight"]) + p["rules.l1.bias"][:, None, None]
        z1 += correlate(h1, p[t + "l1_to_l1.weight"]) + transposed(h2, p[t + "l2_to_l1.weight"])
        new1 = kept(np.maximum(z1, 0))
        z2 = correlate(h2, p[t + "l2_to_l2.weight"]) + p["rules.l2.bias"][:, None, None]
        if unroll == "engineering" or step > 0:
            below = upward(new1 if unroll == "engineering" else h1)
            pooled = below.reshape(3, 6, 4, 2, 4, 2).max((3, 5))
            z2 = z2 + correlate(pooled, p[t + "l1_to_l2.2.weight"])
        h1, h2 = new1, kept(np.maximum(z2, 0))
        y = h2.max((2, 3)) @ p[t + "l2_to_readout.1.weight"].T + p[t + "l2_to_readout.1.bias"]
        for name, expected in (("l1", h1), ("l2", h2), ("readout", y)):
            assert np.allclose(run[name][step].numpy(), expected, rtol=0, atol=tolerances.NUMPY_BLT)


def test_blt_biological_readout_depends_on_image_from_step_2() -> None:
    net = models.blt(width=4, unroll="biological")
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
    net = models.build(name, width=2)
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
        models.leaky_rcnn(size=30)
