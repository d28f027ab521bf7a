"""Figures and report of `experiments.occlusion`, from the numbers in its results.json and the images it showed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import common
from pcsim import Network, plots
from pcsim.analysis import Estimate
from pcsim.training import CHECK_EVERY

Picture = tuple[str, Figure | Axes, str]


def write(results: dict[str, Any], out: Path, images: np.ndarray, targets: np.ndarray, net: Network) -> None:
    """Everything a reader sees: figures, page, and the table at the end of the terminal.

    images (n, height, width) and targets (n, classes) are the stimuli of results["guesses"]; `net` is drawn.
    """
    figures = []
    for name, picture, sentence in pictures(results, images, targets, net):
        common.save_figure(picture, out / f"{name}.png")
        figures.append((out / f"{name}.png", sentence))
    title = f"Recurrent networks and occlusion: trained on {results['config']['task']}"
    tables = [error_table(results), pair_table(results)]
    common.write_report(out / "report.html", title, summary(results["config"]), figures, tables)
    print(f"\n{title}")
    for caption, head, rows in tables:
        print(f"\n{caption}\n\n{common.text_table(head, rows)}")
    print(f"\nDone in {results['wall_time_s']:.0f} s. Open {out / 'report.html'}; numbers are in results.json.")


def pictures(results: dict[str, Any], images: np.ndarray, targets: np.ndarray, net: Network) -> list[Picture]:
    """(name, picture, sentence) of every figure for which there are numbers."""
    task, chance = results["config"]["task"], results["chance"]
    by_model = {
        model: {condition: Estimate(**row[model]) for condition, row in results["error"].items()}
        for model in results["parameters"]
    }
    found: list[Picture] = [
        (
            "errors",
            plots.error_by_condition(by_model, chance),
            f"Error of every network in every test condition, trained on {task}; bars are 95 % bootstrap intervals "
            "over repetitions and images, grey is guessing. In clutter an answer must name every digit.",
        ),
        (
            "accuracy_over_time",
            plots.accuracy_over_time(results["accuracy_over_time"], chance),
            "Share of correct answers at every time step. Step 0 is a feed-forward sweep; networks without recurrence "
            "have no other and are drawn as a dashed level. Grey is guessing.",
        ),
        (
            "guesses",
            plots.guesses(images, results["guesses"], targets),
            f"The first {len(images)} test images, not chosen, and how probable each network finds each digit at every "
            "step; the red tick marks what is there.",
        ),
    ]
    if results["lesions_at_test"]:
        sentence = "What it costs to cut connections of the trained networks at test time, without training again."
        found.append(("lesions", plots.lesions(results["lesions_at_test"]), sentence))
    if results["settling"]:
        sentence = (
            "Relative change of the state of area l2 in every step (median over images), for clean and occluded "
            "images, followed past the steps of training."
        )
        found.append(("settling", plots.state_change(results["settling"], results["trained_steps"] - 1), sentence))
    if results["loss_per_step"]:
        sentence = f"Training loss per time step (means of {CHECK_EVERY} updates), first repetition."
        found.append(("training", plots.training_curves(results["loss_per_step"], CHECK_EVERY), sentence))
    found.append(("network", plots.circuit(net), "The wiring; numbers beside edges are delays in steps."))
    return found


def summary(config: dict[str, Any]) -> str:
    """What was done, in two sentences."""
    tested = f"Tested on {config['test_images']:,} images of each condition."
    if config["pretrained"]:
        return f"Weights that ship with pcsim. {tested}"
    return (
        f"{len(config['models'])} networks, {config['repetitions']} repetition(s), {config['images']:,} training "
        f"images ({config['digits']} digits), {config['training']['updates']:,} updates of "
        f"{config['training']['batch']}. {tested}"
    )


def error_table(results: dict[str, Any]) -> common.Table:
    """Network by condition."""
    rows = []
    for model, parameters in results["parameters"].items():
        cells = [row[model] for row in results["error"].values()]
        errors = (f"{100 * e['mean']:.1f} [{100 * e['low']:.1f}, {100 * e['high']:.1f}]" for e in cells)
        rows.append((model, f"{parameters:,}", *errors))
    return "Error (%), with 95 % intervals", ("network", "parameters", *results["error"]), rows


def pair_table(results: dict[str, Any]) -> common.Table:
    """Pairs of networks in the condition they were trained in."""
    task = results["config"]["task"]
    rows = [
        (
            f"{pair['first']} - {pair['second']}",
            f"{100 * pair['difference']:+.1f}",
            probability(pair["p"]),
            probability(pair["q"]),
            "yes" if pair["significant"] else "no",
        )
        for pair in results["mcnemar"][task]
    ]
    head = ("pair", "difference (points)", "p", "q (FDR)", "significant")
    return f"Pairs of networks on {task}: McNemar tests, false discovery rate 0.05", head, rows


def probability(p: float) -> str:
    """Two digits; a p-value too small for a double is not zero."""
    return f"{p:.2g}" if p > 0 else "< 1e-300"
