"""Scores and surprise responses measured by `experiments.extrapolation`."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from torch import Tensor

from pcsim import predict, stimuli
from pcsim.analysis import estimate
from pcsim.analysis import frames as scoring
from pcsim.simulation.forecasting import Forecast

from .. import base
from .networks import build, films, fit, parts, sequences, trained
from .options import Extrapolation, Name

SCORES = ("mse", "mae", "psnr", "ssim_uniform7")
SURPRISES: tuple[Literal["reverse", "cut"], ...] = ("reverse", "cut")


def check(config: Extrapolation) -> None:
    """Raise an error before any training if a network cannot be built for the video."""
    for name in config.networks:
        build(config, name)


def find(config: Extrapolation) -> dict[str, Any]:
    """Train and score all networks."""
    keys = [(name, seed) for seed in config.seeds for name in config.networks]
    base.train_all(config, fit, keys)
    jobs = [(config, *key) for key in keys]
    tested = {job[1:]: row for job, row in base.run_jobs(score, jobs, config.workers, "scoring")}
    networks = {name: [tested[name, seed] for seed in config.seeds] for name in config.networks}
    train, test = films(config)
    results: dict[str, Any] = {
        "film": {"train": repr(train), "test": repr(test), "rate": test.rate},
        "networks": networks,
    }
    if {"prednet-convlstm", "prednet-subconvlstm"} <= set(networks):
        pairs = zip(networks["prednet-subconvlstm"], networks["prednet-convlstm"], strict=True)
        results["subconvlstm_over_convlstm"] = [
            sub["network"]["next_frame"]["mse"] / conv["network"]["next_frame"]["mse"] for sub, conv in pairs
        ]
    return results


def score(config: Extrapolation, name: Name, repetition: int) -> dict[str, Any]:
    """Return next-frame and extrapolation scores of a network and the baselines, and the errors evoked by surprise."""
    frames = sequences(config)
    train, test = films(config)

    def scored(part: str, closed_loop_from: int | None) -> tuple[Forecast, scoring.Scored]:
        forecast = predict(trained(config, name, repetition, part), frames, closed_loop_from=closed_loop_from)
        training = train.fitted(test.shape[1:]).draw(0, 0, 200, 1)
        return forecast, scoring.score(
            forecast.predictions, frames, closed_loop_from=closed_loop_from, training=training, scores=SCORES
        )

    def ahead(far: scoring.Scored, contender: str) -> dict[str, list[float]]:
        steps = range(1, config.horizon + 1)
        return {kind: [base.finite_or_none(far.at(h, contender, kind)) for h in steps] for kind in SCORES}

    forecast, far = scored("ahead", config.input_frames)
    is_forecaster = "next" not in parts(config, name)
    one = far if is_forecaster else scored("next", None)[1]
    rows: dict[str, Any] = {
        contender: {
            "next_frame": {kind: base.finite_or_none(one.one_step(contender, kind)) for kind in SCORES},
            "ahead": ahead(far, contender),
        }
        for contender in far.rows
    }
    rows["network"]["dead"] = scoring.is_dead(forecast.predictions, config.input_frames)
    if not is_forecaster:
        rows["network"]["ahead_without_fine_tuning"] = ahead(scored("next", config.input_frames)[1], "network")
        rows["network"]["errors"] = {layer: value.mean(1).tolist() for layer, value in forecast.run.errors.items()}
        rows["network"]["evoked"] = evoked_errors(surprise_errors(config, name, repetition), config.input_frames)
    return rows


def surprise_errors(config: Extrapolation, name: Name, repetition: int) -> dict[str, dict[str, Tensor]]:
    """Return the layer errors (time, clip) of a network before fine-tuning, for unchanged and surprising videos."""
    frames = sequences(config)[:, : 2 * config.input_frames - 1]
    shown = {"as before": frames} | {
        how: stimuli.oddball(frames, config.input_frames, how)
        for how in SURPRISES
        if how == "reverse" or len(frames) > 1
    }
    network = trained(config, name, repetition, "next")
    return {kind: dict(predict(network, film).run.errors) for kind, film in shown.items()}


def evoked_errors(errors: dict[str, dict[str, Tensor]], at: int) -> dict[str, Any]:
    """Return the increase in each layer's error at the first surprising frame, relative to the unchanged clip."""
    before = errors["as before"]
    return {
        how: {
            layer: dataclasses.asdict(estimate(value[at] - before[layer][at]))
            | {"standard": float(before[layer][at].mean())}
            for layer, value in layers.items()
        }
        for how, layers in errors.items()
        if how != "as before"
    }
