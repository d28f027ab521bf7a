"""The figures and the page of `experiments.object_solution_time`, from its results alone."""

from __future__ import annotations

import math
from typing import Any

from matplotlib.figure import Figure

from experiments.base import finite_or_nan
from experiments.object_solution_time import figures
from experiments.object_solution_time.options import ObjectSolutionTime
from experiments.report import Picture, Report, Table
from pcsim import plots

TITLES = {
    "cornet_s": "CORnet-S",
    "blt": "BLT",
    "predictive_coding": "predictive coding",
    "feed_forward": "feed-forward (B)",
}
MACAQUE = "macaque IT"
NO_MODEL = "Networks trained on digits are no models of IT."


def report(config: ObjectSolutionTime, results: dict[str, Any]) -> Report:
    """Return the page."""
    networks = results["networks"]
    pictures = [
        Picture("decoding", decoding(results), decoding_sentence(results), ("networks", "macaque")),
        Picture(
            "solution_times",
            solution_times(networks),
            f"When a decoder of the area tells an image from the other digits with d' = {config.criterion:g}; "
            "a dot an image, diamonds the mean with its 95 % bootstrap interval, above it how many were solved at all. "
            "CORnet-S has two steps in IT, 100 ms apart by its authors' mapping: times between them are interpolated.",
            ("networks",),
        ),
    ]
    if found := results["similarity"]:
        pictures.append(Picture("similarity", similarity(found), similarity_sentence(found), ("similarity",)))
    recordings = (
        ""
        if results["macaque"]
        else " No recordings were given (--neural): decoding of IT and similarity are left out."
    )
    summary = (
        f"{config.images} digits, each clean and under {config.fragments} pieces of debris, decoded from an "
        f"upper area at every time ({config.folds} folds, twins in the same one); networks were trained under "
        f"{config.recipe.fragments}. Every unit has noise of {config.noise:g} times the sd of its area over "
        f"images at the end. Edges are cut in the trained network, and decoders fitted anew. {NO_MODEL}"
        f"{recordings}"
    )
    title = "Object solution times of networks on clean and occluded digits"
    return Report(title, summary, pictures, [table(results)])


def decoding(results: dict[str, Any]) -> Figure:
    """Accuracy over time: IT where there is a recording, then the networks."""
    curves: dict[str, Any] = {}
    chance = dict.fromkeys((TITLES[name] for name in results["networks"]), 0.1)
    if results["macaque"]:
        # A window of 50 ms is drawn at its middle.
        times = [begin + 25.0 for begin in results["macaque"]["times"]]
        curves[MACAQUE] = {"7 objects": (times, results["macaque"]["accuracy"])}
        chance[MACAQUE] = 1 / 7
    for name, lesions in results["networks"].items():
        whole = lesions["whole"]
        curves[TITLES[name]] = {c: (whole["times"], shares) for c, shares in whole["accuracy"].items()}
    return plots.decoding_over_time(curves, chance)


def decoding_sentence(results: dict[str, Any]) -> str:
    """What the first figure shows."""
    told = "How often linear decoders of an upper area name the digit, at every time; dashed: chance. "
    if results["macaque"]:
        told += (
            "Macaque IT (132 units of one monkey, recorded one after another; Zhang et al. 2011) sees seven objects, "
            "not digits: its panel shows what such a curve is in the brain, and is not to be compared in height. "
        )
    return told + NO_MODEL


def solution_times(networks: dict[str, Any]) -> Figure:
    """Solution times of every network, whole and lesioned."""
    found, means = {}, {}
    for name, lesions in networks.items():
        found[TITLES[name]] = {
            lesion: {condition: finite_or_nan(times) for condition, times in row.get("solution", {}).items()}
            for lesion, row in lesions.items()
        }
        means[TITLES[name]] = {
            lesion: {condition: finite_or_nan(list(mean.values())) for condition, mean in row.get("mean", {}).items()}
            for lesion, row in lesions.items()
        }
    return figures.solution_times(found, means)


def similarity(found: dict[str, Any]) -> Figure:
    """Bars of every area, before and after training."""
    rows = {name: areas for name, areas in found["rows"].items() if name != "pixels"}
    pixels = found["rows"]["pixels"]
    values = {
        brain: {
            f"{TITLES[name]} {area}": {
                state: math.nan if row[brain] is None else row[brain] for state, row in states.items()
            }
            for name, areas in rows.items()
            for area, states in areas.items()
        }
        for brain in pixels
    }
    references = {brain: {"pixels": pixels[brain]} for brain in pixels}
    references["monkey"]["human IT"] = found["monkey_human"]
    return figures.similarities(values, references, {"human": tuple(found["human_ceiling"])})


def similarity_sentence(found: dict[str, Any]) -> str:
    """What the third figure shows."""
    low, high = found["human_ceiling"]
    return (
        "Which of 92 pictures of objects are alike to an area (1 - correlation, last step), compared with monkey and "
        "human IT (Kriegeskorte et al. 2008). Grey: the same network before training. The networks saw the pictures in "
        f"grey, a few pixels wide; they never saw an object. {NO_MODEL} Noise ceiling of four human subjects: "
        f"{low:.2f} to {high:.2f}."
    )


def table(results: dict[str, Any]) -> Table:
    """Mean solution times and how much later occluded images come."""
    rows = []
    if results["macaque"]:
        told = results["macaque"]
        solved = sum(value is not None for value in told["solution"])
        shares = f"{100 * solved / len(told['solution']):.0f} %"
        rows.append((MACAQUE, "-", interval(told["mean"]), "-", "-", shares, "-"))
    for name, lesions in results["networks"].items():
        for lesion, row in lesions.items():
            reached = [f"{100 * row['reached'][condition]:.0f} %" for condition in ("clean", "occluded")]
            if row["defined"]:
                times = [interval(row["mean"][condition]) for condition in ("clean", "occluded")]
                later = f"{interval(row['later'])}, n = {row['solved_in_both']}"
            else:
                times, later = ["undefined"] * 2, "undefined"
            rows.append((TITLES[name], lesion, *times, later, *reached))
    head = ("network", "edges", "clean (ms)", "occluded (ms)", "later, image by image (ms)", "solved clean", "occluded")
    return Table("Object solution times, mean and 95 % interval", head, rows)


def interval(row: dict[str, float | None]) -> str:
    """Mean and interval."""
    return "-" if row["mean"] is None else f"{row['mean']:.1f} [{row['low']:.1f}, {row['high']:.1f}]"
