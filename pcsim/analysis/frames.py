"""Scores of predicted frames, beside baselines that need no network.

    MSE = mean (x - y)^2,   MAE = mean |x - y|,   PSNR = 10 log10(1 / MSE)            pixels from 0 to 1
    SSIM = mean over windows of (2 m_x m_y + c1)(2 s_xy + c2) / ((m_x^2 + m_y^2 + c1)(s_x^2 + s_y^2 + c2))

SSIM (Wang et al. 2004) has variants that differ by more than models do, so scores are named after their variant.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from einops import rearrange, reduce
from torch import Tensor
from torch.nn import functional

from pcsim.core.exceptions import StimulusError
from pcsim.stimuli.digits import as_pixels
from pcsim.stimuli.film import Frames, as_frames

Window = Literal["uniform", "gaussian"]


def mse(predicted: Tensor, true: Tensor) -> Tensor:
    """Return the mean squared error of each frame: (..., channel, height, width) twice -> (...)."""
    return (predicted - true).square().mean((-3, -2, -1))


def mae(predicted: Tensor, true: Tensor) -> Tensor:
    """Return the mean absolute error of each frame: (..., channel, height, width) twice -> (...)."""
    return (predicted - true).abs().mean((-3, -2, -1))


def psnr(predicted: Tensor, true: Tensor) -> Tensor:
    """Return the peak signal-to-noise ratio of each frame in dB, pixels from 0 to 1; infinite for a perfect frame."""
    return -10.0 * mse(predicted, true).log10()


def ssim(predicted: Tensor, true: Tensor, window: Window = "uniform") -> Tensor:
    """Return the structural similarity of each frame, pixels from 0 to 1: the mean over channels and inner windows.

    window  "uniform": 7x7, sample variances, scikit-image's default, used by Brain-Score and most video papers;
            "gaussian": 11x11 of sd 1.5, population variances, as Wang et al. 2004
    Constants (0.01)^2 and (0.03)^2. Raises StimulusError for frames smaller than the window.
    """
    side = 7 if window == "uniform" else 11
    if min(true.shape[-2:]) < side:
        raise StimulusError(
            given=f"SSIM with a {window} window of frames of {true.shape[-2]}x{true.shape[-1]}",
            expected=f"frames of at least {side}x{side}",
            remedy="write scores=('mse', 'mae', 'psnr')",
        )
    flat = "... height width -> (...) 1 height width"
    x, y = (rearrange(value, flat).double() for value in (predicted, true))
    weights = _weights(window, side).to(x)

    def mean(value: Tensor) -> Tensor:
        return functional.conv2d(functional.conv2d(value, weights[None, None, None]), weights[None, None, :, None])

    unbias = side**2 / (side**2 - 1) if window == "uniform" else 1.0
    mean_x, mean_y = mean(x), mean(y)
    var_x, var_y = unbias * (mean(x * x) - mean_x**2), unbias * (mean(y * y) - mean_y**2)
    covariance = unbias * (mean(x * y) - mean_x * mean_y)
    c1, c2 = 0.01**2, 0.03**2
    both = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    each = (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
    maps = reduce(both / each, "map 1 height width -> map", "mean")
    return maps.unflatten(0, true.shape[:-2]).mean(-1).to(true.dtype)


def _weights(window: Window, side: int) -> Tensor:
    if window == "uniform":
        return torch.full((side,), 1.0 / side, dtype=torch.float64)
    away = torch.arange(side, dtype=torch.float64) - side // 2
    bell = torch.exp(-away.square() / (2 * 1.5**2))
    return bell / bell.sum()


SCORES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mse": mse,
    "mae": mae,
    "psnr": psnr,
    "ssim_uniform7": ssim,
    "ssim_gaussian11": lambda predicted, true: ssim(predicted, true, "gaussian"),
}


def copy_last(frames: Tensor, closed_loop_from: int | None = None) -> Tensor:
    """Predict every frame as the last input frame: (n, time, ...) -> the same shape, row 0 NaN.

    From `closed_loop_from` on the last input frame is frame closed_loop_from - 1.
    """
    last = _last_input(frames, closed_loop_from)
    return torch.cat([torch.full_like(frames[:, :1], math.nan), frames[:, last[1:]]], 1)


def continue_linearly(frames: Tensor, closed_loop_from: int | None = None) -> Tensor:
    """Predict x + h (x - x') in [0, 1], x and x' the last two input frames, h frames ahead; rows 0 and 1 are NaN."""
    last = _last_input(frames, closed_loop_from)[2:]
    ahead = (torch.arange(2, frames.shape[1]) - last).to(frames).reshape(-1, 1, 1, 1)
    line = frames[:, last] + ahead * (frames[:, last] - frames[:, last - 1])
    return torch.cat([torch.full_like(frames[:, :2], math.nan), line.clamp(0, 1)], 1)


def training_mean(frames: Tensor, training: Tensor) -> Tensor:
    """Predict every frame as the mean of all frames of `training` (n, time, channel, height, width)."""
    return training.mean((0, 1)).expand_as(frames)


def _last_input(frames: Tensor, closed_loop_from: int | None) -> Tensor:
    length = frames.shape[1]
    return (torch.arange(length) - 1).clamp_max(length if closed_loop_from is None else closed_loop_from - 1)


@dataclass(frozen=True)
class Scored:
    """Scores of predictions and baselines, frame by frame: name -> {score: (time,)}, means over clips.

    Rows that were not predicted are NaN, and so are rows in which a clip diverged. `horizon` is the number of frames
    from the last input frame to each row, `begins` the first row that was predicted.
    """

    rows: dict[str, dict[str, Tensor]]
    horizon: Tensor
    begins: int = 0

    def one_step(self, name: str = "network", score: str = "mse") -> float:
        """Return the mean over the frames predicted one step ahead, from the third on, where all can be scored.

        All predictions are scored on the same frames; NaN if one of their clips diverged.
        """
        first = max(2, self.begins)
        return float(self.rows[name][score][first:][self.horizon[first:] == 1].mean())

    def at(self, horizon: int, name: str = "network", score: str = "mse") -> float:
        """Return the score `horizon` frames after the last input frame (for 1, `one_step` averages over all rows)."""
        where = torch.nonzero(self.horizon == horizon)
        if not len(where) or score not in self.rows.get(name, {}):
            raise StimulusError(
                given=f"at({horizon}, {name!r}, {score!r})",
                expected=f"1 to {int(self.horizon.max())} frames ahead, of {', '.join(self.rows)}, by "
                + ", ".join(self.rows["network"]),
                remedy="write score(..., closed_loop_from=k) for horizons above 1, training=frames for their mean",
            )
        return float(self.rows[name][score][where[-1]])


def score(
    predictions: Tensor,
    frames: Tensor | Frames,
    *,
    closed_loop_from: int | None = None,
    training: Tensor | Frames | None = None,
    scores: tuple[str, ...] = ("mse", "mae", "psnr", "ssim_uniform7"),
) -> Scored:
    """Score predictions (n, time, channel, height, width) against frames of that shape, beside the baselines.

    frames    8-bit, or from 0 to 1
    training  frames whose mean is one more baseline, "training mean" beside "copy last frame" and "linear"
    Raises StimulusError for invalid frames, different shapes or unknown scores.
    """
    frames = as_pixels(as_frames(frames)).to(predictions)
    if predictions.shape != frames.shape or not set(scores) <= set(SCORES):
        raise StimulusError(
            given=f"predictions {tuple(predictions.shape)}, frames {tuple(frames.shape)}, scores {', '.join(scores)}",
            expected=f"equal shapes (n, time, channel, height, width), scores among {', '.join(SCORES)}",
            remedy="pass as many frames as predictions: frames[:, :predictions.shape[1]]",
        )
    if closed_loop_from is not None and not 0 < closed_loop_from < frames.shape[1]:
        raise StimulusError(
            given=f"closed_loop_from={closed_loop_from} of {frames.shape[1]} frames",
            expected=f"1 to {frames.shape[1] - 1}: the first frame that was not an input",
            remedy="pass the closed_loop_from that predict was called with",
        )
    contenders = {
        "network": predictions,
        "copy last frame": copy_last(frames, closed_loop_from),
        "linear": continue_linearly(frames, closed_loop_from),
    }
    if training is not None:
        contenders["training mean"] = training_mean(frames, as_pixels(as_frames(training)).to(frames))
    rows = {name: {kind: SCORES[kind](made, frames).mean(0) for kind in scores} for name, made in contenders.items()}
    horizon = torch.arange(frames.shape[1]) - _last_input(frames, closed_loop_from)
    is_predicted = (~predictions.isnan()).flatten(2).any(2).any(0)
    return Scored(rows, horizon, int(is_predicted.int().argmax()))


def is_dead(predictions: Tensor, closed_loop_from: int | None = None, tolerance: float = 1e-4) -> str | None:
    """Return why predictions (n, time, ...) are trivial: all zero, or constant from `closed_loop_from` on; else None.

    Such networks score well on dark or still films.
    """
    made = predictions[:, 1:]
    if bool((made.nan_to_num().abs() <= tolerance).all()):
        return "it predicts nothing: all pixels are 0. Give R_0 more channels and P_0 a positive bias"
    later = predictions[:, closed_loop_from or 1 :]
    if later.shape[1] > 1 and float((later[:, 1:] - later[:, :-1]).abs().max()) <= tolerance:
        return "its prediction stands still: every frame is the same"
    return None
