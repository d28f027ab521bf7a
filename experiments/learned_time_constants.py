"""Learn the time constants of leaky units on a task with two time scales.

A population of leaky units receives two noisy input streams and must report a short running average of the first stream
and a long running average of the second. Each channel has its own time constant, initially near 20 ms. The time
constants are learned together with the weights by backpropagation through time. In a control network, they stay fixed.
The figure shows the time constants before and after training, and the training errors of both networks.

    python -m experiments.learned_time_constants         two repetitions, about a minute on 2 cores
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from pcsim import Euler, Full, Network, Population, Projection, Record, Simulator, stimuli
from pcsim.connections import conv
from pcsim.rules import Sum, leaky_rate
from pcsim.rules.time_constants import LearnableTau
from pcsim.training import CHECK_EVERY, Training, optimise

from . import base
from .base import OPTIONS, TEST_SEED, Count, Repeated
from .report import Picture, Report, Table, counted

FRAME = 2.0
"""duration of each stream value, ms"""
KINDS = ("learned", "fixed")
SMALLEST, SPAN, START = 2.0, 198.0, 20.0
"""lower bound, range and initial value of the learnable time constants, ms: 2 to 200, starting near 20"""


@dataclass(frozen=True, config=OPTIONS)
class Learned(Repeated):
    """Options of the experiment, whose defaults depend on the preset."""

    out: Path = Path("results/learned_time_constants")
    """output folder"""
    scales: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = (6.0, 80.0)
    """time constants of the running averages of the first and second stream, ms"""
    channels: Count = 24
    """number of leaky units"""
    length: Annotated[float, Field(gt=0, multiple_of=FRAME)] = 300.0
    """duration of each stream, ms; must be a multiple of 2 ms"""
    dt: Annotated[float, Field(gt=0)] = 2.0
    """Euler step, ms"""
    repetitions: Count = 2
    """number of times each network is trained, each time with different weights and noise"""
    training: Training = Training(updates=400, batch=32, learning_rate=0.02)
    """training settings; each repetition uses its own seed"""


PRESETS = {
    "smoke": Learned(
        smoke=True,
        out=Path("results/learned_time_constants-smoke"),
        channels=4,
        length=60.0,
        repetitions=1,
        training=Training(updates=40, batch=8, learning_rate=0.02),
        workers=1,
    ),
    "quick": Learned(),
    "standard": Learned(
        out=Path("results/learned_time_constants-standard"),
        repetitions=5,
        training=Training(updates=3_000, batch=64, learning_rate=0.02),
    ),
}


def run(config: Learned) -> None:
    """Run the experiment, skipping networks that have already been trained in the output folder."""
    base.conduct(config, find, report)


def find(config: Learned) -> dict[str, Any]:
    """Train all networks; return their time constants before and after training, test errors and training curves."""
    base.train_all(config, fit, [(kind, seed) for seed in config.seeds for kind in KINDS])
    networks = [build(config, "learned", seed) for seed in config.seeds]
    return {
        "before": [time_constants(network).tolist() for network in networks],
        "after": [
            time_constants(base.trained(config, network, "learned", seed)).tolist()
            for network, seed in zip(networks, config.seeds, strict=True)
        ],
        "error": {kind: [score(config, kind, seed) for seed in config.seeds] for kind in KINDS},
        "curves": {kind: [fit(config, kind, seed) for seed in config.seeds] for kind in KINDS},
    }


def build(config: Learned, kind: str, seed: int) -> Network:
    """tau_c dr_c/dt = -r_c + f( W u + b ), y = V r; tau_c starts near 20 ms, within a factor of 1.5 (1 sd)."""
    torch.manual_seed(seed)
    tau = LearnableTau(config.channels, SMALLEST, SPAN, START)
    with torch.no_grad():
        tau.xi.add_(torch.randn(config.channels), alpha=math.log(1.5))
    tau.xi.requires_grad_(kind == "learned")
    return Network(
        {"streams": (2, 1, 1)},
        [Population("r", leaky_rate(config.channels, tau, "relu")), Population("y", Sum(channels=2))],
        [
            Projection("streams", "r", conv(2, config.channels, kernel=1)),
            Projection("r", "y", conv(config.channels, 2, kernel=1)),
        ],
        readout="y",
    )


def time_constants(network: Network) -> Tensor:
    """Return the time constant of each channel in ms, (channel,)."""
    return network.flows["r"].tau().detach()


def streams(config: Learned, seed: int, count: int) -> tuple[Tensor, Tensor]:
    """Return noise (frame, n, 2), and targets at the end of each frame, scaled to unit variance.

    Each target is a running average with time constant T: y_k = y_k-1 + (1 - exp(-2 ms / T)) (u_k - y_k-1).
    """
    frames = round(config.length / FRAME)
    noise = torch.randn(frames, count, 2, generator=torch.Generator().manual_seed(seed))
    share = 1.0 - torch.exp(-FRAME / torch.tensor(config.scales))
    average, rows = torch.zeros(count, 2), []
    for frame in noise:
        average = average + share * (frame - average)
        rows.append(average)
    return noise, torch.stack(rows) / (share / (2.0 - share)).sqrt()


def make_simulator(config: Learned, network: Network, gradient: Full | None = None) -> Simulator:
    """Return a Simulator that records the output at the end of each frame."""
    record = Record(states=["y"], every=round(FRAME / config.dt))
    return Simulator(network, solver=Euler(config.dt), record=record, gradient=gradient)


def error(sim: Simulator, noise: Tensor, wanted: Tensor) -> Tensor:
    """Return the mean squared error at frame ends, excluding the first fifth, during which the averages build up."""
    output = sim(stimuli.sequence(noise[..., None, None], every=FRAME))["y"]
    skipped = len(noise) // 5
    return (output[..., 0, 0] - wanted)[skipped:].square().mean()


def fit(config: Learned, kind: str, seed: int) -> list[float]:
    """Train one network on new noise in each update, or resume its training; return the error every 20 updates."""
    network, settings = build(config, kind, seed), dataclasses.replace(config.training, seed=seed)
    sim = make_simulator(config, network, Full())

    def gradient(_: Tensor, update: int) -> Tensor:
        loss = error(sim, *streams(config, 1_000_003 * seed + update, settings.batch))
        loss.backward()
        return loss.detach()

    checkpoint, bar = base.kept(config, "training", kind, seed), base.job_bar(f"{kind} {seed}")
    return optimise(network, settings.batch, settings, gradient, checkpoint=checkpoint, bar=bar)


def score(config: Learned, kind: str, seed: int) -> float:
    """Return the error on noise not used in training."""
    network = base.trained(config, build(config, kind, seed), kind, seed)
    return float(error(make_simulator(config, network), *streams(config, TEST_SEED, 200)))


def report(config: Learned, results: dict[str, Any]) -> Report:
    """Build the report page."""
    losses = {f"{kind} time constants": np.mean(results["curves"][kind], 0).tolist() for kind in KINDS}
    picture = Picture(
        "time_constants",
        tau_histograms(results["before"], results["after"], config.scales, losses, CHECK_EVERY),
        f"Left: time constants of all {config.channels} channels in {counted(config.repetitions, 'repetition')}. "
        "Right: training error, averaged over repetitions. The fixed time constants are those labelled 'before' in the "
        "left panel.",
        ("before", "after", "curves"),
    )
    between = math.sqrt(config.scales[0] * config.scales[1])
    rows = []
    for number, seed in enumerate(config.seeds):
        after = np.array(results["after"][number])
        fast, slow = after[after < between], after[after >= between]
        middles = [f"{np.median(part):.1f} ({len(part)})" if len(part) else "-" for part in (fast, slow)]
        errors = [f"{results['error'][kind][number]:.4f}" for kind in KINDS]
        rows.append((str(seed), *middles, *errors))
    head = ("seed", "fast channels (ms)", "slow channels (ms)", "error, learned", "error, fixed")
    return Report(
        "Time constants learned on a task with two time scales",
        f"The network reports running averages of two noisy streams over {config.scales[0]:g} and "
        f"{config.scales[1]:g} ms. Errors are in units of the target variance.",
        [picture],
        [
            Table(
                f"Median time constant of channels below and above {between:.0f} ms (number of channels), and error on "
                "new noise (predicting the mean yields an error of 1)",
                head,
                rows,
            )
        ],
    )


def tau_histograms(
    before: ArrayLike, after: ArrayLike, scales: Sequence[float], losses: Mapping[str, Sequence[float]], every: int
) -> Figure:
    """Plot histograms of the time constants before and after training, the time scales of the task, and the losses.

    before and after are (n,) in ms; losses[name] contains one value per `every` updates.
    """
    figure = Figure(figsize=(9.5, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    every_tau = np.concatenate([np.ravel(before), np.ravel(after)])
    edges = np.geomspace(0.9 * every_tau.min(), 1.1 * every_tau.max(), 28)
    left.hist(np.ravel(before), edges, color="0.6", label="before", alpha=0.8)
    left.hist(np.ravel(after), edges, color="C3", label="after", alpha=0.7)
    for scale in scales:
        left.axvline(scale, color="k", linestyle=":", linewidth=1.2)
    left.set(xscale="log", xlabel="time constant of a channel (ms)", ylabel="channels")
    left.set_title("dotted: time scales of the task", fontsize=9, color="0.35")
    left.xaxis.set_major_formatter("{x:g}")
    left.set_ylim(0, 1.2 * left.get_ylim()[1])
    left.legend(frameon=False, ncols=2, loc="upper center")
    for name, curve in losses.items():
        right.plot(every * np.arange(1, len(curve) + 1), curve, label=name, linewidth=1.4)
    right.set(yscale="log", xlabel="update", ylabel="mean squared error")
    right.legend(frameon=False)
    return figure


if __name__ == "__main__":
    base.main()
