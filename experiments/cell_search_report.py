"""The figures and the page of `experiments.cell_search`, from its results and its best network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import common, flows
from pcsim import Network, plots

WINDOW = 20


def write(results: dict[str, Any], out: Path, best: Network) -> None:
    """Figures, page, and the tables in the terminal."""
    tables = [of_search(results), of_networks(results), of_cells(results), of_pairs(results)]
    config, trials = results["config"], results["trials"]
    counts = {state: sum(trial["state"] == state for trial in trials) for state in ("complete", "pruned", "failed")}
    summary = (
        f"{len(trials)} trials: {counts['complete']} complete, {counts['pruned']} given up, {counts['failed']} without "
        f"a score. All networks have about {config['parameters']:,} parameters; digits of {flows.SIDE} x {flows.SIDE} "
        f"pixels under {config['fragments']} pieces of debris. Median and random are the trials of median score in the "
        "last and in the random third; minimal is the best one with one step more than the image needs. p: "
        "Mann-Whitney, one-sided; trials that were given up count with what they had come to."
    )
    title = "A search for recurrent cells and feedback"
    common.publish(out, title, summary, figures(results, best), tables, results["wall_time_s"])


def figures(results: dict[str, Any], best: Network) -> list[tuple[str, Figure | Axes, str]]:
    """How the search went, what edges are worth, networks trained anew, the best one as a graph."""
    config, trials, networks = results["config"], results["trials"], results["networks"]
    scores = common.finite_or_nan([trial["values"][-1] for trial in trials])
    complete = [trial["state"] == "complete" for trial in trials]
    effects = {
        which: {edge: common.finite_or_nan(found) for edge, found in edges.items()}
        for which, edges in results["edges"].items()
    }
    curves = {name: row["accuracy_over_time"] for name, row in networks.items()}
    steps = {name: row["steps"] for name, row in networks.items()}
    return [
        (
            "search",
            plots.search_progress(scores, complete, results["random"], WINDOW, "correct (%)", 100.0),
            f"Accuracy on {config['test_images']:,} images of validation after {config['training']['updates']:,} "
            "updates. Hollow: given up earlier, with what it had come to by then.",
        ),
        (
            "edges",
            plots.choice_effects(effects, "median accuracy\nwith - without (points)", 100.0),
            "What each feedback edge is worth, from layer to layer, with 95 % bootstrap intervals. In the random third "
            "edges were drawn independently of everything else; later trials were proposed, so that edges are "
            "entangled with what else did well.",
        ),
        (
            "accuracy",
            plots.accuracy_by_cycles(curves, steps, unit="step"),
            "Networks trained anew, on test images. Left: at the last step, a dot a repetition. Right: read out at "
            "every step; training asked for the last one only (large dot).",
        ),
        ("cell", plots.circuit(best), "The best network of the search, as a graph."),
    ]


def of_search(results: dict[str, Any]) -> common.Table:
    """Random third against last third."""
    rows = [
        (what, f"{100 * row['random']:.1f}", f"{100 * row['last']:.1f}", f"{row['p']:.2g}")
        for what, row in results["thirds"].items()
    ]
    return ("Did the search help? Median accuracy (%)", ("of", "random third", "last third", "p"), rows)


def of_networks(results: dict[str, Any]) -> common.Table:
    """Test errors of what was trained anew."""
    rows = [
        (
            name,
            f"{row['parameters']:,}",
            str(row["steps"]),
            ", ".join(row["feedback"]) or "-",
            ", ".join(f"{100 * value:.1f}" for value in row["error"]),
            f"{100 * np.mean(row['error']):.1f}",
        )
        for name, row in results["networks"].items()
    ]
    head = ("network", "parameters", "steps", "feedback", "a repetition each", "mean")
    return ("Error on digits under debris (%)", head, rows)


def of_cells(results: dict[str, Any]) -> common.Table:
    """Every choice of the cells, where they are not all the same."""
    cells = {name: row["candidate"] for name, row in results["networks"].items() if row["candidate"]["cell"]}
    chosen = {name: row["cell"] | {"depth": row["depth"]} for name, row in cells.items() if name != "minimal"}
    rows = [
        (choice, *(said(cell[choice]) for cell in chosen.values()))
        for choice in next(iter(chosen.values()))
        if len({said(cell[choice]) for cell in chosen.values()}) > 1
    ]
    return ("The cells (depth: channels of c in those of the layer)", ("choice", *chosen), rows)


def said(value: Any) -> str:
    """A choice in a cell of the table."""
    if isinstance(value, dict):
        return f"{value['offset']:.2f} - {-value['factor']:.2f} {value['nonlinearity']}(.)"
    if isinstance(value, list):
        return ", ".join(value) or "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def of_pairs(results: dict[str, Any]) -> common.Table:
    """Which differences the test images show."""
    rows = [
        (f"{pair['first']} - {pair['second']}", f"{pair['p']:.2g}", "yes" if pair["significant"] else "no")
        for pair in results["mcnemar"]
    ]
    return ("McNemar tests, all repetitions", ("pair", "p", "FDR 0.05"), rows)
