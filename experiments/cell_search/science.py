"""Search, training and analysis of `experiments.cell_search`."""

from __future__ import annotations

import dataclasses
import math
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import mannwhitneyu

from pcsim import Network, SweepError, TrainingError, models
from pcsim.analysis import compare_pairs, correct_choices
from pcsim.core import storage
from pcsim.core.progress import tqdm
from pcsim.models import ReciprocalCell
from pcsim.sweeps import Search, Trial
from pcsim.training import Training, evaluate, train

from .. import base, flows
from ..base import TEST_SEED
from .candidates import EDGES, MINIMAL, Candidate, edge_name, propose
from .options import CellSearch

VALIDATION_SEED = 2_000_000
RESAMPLED = 2_000
FIRST_STAGE, RANDOM_THIRD = "all trials, after the first stage", "random third, at the end"


def find(config: CellSearch) -> dict[str, Any]:
    """Run the search, then retrain and test the selected candidates."""
    search = make_search(config)
    trials = search.run(config.where, at_once=config.workers)
    chosen = candidates(trials, search.random)
    jobs = [(config, name, candidate, seed) for seed in config.seeds for name, candidate in chosen.items()]
    for job, curve in base.run_jobs(retrain, jobs, config.workers, "retraining"):
        tqdm.write(f"trained {job[1]}, repetition {job[3]}: loss {curve[0]:.2f} -> {curve[-1]:.2f}")
    return summarise_trials(trials, search.random) | summarise_networks(config, chosen)


def make_search(config: CellSearch) -> Search:
    """Return the search, stored in the output folder of the experiment."""
    if config.training.updates % (20 * config.stages):
        raise SweepError(
            given=f"{config.training.updates} updates per trial in {config.stages} stages",
            expected="a multiple of 20 updates in each stage",
            remedy=f"pass --training.updates {60 * config.stages}",
        )
    return Search(
        partial(score, config),
        propose,
        config.out / "search",
        count=config.trials,
        stages=config.stages,
        keep=config.keep,
        seed=config.seed,
    )


@cache
def digits(fragments: int, seed: int, count: int) -> flows.Digits:
    """Generate the digits, once per process."""
    return flows.digits(fragments, seed, count)


@cache
def matched_width(candidate: Candidate, parameters: int) -> int:
    """Return the number of maps per layer for which a candidate has about `parameters` parameters."""
    return models.matched(candidate.network, parameters).shape("h1")[0]


def build(config: CellSearch, candidate: Candidate, seed: int = 0) -> Network:
    """Build an untrained candidate network with about `config.parameters` parameters."""
    width = matched_width(candidate, config.parameters)
    torch.manual_seed(seed)
    return candidate.network(width)


def fit(config: CellSearch, candidate: Candidate, settings: Training, path: Path, until: int | None = None) -> tuple:
    """Train a candidate, or resume its training, and return the network with its loss curve."""
    network, shown = build(config, candidate, settings.seed), digits(config.fragments, config.seed, config.images)
    bar = base.job_bar(path.stem)
    curve = train(network, shown.images, shown.targets, settings, checkpoint=path, until=until, bar=bar)
    return network, curve


def score(config: CellSearch, candidate: Candidate, number: int, stage: int) -> float:
    """Return the accuracy of a trial at the end of a stage, or NaN if the training diverges."""
    settings = dataclasses.replace(config.training, seed=number)
    path, until = base.kept(config, "trials", number), settings.updates * (stage + 1) // config.stages
    try:
        network, _ = fit(config, candidate, settings, path, until)
    except TrainingError:
        return math.nan
    return float(correct(config, network, VALIDATION_SEED)[-1].double().mean())


def correct(config: CellSearch, network: Network, seed: int) -> torch.Tensor:
    """Return a Boolean (time, n): True for each digit that a network classifies correctly at a step."""
    shown = digits(config.fragments, seed, config.test_images)
    return correct_choices(evaluate(network, shown.images), shown.targets)


def candidates(trials: list[Trial], random: int) -> dict[str, Candidate]:
    """Select the candidates to retrain: three from the search and three controls."""
    complete = [trial for trial in trials if trial.state == "complete"]
    best: Candidate = max(complete, key=lambda trial: trial.score).config
    late = [trial for trial in complete if trial.number >= len(trials) - random] or complete
    early = [trial for trial in complete if trial.number < random]
    return {
        "best": best,
        "median": median_trial(late).config,
        "random": median_trial(early).config,
        "published": Candidate(ReciprocalCell()),
        "minimal": dataclasses.replace(best, steps=MINIMAL),
        "feed-forward": Candidate(None, steps=MINIMAL),
    }


def median_trial(trials: list[Trial]) -> Trial:
    """Return the trial with the median score; for an even number of trials, the lower of the two middle trials."""
    return sorted(trials, key=lambda trial: trial.score)[(len(trials) - 1) // 2]


def retrain(config: CellSearch, name: str, candidate: Candidate, seed: int) -> list[float]:
    """Retrain a selected network, or resume its training, and return the loss curve."""
    settings = dataclasses.replace(config.final, seed=seed)
    return fit(config, candidate, settings, base.kept(config, "training", name, seed))[1]


# ---------------------------------------------------------------------- analysis


def summarise_trials(trials: list[Trial], random: int) -> dict[str, Any]:
    """Return all trials, a comparison of the random and last thirds, and the effect of each feedback edge."""
    final = np.array([trial.score for trial in trials])
    first = np.array([trial.values[0] for trial in trials])
    edges = {edge_name(*edge): np.array([edge in trial.config.feedback for trial in trials]) for edge in EDGES}
    early = np.arange(len(trials)) < random
    return {
        "random": random,
        "trials": [
            {"number": trial.number, "state": trial.state, "parameters": trial.parameters}
            | {"values": base.finite_or_none(trial.values)}
            for trial in trials
        ],
        "thirds": {"score": thirds(final, random), "after the first stage": thirds(first, random)},
        "edges": {
            FIRST_STAGE: {name: difference(first, with_) for name, with_ in edges.items()},
            RANDOM_THIRD: {name: difference(final[early], with_[early]) for name, with_ in edges.items()},
        },
    }


def thirds(scores: NDArray, random: int) -> dict[str, Any]:
    """Compare the first `random` trials with the last `random` trials by median and by a Mann-Whitney test.

    p tests the alternative that the last trials are better. Missing scores are replaced with 0.
    """
    known = np.nan_to_num(scores, nan=0.0)
    early, late = known[:random], known[len(known) - random :]
    test = mannwhitneyu(late, early, alternative="greater")
    return {"random": float(np.median(early)), "last": float(np.median(late)), "p": float(test.pvalue)}


def difference(scores: NDArray, with_: NDArray[np.bool_]) -> list[float | None]:
    """Return the difference in median score between trials with and without an edge, with a 95 % bootstrap interval."""
    known = np.nan_to_num(scores, nan=0.0)
    groups = known[with_], known[~with_]
    if not all(len(group) for group in groups):
        return [None, None, None]
    generator = np.random.default_rng(0)
    drawn = [np.median(generator.choice(group, (RESAMPLED, len(group))), axis=1) for group in groups]
    low, high = np.percentile(drawn[0] - drawn[1], (2.5, 97.5))
    return [float(np.median(groups[0]) - np.median(groups[1])), float(low), float(high)]


def summarise_networks(config: CellSearch, chosen: dict[str, Candidate]) -> dict[str, Any]:
    """Return the accuracy of each retrained network at each step, and McNemar tests between networks."""
    found = {
        name: torch.stack(
            [
                correct(config, base.trained(config, build(config, candidate), name, seed), TEST_SEED)
                for seed in config.seeds
            ]
        )
        for name, candidate in chosen.items()
    }
    final = {name: value[:, -1].numpy() for name, value in found.items()}
    return {
        "networks": {
            name: {
                "parameters": build(config, chosen[name]).parameter_count,
                "steps": value.shape[1],
                "feedback": [edge_name(*edge) for edge in chosen[name].feedback],
                "candidate": storage.plain(chosen[name]),
                "error": (1 - value[:, -1].double().mean(1)).tolist(),
                "accuracy_over_time": value.double().mean(2).tolist(),
            }
            for name, value in found.items()
        },
        "mcnemar": [vars(pair) | {"significant": pair.significant} for pair in compare_pairs(final)],
    }
