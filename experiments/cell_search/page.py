"""Figures and report page of `experiments.cell_search`, built from its results and best network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from pcsim import Network, plots
from pcsim.plots import axes

from .. import flows
from ..base import finite_or_nan
from ..report import Picture, Report, Table
from .options import CellSearch
from .science import build, candidates, make_search

WINDOW = 20


def report(config: CellSearch, results: dict[str, Any]) -> Report:
    """Build the report page."""
    trials = results["trials"]
    counts = {state: sum(trial["state"] == state for trial in trials) for state in ("complete", "pruned", "failed")}
    summary = (
        f"{len(trials)} trials: {counts['complete']} complete, {counts['pruned']} pruned, {counts['failed']} failed. "
        f"All networks have about {config.parameters:,} parameters. Images of {flows.SIDE} x {flows.SIDE} pixels show "
        f"digits under {config.fragments} pieces of debris. 'median' and 'random' are the trials with the median score "
        "in the last and the random third. 'minimal' is the best network, run for only one step more than the image "
        "needs to reach the readout. p is from a one-sided Mann-Whitney test that uses the last score of pruned trials."
    )
    tables = [search_table(results), network_table(results), cell_table(results), pair_table(results)]
    search = make_search(config)
    best = build(config, candidates(search.trials(), search.random)["best"])
    return Report("A search for recurrent cells and feedback", summary, pictures(results, best), tables)


def pictures(results: dict[str, Any], best: Network) -> list[Picture]:
    """Return the figures: the search, the effects of edges, the retrained networks, and a graph of the best network."""
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
            f"Accuracy on {config['test_images']:,} validation images after {config['training']['updates']:,} updates. "
            "Hollow markers show the last scores of pruned trials.",
            ("trials",),
        ),
        Picture(
            "edges",
            choice_effects(effects, "median accuracy\nwith - without (points)", 100.0),
            "Effect of each feedback edge, labelled by its source and target layers, with 95 % bootstrap intervals. "
            "In the random third, the edges are chosen independently of everything else. Later trials are proposed by "
            "the search, so their edges are confounded with other successful choices.",
            ("edges",),
        ),
        Picture(
            "accuracy",
            plots.accuracy_by_cycles(curves, steps, unit="step"),
            "Retrained networks on test images. Left: accuracy at the last step, one dot per repetition. Right: "
            "accuracy at every step. The loss applies only to the last step (large dot).",
            ("networks",),
        ),
        Picture("cell", plots.network(best), "Graph of the best network found by the search.", ()),
    ]


def search_table(results: dict[str, Any]) -> Table:
    """Return the table that compares the random third with the last third."""
    rows = [
        (what, f"{100 * row['random']:.1f}", f"{100 * row['last']:.1f}", f"{row['p']:.2g}")
        for what, row in results["thirds"].items()
    ]
    return Table("Progress of the search: median accuracy (%)", ("accuracy", "random third", "last third", "p"), rows)


def network_table(results: dict[str, Any]) -> Table:
    """Return the table of retrained networks with their test errors."""
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
    head = ("network", "parameters", "steps", "feedback", "each repetition", "mean")
    return Table("Error on digits under debris (%)", head, rows)


def cell_table(results: dict[str, Any]) -> Table:
    """Return the table of choices in which the cells differ."""
    cells = {name: row["candidate"] for name, row in results["networks"].items() if row["candidate"]["cell"]}
    chosen = {name: row["cell"] | {"depth": row["depth"]} for name, row in cells.items() if name != "minimal"}
    head = ("choice", *chosen)
    rows = [
        (choice, *(format_value(cell[choice]) for cell in chosen.values()))
        for choice in next(iter(chosen.values()))
        if len({format_value(cell[choice]) for cell in chosen.values()}) > 1
    ]
    return Table("Choices that differ between cells (depth: channels of c per layer channel)", head, rows)


def format_value(value: Any) -> str:
    """Format a choice as a table cell."""
    if isinstance(value, dict):
        return f"{value['offset']:.2f} - {-value['factor']:.2f} {value['nonlinearity']}(.)"
    if isinstance(value, list):
        return ", ".join(value) or "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def pair_table(results: dict[str, Any]) -> Table:
    """Return the table of McNemar tests between pairs of networks."""
    rows = [
        (f"{pair['first']} - {pair['second']}", f"{pair['p']:.2g}", "yes" if pair["significant"] else "no")
        for pair in results["mcnemar"]
    ]
    return Table("McNemar tests over all repetitions", ("pair", "p", "significant (FDR 0.05)"), rows)


def choice_effects(
    effects: Mapping[str, Mapping[str, Sequence[float]]], label: str, scale: float = 1.0, ax: Axes | None = None
) -> Axes:
    """Plot the median difference between trials with and without each choice, with intervals.

    effects[set of trials][choice] is (difference, low, high). Each set of trials has its own colour; a grey line marks
    zero.
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
