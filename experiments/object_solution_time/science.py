"""Decoding, solution times and comparisons with IT for `experiments.object_solution_time`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from pcsim import Record
from pcsim.analysis import decoding, estimate
from pcsim.brain import object_solution, similarity
from pcsim.core import storage

from .. import base, flows, neural_data
from ..base import TEST_SEED
from .networks import (
    AREAS,
    DECODED,
    INTACT,
    LESIONS,
    build,
    decoding_times,
    fit,
    run_on,
    side,
    trained,
)
from .options import Name, ObjectSolutionTime

CONDITIONS = ("clean", "occluded")


def find(config: ObjectSolutionTime) -> dict[str, Any]:
    """Train all networks, decode the digits, and compare areas with IT."""
    folder = neural_data.folder(config.neural)
    base.train_all(config, fit, [(name,) for name in config.networks])
    keys = [(name, lesion) for name in config.networks for lesion in (INTACT, *LESIONS[name])]
    for _ in base.run_jobs(decode, [(config, *key) for key in keys], config.workers, "decoding"):
        pass
    return {
        "networks": {
            name: {lesion: summarise(config, name, lesion) for lesion in (INTACT, *LESIONS[name])}
            for name in config.networks
        },
        "macaque": macaque(config, folder) if folder else None,
        "similarity": similarity_to_it(config, folder) if folder else None,
    }


# ---------------------------------------------------------------------- decoding and solution times


def decode(config: ObjectSolutionTime, name: Name, lesion: str) -> None:
    """Decode the digit from an area over time, with the clean and the occluded version of each digit in the same fold.

    Writes the class probabilities (time, 2 n, class), the correctness of the answers, the decoding times, and the
    largest change in the area's activity.
    """
    path = base.kept(config, "decoded", name, lesion)
    if path.exists():
        return
    network, area = trained(config, name, lesion), DECODED[name]
    pictures, labels = clean_and_occluded(config, name)
    with torch.no_grad():
        run_ = run_on(config, network, pictures, Record(states=[area]))
    times, rows = decoding_times(network, run_, area)
    features = run_[area][torch.from_numpy(rows)].flatten(2)
    drawn = torch.randn(features.shape, generator=torch.Generator().manual_seed(config.seed))
    # Without noise, a decoder could exploit arbitrarily small responses.
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


def clean_and_occluded(config: ObjectSolutionTime, name: Name) -> tuple[Tensor, NDArray[np.int64]]:
    """Return the clean digits followed by the occluded digits, (2 n, 1, side, side), and their labels."""
    shown = [
        flows.digits(fragments, TEST_SEED + config.seed, config.images, side(name))
        for fragments in (0, config.fragments)
    ]
    labels = torch.cat([part.targets.argmax(1) for part in shown])
    return torch.cat([part.images for part in shown]), labels.numpy()


def summarise(config: ObjectSolutionTime, name: Name, lesion: str) -> dict[str, Any]:
    """Compute accuracy over time and solution times of clean and occluded images from the decoded probabilities."""
    tensors, _ = storage.read_tensors(base.kept(config, "decoded", name, lesion), "decoded")
    times, correct = tensors["times"].numpy(), tensors["correct"].numpy()
    labels = clean_and_occluded(config, name)[1]
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
        "solution": {condition: base.finite_or_none(solved[part]) for condition, part in halves.items()},
        "mean": {condition: mean_and_interval(solved[part]) for condition, part in halves.items()},
        "later": mean_and_interval(later),
        "solved_in_both": int(both.sum()),
    }


def mean_and_interval(values: NDArray) -> dict[str, float | None]:
    """Return the mean and 95 % bootstrap interval of the finite values, or None if there are fewer than two."""
    known = values[np.isfinite(values)]
    if len(known) < 2:
        return dict.fromkeys(("mean", "low", "high"))
    return dataclasses.asdict(estimate(known))


# ---------------------------------------------------------------------- recordings


def macaque(config: ObjectSolutionTime, folder: Path) -> dict[str, Any]:
    """Decode the object from macaque IT; return accuracy over time and a solution time per object and position."""
    path = base.kept(config, "decoded", "macaque")
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
        "solution": base.finite_or_none(solved),
        "mean": mean_and_interval(solved),
    }


def similarity_to_it(config: ObjectSolutionTime, folder: Path) -> dict[str, Any]:
    """Return the rank correlation of each area's dissimilarities with those of IT, before and after training."""
    data = neural_data.dissimilarities(folder)
    brains = {"monkey": data.monkey, "human": data.human}
    grey = torch.from_numpy(data.images).float().mean(-1)[:, None] / 255.0 - 0.5
    rows: dict[str, Any] = {"pixels": compare(similarity.dissimilarity(data.images.astype(float)), brains)}
    for name in config.networks:
        pictures = functional.interpolate(grey, (side(name), side(name)), mode="area")
        torch.manual_seed(config.seed)
        for state, network in (("untrained", build(config, name).eval()), ("trained", trained(config, name))):
            with torch.no_grad():
                run_ = run_on(config, network, pictures, Record(states=list(AREAS[name])))
            for area in AREAS[name]:
                matrix = similarity.dissimilarity(run_[area][-1])
                rows.setdefault(name, {}).setdefault(area, {})[state] = compare(matrix, brains)
    low, high = similarity.ceiling_of_matrices(data.subjects)
    return {"rows": rows, "human_ceiling": [low, high], "monkey_human": similarity.compare(data.monkey, data.human)}


def compare(matrix: NDArray, brains: dict[str, NDArray]) -> dict[str, float | None]:
    """Return Spearman's correlation between a dissimilarity matrix and the matrix of each brain."""
    return {name: base.finite_or_none(similarity.compare(matrix, other)) for name, other in brains.items()}
