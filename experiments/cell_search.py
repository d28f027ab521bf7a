"""Which recurrent cell, and which long-range feedback, names occluded digits best at a given number of parameters?

Searches the space of reciprocal gated cells of Nayebi et al. (2018), with every feedback edge between layers that have
one: a third of the trials at random, then by tree-structured Parzen estimators, poor ones given up early. Each trial
trains a small ConvRNN of the same number of parameters for a short while. The best cell, the median one of the last
third, the median one of the random third, the cell as published, the best one with minimal unroll, and a feed-forward
control are then trained anew for longer, and tested on digits that the search has not seen.

    python -m experiments.cell_search                       24 trials, about 10 minutes on 2 cores
    python -m experiments.cell_search --preset standard     120 trials and three repetitions, under an hour

It needs optuna: pip install -e ".[sweep]". Killed, it goes on where it was.
"""

from __future__ import annotations

import dataclasses
import math
import time
from functools import cache, partial
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from scipy.stats import mannwhitneyu
from tqdm.auto import tqdm

from experiments import cell_search_report, common, flows
from pcsim import Network, SweepError, TrainingError, models
from pcsim.analysis import compare_pairs, correct_choices
from pcsim.core import storage
from pcsim.models import Gate, Layer, ReciprocalCell
from pcsim.sweeps.search import Search, Trial
from pcsim.training import Training, evaluate, train

LAYERS = 4
RECURRENT = (2, 3, 4)
EDGES = tuple((high, low) for low, high in combinations(RECURRENT, 2))
"""feedback edges that may be there, (from, to)"""
STEPS, MINIMAL = LAYERS + 4, LAYERS + 2
"""of the networks: the image needs five to reach the read-out"""
SEPARABLE: tuple[Literal["tau", "gate", "input"], ...] = ("tau", "gate", "input")
VALIDATION_SEED, TEST_SEED = 2_000_000, 1_000_000
RESAMPLED = 2_000
CONTROLS = ("best", "median", "random", "published", "minimal", "feed-forward")
FIRST_STAGE, RANDOM_THIRD = "all trials, after the first stage", "random third, at the end"


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class CellSearch:
    """Options of the experiment; a preset gives the defaults."""

    out: Path = Path("results/cell_search")
    """folder for everything that comes out"""
    seed: int = 0
    """of the search and the images; repetitions of the table use seed, seed + 1, ..."""
    trials: Annotated[int, Field(ge=6)] = 24
    """cells to try, a third of them at random"""
    keep: Annotated[float, Field(gt=0, le=1)] = 0.75
    """a trial that is not among the best three quarters at the end of a stage is given up"""
    stages: Annotated[int, Field(gt=0)] = 2
    """of a trial; its updates are a multiple of 20 in each"""
    parameters: Annotated[int, Field(ge=2_000)] = 12_000
    """of each network, as nearly as a whole number of feature maps allows"""
    fragments: Annotated[int, Field(ge=0)] = 5
    """pieces of debris over each digit"""
    images: Annotated[int, Field(gt=0)] = 6_000
    """training images"""
    test_images: Annotated[int, Field(gt=0)] = 1_000
    """to score trials by, and as many others to test with"""
    training: Training = Training(updates=120, batch=20, learning_rate=5e-3, over_time="last")
    """of a trial; its seed is the number of the trial"""
    final: Training = Training(updates=300, batch=20, learning_rate=5e-3, over_time="last")
    """of the networks in the table; its seed is that of the repetition"""
    repetitions: Annotated[int, Field(gt=0)] = 1
    """how many times to train each network of the table"""
    where: str = "processes:2"
    """where trials run: here, processes:4, dask:4, dask:tcp://host:8786, slurm:partition=cpu,timeout_min=60"""
    workers: Annotated[int, Field(gt=0)] = 2
    """trials at a time, and processes that train the networks of the table side by side"""

    @property
    def seeds(self) -> range:
        """Of the repetitions."""
        return range(self.seed, self.seed + self.repetitions)


PRESETS = {
    "smoke": CellSearch(
        out=Path("results/cell_search-smoke"),
        trials=6,
        parameters=4_000,
        images=60,
        test_images=60,
        stages=1,
        training=Training(updates=20, batch=2, learning_rate=5e-3, over_time="last"),
        final=Training(updates=20, batch=2, learning_rate=5e-3, over_time="last"),
        where="here",
        workers=1,
    ),
    "quick": CellSearch(),
    "standard": CellSearch(
        out=Path("results/cell_search-standard"),
        trials=120,
        final=Training(updates=600, batch=20, learning_rate=5e-3, over_time="last"),
        repetitions=3,
    ),
}
PRESETS["paper"] = PRESETS["standard"]


@dataclasses.dataclass(frozen=True)
class Candidate:
    """What the search chooses: a cell, its channels of c in units of the layer's, and feedback edges."""

    cell: ReciprocalCell | None
    """None: no recurrence"""
    depth: float = 1.0
    feedback: tuple[tuple[int, int], ...] = ()
    steps: int = STEPS

    def network(self, width: int) -> Network:
        """Four layers of `width` maps, cells in the upper three."""
        layers = [Layer(width, True), Layer(width), Layer(width, True), Layer(width)]
        cell: ReciprocalCell | str = "none"
        if self.cell is not None:
            cell = dataclasses.replace(self.cell, depth=math.ceil(self.depth * width))
        image = (1, flows.SIDE, flows.SIDE)
        return models.convrnn(layers, cell, recurrent=RECURRENT, feedback=self.feedback, steps=self.steps, image=image)


def propose(trial: Any) -> Candidate:
    """The search space: that of the published search as far as it is known, kernels up to 5 as maps are small.

    Left out: layer norm, initial scale, weight decay.
    """
    kernel, flag = partial(trial.suggest_int, low=1, high=5), partial(trial.suggest_categorical, choices=(False, True))
    activation = partial(trial.suggest_categorical, choices=("identity", "elu", "relu", "tanh"))
    depth = trial.suggest_categorical("depth", (0.0, 0.5, 1.0, 2.0))
    out_kernel = trial.suggest_int("input_to_out_kernel", 0, 5)
    chosen: dict[str, Any] = {name: gate(trial, name) for name in ("tau", "gate")}
    chosen |= {name: kernel(name) for name in ("tau_kernel", "gate_kernel")}
    names = ["input_to_tau", "input_to_gate", "out_residual", "residual_to_out_tau", "residual_to_out_gate", "bias"]
    if depth:
        chosen |= {"input_to_cell": flag("input_to_cell"), "cell_kernel": kernel("cell_kernel")}
        chosen["cell_activation"] = activation("cell_activation")
        # Something has to drive c.
        chosen["cell_residual"] = flag("cell_residual") if chosen["input_to_cell"] else True
        names += ["cell_to_out", "residual_to_cell_tau", "residual_to_cell_gate"]
    chosen |= {name: flag(name) for name in names}
    chosen |= {name: activation(name) for name in ("input_activation", "out_activation")}
    separable: list[Literal["tau", "gate", "input", "feedback"]] = []
    separable += [name for name in SEPARABLE if flag(f"{name}_separable")]
    feedback = tuple((high, low) for high, low in EDGES if flag(edge_name(high, low)))
    if feedback:
        chosen |= {
            "feedback_kernel": kernel("feedback_kernel"),
            "feedback_activation": activation("feedback_activation"),
        }
        entries = ("input", "cell", "out") if depth else ("input", "out")
        chosen["feedback_entry"] = trial.suggest_categorical(f"feedback_entry_of_{len(entries)}", entries)
        separable += ["feedback"] if flag("feedback_separable") else []
    cell = ReciprocalCell(input_to_out_kernel=out_kernel or None, separable=tuple(separable), **chosen)
    return Candidate(cell, depth, feedback)


def gate(trial: Any, name: str) -> Gate:
    """a (1 - s(.)), as in the released networks the offset and the factor are opposite."""
    size = trial.suggest_float(f"{name}_offset", 0.2, 1.0)
    return Gate(size, -size, trial.suggest_categorical(f"{name}_nonlinearity", ("sigmoid", "tanh")))


def edge_name(high: int, low: int) -> str:
    """Of a feedback edge, as a parameter."""
    return f"{high} to {low}"


def run(config: CellSearch) -> None:
    """The whole experiment. Resumes in its folder, within a trial too."""
    begun = time.perf_counter()
    search = search_of(config)
    common.claim(config.out, config)
    trials = search.run(config.where, at_once=config.workers)
    chosen = candidates(trials, search.random)
    jobs = [(config, name, candidate, seed) for seed in config.seeds for name, candidate in chosen.items()]
    for job, curve in common.run_jobs(retrain, jobs, config.workers, "training anew"):
        tqdm.write(f"trained {job[1]}, repetition {job[3]}: loss {curve[0]:.2f} -> {curve[-1]:.2f}")
    results = told_of_trials(trials, search.random) | told_of_networks(config, chosen)
    results |= {"config": common.recorded(config)} | common.environment(torch.device("cpu"))
    results["wall_time_s"] = round(time.perf_counter() - begun, 1)
    storage.write_json(config.out / "results.json", results)
    cell_search_report.write(results, config.out, build(config, chosen["best"]))


def search_of(config: CellSearch) -> Search:
    """The search in the folder of the experiment."""
    if config.training.updates % (20 * config.stages):
        raise SweepError(
            given=f"{config.training.updates} updates of a trial in {config.stages} stages",
            expected="a multiple of 20 in each stage",
            remedy=f"--training.updates {60 * config.stages}",
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
    """Drawn once in a process."""
    return flows.digits(fragments, seed, count)


@cache
def width_of(candidate: Candidate, parameters: int) -> int:
    """Maps of each layer at which a candidate has about that many parameters."""
    return models.matched(candidate.network, parameters).shape("h1")[0]


def build(config: CellSearch, candidate: Candidate, seed: int = 0) -> Network:
    """A candidate before training, at the number of parameters of all."""
    width = width_of(candidate, config.parameters)
    torch.manual_seed(seed)
    return candidate.network(width)


def fit(config: CellSearch, candidate: Candidate, settings: Training, path: Path, until: int | None = None) -> tuple:
    """Train a candidate, or go on with it; the network and its loss curve."""
    network, shown = build(config, candidate, settings.seed), digits(config.fragments, config.seed, config.images)
    bar = common.job_bar(path.stem)
    curve = train(network, shown.images, shown.targets, settings, checkpoint=path, until=until, bar=bar)
    return network, curve


def score(config: CellSearch, candidate: Candidate, number: int, stage: int) -> float:
    """Share correct of a trial by the end of a stage; NaN for one whose loss explodes."""
    settings = dataclasses.replace(config.training, seed=number)
    path, until = config.out / "trials" / f"{number}.safetensors", settings.updates * (stage + 1) // config.stages
    try:
        network, _ = fit(config, candidate, settings, path, until)
    except TrainingError:
        return math.nan
    return float(correct(config, network, VALIDATION_SEED)[-1].double().mean())


def correct(config: CellSearch, network: Network, seed: int) -> torch.Tensor:
    """Which digits it names at every step, (time, n)."""
    shown = digits(config.fragments, seed, config.test_images)
    return correct_choices(evaluate(network, shown.images), shown.targets)


def candidates(trials: list[Trial], random: int) -> dict[str, Candidate]:
    """What is trained anew: cells of the search, and controls."""
    complete = [trial for trial in trials if trial.state == "complete"]
    best: Candidate = max(complete, key=lambda trial: trial.score).config
    late = [trial for trial in complete if trial.number >= len(trials) - random] or complete
    early = [trial for trial in complete if trial.number < random]
    return {
        "best": best,
        "median": middle(late).config,
        "random": middle(early).config,
        "published": Candidate(ReciprocalCell()),
        "minimal": dataclasses.replace(best, steps=MINIMAL),
        "feed-forward": Candidate(None, steps=MINIMAL),
    }


def middle(trials: list[Trial]) -> Trial:
    """The one of median score (of two, the lower)."""
    return sorted(trials, key=lambda trial: trial.score)[(len(trials) - 1) // 2]


def path_of(config: CellSearch, name: str, seed: int) -> Path:
    """Where a training of the table is kept."""
    return config.out / "training" / f"{name}-{seed}.safetensors"


def retrain(config: CellSearch, name: str, candidate: Candidate, seed: int) -> list[float]:
    """Train a network of the table, or go on with it; returns the loss curve."""
    settings = dataclasses.replace(config.final, seed=seed)
    return fit(config, candidate, settings, path_of(config, name, seed))[1]


# ---------------------------------------------------------------------- analyse


def told_of_trials(trials: list[Trial], random: int) -> dict[str, Any]:
    """Every trial, how the last third compares with the random one, and what each feedback edge is worth."""
    final = np.array([trial.score for trial in trials])
    first = np.array([trial.values[0] for trial in trials])
    edges = {edge_name(*edge): np.array([edge in trial.config.feedback for trial in trials]) for edge in EDGES}
    early = np.arange(len(trials)) < random
    return {
        "random": random,
        "trials": [
            {"number": trial.number, "state": trial.state, "parameters": trial.parameters}
            | {"values": common.finite_or_none(trial.values)}
            for trial in trials
        ],
        "thirds": {"score": thirds(final, random), "after the first stage": thirds(first, random)},
        "edges": {
            FIRST_STAGE: {name: difference(first, with_) for name, with_ in edges.items()},
            RANDOM_THIRD: {name: difference(final[early], with_[early]) for name, with_ in edges.items()},
        },
    }


def thirds(scores: NDArray, random: int) -> dict[str, Any]:
    """Medians of the random trials and of as many last ones, and Mann-Whitney's test that these are better.

    A trial without a score counts as 0.
    """
    known = np.nan_to_num(scores, nan=0.0)
    early, late = known[:random], known[len(known) - random :]
    test = mannwhitneyu(late, early, alternative="greater")
    return {"random": float(np.median(early)), "last": float(np.median(late)), "p": float(test.pvalue)}


def difference(scores: NDArray, with_: NDArray[np.bool_]) -> list[float | None]:
    """Median of the trials with an edge less that of those without, and its 95 % bootstrap interval."""
    known = np.nan_to_num(scores, nan=0.0)
    groups = known[with_], known[~with_]
    if not all(len(group) for group in groups):
        return [None, None, None]
    generator = np.random.default_rng(0)
    drawn = [np.median(generator.choice(group, (RESAMPLED, len(group))), axis=1) for group in groups]
    low, high = np.percentile(drawn[0] - drawn[1], (2.5, 97.5))
    return [float(np.median(groups[0]) - np.median(groups[1])), float(low), float(high)]


def told_of_networks(config: CellSearch, chosen: dict[str, Candidate]) -> dict[str, Any]:
    """Accuracy of the networks of the table at every step, and which differences the test images show."""
    found = {
        name: torch.stack(
            [
                correct(config, common.trained(build(config, candidate), path_of(config, name, seed), "cpu"), TEST_SEED)
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


if __name__ == "__main__":
    common.main(run, lambda: common.parse(PRESETS, None, str(__doc__)))
