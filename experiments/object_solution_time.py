"""When is an object solved, and does it take recurrence longer where the object is occluded (Kar et al. 2019)?

Trains networks to name digits under debris: CORnet-S, BLT and hierarchical predictive coding, and a feed-forward one.
Shows each of them the same digits clean and occluded, decodes the digit from an upper area at every time, and measures
when the decoder tells each image from the other digits as well as a criterion asks: whole, with top-down connections
cut, and without recurrence. With a folder of public recordings (--neural, see docs/neural.md) the report shows decoding
of macaque IT beside it, and how areas of the networks compare with IT of monkeys and humans in which images they find
alike. Networks trained on digits are no models of IT: nothing here is a fit to the brain.

    python -m experiments.object_solution_time                        about 4 minutes on 2 cores
    python -m experiments.object_solution_time --neural FOLDER        with the recordings
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import Tensor
from torch.nn import functional
from tqdm.auto import tqdm

from experiments import common, flows, neural_data, object_solution_time_report
from pcsim import Euler, Iterate, Network, Record, Run, models, simulate
from pcsim.analysis import decoding, estimate
from pcsim.brain import object_solution, similarity
from pcsim.core import storage
from pcsim.training import Training, train

Name = Literal["cornet_s", "blt", "predictive_coding", "feed_forward"]
NAMES: tuple[Name, ...] = ("cornet_s", "blt", "predictive_coding", "feed_forward")
AREAS = {
    "cornet_s": ("v1", "v2", "v4", "it"),
    "blt": ("l1", "l2"),
    "predictive_coding": ("r1", "r2"),
    "feed_forward": ("l1", "l2"),
}
"""from the image up"""
DECODED = {"cornet_s": "it", "blt": "l2", "predictive_coding": "r1", "feed_forward": "l2"}
"""the area from which the digit is decoded: the top one, but for r2, whose ten units are the ten digits"""
LESIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "cornet_s": {},
    "blt": {"without top-down": ("top_down",), "without recurrence": ("top_down", "lateral")},
    "predictive_coding": {"without predictions": ("prediction",)},
    "feed_forward": {},
}
"""kinds of edges that are cut in the trained network; predictions are what predictive coding sends down.

CORnet-S has no top-down edges, and without its repeats an area forgets the image: later repeats replace the first."""
WHOLE = "whole"
CONDITIONS = ("clean", "occluded")
SWEEPS = 8
"""steps for which the feed-forward network is looked at, in which nothing changes"""


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class ObjectSolutionTime:
    """Options of the experiment; a preset gives the defaults."""

    out: Path = Path("results/object_solution_time")
    """folder for everything that comes out"""
    seed: int = 0
    """of weights, images and folds"""
    networks: tuple[Name, ...] = NAMES
    """networks to look at"""
    fragments: Annotated[int, Field(gt=0)] = 10
    """pieces of debris over an occluded digit; training has those of the recipe"""
    images: Annotated[int, Field(ge=50)] = 200
    """digits, each shown clean and occluded"""
    until: Annotated[float, Field(gt=0)] = 200.0
    """ms for which networks that are flows are shown an image"""
    every: Annotated[float, Field(gt=0)] = 5.0
    """ms between the times at which they are decoded"""
    dt: Annotated[float, Field(gt=0)] = 1.0
    """ms, of Euler"""
    noise: Annotated[float, Field(ge=0)] = 1.0
    """sd of the noise on every unit at every time, in units of its sd over images at the end (mean over units): without
    noise the slightest response could be decoded"""
    criterion: Annotated[float, Field(gt=0)] = 2.0
    """d' at which an image counts as solved"""
    macaque_criterion: Annotated[float, Field(gt=0)] = 1.5
    """the same of objects seen by the macaque: a height of d' depends on how many units and repeats there are"""
    penalty: Annotated[float, Field(gt=0)] = 100.0
    """of the decoders, 1 / C"""
    folds: Annotated[int, Field(ge=2)] = 5
    """of cross-validation"""
    recipe: flows.Recipe = flows.Recipe()
    """how BLT and predictive coding are trained"""
    training: Training = Training(updates=600, batch=32, learning_rate=5e-3, over_time="last")
    """of CORnet-S and the feed-forward network; its seed is that of the experiment"""
    channels: Annotated[int, Field(gt=0)] = 16
    """of V1 in CORnet-S; V2, V4 and IT have two, three and four times as many"""
    neural: Path | None = dataclasses.field(default=None)
    """folder with the recordings (else PCSIM_NEURAL, else without them)"""
    workers: Annotated[int, Field(gt=0)] = 2
    """processes side by side; results do not depend on it"""


PRESETS = {
    "smoke": ObjectSolutionTime(
        out=Path("results/object_solution_time-smoke"),
        networks=("blt", "feed_forward"),
        images=100,
        folds=3,
        until=40.0,
        every=20.0,
        criterion=0.1,
        recipe=flows.SMOKE,
        training=Training(updates=20, batch=10, learning_rate=5e-3, over_time="last"),
        channels=4,
        workers=1,
    ),
    "quick": ObjectSolutionTime(),
    "standard": ObjectSolutionTime(
        out=Path("results/object_solution_time-standard"),
        images=500,
        recipe=flows.STANDARD,
        training=Training(updates=4_000, batch=32, learning_rate=5e-3, over_time="last"),
    ),
}
PRESETS["paper"] = PRESETS["standard"]


def run(config: ObjectSolutionTime) -> None:
    """The whole experiment. What is trained or decoded already is not done again."""
    begun = time.perf_counter()
    folder = neural_data.folder(config.neural)
    common.claim(config.out, config)
    for job, curve in common.run_jobs(fit, [(config, name) for name in config.networks], config.workers, "training"):
        tqdm.write(f"trained {job[1]}: {curve[0]:.2f} -> {curve[-1]:.2f}")
    jobs = [(config, name, lesion) for name in config.networks for lesion in (WHOLE, *LESIONS[name])]
    for _ in common.run_jobs(decode, jobs, config.workers, "decoding"):
        pass
    results: dict[str, Any] = {
        "config": common.recorded(config),
        "networks": {
            name: {lesion: told(config, name, lesion) for lesion in (WHOLE, *LESIONS[name])} for name in config.networks
        },
        "macaque": macaque(config, folder) if folder else None,
        "similarity": similarity_to_it(config, folder) if folder else None,
    }
    results |= common.environment(torch.device("cpu"))
    results["wall_time_s"] = round(time.perf_counter() - begun, 1)
    storage.write_json(config.out / "results.json", results)
    object_solution_time_report.write(results, config.out)


# ---------------------------------------------------------------------- networks


def build(config: ObjectSolutionTime, name: Name) -> Network:
    """The network before training."""
    if name == "cornet_s":
        c = config.channels
        return models.cornet_s((c, 2 * c, 3 * c, 4 * c), image=(1, side(name), side(name)), classes=10)
    return models.blt_b(width=8, size=flows.SIDE) if name == "feed_forward" else flows.build(name)


def side(name: Name) -> int:
    """Pixels of an image: CORnet-S halves maps five times, and gets all that there are."""
    return flows.FULL_SIDE if name == "cornet_s" else flows.SIDE


def fit(config: ObjectSolutionTime, name: Name) -> list[float]:
    """Train one network, or go on with it; returns the loss curve."""
    if name in ("blt", "predictive_coding"):
        return flows.fit(name, config.recipe, config.seed, config.out)
    torch.manual_seed(config.seed)
    network, recipe = build(config, name), config.recipe
    shown = flows.digits(recipe.fragments, config.seed, recipe.images, side(name))
    settings = dataclasses.replace(config.training, seed=config.seed)
    kept, bar = flows.path_of(config.out, name), common.job_bar(name)
    return train(network, shown.images, shown.targets, settings, checkpoint=kept, bar=bar)


def trained(config: ObjectSolutionTime, name: Name, lesion: str = WHOLE) -> Network:
    """The network after training, whole or with edges cut."""
    network = common.trained(build(config, name), flows.path_of(config.out, name), "cpu")
    return network if lesion == WHOLE else network.without(*LESIONS[name][lesion])


def shown_to(config: ObjectSolutionTime, network: Network, images: Tensor, record: Record) -> Run:
    """A run for as long as is looked at: flows in ms, CORnet-S its steps, the feed-forward network some sweeps."""
    if network.is_flow:
        record = dataclasses.replace(record, every=max(1, round(config.every / config.dt)))
        return simulate(network, images, solver=Euler(config.dt), until=config.until, record=record)
    steps = SWEEPS if network.steps == 1 else network.steps
    return simulate(network, images, solver=Iterate(), steps=steps or 1, record=record)


def times_of(network: Network, run_: Run, area: str) -> tuple[NDArray, NDArray[np.int64]]:
    """When in ms after the image the area holds something of its own, (time,), and in which rows of the run.

    A flow from the onset on; a discrete network by its own mapping of steps to ms, in the steps the area is active.
    """
    if network.is_flow:
        return np.asarray(run_.times), np.arange(len(run_.times))
    begin, end = network.populations[area].active or (0, len(run_.times))
    rows = np.arange(int(begin), int(end))
    return np.array([network.time_of(area, int(row)) for row in rows]), rows


# ---------------------------------------------------------------------- decoding and solution times


def path_of(config: ObjectSolutionTime, name: Name, lesion: str) -> Path:
    """Where the answers of decoders are kept."""
    return config.out / "decoded" / f"{name}-{lesion.replace(' ', '-')}.safetensors"


def decode(config: ObjectSolutionTime, name: Name, lesion: str) -> None:
    """Decode the digit from an area at every time, clean and occluded images together, twins in the same fold.

    Kept: probabilities (time, 2 n, class), times, and whether the area changes over time at all.
    """
    path = path_of(config, name, lesion)
    if path.exists():
        return
    network, area = trained(config, name, lesion), DECODED[name]
    pictures, labels = twins(config, name)
    with torch.no_grad():
        run_ = shown_to(config, network, pictures, Record(states=[area]))
    times, rows = times_of(network, run_, area)
    features = run_[area][torch.from_numpy(rows)].flatten(2)
    drawn = torch.randn(features.shape, generator=torch.Generator().manual_seed(config.seed))
    noisy = features + config.noise * features[-1].std(0).mean() * drawn
    groups = np.arange(len(labels)) % config.images
    found = decoding.decode_over_time(
        noisy, labels, penalty=config.penalty, folds=config.folds, groups=groups, seed=config.seed
    )
    tensors = {
        "probabilities": torch.from_numpy(found.probabilities),
        "correct": torch.from_numpy(found.correct),
        "times": torch.from_numpy(times.astype(float)),
        "changes": (features - features[:1]).abs().max(),
    }
    storage.write_tensors(path, tensors, {"kind": "decoded"})


def twins(config: ObjectSolutionTime, name: Name) -> tuple[Tensor, NDArray[np.int64]]:
    """The same digits, clean and then occluded, (2 n, 1, side, side), and which they are."""
    shown = [
        flows.digits(fragments, flows.TEST_SEED + config.seed, config.images, side(name))
        for fragments in (0, config.fragments)
    ]
    labels = torch.cat([part.targets.argmax(1) for part in shown])
    return torch.cat([part.images for part in shown]), labels.numpy()


def told(config: ObjectSolutionTime, name: Name, lesion: str) -> dict[str, Any]:
    """Accuracy over time and solution times of clean and occluded images, from the answers of the decoders."""
    tensors, _ = storage.read_tensors(path_of(config, name, lesion), "decoded")
    times, correct = tensors["times"].numpy(), tensors["correct"].numpy()
    labels = twins(config, name)[1]
    i1 = object_solution.image_d_prime(tensors["probabilities"].numpy(), labels)
    halves = {condition: slice(k * config.images, (k + 1) * config.images) for k, condition in enumerate(CONDITIONS)}
    row: dict[str, Any] = {
        "times": times.tolist(),
        "accuracy": {condition: correct[:, part].mean(1).tolist() for condition, part in halves.items()},
        "i1": {condition: i1[:, part].mean(1).tolist() for condition, part in halves.items()},
        "reached": {
            condition: float((i1[:, part] >= config.criterion).any(0).mean()) for condition, part in halves.items()
        },
        "defined": bool(tensors["changes"] > 0),
    }
    if not row["defined"]:
        return row
    solved = object_solution.solution_times(times, i1, config.criterion)
    clean, occluded = (solved[part] for part in halves.values())
    both = np.isfinite(clean) & np.isfinite(occluded)
    later = occluded[both] - clean[both]
    return row | {
        "solution": {condition: common.finite_or_none(solved[part]) for condition, part in halves.items()},
        "mean": {condition: mean_of(solved[part]) for condition, part in halves.items()},
        "later": mean_of(later),
        "solved_in_both": int(both.sum()),
    }


def mean_of(values: NDArray) -> dict[str, float | None]:
    """Mean and 95 % bootstrap interval of what is finite; None where there are fewer than two."""
    known = values[np.isfinite(values)]
    if len(known) < 2:
        return dict.fromkeys(("mean", "low", "high"))
    return dataclasses.asdict(estimate(known))


# ---------------------------------------------------------------------- recordings


def macaque(config: ObjectSolutionTime, folder: Path) -> dict[str, Any]:
    """Decoding of the object from macaque IT over time, and when each object at each position is solved."""
    path = config.out / "decoded" / "macaque.safetensors"
    spikes = neural_data.spikes(folder)
    if not path.exists():
        found = decoding.decode_over_time(spikes.counts, spikes.objects, penalty=config.penalty, seed=config.seed)
        answers = {"probabilities": found.probabilities, "correct": found.correct}
        storage.write_tensors(path, {k: torch.from_numpy(v) for k, v in answers.items()}, {"kind": "decoded"})
    tensors, _ = storage.read_tensors(path, "decoded")
    conditions = np.unique(spikes.conditions)
    probabilities = tensors["probabilities"].numpy()
    images = np.stack([probabilities[:, spikes.conditions == c].mean(1) for c in conditions], 1)
    labels = np.array([spikes.objects[spikes.conditions == c][0] for c in conditions])
    after = spikes.times >= 0.0
    solved = object_solution.solution_times(
        spikes.times[after], object_solution.image_d_prime(images, labels)[after], config.macaque_criterion
    )
    return {
        "times": spikes.times.tolist(),
        "accuracy": tensors["correct"].numpy().mean(1).tolist(),
        "solution": common.finite_or_none(solved),
        "mean": mean_of(solved),
    }


def similarity_to_it(config: ObjectSolutionTime, folder: Path) -> dict[str, Any]:
    """Rank correlation of dissimilarities in areas, before and after training, with those in monkey and human IT."""
    data = neural_data.dissimilarities(folder)
    brains = {"monkey": data.monkey, "human": data.human}
    grey = torch.from_numpy(data.images).float().mean(-1)[:, None] / 255.0 - 0.5
    rows: dict[str, Any] = {"pixels": compared(similarity.dissimilarity(data.images.astype(float)), brains)}
    for name in config.networks:
        pictures = functional.interpolate(grey, (side(name), side(name)), mode="area")
        torch.manual_seed(config.seed)
        for state, network in (("untrained", build(config, name).eval()), ("trained", trained(config, name))):
            with torch.no_grad():
                run_ = shown_to(config, network, pictures, Record(states=list(AREAS[name])))
            for area in AREAS[name]:
                matrix = similarity.dissimilarity(run_[area][-1])
                rows.setdefault(name, {}).setdefault(area, {})[state] = compared(matrix, brains)
    low, high = similarity.ceiling_of_matrices(data.subjects)
    return {"rows": rows, "human_ceiling": [low, high], "monkey_human": similarity.compare(data.monkey, data.human)}


def compared(matrix: NDArray, brains: dict[str, NDArray]) -> dict[str, float | None]:
    """Spearman's correlation with each matrix."""
    return {name: common.finite_or_none(similarity.compare(matrix, other)) for name, other in brains.items()}


if __name__ == "__main__":
    common.main(run, lambda: common.parse(PRESETS, None, str(__doc__)))
