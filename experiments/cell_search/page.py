"""The figures and the page of `experiments.cell_search`, from its results and its best network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from experiments import flows
from experiments.base import finite_or_nan
from experiments.cell_search.options import CellSearch
from experiments.cell_search.science import build, candidates, search_of
from experiments.report import Picture, Report, Table
from pcsim import Network, plots
from pcsim.plots import axes

WINDOW = 20


def report(config: CellSearch, results: dict[str, Any]) -> Report:
    """Return the page."""
    trials = results["trials"]
    counts = {state: sum(trial["state"] == state for trial in trials) for state in ("complete", "pruned", "failed")}
    summary = (
        f"{len(trials)} trials: {counts['complete']} complete, {counts['pruned']} given up, {counts['failed']} without "
        f"a score. All networks have about {config.parameters:,} parameters; digits of {flows.SIDE} x {flows.SIDE} "
        f"pixels under {config.fragments} pieces of debris. Median and random are the trials of median score in the "
        "last and in the random third; minimal is the best one with one step more than the image needs. p: "
        "Mann-Whitney, one-sided; trials that were given up count with what they had come to."
    )
    tables = [of_search(results), of_networks(results), of_cells(results), of_pairs(results)]
    search = search_of(config)
    best = build(config, candidates(search.trials(), search.random)["best"])
    return Report("A search for recurrent cells and feedback", summary, pictures(results, best), tables)


def pictures(results: dict[str, Any], best: Network) -> list[Picture]:
    """Return how the search went, what edges are worth, networks trained anew, the best one as a graph."""
    config, trials, networks = results["config"], results["trials"], results["networks"]
    scores = finite_or_nan([trial["values"][-1] for trial in trials])
    complete = [trial["state"] == "complete" for trial in trials]
    effects = {
        which: {edge: finite_or_nan(found) for edge, found in edges.items()}
        for which, edges in results["edges"].items()
    }
    curves = {name: row["accuracy_over_time"] for name, row in networks.items()}
    steps = {name: row["steps"] for name, row in networks.items()}
    return [
        Picture(
            "search",
            plots.search_progress(scores, complete, results["random"], WINDOW, "correct (%)", 100.0),
            f"Accuracy on {config['test_images']:,} images of validation after {config['training']['updates']:,} "
            "updates. Hollow: given up earlier, with what it had come to by then.",
            ("trials",),
        ),
        Picture(
            "edges",
            choice_effects(effects, "median accuracy\nwith - without (points)", 100.0),
            "What each feedback edge is worth, from layer to layer, with 95 % bootstrap intervals. In the random third "
            "edges were drawn independently of everything else; later trials were proposed, so that edges are "
            "entangled with what else did well.",
            ("edges",),
        ),
        Picture(
            "accuracy",
            plots.accuracy_by_cycles(curves, steps, unit="step"),
            "Networks trained anew, on test images. Left: at the last step, a dot a repetition. Right: read out at "
            "every step; training asked for the last one only (large dot).",
            ("networks",),
        ),
        Picture("cell", plots.circuit(best), "The best network of the search, as a graph.", ()),
    ]


def of_search(results: dict[str, Any]) -> Table:
    """Random third against last third."""
    rows = [
        (what, f"{100 * row['random']:.1f}", f"{100 * row['last']:.1f}", f"{row['p']:.2g}")
        for what, row in results["thirds"].items()
    ]
    return Table("Did the search help? Median accuracy (%)", ("of", "random third", "last third", "p"), rows)


def of_networks(results: dict[str, Any]) -> Table:
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
    return Table("Error on digits under debris (%)", head, rows)


def of_cells(results: dict[str, Any]) -> Table:
    """Every choice of the cells, where they are not all the same."""
    cells = {name: row["candidate"] for name, row in results["networks"].items() if row["candidate"]["cell"]}
    chosen = {name: row["cell"] | {"depth": row["depth"]} for name, row in cells.items() if name != "minimal"}
    rows = [
        (choice, *(said(cell[choice]) for cell in chosen.values()))
        for choice in next(iter(chosen.values()))
        if len({said(cell[choice]) for cell in chosen.values()}) > 1
    ]
    return Table("The cells (depth: channels of c in those of the layer)", ("choice", *chosen), rows)


def said(value: Any) -> str:
    """A choice in a cell of the table."""
    if isinstance(value, dict):
        return f"{value['offset']:.2f} - {-value['factor']:.2f} {value['nonlinearity']}(.)"
    if isinstance(value, list):
        return ", ".join(value) or "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def of_pairs(results: dict[str, Any]) -> Table:
    """Which differences the test images show."""
    rows = [
        (f"{pair['first']} - {pair['second']}", f"{pair['p']:.2g}", "yes" if pair["significant"] else "no")
        for pair in results["mcnemar"]
    ]
    return Table("McNemar tests, all repetitions", ("pair", "p", "FDR 0.05"), rows)


def choice_effects(
    effects: Mapping[str, Mapping[str, Sequence[float]]], label: str, scale: float = 1.0, ax: Axes | None = None
) -> Axes:
    """What each choice is worth: a median difference with and without it and its interval, a colour a set of trials.

    effects[set of trials][choice] is (difference, low, high); zero is grey.
    """
    choices = list(next(iter(effects.values())))
    ax = ax or axes(2.4 + 0.75 * len(choices), 3.6)
    for index, (name, found) in enumerate(effects.items()):
        middle, low, high = (scale * np.array([found[choice][part] for choice in choices], float) for part in range(3))
        at = np.arange(len(choices)) + 0.22 * (index - (len(effects) - 1) / 2)
        ax.errorbar(at, middle, [middle - low, high - middle], fmt="o", ms=5, capsize=3, color=f"C{index}", label=name)
    ax.axhline(0.0, color="0.7", linewidth=1, zorder=0)
    ax.set_xticks(range(len(choices)), choices, rotation=20)
    ax.set(ylabel=label, xlim=(-0.6, len(choices) - 0.4))
    ax.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.2))
    return ax
