"""Does a network predict the next frame, and what follows when it sees only its own predictions?

Trains PredNets with two kinds of cells on films, first on the next frame, then (fine-tuning) on frames that it has to
extrapolate. Scores stand beside what costs nothing: copying the last frame, going on linearly, the training mean.

    python -m experiments.extrapolation                        moving digits, three repetitions, about 8 minutes
    python -m experiments.extrapolation --data walk.gif        your own clip; a folder of frames, .npy, .npz, mp4
    python -m experiments.extrapolation --preset paper         PredNet's KITTI size and schedule, for a GPU
"""

from __future__ import annotations

import dataclasses
import time
from functools import cache, partial, reduce
from operator import getitem
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import Tensor
from tqdm.auto import tqdm

from experiments import common
from pcsim import Network, models, plots, predict, stimuli, storage
from pcsim.analysis import frames as scoring
from pcsim.exceptions import StimulusError
from pcsim.frame_training import Goal, train_to_predict
from pcsim.rules import Prediction
from pcsim.stimuli import Film, MovingDigits
from pcsim.stimuli.digits import as_pixels
from pcsim.stimuli.film import Frames
from pcsim.training import Training

TEST_SEED = 1_000_000
SCORES = ("mse", "mae", "psnr", "ssim_uniform7")
BASELINES = ("copy last frame", "linear", "training mean")
Cell = Literal["convlstm", "subconvlstm"]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Extrapolation:
    """Options of the experiment; a preset gives the defaults."""

    out: Path = Path("results/extrapolation")
    """folder for everything that comes out"""
    seed: int = 0
    """of the first repetition"""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """where to run"""
    cells: tuple[Cell, ...] = ("convlstm", "subconvlstm")
    """of the PredNets to compare"""
    channels: tuple[int, ...] = (1, 8, 8)
    """of A in each layer; the first become those of the frames"""
    representations: tuple[int, ...] = (8, 8, 8)
    """of R in each layer"""
    repetitions: Annotated[int, Field(gt=0)] = 3
    """how many times to train each network"""
    data: Path | None = None
    """a film of your own, instead of moving digits: its last fifth is the test"""
    rate: Annotated[float | None, Field(gt=0)] = None
    """frames a second of the film, if its file does not say it"""
    grey: bool = False
    """of a film in colour, only the luminance"""
    size: tuple[int, int] | None = None
    """(height, width) to which a film is resized first; it is then cropped to what the network needs"""
    moving: MovingDigits = MovingDigits(digits=1, size=28, side=14, speed=(1.5, 2.5))
    """what moves where no film is given"""
    seen: Annotated[int, Field(gt=2)] = 8
    """frames before the hand-over"""
    horizon: Annotated[int, Field(gt=0)] = 5
    """frames after it"""
    clips: Annotated[int, Field(gt=0)] = 5_000
    """different training sequences"""
    test_clips: Annotated[int, Field(gt=0)] = 100
    """test sequences, at most; of a film as many as lie end to end"""
    training: Training = Training(updates=800, batch=6, learning_rate=4e-3)
    """on the next frame of sequences of `seen` frames; its seed is that of the repetition"""
    loss: Literal["errors", "absolute", "squared"] = "squared"
    """what is learned: the errors of the layers, as published, with which small networks on dark frames fall into
    predicting nothing; or the distance of pixels"""
    above: Annotated[float, Field(ge=0)] = 0.0
    """weight of the errors of higher layers: 0 is the paper's L_0, 0.1 its L_all"""
    closing: Training = Training(updates=200, batch=6, learning_rate=1e-3)
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
    build(config, config.cells[0])
    common.claim(config.out, config)
    jobs = [(config, cell, seed) for seed in config.seeds for cell in config.cells]
    for job, curve in common.run_jobs(fit, jobs, config.workers, "training"):
        tqdm.write(f"trained {job[1]}, repetition {job[2]}: loss {curve[0]:.4f} -> {curve[-1]:.4f}")
    common.leave_the_rest_to_the_first()
    tested = dict(common.run_jobs(scores_of, jobs, 1, "scoring"))
    networks = {cell: [row for (_, of, _), row in tested.items() if of == cell] for cell in config.cells}
    train, test = films(config)
    results: dict[str, Any] = {
        "config": common.recorded(config),
        "film": {"train": repr(train), "test": repr(test), "rate": test.rate},
        "networks": networks,
        **common.environment(common.pick_device(config.device)),
    }
    if {"convlstm", "subconvlstm"} <= set(networks):
        pairs = zip(networks["subconvlstm"], networks["convlstm"], strict=True)
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
    train, test = film.fitted(multiple=2 ** (len(config.channels) - 1)).split(0.2)
    if max(len(clip) for clip in test.clips) < config.length:
        raise StimulusError(
            given=f"{film!r}, whose last fifth is the test",
            expected=f"at least {5 * config.length} frames, for sequences of {config.length}",
            remedy="choose smaller --seen and --horizon, or a longer film",
        )
    return train, test


def build(config: Extrapolation, cell: Cell) -> Network:
    """A network before training. The bias of its prediction is such that it does not begin by predicting nothing."""
    train, _ = films(config)
    channels = (train.shape[0], *config.channels[1:])
    network = models.prednet(channels, config.representations, cell=cell, size=train.shape[1:])
    rule = network.populations["p0"].rule
    if isinstance(rule, Prediction) and rule.bias is not None:
        torch.nn.init.constant_(rule.bias, 0.1)
    return network


def path_of(config: Extrapolation, cell: str, repetition: int, part: str) -> Path:
    """Where a training is kept."""
    return config.out / "training" / f"{cell}-{repetition}-{part}.safetensors"


def fit(config: Extrapolation, cell: Cell, repetition: int) -> list[float]:
    """Train one network on the next frame, then on frames it has to extrapolate; returns the first loss curve."""
    torch.manual_seed(1_000 + repetition)
    network = build(config, cell).to(common.pick_device(config.device))
    train, _ = films(config)
    history: list[float] = []
    closing: Literal["absolute", "squared"] = "squared" if config.loss == "squared" else "absolute"
    for part, settings, goal, length in (
        ("next", config.training, Goal(loss=config.loss, above=config.above), config.seen),
        ("closed", config.closing, Goal(loss=closing, extrapolate_from=config.seen), config.length),
    ):
        own = dataclasses.replace(settings, seed=repetition)
        curve = train_to_predict(
            network,
            partial(sequence, train, repetition, length),
            config.clips,
            own,
            goal,
            checkpoint=path_of(config, cell, repetition, part),
            every=config.checkpoint_every,
            bar=common.job_bar(f"{cell} {repetition} {part}"),
        )
        history = history or curve
    return history


def sequence(film: Film, seed: int, length: int, index: int) -> Frames:
    """One training sequence."""
    return film.draw(seed, index, 1, length)[0]


def trained(config: Extrapolation, cell: Cell, repetition: int, part: str) -> Network:
    """The network after a training."""
    return common.trained(build(config, cell), path_of(config, cell, repetition, part), config.device)


def sequences(config: Extrapolation) -> Tensor:
    """Test sequences, (n, time, channel, height, width) from 0 to 1; no frame is in two."""
    _, test = films(config)
    frames = torch.from_numpy(test.sequences(config.length)[: config.test_clips])
    return as_pixels(frames).to(common.pick_device(config.device))


def scores_of(config: Extrapolation, cell: Cell, repetition: int) -> dict[str, Any]:
    """Of the next frame (after the first training) and of frames ahead (after the second), beside the baselines."""
    frames = sequences(config)
    train, _ = films(config)
    training = train.draw(0, 0, 200, 1)
    ahead = range(1, config.horizon + 1)
    nets = {part: trained(config, cell, repetition, part) for part in ("next", "closed")}
    opened = predict(nets["next"], frames)
    one = scoring.score(opened.predictions, frames, training=training, scores=SCORES)
    rows: dict[str, Any] = {
        name: {"next_frame": {kind: one.one_step(name, kind) for kind in SCORES}} for name in one.rows
    }
    for part, net in nets.items():
        closed = predict(net, frames, extrapolate_from=config.seen)
        far = scoring.score(closed.predictions, frames, hand_over=config.seen, training=training, scores=SCORES)
        for name in far.rows if part == "closed" else ("network",):
            label = "ahead" if part == "closed" else "ahead_without_fine_tuning"
            rows[name][label] = {kind: [far.at(h, name, kind) for h in ahead] for kind in SCORES}
        if part == "closed":
            rows["network"]["errors"] = {name: value.mean(1).tolist() for name, value in closed.run.errors.items()}
            rows["network"]["dead"] = scoring.is_dead(closed.predictions, config.seen)
    return rows


def report(config: Extrapolation, results: dict[str, Any]) -> None:
    """Figures, GIF, page, and the tables in the terminal."""
    frames = sequences(config)
    rate, every = results["film"]["rate"], 1_000 / results["film"]["rate"]
    said = {
        cell: predict(trained(config, cell, config.seed, "closed"), frames[:1], extrapolate_from=config.seen)
        for cell in config.cells
    }
    clip = frames[0].cpu()
    predictions: dict[str, Tensor] = {name: forecast.predictions[0].cpu() for name, forecast in said.items()}
    first, *others = plots.animation(clip, predictions, config.seen, scale=max(1, 192 // clip.shape[-1]))
    first.save(
        config.out / "extrapolation.gif", save_all=True, append_images=others, duration=max(100, round(every)), loop=0
    )
    networks = results["networks"]
    any_cell = next(iter(networks.values()))[0]
    figures: list[tuple[str, Figure | Axes, str]] = [
        (
            "frames",
            plots.forecast(clip, predictions, config.seen, rate),
            "A test clip, what each network predicted of every frame before it saw it, and the error (red: too bright, "
            "blue: too dark). Frame 0 is predicted of nothing. The same moves in extrapolation.gif.",
        )
    ]
    for kind, words in (("mse", "mean squared error"), ("ssim_uniform7", "SSIM (uniform 7x7)")):
        curves = {cell: [row["network"]["ahead"][kind] for row in rows] for cell, rows in networks.items()}
        curves |= {name: [any_cell[name]["ahead"][kind]] for name in BASELINES}
        sentence = f"{words} of extrapolated frames, after fine-tuning; bands span the repetitions."
        figures.append((kind, plots.horizon(curves, words, every), sentence))
    for cell in networks:
        errors = {name: torch.tensor(value) for name, value in networks[cell][0]["network"]["errors"].items()}
        figures.append(
            (
                f"errors_{cell}",
                plots.errors_over_frames(errors, config.seen),
                f"{cell}: prediction error of each layer, frame by frame. After the hand-over that of layer 0 is zero, "
                "as the prediction is the frame.",
            )
        )
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
    any_cell = next(iter(networks.values()))[0]

    def mean(rows: list[Any], *keys: Any) -> str:
        values = [reduce(getitem, keys, row) for row in rows]
        spread = f" ({min(values):.5f}-{max(values):.5f})" if len(values) > 1 else ""
        return f"{sum(values) / len(values):.5f}{spread}"

    contenders = [(cell, rows, "network") for cell, rows in networks.items()]
    contenders += [(name, [any_cell], name) for name in BASELINES]
    next_frame = [(name, *(mean(rows, key, "next_frame", kind) for kind in SCORES)) for name, rows, key in contenders]
    steps = range(config.horizon)
    ahead = [(name, *(mean(rows, key, "ahead", "mse", h) for h in steps)) for name, rows, key in contenders]
    ahead += [
        (f"{cell}, not fine-tuned", *(mean(rows, "network", "ahead_without_fine_tuning", "mse", h) for h in steps))
        for cell, rows in networks.items()
    ]
    return [
        ("The next frame (mean, range over repetitions)", ("", *SCORES), next_frame),
        ("MSE of extrapolated frames", ("frames ahead", *(str(h + 1) for h in steps)), ahead),
    ]


if __name__ == "__main__":
    common.main(run, lambda: common.parse(PRESETS, None, str(__doc__)))
