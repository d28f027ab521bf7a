"""Training, tests and analysis of `experiments.grouping`."""

from __future__ import annotations

import dataclasses
import math
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcsim import Iterate, Network, Record, Simulator, analysis, models, stimuli
from pcsim.core import storage

from .. import base
from ..base import TEST_SEED
from .networks import NETWORKS, STRIDE, build
from .options import LENGTH, Grouping

LESIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "hgru": {
        "no excitation": ("h1->h2:excitation",),
        "no inhibition": ("g1->h1:inhibition",),
        "neither": ("h1->h2:excitation", "g1->h1:inhibition"),
    },
    "lateral": {"no lateral": ("h->h",)},
}
RECURRENT = {"hgru": "h2", "lateral": "h"}
"""the recurrent networks, and the population in which activity spreads"""
PATHS = tuple(range(1, LENGTH + 1))
SPREADS = ("own, by path", "own", "other")
FAR = 8
"""largest distance at which the spread of activity is measured, in dashes"""


def check(config: Grouping) -> None:
    """Raise an error if a network cannot be built."""
    for name in NETWORKS:
        build(config, name)


def find(config: Grouping) -> dict[str, Any]:
    """Train and test all networks, and analyse the answers."""
    phases = range(len(config.phases))
    for _ in base.run_jobs(
        draw, [(config, n, seed) for n in phases for seed in config.seeds], config.workers, "stimuli"
    ):
        pass
    base.train_all(config, fit, [(name, seed) for name in NETWORKS for seed in config.seeds])
    jobs = [(config, name, seed) for name in NETWORKS for seed in config.seeds]
    for _ in base.run_jobs(measure, jobs, config.workers, "tests"):
        pass
    return analyse(config)


def draw(config: Grouping, phase: int, repetition: int) -> dict[str, Tensor]:
    """Return the training images and targets of a phase, loaded from a file if it exists. All networks share them."""
    path = base.kept(config, "stimuli", phase, repetition)
    if not path.exists():
        first, paths = phase * config.images, PATHS[: config.phases[phase]]
        shown = stimuli.contours(repetition, first, config.images, paths=paths, length=LENGTH)
        tensors = {"images": torch.from_numpy(shown.images), "targets": shown.targets()}
        storage.write_tensors(path, tensors, {"kind": "stimuli"})
    return storage.read_tensors(path, "stimuli")[0]


def fit(config: Grouping, name: str, repetition: int) -> list[float]:
    """Train one network on increasingly long paths, or resume its training, and return the loss curve."""
    torch.manual_seed(repetition)
    network = build(config, name)
    settings = dataclasses.replace(config.training, seed=repetition)
    curve: list[float] = []
    for phase in range(len(config.phases)):
        shown = draw(config, phase, repetition)
        key = (name, repetition) if phase == len(config.phases) - 1 else (name, repetition, f"phase{phase}")
        curve += base.fit(config, network, shown["images"], shown["targets"], settings, *key)
    return curve


def tests(config: Grouping, repetition: int) -> stimuli.Contours:
    """Draw the test trials of a repetition, `config.test_images` for each path."""
    trials = partial(stimuli.contours, TEST_SEED + repetition, count=config.test_images, length=LENGTH)
    parts = [vars(trials(path * config.test_images, paths=(path,))) for path in PATHS]
    return stimuli.Contours(**{key: np.concatenate([part[key] for part in parts]) for key in parts[0]})


# ---------------------------------------------------------------------- tests


def measure(config: Grouping, name: str, repetition: int) -> None:
    """Write the readout and the accumulated evidence of one network for all test trials, intact and lesioned."""
    path = base.kept(config, "tests", name, repetition)
    if path.exists():
        return
    trials = tests(config, repetition)
    net = base.trained(config, build(config, name), name, repetition)
    found = answers(net, trials, 2 * config.steps if name in RECURRENT else 1)
    for lesion, edges in LESIONS.get(name, {}).items():
        cut = net.without(*edges)
        found[f"lesion/{lesion}"] = answers(cut, trials, config.steps)["evidence"]
    if name in RECURRENT:
        found |= spread(net, trials, RECURRENT[name], config.steps)
    storage.write_tensors(path, {key: value.contiguous() for key, value in found.items()}, {"kind": "tests"})


def answers(net: Network, trials: stimuli.Contours, steps: int) -> dict[str, Tensor]:
    """Return log alpha and the accumulated difference in log alpha at every step, (time, n, 2)."""
    deciding = models.with_decision(net, "drift", tau=net.step_ms)
    keys = ["evidence", "decision"]
    sim = Simulator(deciding, solver=Iterate(), record=Record(states=keys))
    parts = [sim(images, steps=steps) for images in trials.pixels().split(500)]
    return {key: torch.cat([part[key] for part in parts], 1).detach() for key in keys}


def spread(net: Network, trials: stimuli.Contours, population: str, steps: int) -> dict[str, Tensor]:
    """Return how much the first dot changes the activity of the units at the nodes of both curves.

    own, by path   (time, distance), at nodes of the curve with the dot, by the number of dashes between node and dot
    own, other     (time, distance), at nodes of that or the other curve, by the distance in the plane in lattice steps

    The change is the norm over channels, averaged over nodes. Only "different" trials are used, in which each curve has
    one dot.
    """
    chosen = np.flatnonzero(~trials.same)[:500]
    shown, dots, curves = trials.pixels()[chosen], trials.dots[chosen], trials.curves[chosen]
    without = shown.clone()
    without[np.arange(len(chosen)), 0, dots[:, 0, 0], dots[:, 0, 1]] = 0.0
    sim = Simulator(net, solver=Iterate(), record=Record(states=[population]))
    change = (sim(shown, steps=steps)[population] - sim(without, steps=steps)[population]).detach().norm(dim=2)
    rows = np.arange(len(chosen))[:, None, None]
    at = change[:, rows, curves[..., 0] // STRIDE, curves[..., 1] // STRIDE]  # (time, n, curve, node)
    start = (curves[:, 0] == dots[:, :1]).all(-1).argmax(1)
    path = np.abs(np.arange(curves.shape[2]) - start[:, None])
    straight = np.rint(np.linalg.norm(curves - dots[:, :1, None], axis=-1) / STRIDE)
    return {
        "own, by path": by_distance(at[:, :, 0], path),
        "own": by_distance(at[:, :, 0], straight[:, 0]),
        "other": by_distance(at[:, :, 1], straight[:, 1]),
    }


def by_distance(values: Tensor, distance: NDArray[Any]) -> Tensor:
    """Return the mean of values (time, n, node) at each distance 0..FAR, NaN where there is none: (time, distance)."""
    return torch.stack([values[:, torch.from_numpy(distance == d)].mean(1) for d in range(FAR + 1)], 1)


# ---------------------------------------------------------------------- analysis


def analyse(config: Grouping) -> dict[str, Any]:
    """From the saved answers, compute accuracies, reaction times and their correlations with distance."""
    results: dict[str, Any] = {
        key: {} for key in ("sizes", "accuracy", "reaction_times", "correlations", "slopes", "spread")
    }
    for name in NETWORKS:
        sets = [storage.read_tensors(base.kept(config, "tests", name, seed), "tests")[0] for seed in config.seeds]
        trials = [tests(config, seed) for seed in config.seeds]
        results["sizes"][name] = build(config, name).parameter_count
        results["accuracy"][name] = accuracies(config, sets, trials)
        times = [reaction_times(config, *pair) for pair in zip(sets, trials, strict=True)]
        results["reaction_times"][name] = [by_path(*pair) for pair in zip(times, trials, strict=True)]
        results["correlations"][name] = [correlations(config, *pair) for pair in zip(times, trials, strict=True)]
        if name in RECURRENT:
            results["slopes"][name] = [slopes(config, *pair) for pair in zip(times, trials, strict=True)]
            results["spread"][name] = {key: [base.finite_or_none(s[key]) for s in sets] for key in SPREADS}
    return results


def accuracies(config: Grouping, sets: list[dict[str, Tensor]], trials: list[stimuli.Contours]) -> dict[str, Any]:
    """Return accuracies at the last step used in training (by path, by class and after lesions) and over all steps."""
    last = min(config.steps, len(sets[0]["evidence"])) - 1
    right = np.stack([hits(s["evidence"], t) for s, t in zip(sets, trials, strict=True)], 1)  # (time, seed, n)
    paths = np.stack([t.scene_path for t in trials])
    same = np.stack([t.same for t in trials])
    trained = paths <= config.phases[-1]
    lesioned = {
        key.removeprefix("lesion/"): np.stack([hits(s[key], t)[-1] for s, t in zip(sets, trials, strict=True)])
        for key in sets[0]
        if key.startswith("lesion/")
    }
    return {
        "trained": [float(right[last, n][trained[n]].mean()) for n in range(len(sets))],
        "by_path": [[float(right[last, n][paths[n] == k].mean()) for k in PATHS] for n in range(len(sets))],
        "same_by_path": [float(right[last][same & (paths == k)].mean()) for k in PATHS],
        "different_by_path": [float(right[last][~same & (paths == k)].mean()) for k in PATHS],
        "over_time": {
            f"{low} to {high}": right[:, (paths >= low) & (paths <= high)].mean(1).tolist()
            for low, high in ((1, 2), (3, 4), (5, 6), (7, 8), (9, 11))
        },
        "lesions": {
            lesion: {
                "trained": [float(found[n][trained[n]].mean()) for n in range(len(sets))],
                "by_path": [float(found[paths == k].mean()) for k in PATHS],
            }
            for lesion, found in lesioned.items()
        },
    }


def hits(log_alpha: Tensor, trials: stimuli.Contours) -> NDArray[np.bool_]:
    """Return whether each answer is correct, (time, n)."""
    return (log_alpha.argmax(-1).numpy() == 1) == trials.same


Times = dict[str, tuple[NDArray[np.float64], NDArray[np.bool_]]]
"""measure -> (values, whether the answers are correct), (n,) each"""


def reaction_times(config: Grouping, found: dict[str, Tensor], trials: stimuli.Contours) -> Times:
    """Return the measures of each trial, in steps.

    area       area under the uncertainty over the number of steps used in training
    final      uncertainty at the last of these steps; the only measure of a network without temporal dynamics
    decision   time at which the evidence reaches the bound within twice as many steps; NaN if it does not
    """
    steps = np.arange(1.0, len(found["evidence"]) + 1)
    trained = found["evidence"][: config.steps].double()
    right = hits(trained, trials)[-1]
    times = {"final": (analysis.evidential_uncertainty(trained[-1:])[0].numpy(), right)}
    if len(steps) > 1:
        times["area"] = (analysis.uncertainty_area(steps[: config.steps], trained).numpy(), right)
        decided, choice = analysis.bound_crossings(steps, found["decision"], config.bound)
        times["decision"] = (decided.double().numpy(), (choice.numpy() == 1) == trials.same)
    return times


def by_path(times: Times, trials: stimuli.Contours) -> dict[str, Any]:
    """Return the mean over correct answers for each path length and class, or None if there are fewer than ten."""
    found: dict[str, Any] = {}
    for kind, (values, right) in times.items():
        for name, members in (("same", trials.same), ("different", ~trials.same)):
            rows = [np.isfinite(values) & right & members & (trials.scene_path == k) for k in PATHS]
            means = [values[row].mean() if row.sum() >= 10 else math.nan for row in rows]
            found[f"{kind}/{name}"] = base.finite_or_none(means)
    return found


def correlations(config: Grouping, times: Times, trials: stimuli.Contours) -> dict[str, Any]:
    """Correlate the measures for correct answers with path, straight distance and final uncertainty on trained paths.

    "path | straight" is the partial correlation with the path, controlling for the straight distance.
    """
    scenes, found = np.arange(len(trials.same)) // 4, {}
    given = {"path": trials.scene_path.astype(float), "straight": trials.straight, "final": times["final"][0]}
    for kind, (values, right) in times.items():
        good = right & np.isfinite(values) & (trials.scene_path <= config.phases[-1])
        for name, members in (("same", trials.same), ("different", ~trials.same)):
            rows = good & members
            for key in ("path", "straight", "path | straight", "straight | path", "path | final"):
                first, _, control = key.partition(" | ")
                if rows.sum() >= 10 and (kind, control) != ("final", "final"):
                    held = given[control][rows] if control else None
                    estimate = analysis.rank_correlation(
                        given[first][rows], values[rows], held, scenes[rows], draws=500
                    )
                    found[f"{kind}/{name}/{key}"] = base.finite_or_none([estimate.mean, estimate.low, estimate.high])
    return found


def slopes(config: Grouping, times: Times, trials: stimuli.Contours, draws: int = 200) -> dict[str, Any]:
    """Fit time = a + b path (+ c path^2) to correct answers in "same" trials; return b and c with 95 % intervals.

    A straight line has c = 0; c > 0 means that each further dash takes longer. Scenes are resampled.
    """
    found = {}
    for kind in ("area", "decision"):
        values, right = times[kind]
        good = right & np.isfinite(values) & trials.same & (trials.scene_path <= config.phases[-1])
        if len(np.unique(trials.scene_path[good])) < 3:
            continue
        rows = np.flatnonzero(good)
        scenes = np.split(rows, np.flatnonzero(np.diff(rows // 4)) + 1)
        generator = np.random.default_rng(0)
        chosen = generator.integers(len(scenes), size=(draws, len(scenes)))
        drawn = [rows, *(np.concatenate([scenes[k] for k in each]) for each in chosen)]
        for name, degree in (("linear", 1), ("quadratic", 2)):
            fits = [np.polyfit(trials.scene_path[some], values[some], degree)[0] for some in drawn]
            found[f"{kind}/{name}"] = [float(fits[0]), *map(float, np.quantile(fits[1:], [0.025, 0.975]))]
    return found
