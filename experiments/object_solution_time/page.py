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
    """Return the report page."""
    networks = results["networks"]
    pictures = [
        Picture("decoding", decoding(results), decoding_sentence(results), ("networks", "macaque")),
        Picture(
            "solution_times",
            solution_times(networks),
            "Time at which the d' of a decoder of the area, between an image and the other digits, reaches "
            f"{config.criterion:g}. Dots are images, diamonds means with 95 % bootstrap intervals, percentages the "
            "share of images that are solved. CORnet-S has two steps in IT, 100 ms apart in its authors' mapping: "
            "times between them are interpolated.",
            ("networks",),
        ),
    ]
    if found := results["similarity"]:
        pictures.append(Picture("similarity", similarity(found), similarity_sentence(found), ("similarity",)))
    recordings = "" if results["macaque"] else " Decoding of IT and similarity need recordings: pass --neural FOLDER."
    summary = (
        f"{config.images} digits, each clean and under {config.fragments} pieces of debris, decoded from an "
        f"upper area at every time ({config.folds} folds, with both versions of a digit in the same one); networks "
        f"were trained under {config.recipe.fragments}. Every unit has noise of {config.noise:g} times the mean sd of "
        "the area's units over images at the end. Edges are cut in the trained network, and decoders are refitted. "
        f"{NO_MODEL}"
        f"{recordings}"
    )
    title = "Object solution times of networks on clean and occluded digits"
    return Report(title, summary, pictures, [table(results)])


def decoding(results: dict[str, Any]) -> Figure:
    """Draw decoding accuracy over time, of macaque IT if it was recorded, then of the networks."""
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
    """Return the sentence under the decoding figure."""
    sentence = "Accuracy of linear decoders of the digit from an upper area, at every time; dashed: chance. "
    if results["macaque"]:
        sentence += (
            "Macaque IT (132 units of one monkey, recorded sequentially; Zhang et al. 2011) responds to seven objects, "
            "not digits: its panel shows such a curve in the brain, whose height cannot be compared. "
        )
    return sentence + NO_MODEL


def solution_times(networks: dict[str, Any]) -> Figure:
    """Draw the solution times of every network, whole and lesioned."""
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
    """Draw the similarity of every area to IT, before and after training."""
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
    """Return the sentence under the similarity figure."""
    low, high = found["human_ceiling"]
    return (
        "Dissimilarities of 92 pictures of objects in each area (1 - correlation, last step), compared with those in "
        "monkey and human IT (Kriegeskorte et al. 2008). Grey: the same network before training. The pictures were "
        f"shown in grey at low resolution, to networks that were not trained on objects. {NO_MODEL} Noise ceiling of "
        f"four human subjects: {low:.2f} to {high:.2f}."
    )


def table(results: dict[str, Any]) -> Table:
    """Return the table of mean solution times and of the delay of occluded images."""
    rows = []
    if results["macaque"]:
        recorded = results["macaque"]
        solved = sum(value is not None for value in recorded["solution"])
        share = f"{100 * solved / len(recorded['solution']):.0f} %"
        rows.append((MACAQUE, "-", format_interval(recorded["mean"]), "-", "-", share, "-"))
    for name, lesions in results["networks"].items():
        for lesion, row in lesions.items():
            reached = [f"{100 * row['reached'][condition]:.0f} %" for condition in ("clean", "occluded")]
            if row["defined"]:
                times = [format_interval(row["mean"][condition]) for condition in ("clean", "occluded")]
                later = f"{format_interval(row['later'])}, n = {row['solved_in_both']}"
            else:
                times, later = ["undefined"] * 2, "undefined"
            rows.append((TITLES[name], lesion, *times, later, *reached))
    head = ("network", "edges", "clean (ms)", "occluded (ms)", "delay (ms)", "solved, clean", "solved, occluded")
    return Table("Object solution times and delay by occlusion, image by image: mean and 95 % interval", head, rows)


def format_interval(row: dict[str, float | None]) -> str:
    """Return mean and interval as text."""
    return "-" if row["mean"] is None else f"{row['mean']:.1f} [{row['low']:.1f}, {row['high']:.1f}]"
