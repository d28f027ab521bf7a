"""Scores of predicted frames, and of baselines that need no network.

    MSE = mean (x - y)^2,   MAE = mean |x - y|,   PSNR = 10 log10(1 / MSE)            for pixels from 0 to 1
    SSIM = mean over windows of (2 m_x m_y + c1)(2 s_xy + c2) / ((m_x^2 + m_y^2 + c1)(s_x^2 + s_y^2 + c2))

Scores can differ more between variants of SSIM (Wang et al. 2004) than between models, so each name specifies a
variant.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from einops import rearrange, reduce
from torch import Tensor
from torch.nn import functional

from pcsim.core.checks import Axes, NonNegative, checked
from pcsim.core.exceptions import StimulusError
from pcsim.stimuli.film import Frames, as_frames
from pcsim.stimuli.pixels import as_pixels, require_floating, require_pixels

Window = Literal["uniform", "gaussian"]
FAR = 10.0
"""value above which predictions are assumed to be scaled to 255 instead of 1"""

Predictions = Annotated[Tensor, Axes("sample, time, ...", is_float=False)]


@checked(StimulusError)
def mse(predicted: Tensor, true: Tensor) -> Tensor:
    """Return the mean squared error of each frame: (...) for frames (..., channel, height, width)."""
    predicted, true = _pair(predicted, true)
    return (predicted - true).square().mean((-3, -2, -1))


@checked(StimulusError)
def mae(predicted: Tensor, true: Tensor) -> Tensor:
    """Return the mean absolute error of each frame: (...) for frames (..., channel, height, width)."""
    predicted, true = _pair(predicted, true)
    return (predicted - true).abs().mean((-3, -2, -1))


@checked(StimulusError)
def psnr(predicted: Tensor, true: Tensor) -> Tensor:
    """Return the peak signal-to-noise ratio of each frame in dB, for pixels in [0, 1]; infinite for a perfect frame."""
    return -10.0 * mse(predicted, true).log10()


def _pair(predicted: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
    """Return predictions and frames of equal shape in floating point (at least float32), where white is 1."""
    if predicted.shape != true.shape:
        raise StimulusError(
            given=f"predictions {tuple(predicted.shape)} and frames {tuple(true.shape)}",
            expected="equal shapes (n, time, channel, height, width)",
            remedy="pass as many frames as predictions: frames[:, :predictions.shape[1]]",
        )
    require_pixels(true)
    predicted = _scaled(predicted)
    return predicted, as_pixels(true).to(predicted)


def _scaled(predicted: Tensor) -> Tensor:
    """Return predictions in floating point (at least float32), with non-finite values replaced by NaN.

    Values outside [0, 1] are allowed, because networks may return them. Raises StimulusError if the scale is not that
    of pixels.
    """
    require_floating(shown := as_pixels(predicted))
    known = shown.where(shown.isfinite(), math.nan)
    most = float(known.detach().abs().nan_to_num(0.0).max()) if known.numel() else 0.0
    if most > FAR:
        raise StimulusError(
            given=f"predictions with values up to {most:g}",
            expected="the scale of pixels, with black as 0 and white as 1",
            remedy="pass predictions / 255 if white is 255; otherwise, the network may have diverged",
        )
    return known.to(torch.promote_types(known.dtype, torch.float32))


@checked(StimulusError)
def ssim(predicted: Tensor, true: Tensor, window: Window = "uniform") -> Tensor:
    """Return the structural similarity of each frame, averaged over channels and the windows inside the frame.

    window  "uniform": 7x7 with sample variances, scikit-image's default, used by Brain-Score and most video papers;
            "gaussian": 11x11 with sd 1.5 and population variances, as in Wang et al. 2004

    Pixels range from 0 to 1, and the constants are c1 = 0.01^2 and c2 = 0.03^2. Raises StimulusError for frames smaller
    than the window, and for an unknown window.
    """
    predicted, true = _pair(predicted, true)
    side = 7 if window == "uniform" else 11
    if min(true.shape[-2:]) < side:
        raise StimulusError(
            given=f"SSIM with a {window} window for frames of {true.shape[-2]}x{true.shape[-1]}",
            expected=f"frames of at least {side}x{side}",
            remedy="pass scores=('mse', 'mae', 'psnr')",
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


@checked(StimulusError)
def copy_last(frames: Tensor, closed_loop_from: int | None = None) -> Tensor:
    """Predict every frame as a copy of the last input frame, in the shape of `frames`; row 0 is NaN.

    From frame `closed_loop_from` on, the last input frame is frame closed_loop_from - 1.
    """
    frames = as_pixels(as_frames(frames))
    last = _last_input(frames, closed_loop_from)
    return torch.cat([torch.full_like(frames[:, :1], math.nan), frames[:, last[1:]]], 1)


@checked(StimulusError)
def continue_linearly(frames: Tensor, closed_loop_from: int | None = None) -> Tensor:
    """Predict x + h (x - x'), clipped to [0, 1], h frames after the last two inputs x' and x.

    Rows preceded by fewer than two inputs are NaN.
    """
    frames = as_pixels(as_frames(frames))
    last = _last_input(frames, closed_loop_from)[2:]
    ahead = (torch.arange(2, frames.shape[1]) - last).to(frames).reshape(-1, 1, 1, 1)
    line = (frames[:, last] + ahead * (frames[:, last] - frames[:, last - 1])).clamp(0, 1)
    line[:, last < 1] = math.nan
    return torch.cat([torch.full_like(frames[:, :2], math.nan), line], 1)


@checked(StimulusError)
def training_mean(frames: Tensor, training: Tensor) -> Tensor:
    """Predict every frame as the mean of all frames of `training` (n, time, channel, height, width)."""
    frames, training = as_pixels(as_frames(frames)), as_pixels(as_frames(training))
    if training.shape[2:] != frames.shape[2:]:
        raise StimulusError(
            given=f"training frames {tuple(training.shape)} for frames {tuple(frames.shape)}",
            expected="frames with the same channels, height and width",
            remedy="fit both to the same size, as in film.fitted(size=(64, 64))",
        )
    return training.to(frames).mean((0, 1)).expand_as(frames)


def _last_input(frames: Tensor, closed_loop_from: int | None) -> Tensor:
    length = frames.shape[1]
    if closed_loop_from is not None and not 0 < closed_loop_from < length:
        raise StimulusError(
            given=f"closed_loop_from={closed_loop_from} for {length} frames",
            expected=f"the first frame that was not an input, from 1 to {length - 1}",
            remedy="pass the same closed_loop_from as to predict()",
        )
    return (torch.arange(length) - 1).clamp_max(length if closed_loop_from is None else closed_loop_from - 1)


@dataclass(frozen=True)
class Scored:
    """Frame-by-frame scores of predictions and baselines, averaged over clips: rows[name][score] is (time,).

    A row is NaN if it was not predicted, or if a clip diverged in it. `horizon` is the number of frames from the last
    input frame to each row, and `begins` is the first predicted row.
    """

    rows: dict[str, dict[str, Tensor]]
    horizon: Tensor
    begins: int = 0

    def one_step(self, name: str = "network", score: str = "mse") -> float:
        """Return the mean one-step-ahead score from the third frame on, where the scores of all baselines are defined.

        Predictions and baselines are scored on the same frames. The mean is NaN if any clip diverged.
        """
        first = max(2, self.begins)
        is_scored = (self.horizon == 1) & (torch.arange(len(self.horizon)) >= first)
        return float(self._of(name, score, 1, is_scored)[is_scored].mean())

    def at(self, horizon: int, name: str = "network", score: str = "mse") -> float:
        """Return the score `horizon` frames after the last input frame. `one_step` averages all rows with horizon 1."""
        is_scored = self.horizon == horizon
        return float(self._of(name, score, horizon, is_scored)[is_scored][-1])

    def _of(self, name: str, score: str, horizon: int, is_scored: Tensor) -> Tensor:
        """Return a score over time. Raises StimulusError for unknown names, or if no row has this horizon."""
        if not is_scored.any() or score not in self.rows.get(name, {}):
            raise StimulusError(
                given=f"{name!r}, {score!r}, {horizon} frame{'s' * (horizon != 1)} ahead",
                expected=f"1 to {int(self.horizon.max())} frames ahead, for {', '.join(self.rows)}, scored by "
                + ", ".join(self.rows["network"])
                + "; one_step() requires a third frame that was an input or follows one",
                remedy="pass closed_loop_from=k to score() for longer horizons, or training=frames for a training mean",
            )
        return self.rows[name][score]


@checked(StimulusError)
def score(
    predictions: Tensor,
    frames: Tensor | Frames,
    *,
    closed_loop_from: int | None = None,
    training: Tensor | Frames | None = None,
    scores: tuple[str, ...] = ("mse", "mae", "psnr", "ssim_uniform7"),
) -> Scored:
    """Score predictions (n, time, channel, height, width) and baselines against frames of the same shape.

    predictions  8-bit or in floating point, with white as 1; NaN if nothing was predicted or a clip diverged
    frames       8-bit or in [0, 1]
    training     frames whose mean serves as a baseline, "training mean", in addition to "copy last frame" and "linear"

    Raises StimulusError for invalid frames, predictions on another scale, different shapes or unknown scores.
    """
    predictions, frames = _scaled(predictions), as_frames(frames)
    if predictions.shape != frames.shape or not scores or not set(scores) <= set(SCORES):
        raise StimulusError(
            given=f"predictions {tuple(predictions.shape)}, frames {tuple(frames.shape)}, scores {', '.join(scores)}",
            expected=f"equal shapes (n, time, channel, height, width), and scores from {', '.join(SCORES)}",
            remedy="pass as many frames as predictions: frames[:, :predictions.shape[1]]",
        )
    frames = as_pixels(frames).to(predictions)
    contenders = {
        "network": predictions,
        "copy last frame": copy_last(frames, closed_loop_from),
        "linear": continue_linearly(frames, closed_loop_from),
    }
    if training is not None:
        contenders["training mean"] = training_mean(frames, as_frames(training))
    rows = {name: {kind: SCORES[kind](made, frames).mean(0) for kind in scores} for name, made in contenders.items()}
    horizon = torch.arange(frames.shape[1]) - _last_input(frames, closed_loop_from)
    is_predicted = (~predictions.isnan()).flatten(2).any(2).any(0)
    return Scored(rows, horizon, int(is_predicted.int().argmax()))


@checked(StimulusError)
def is_dead(predictions: Predictions, closed_loop_from: int | None = None, tolerance: NonNegative = 1e-4) -> str | None:
    """Return a message if predictions (n, time, ...) are degenerate, or None otherwise.

    Predictions are degenerate if they are not finite in a predicted frame, all zero, or constant from frame
    `closed_loop_from` on. Zero and constant predictions score well on dark or static clips.
    """
    made = as_pixels(predictions).double()
    first = closed_loop_from or 1
    was_predicted = ~made.isnan().flatten(2).all(2).all(0)
    was_predicted[0] = False
    if not made[:, was_predicted].isfinite().all() or (made.shape[1] > 1 and not was_predicted.any()):
        return "the prediction is not finite: the network has diverged. Reduce the learning rate"
    if bool((made[:, was_predicted].abs() <= tolerance).all()):
        return "the prediction is empty: all pixels are 0. Use more channels in R_0 and a positive bias in P_0"
    later = made[:, first:][:, was_predicted[first:]]
    if later.shape[1] > 1 and float((later[:, 1:] - later[:, :-1]).abs().max()) <= tolerance:
        return "the prediction is static: all frames are the same"
    return None


__all__ = [
    "SCORES",
    "Scored",
    "continue_linearly",
    "copy_last",
    "is_dead",
    "mae",
    "mse",
    "psnr",
    "score",
    "ssim",
    "training_mean",
]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
