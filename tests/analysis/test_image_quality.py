"""Frame scores against SciPy, scikit-image and closed forms; baselines against manual calculation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from pcsim import StimulusError
from pcsim.analysis import frames as f


def pair(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    one, noise = torch.rand(*shape, dtype=torch.float64), torch.rand(*shape, dtype=torch.float64)
    return (0.7 * one + 0.3 * noise), one


def test_mse_mae_and_psnr_match_formulas() -> None:
    predicted, true = pair(2, 3, 1, 8, 9)
    a, b = predicted.numpy(), true.numpy()
    assert np.allclose(f.mse(predicted, true), ((a - b) ** 2).mean((2, 3, 4)), atol=1e-15)
    assert np.allclose(f.mae(predicted, true), np.abs(a - b).mean((2, 3, 4)), atol=1e-15)
    assert np.allclose(f.psnr(predicted, true), 10 * np.log10(1 / ((a - b) ** 2).mean((2, 3, 4))), atol=1e-12)
    assert f.psnr(torch.zeros(1, 1, 2, 2), torch.full((1, 1, 2, 2), 0.1)).item() == pytest.approx(20.0, abs=1e-4)
    assert f.psnr(true, true).isinf().all()


@pytest.mark.parametrize("window", ["uniform", "gaussian"])
def test_ssim_matches_formula_in_scipy(window: str) -> None:
    predicted, true = pair(3, 17, 21)
    values = []
    for x, y in zip(predicted.numpy(), true.numpy(), strict=True):
        if window == "uniform":
            side, unbias = 7, 49 / 48
            mean = lambda v: ndimage.uniform_filter(v, 7)[3:-3, 3:-3]  # noqa: E731
        else:
            side, unbias = 11, 1.0
            mean = lambda v: ndimage.gaussian_filter(v, 1.5, radius=5)[5:-5, 5:-5]  # noqa: E731
        mx, my = mean(x), mean(y)
        vx, vy, vxy = (unbias * (mean(p * q) - mean(p) * mean(q)) for p, q in ((x, x), (y, y), (x, y)))
        top = (2 * mx * my + 1e-4) * (2 * vxy + 9e-4)
        values.append((top / ((mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4))).mean())
    assert f.ssim(predicted, true, window).item() == pytest.approx(np.mean(values), abs=1e-12)
    assert f.ssim(true, true, window).item() == pytest.approx(1.0, abs=1e-12)
    with pytest.raises(StimulusError, match=f"at least {side}x{side}"):
        f.ssim(torch.rand(1, side - 1, 20), torch.rand(1, side - 1, 20), window)


def test_ssim_matches_scikit_image() -> None:
    metrics = pytest.importorskip("skimage.metrics")
    predicted, true = pair(3, 20, 24)
    a, b = predicted.numpy(), true.numpy()
    default = metrics.structural_similarity(a, b, channel_axis=0, data_range=1.0)
    assert f.ssim(predicted, true).item() == pytest.approx(default, abs=1e-12)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    wang = metrics.structural_similarity(a, b, channel_axis=0, data_range=1.0, **options)
    assert f.ssim(predicted, true, "gaussian").item() == pytest.approx(wang, abs=1e-12)


def ramp(length: int = 8) -> torch.Tensor:
    """Return frames whose pixels increase by 0.1 per frame."""
    return (0.1 * torch.arange(length, dtype=torch.float64)).reshape(1, -1, 1, 1, 1).expand(2, -1, 1, 8, 8)


def level(said: torch.Tensor) -> list[float]:
    return [round(value, 9) for value in said[0, :, 0, 0, 0].tolist()]


def test_baselines_use_only_past_frames() -> None:
    assert level(f.copy_last(ramp(), 5))[1:] == [0.0, 0.1, 0.2, 0.3, 0.4, 0.4, 0.4]
    assert level(f.copy_last(ramp()))[1:] == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    assert level(f.continue_linearly(ramp(), 5))[2:] == [0.2, 0.3, 0.4, 0.5, 0.6, 0.7], "a ramp must continue linearly"
    assert level(f.continue_linearly(ramp(14).clamp(max=1.0), 11))[-1] == 1.0, "extrapolation must be clipped at white"
    assert math.isnan(level(f.copy_last(ramp()))[0]) and math.isnan(level(f.continue_linearly(ramp()))[1])
    changed = ramp().clone()
    changed[:, 5:] = 0.0
    for baseline in (f.copy_last, f.continue_linearly):
        assert level(baseline(changed, 5))[2:] == level(baseline(ramp(), 5))[2:]
    assert f.training_mean(ramp(), ramp(4))[0, 7, 0, 0, 0].item() == pytest.approx(0.15)


def test_score_by_horizon_includes_baselines() -> None:
    scored = f.score(ramp(), ramp(), closed_loop_from=5, training=ramp(4))
    assert scored.horizon.tolist() == [1, 1, 1, 1, 1, 1, 2, 3]
    assert set(scored.rows) == {"network", "copy last frame", "linear", "training mean"}
    assert scored.one_step() == 0.0 and scored.at(3) == 0.0 and scored.at(3, score="ssim_uniform7") == 1.0
    assert scored.one_step("copy last frame") == pytest.approx(0.01)
    assert [round(scored.at(h, "copy last frame"), 9) for h in (1, 2, 3)] == [0.01, 0.04, 0.09]
    assert scored.at(3, "linear") == pytest.approx(0.0, abs=1e-18)
    eight = (255 * ramp()).round().byte()
    assert f.score(ramp(), eight, closed_loop_from=5).at(2) < 1e-5, "8-bit frames must be scaled to 0 to 1"
    with pytest.raises(StimulusError, match="1 to 3 frames ahead, for network, copy last frame"):
        scored.at(4)
    with pytest.raises(StimulusError, match="training mean"):
        f.score(ramp(), ramp(), closed_loop_from=5).at(2, "training mean")
    with pytest.raises(StimulusError, match="closed_loop_from=8 for 8 frames"):
        f.score(ramp(), ramp(), closed_loop_from=8)
    with pytest.raises(StimulusError, match="as many frames"):
        f.score(ramp(7), ramp())
    with pytest.raises(StimulusError, match="ssim_gaussian11"):
        f.score(ramp(), ramp(), scores=("ssim",))


def test_is_dead_detects_zero_and_frozen_predictions() -> None:
    alive = torch.rand(2, 8, 1, 4, 4)
    assert f.is_dead(alive) is None and f.is_dead(alive, 5) is None
    assert "all pixels are 0" in (f.is_dead(torch.zeros_like(alive)) or "")
    frozen = alive.clone()
    frozen[:, 5:] = frozen[:, 5:6]
    assert "all frames are the same" in (f.is_dead(frozen, 5) or "") and f.is_dead(frozen, 4) is None
    frozen[:, 0] = torch.nan
    assert "all frames are the same" in (f.is_dead(frozen, 5) or "")


def test_score_of_diverged_clip_is_nan_and_frames_are_shared() -> None:
    true = torch.rand(2, 6, 1, 12, 12)
    said = true.clone()
    said[:, 3] += 0.5
    whole, lost = f.score(said, true, scores=("mse",)), said.clone()
    lost[0, 3] = math.nan
    found = f.score(lost, true, scores=("mse",))
    assert math.isnan(found.one_step()) and whole.one_step() == pytest.approx(0.25 / 4)
    assert found.one_step("linear") == whole.one_step("linear")
    late = said.clone()
    late[:, :4] = math.nan  # The forecaster starts at frame 4, so all methods are scored from there.
    later = f.score(late, true, scores=("mse",))
    assert later.begins == 4 and later.one_step() == 0.0
    copied = ((true[:, 3:5] - true[:, 4:6]) ** 2).mean()
    assert later.one_step("copy last frame") == pytest.approx(float(copied), rel=1e-6)


SCALES = {
    "from -1 to 1": (lambda said, true: (said * 2 - 1, true * 2 - 1), "if black is -1"),
    "frames from 0 to 255": (lambda said, true: (said, true * 255), "frames / 255"),
    "predictions from 0 to 255": (lambda said, true: (said * 255, true), "predictions / 255"),
    "predictions of -255": (lambda said, true: (said * -255, true), "predictions / 255"),
    "both from 0 to 255": (lambda said, true: (said * 255, true * 255), "/ 255"),
    "whole numbers": (lambda said, true: ((said * 255).int(), true), "torch.int32"),
    "NaN in frames": (lambda said, true: (said, true.where(true > 0.01, math.nan)), "NaN"),
}


@pytest.mark.parametrize("case", SCALES)
def test_scores_refuse_other_scales_of_pixels(case: str) -> None:
    change, message = SCALES[case]
    said, true = change(torch.rand(2, 6, 1, 12, 12), torch.rand(2, 6, 1, 12, 12))
    for score in (f.score, *f.SCORES.values()):
        with pytest.raises(StimulusError, match=message):
            score(said, true)


def test_scores_of_8_bit_frames_equal_those_of_floating_point() -> None:
    said, true = torch.randint(0, 256, (2, 2, 6, 1, 12, 12), dtype=torch.uint8)
    for kind, score in f.SCORES.items():
        wanted = score(said / 255, true / 255)
        assert torch.allclose(score(said, true), wanted)
        rows = f.score(said, true, scores=(kind,), training=true).rows
        assert torch.allclose(rows["network"][kind], wanted.mean(0))
        plain = f.score(said / 255, true / 255, scores=(kind,), training=true / 255).rows
        assert all(torch.allclose(rows[name][kind], plain[name][kind], equal_nan=True) for name in rows)
    half = (said / 255).half()
    assert f.mse(half, true).dtype == torch.float32
    assert torch.allclose(f.mse(half, true), f.mse(said, true), atol=1e-4)


def test_scores_refuse_other_shapes_and_windows() -> None:
    said, true = torch.rand(2, 3, 1, 12, 12), torch.rand(1, 3, 1, 12, 12)
    for score in f.SCORES.values():
        with pytest.raises(StimulusError, match="equal shapes"):
            score(said, true)
    with pytest.raises(StimulusError, match="window='gauss'"):
        f.ssim(said, said, "gauss")
    with pytest.raises(StimulusError, match="the same channels, height and width"):
        f.score(said, said, training=torch.rand(2, 3, 1, 12, 10))


def test_score_of_infinite_prediction_is_nan() -> None:
    true = torch.rand(2, 6, 1, 12, 12)
    said = true.clone()
    said[0, 3, 0, 0, 0] = math.inf
    for kind, rows in f.score(said, true).rows["network"].items():
        assert rows.isnan().tolist() == [step == 3 for step in range(6)], kind


def test_continue_linearly_never_uses_later_frames() -> None:
    true = torch.rand(1, 6, 1, 12, 12)
    assert f.continue_linearly(true, 1).isnan().all(), "one frame has no direction"
    scored = f.score(true, true, closed_loop_from=1)
    assert scored.at(2) == 0.0 and math.isnan(scored.at(2, "linear"))
    with pytest.raises(StimulusError, match="requires a third frame"):
        scored.one_step()
    for wrong in (0, -1, 6):
        for baseline in (f.copy_last, f.continue_linearly):
            with pytest.raises(StimulusError, match=f"closed_loop_from={wrong} for 6 frames"):
                baseline(true, wrong)
    with pytest.raises(StimulusError, match="'network', 'mae', 1 frame ahead"):
        f.score(true, true, scores=("mse",)).one_step(score="mae")


def test_is_dead_takes_nan_for_no_answer() -> None:
    alive = torch.rand(2, 8, 1, 4, 4)
    for wrong in (math.nan, math.inf):
        lost = alive.clone()
        lost[0, 5:] = wrong
        assert "not finite" in (f.is_dead(lost) or "")
        assert "not finite" in (f.is_dead(torch.full_like(alive, wrong)) or "")
    late = alive.clone()
    late[:, :4] = math.nan  # was not predicted
    assert f.is_dead(late) is None
