"""Figures and report page of `experiments.object_solution_time`, built only from its results."""

from __future__ import annotations

import math
from typing import Any

from matplotlib.figure import Figure

from pcsim import plots

from ..base import finite_or_nan
from ..report import Picture, Report, Table
from . import figures
from .options import ObjectSolutionTime

TITLES = {
    "cornet_s": "CORnet-S",
    "blt": "BLT",
    "predictive_coding": "predictive coding",
    "feed_forward": "feed-forward (B)",
}
MACAQUE = "macaque IT"
NO_MODEL = "Networks trained on digits are not models of IT."


def report(config: ObjectSolutionTime, results: dict[str, Any]) -> Report:
    """Build the report page."""
    networks = results["networks"]
    pictures = [
        Picture("decoding", decoding(results), decoding_sentence(results), ("networks", "macaque")),
        Picture(
            "solution_times",
            solution_times(networks),
            "Time at which the decoder's d' between an image and the other digits reaches "
            f"{config.criterion:g}. Dots: images; diamonds: means with 95 % bootstrap intervals; percentages: solved "
            "images. In CORnet-S, IT has two steps, which are 100 ms apart in its authors' mapping. Times between "
            "them are interpolated.",
            ("networks",),
        ),
    ]
    if found := results["similarity"]:
        pictures.append(Picture("similarity", similarity(found), similarity_sentence(found), ("similarity",)))
    recordings = (
        ""
        if results["macaque"]
        else " To decode IT and compare similarities, pass the folder of recordings: --neural FOLDER."
    )
    summary = (
        f"{config.images} digits, each clean and under {config.fragments} pieces of debris, are decoded from an upper "
        f"area over time ({config.folds} folds, with both versions of a digit in the same fold). Networks were trained "
        f"with {config.recipe.fragments} pieces of debris. The noise added to each unit has an sd of {config.noise:g} "
        "times the final sd over images, averaged over the units of the area. Projections are cut in the trained "
        "networks, and the decoders are refitted. "
        f"{NO_MODEL}"
        f"{recordings}"
    )
    title = "Object solution times of networks on clean and occluded digits"
    return Report(title, summary, pictures, [table(results)])


def decoding(results: dict[str, Any]) -> Figure:
    """Plot decoding accuracy over time for macaque IT, if recordings are available, and for the networks."""
    curves: dict[str, Any] = {}
    chance = dict.fromkeys((TITLES[name] for name in results["networks"]), 0.1)
    if results["macaque"]:
        # Plot each 50 ms window at its centre.
        times = [begin + 25.0 for begin in results["macaque"]["times"]]
        curves[MACAQUE] = {"7 objects": (times, results["macaque"]["accuracy"])}
        chance[MACAQUE] = 1 / 7
    for name, lesions in results["networks"].items():
        intact = lesions["intact"]
        curves[TITLES[name]] = {c: (intact["times"], shares) for c, shares in intact["accuracy"].items()}
    return plots.decoding_over_time(curves, chance)


def decoding_sentence(results: dict[str, Any]) -> str:
    """Return the caption of the decoding figure."""
    sentence = "Accuracy of linearly decoding the digit from an upper area over time. Dashed lines: chance. "
    if results["macaque"]:
        sentence += (
            "Macaque IT (132 units of one monkey, recorded sequentially; Zhang et al. 2011) was tested with seven "
            "objects instead of digits. Its panel illustrates the time course in the brain; the accuracy is not "
            "comparable to that of the networks. "
        )
    return sentence + NO_MODEL


def solution_times(networks: dict[str, Any]) -> Figure:
    """Plot the solution times of each network, intact and lesioned."""
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
    """Plot the similarity of each area to IT, before and after training."""
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
    """Return the caption of the similarity figure."""
    low, high = found["human_ceiling"]
    return (
        "Dissimilarities (1 - correlation, last step) between 92 object images in each area, compared with those in "
        "monkey and human IT (Kriegeskorte et al. 2008). Grey bars: the same network before training. The images were "
        f"presented in greyscale at low resolution to networks not trained on objects. {NO_MODEL} The noise ceiling of "
        f"four human subjects is {low:.2f} to {high:.2f}."
    )


def table(results: dict[str, Any]) -> Table:
    """Return the table of mean solution times and of the delay caused by occlusion."""
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
    head = ("network", "projections", "clean (ms)", "occluded (ms)", "delay (ms)", "solved, clean", "solved, occluded")
    return Table(
        "Object solution times and delay caused by occlusion, computed per image: mean and 95 % interval", head, rows
    )


def format_interval(row: dict[str, float | None]) -> str:
    """Format a mean and its interval."""
    return "-" if row["mean"] is None else f"{row['mean']:.1f} [{row['low']:.1f}, {row['high']:.1f}]"
