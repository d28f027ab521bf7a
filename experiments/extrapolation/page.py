"""Report page of `experiments.extrapolation`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from operator import getitem
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike
from torch import Tensor

from pcsim import plots, predict
from pcsim.core import storage
from pcsim.plots import axes

from .. import base
from ..report import Picture, Report, Table
from .networks import parts, sequences, trained
from .options import Extrapolation
from .science import SCORES, surprise_errors

BASELINES = ("copy last frame", "linear", "training mean")


def report(config: Extrapolation, results: dict[str, Any]) -> Report:
    """Build the report page, and write extrapolation.gif to the same folder."""
    frames = sequences(config)
    rate, every = results["film"]["rate"], 1_000 / results["film"]["rate"]
    predictions: dict[str, Tensor] = {
        name: predict(trained(config, name, config.seed, "ahead"), frames[:1], closed_loop_from=config.input_frames)
        .predictions[0]
        .cpu()
        for name in config.networks
    }
    clip = frames[0].cpu()
    first, *others = plots.animation(clip, predictions, config.input_frames, scale=max(1, 192 // clip.shape[-1]))
    with storage.replacing(config.out / "extrapolation.gif") as partial:
        pace = max(20, round(every))
        first.save(partial, "GIF", save_all=True, append_images=others, duration=pace, loop=0, comment=storage.MARK)
    networks = results["networks"]
    any_row = next(iter(networks.values()))[0]
    pictures = [
        Picture(
            "frames",
            plots.forecast(clip, predictions, config.input_frames, rate),
            "A test clip, with each network's predictions and their errors (red: too bright; blue: too dark). Every "
            "frame is predicted before it is presented, and frame 0 is predicted without input. The file "
            "extrapolation.gif shows the same clip as an animation.",
            (),
        )
    ]
    for kind, words in (("mse", "mean squared error"), ("ssim_uniform7", "SSIM (uniform 7x7)")):
        curves = {
            name: [base.finite_or_nan(row["network"]["ahead"][kind]) for row in rows] for name, rows in networks.items()
        }
        curves |= {name: [base.finite_or_nan(any_row[name]["ahead"][kind])] for name in BASELINES}
        sentence = (
            f"Extrapolated frames after fine-tuning: {words}. Bands span the repetitions; dashed lines are baselines."
        )
        pictures.append(Picture(kind, horizon(curves, words, every), sentence, ("networks",)))
    for name in (name for name in config.networks if "next" in parts(config, name)):
        errors = {layer: torch.tensor(value) for layer, value in networks[name][0]["network"]["errors"].items()}
        pictures += [
            Picture(
                f"errors_{name}",
                plots.errors_over_frames(errors, config.input_frames),
                f"{name}, after fine-tuning: prediction error of each layer in each frame. In the closed loop, the "
                "error of layer 0 is zero because the network receives its own prediction as input.",
                ("networks",),
            ),
            Picture(
                f"surprise_{name}",
                plots.surprise(surprise_errors(config, name, config.seed), config.input_frames),
                f"{name}, before fine-tuning: prediction errors when the video runs backwards (reverse) or switches "
                f"to a different clip (cut) at frame {config.input_frames}. Bands show standard errors over "
                f"{len(frames)} clips.",
                ("networks",),
            ),
        ]
    return Report(
        "Predicting and extrapolating frames",
        f"Training: {results['film']['train']}. Test: {len(frames)} sequences of {config.length} frames from "
        f"{results['film']['test']}. Each frame lasts {every:g} ms.",
        pictures,
        tables(config, results),
    )


def tables(config: Extrapolation, results: dict[str, Any]) -> list[Table]:
    """Return the tables of next-frame scores, extrapolation errors, and responses to surprise."""
    networks = results["networks"]
    any_row = next(iter(networks.values()))[0]

    def mean(rows: list[Any], *keys: Any) -> str:
        values = [reduce(getitem, keys, row) for row in rows]
        if None in values:
            return "not finite"
        spread = f" ({min(values):#.3g}-{max(values):#.3g})" if len(values) > 1 else ""
        return f"{sum(values) / len(values):#.3g}{spread}"

    contenders = [(name, rows, "network") for name, rows in networks.items()]
    contenders += [(name, [any_row], name) for name in BASELINES]
    next_frame = [(name, *(mean(rows, key, "next_frame", kind) for kind in SCORES)) for name, rows, key in contenders]
    steps = range(config.horizon)
    ahead = [(name, *(mean(rows, key, "ahead", "mse", h) for h in steps)) for name, rows, key in contenders]
    prednets = {name: rows for name, rows in networks.items() if "next" in parts(config, name)}
    ahead += [
        (f"{name}, not fine-tuned", *(mean(rows, "network", "ahead_without_fine_tuning", "mse", h) for h in steps))
        for name, rows in prednets.items()
    ]
    surprises = [
        (
            name,
            layer,
            f"{response['standard']:.4f}",
            how,
            f"{response['mean']:+.4f} ({response['low']:+.4f}, {response['high']:+.4f})",
        )
        for name, (row, *_) in prednets.items()
        for how, layers in row["network"]["evoked"].items()
        for layer, response in layers.items()
    ]
    return [
        Table(
            "Next-frame prediction before fine-tuning (forecaster: first closed-loop frame): mean and range over "
            "repetitions. PSNR is in dB; it is not finite if a frame is repeated exactly or a clip diverges",
            ("network", *SCORES),
            next_frame,
        ),
        Table("MSE of extrapolated frames after fine-tuning", ("frames ahead", *(str(h + 1) for h in steps)), ahead),
        Table(
            f"Increase in prediction error caused by a surprise at frame {config.input_frames}, before fine-tuning "
            "(first repetition, 95 % interval over clips)",
            ("network", "layer", "error without surprise", "surprise", "increase in error"),
            surprises,
        ),
    ]


def horizon(
    curves: Mapping[str, Sequence[ArrayLike]], score: str, every_ms: float | None = None, ax: Axes | None = None
) -> Axes:
    """Plot a score against the horizon, with dashed baselines. curves[name] contains one (horizon,) curve per seed."""
    ax = ax or axes(6.4, 3.4)
    colours = iter(("C3", "C0", "C2", "C4", "C1"))
    greys = iter(("0.35", "0.6", "0.8"))
    for name, runs in curves.items():
        values = np.array([np.asarray(run, float) for run in runs])
        ahead = np.arange(1, values.shape[1] + 1)
        is_baseline = name in BASELINES
        style: dict[str, Any] = {"color": next(greys), "ls": "--"} if is_baseline else {"color": next(colours)}
        ax.plot(ahead, values.mean(0), marker="o", ms=3, label=name, **style)
        if len(values) > 1 and not is_baseline:
            ax.fill_between(ahead, values.min(0), values.max(0), color=style["color"], alpha=0.2, lw=0)
    ax.set_xlabel("frames ahead" if every_ms is None else f"frames ahead (of {every_ms:g} ms)")
    ax.set_ylabel(score)
    ax.set_ylim(bottom=0)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    ax.spines[["top", "right"]].set_visible(False)
    return ax
