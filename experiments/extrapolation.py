"""Does a network predict the next frame, and what follows when it sees only its own predictions?

Trains PredNets with two kinds of cells on films, first on the next frame, then (fine-tuning) on frames that they have
to extrapolate, and an encoder-forecaster on the latter. Scores stand beside what costs nothing: copying the last frame,
going on linearly, the training mean. Then films surprise the PredNets: they turn round, or are cut.

    python -m experiments.extrapolation                        moving digits, three repetitions, about 7 minutes
    python -m experiments.extrapolation --data walk.gif        your own clip; a folder of frames, .npy, .npz, mp4
    python -m experiments.extrapolation --preset paper         PredNet's KITTI size and schedule, for a GPU
"""

from __future__ import annotations

import dataclasses
import math
import time
from functools import cache, partial, reduce
from operator import getitem
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import Tensor
from tqdm.auto import tqdm

from experiments import common
from pcsim import Network, models, plots, predict, stimuli
from pcsim.analysis import frames as scoring
from pcsim.analysis.statistics import estimate
from pcsim.core import storage
from pcsim.core.exceptions import StimulusError
from pcsim.rules import Prediction
from pcsim.simulation.forecasting import Forecast
from pcsim.stimuli import Film, MovingDigits
from pcsim.stimuli.digits import as_pixels
from pcsim.stimuli.film import Frames
from pcsim.stimuli.random import uniform
from pcsim.training import Training
from pcsim.training.frames import Goal, train_to_predict

TEST_SEED = 1_000_000
PATCH = 4
"""of the encoder-forecaster"""
BIAS = {"p0": 0.1, "forecast": -2.0}
"""of predictions at first: the rectified one of PredNet must not begin as nothing, that of a sigmoid not as grey"""
SCORES = ("mse", "mae", "psnr", "ssim_uniform7")
BASELINES = ("copy last frame", "linear", "training mean")
SURPRISES: tuple[Literal["reverse", "cut"], ...] = ("reverse", "cut")
Name = Literal["prednet-convlstm", "prednet-subconvlstm", "forecaster-convlstm"]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Extrapolation:
    """Options of the experiment; a preset gives the defaults."""

    out: Path = Path("results/extrapolation")
    """folder for everything that comes out"""
    seed: int = 0
    """of the first repetition"""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """where to run"""
    networks: tuple[Name, ...] = ("prednet-convlstm", "prednet-subconvlstm", "forecaster-convlstm")
    """to compare"""
    channels: tuple[int, ...] = (1, 8, 8)
    """of A in each layer of a PredNet; the first become those of the frames"""
    representations: tuple[int, ...] = (8, 8, 8)
    """of R in each layer of a PredNet"""
    forecaster: tuple[int, ...] = (16, 16)
    """channels in each layer of the encoder-forecaster"""
    repetitions: Annotated[int, Field(gt=0)] = 3
    """how many times to train each network"""
    data: Path | None = None
    """a film of your own, instead of moving digits: its last fifth is the test"""
    rate: Annotated[float | None, Field(gt=0)] = None
    """frames a second of the film, if its file does not say it"""
    grey: bool = False
    """of a film in colour, only the luminance"""
    crop: tuple[int, int] | None = None
    """(height, width) of what is seen of a film: in tests its middle, in training anywhere"""
    size: tuple[int, int] | None = None
    """(height, width) to which a film is resized first; what is seen is cropped to what the network needs"""
    moving: MovingDigits = MovingDigits(digits=1, size=28, side=14, speed=(1.5, 2.5))
    """what moves where no film is given"""
    seen: Annotated[int, Field(gt=2)] = 8
    """frames that a network sees before the loop is closed"""
    horizon: Annotated[int, Field(gt=0)] = 5
    """frames after that, which it extrapolates"""
    clips: Annotated[int, Field(gt=0)] = 5_000
    """different training sequences"""
    test_clips: Annotated[int, Field(gt=0)] = 100
    """test sequences, at most; of a film as many as lie end to end"""
    training: Training = Training(updates=370, batch=6, learning_rate=4e-3)
    """on the next frame of sequences of `seen` frames; its seed is that of the repetition"""
    loss: Literal["errors", "absolute", "squared"] = "squared"
    """what is learned: the errors of the layers, as published, with which small networks on dark frames fall into
    predicting nothing; or the distance of pixels"""
    above: Annotated[float, Field(ge=0)] = 0.0
    """weight of the errors of higher layers: 0 is the paper's L_0, 0.1 its L_all"""
    closing: Training = Training(updates=100, batch=6, learning_rate=1e-3)
    """the fine-tuning, on the pixels of sequences of which `horizon` frames more are extrapolated"""
    checkpoint_every: Annotated[int, Field(gt=0)] = 100
    """updates between checkpoints"""
    workers: Annotated[int, Field(gt=0)] = 2
    """processes that train side by side; results do not depend on it"""

    @property
    def seeds(self) -> range:
        """Of the repetitions."""
        return range(self.seed, self.seed + self.repetitions)

    @property
    def length(self) -> int:
        """Frames of a sequence."""
        return self.seen + self.horizon


PRESETS = {
    "smoke": Extrapolation(
        out=Path("results/extrapolation-smoke"),
        channels=(1, 4),
        representations=(4, 4),
        forecaster=(4,),
        repetitions=1,
        moving=MovingDigits(digits=1, size=16, side=7, speed=(1.0, 2.0)),
        seen=4,
        horizon=2,
        clips=20,
        test_clips=4,
        training=Training(updates=20, batch=4),
        closing=Training(updates=20, batch=4),
        checkpoint_every=20,
        workers=1,
    ),
    "quick": Extrapolation(),
    "standard": Extrapolation(
        out=Path("results/extrapolation-standard"),
        channels=(1, 16, 32),
        representations=(16, 32, 32),
        forecaster=(64, 32, 32),
        moving=MovingDigits(),
        seen=10,
        horizon=10,
        training=Training(updates=6_000, batch=8, learning_rate=1e-3),
        closing=Training(updates=2_000, batch=8, learning_rate=5e-4),
    ),
    "paper": Extrapolation(
        out=Path("results/extrapolation-paper"),
        channels=(3, 48, 96, 192),
        representations=(3, 48, 96, 192),
        forecaster=(128, 64, 64),
        repetitions=1,
        seen=10,
        horizon=5,
        loss="errors",
        training=Training(updates=18_750, batch=4, learning_rate=1e-3, schedule="constant"),
        closing=Training(updates=18_750, batch=4, learning_rate=1e-4, schedule="constant"),
        workers=1,
    ),
}


def run(config: Extrapolation) -> None:
    """The whole experiment. Resumes in its folder."""
    begun = time.perf_counter()
    for name in config.networks:
        build(config, name)
    common.claim(config.out, config)
    jobs = [(config, name, seed) for seed in config.seeds for name in config.networks]
    for job, curve in common.run_jobs(fit, jobs, config.workers, "training"):
        tqdm.write(f"trained {job[1]}, repetition {job[2]}: loss {curve[0]:.4f} -> {curve[-1]:.4f}")
    common.leave_the_rest_to_the_first()
    tested = dict(common.run_jobs(scores_of, jobs, config.workers, "scoring"))
    networks = {name: [row for (_, of, _), row in tested.items() if of == name] for name in config.networks}
    train, test = films(config)
    results: dict[str, Any] = {
        "config": common.recorded(config),
        "film": {"train": repr(train), "test": repr(test), "rate": test.rate},
        "networks": networks,
        **common.environment(common.pick_device(config.device)),
    }
    if {"prednet-convlstm", "prednet-subconvlstm"} <= set(networks):
        pairs = zip(networks["prednet-subconvlstm"], networks["prednet-convlstm"], strict=True)
        results["subconvlstm_over_convlstm"] = [
            sub["network"]["next_frame"]["mse"] / conv["network"]["next_frame"]["mse"] for sub, conv in pairs
        ]
    results["wall_time_s"] = round(time.perf_counter() - begun, 1)
    storage.write_json(config.out / "results.json", results)
    report(config, results)


@cache
def films(config: Extrapolation) -> tuple[Film, Film]:
    """Training and test film: two parts of the user's, or digits that move differently."""
    if config.data is None:
        moving, longer = config.moving, config.length
        return (
            moving.film(config.seed, 0, config.clips, longer),
            moving.film(TEST_SEED, 0, config.test_clips, longer),
        )
    film = stimuli.read_film(config.data, config.rate)
    film = film.grey() if config.grey else film
    film = film.fitted(config.size, how="resize") if config.size else film
    train, test = film.split(0.2)
    test = test.fitted(config.crop).fitted(multiple=math.lcm(2 ** (len(config.channels) - 1), PATCH))
    if max(len(clip) for clip in test.clips) < config.length:
        raise StimulusError(
            given=f"{film!r}, whose last fifth is the test",
            expected=f"at least {5 * config.length} frames, for sequences of {config.length}",
            remedy="choose smaller --seen and --horizon, or a longer film",
        )
    return train, test


def build(config: Extrapolation, name: Name) -> Network:
    """A network before training."""
    _, test = films(config)
    if name == "forecaster-convlstm":
        network = models.convlstm(
            config.forecaster, kernel=3, seen=config.seen, unseen=config.horizon, image=test.shape, patch=PATCH
        )
    else:
        channels = (test.shape[0], *config.channels[1:])
        cell: Literal["convlstm", "subconvlstm"] = "convlstm" if name == "prednet-convlstm" else "subconvlstm"
        network = models.prednet(channels, config.representations, cell=cell, size=test.shape[1:])
    for predicting in network.populations.keys() & BIAS.keys():
        rule = network.populations[predicting].rule
        if isinstance(rule, Prediction) and rule.bias is not None:
            torch.nn.init.constant_(rule.bias, BIAS[predicting])
    return network


def parts(config: Extrapolation, name: Name) -> dict[str, tuple[Training, Goal, int]]:
    """What a network is trained on, one after another: how, the goal, the length of the sequences."""
    pixels: Literal["absolute", "squared"] = "squared" if config.loss == "squared" else "absolute"
    if name == "forecaster-convlstm":
        return {"ahead": (config.training, Goal(loss=pixels), config.length)}
    return {
        "next": (config.training, Goal(loss=config.loss, above=config.above), config.seen),
        "ahead": (config.closing, Goal(loss=pixels, closed_loop_from=config.seen), config.length),
    }


def path_of(config: Extrapolation, name: Name, repetition: int, part: str) -> Path:
    """Where a training is kept."""
    return config.out / "training" / f"{name}-{repetition}-{part}.safetensors"


def fit(config: Extrapolation, name: Name, repetition: int) -> list[float]:
    """Train one network; returns its first loss curve, of the next frame for a PredNet."""
    torch.manual_seed(1_000 + repetition)
    network = build(config, name).to(common.pick_device(config.device))
    train, test = films(config)
    curves = []
    for part, (settings, goal, length) in parts(config, name).items():
        curves.append(
            train_to_predict(
                network,
                partial(sequence, train, test.shape[1:], repetition, length),
                config.clips,
                dataclasses.replace(settings, seed=repetition),
                goal,
                checkpoint=path_of(config, name, repetition, part),
                every=config.checkpoint_every,
                bar=common.job_bar(f"{name} {repetition} {part}"),
            )
        )
    return curves[0]


def sequence(film: Film, size: tuple[int, int], seed: int, length: int, index: int) -> Frames:
    """One training sequence, cropped to the size of the test film at a place that is a function of (seed, index)."""
    drawn = film.draw(seed, index, 1, length)[0]
    room = np.array(film.shape[1:]) - size
    top, left = (uniform(seed, "crops", index, 1, 2)[0] * (room + 1)).astype(int)
    return drawn[..., top : top + size[0], left : left + size[1]]


def trained(config: Extrapolation, name: Name, repetition: int, part: str) -> Network:
    """The network after a part of its training."""
    return common.trained(build(config, name), path_of(config, name, repetition, part), config.device)


def sequences(config: Extrapolation) -> Tensor:
    """Test sequences, (n, time, channel, height, width) from 0 to 1; no frame is in two."""
    _, test = films(config)
    frames = torch.from_numpy(test.sequences(config.length)[: config.test_clips])
    return as_pixels(frames).to(common.pick_device(config.device))


def scores_of(config: Extrapolation, name: Name, repetition: int) -> dict[str, Any]:
    """Of the next frame and of frames ahead, beside the baselines; and what surprises evoke in the errors."""
    frames = sequences(config)
    train, test = films(config)

    def scored(part: str, closed_loop_from: int | None) -> tuple[Forecast, scoring.Scored]:
        forecast = predict(trained(config, name, repetition, part), frames, closed_loop_from=closed_loop_from)
        training = train.fitted(test.shape[1:]).draw(0, 0, 200, 1)
        return forecast, scoring.score(
            forecast.predictions, frames, closed_loop_from=closed_loop_from, training=training, scores=SCORES
        )

    def ahead(far: scoring.Scored, contender: str) -> dict[str, list[float]]:
        return {kind: [far.at(h, contender, kind) for h in range(1, config.horizon + 1)] for kind in SCORES}

    forecast, far = scored("ahead", config.seen)
    looks_once = "next" not in parts(config, name)
    one = far if looks_once else scored("next", None)[1]
    rows: dict[str, Any] = {
        contender: {
            "next_frame": {kind: one.one_step(contender, kind) for kind in SCORES},
            "ahead": ahead(far, contender),
        }
        for contender in far.rows
    }
    rows["network"]["dead"] = scoring.is_dead(forecast.predictions, config.seen)
    if not looks_once:
        rows["network"]["ahead_without_fine_tuning"] = ahead(scored("next", config.seen)[1], "network")
        rows["network"]["errors"] = {layer: value.mean(1).tolist() for layer, value in forecast.run.errors.items()}
        rows["network"]["evoked"] = evoked(surprised(config, name, repetition), config.seen)
    return rows


def surprised(config: Extrapolation, name: Name, repetition: int) -> dict[str, dict[str, Tensor]]:
    """Errors of the layers, (time, clip), of a network that knows only the next frame, as films go on or do not."""
    frames = sequences(config)[:, : 2 * config.seen - 1]
    shown = {"as before": frames} | {
        how: stimuli.oddball(frames, config.seen, how) for how in SURPRISES if how == "reverse" or len(frames) > 1
    }
    network = trained(config, name, repetition, "next")
    return {kind: dict(predict(network, film).run.errors) for kind, film in shown.items()}


def evoked(errors: dict[str, dict[str, Tensor]], at: int) -> dict[str, Any]:
    """The error of each layer at the first surprising frame less that of the film as before, clip by clip."""
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


def report(config: Extrapolation, results: dict[str, Any]) -> None:
    """Figures, GIF, page, and the tables in the terminal."""
    frames = sequences(config)
    rate, every = results["film"]["rate"], 1_000 / results["film"]["rate"]
    predictions: dict[str, Tensor] = {
        name: predict(trained(config, name, config.seed, "ahead"), frames[:1], closed_loop_from=config.seen)
        .predictions[0]
        .cpu()
        for name in config.networks
    }
    clip = frames[0].cpu()
    first, *others = plots.animation(clip, predictions, config.seen, scale=max(1, 192 // clip.shape[-1]))
    first.save(
        config.out / "extrapolation.gif", save_all=True, append_images=others, duration=max(20, round(every)), loop=0
    )
    networks = results["networks"]
    any_row = next(iter(networks.values()))[0]
    figures: list[tuple[str, Figure | Axes, str]] = [
        (
            "frames",
            plots.forecast(clip, predictions, config.seen, rate),
            "A test clip, what each network predicted of every frame before it saw it, and the error (red: too bright, "
            "blue: too dark). Frame 0 is predicted of nothing. The same moves in extrapolation.gif.",
        )
    ]
    for kind, words in (("mse", "mean squared error"), ("ssim_uniform7", "SSIM (uniform 7x7)")):
        curves = {name: [row["network"]["ahead"][kind] for row in rows] for name, rows in networks.items()}
        curves |= {name: [any_row[name]["ahead"][kind]] for name in BASELINES}
        sentence = f"{words} of extrapolated frames, after fine-tuning; bands span the repetitions."
        figures.append((kind, plots.horizon(curves, words, every), sentence))
    for name in (name for name in config.networks if "next" in parts(config, name)):
        errors = {layer: torch.tensor(value) for layer, value in networks[name][0]["network"]["errors"].items()}
        figures += [
            (
                f"errors_{name}",
                plots.errors_over_frames(errors, config.seen),
                f"{name}, after fine-tuning: prediction error of each layer, frame by frame. Once the loop is "
                "closed that of layer 0 is zero, as the prediction is the frame.",
            ),
            (
                f"surprise_{name}",
                plots.surprise(surprised(config, name, config.seed), config.seen),
                f"{name}, before fine-tuning: errors where the film turns round and runs backwards (reverse), or "
                f"goes on as another one does (cut), from frame {config.seen} on. Bands are standard errors over "
                f"{len(frames)} clips.",
            ),
        ]
    common.publish(
        config.out,
        "Predicting and extrapolating frames",
        f"Training: {results['film']['train']}. Test: {len(frames)} sequences of {config.length} frames of "
        f"{results['film']['test']}. One frame ahead is {every:g} ms.",
        figures,
        tables(config, results),
        results["wall_time_s"],
    )


def tables(config: Extrapolation, results: dict[str, Any]) -> list[common.Table]:
    """Next frame, and frames ahead."""
    networks = results["networks"]
    any_row = next(iter(networks.values()))[0]

    def mean(rows: list[Any], *keys: Any) -> str:
        values = [reduce(getitem, keys, row) for row in rows]
        spread = f" ({min(values):.5f}-{max(values):.5f})" if len(values) > 1 else ""
        return f"{sum(values) / len(values):.5f}{spread}"

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
            f"{response['standard']:.5f}",
            how,
            f"{response['mean']:+.5f} ({response['low']:+.5f}, {response['high']:+.5f})",
        )
        for name, (row, *_) in prednets.items()
        for how, layers in row["network"]["evoked"].items()
        for layer, response in layers.items()
    ]
    return [
        (
            "The next frame, before fine-tuning; of the forecaster, the first in the closed loop. Mean, range over "
            "repetitions; PSNR in dB, infinite where frames repeat",
            ("", *SCORES),
            next_frame,
        ),
        ("MSE of extrapolated frames, after fine-tuning", ("frames ahead", *(str(h + 1) for h in steps)), ahead),
        (
            f"Error that a surprise adds at frame {config.seen}, before fine-tuning (first repetition, 95 % interval "
            "over clips)",
            ("", "layer", "without", "surprise", "added"),
            surprises,
        ),
    ]


if __name__ == "__main__":
    common.main(run, lambda: common.parse(PRESETS, None, str(__doc__)))
