"""Report page of `experiments.short_term_memory`."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..report import Picture, Report, Table, counted
from .options import ShortTermMemory

LESIONS = {"intact": "intact", "delay": "no lateral edges in the delay", "throughout": "no lateral edges"}
LESIONS |= {"no facilitation": "no facilitation"}


def report(config: ShortTermMemory, results: dict[str, Any]) -> Report:
    """Build the report page."""
    cells = results["cells"]
    pictures = [
        Picture(
            "delays",
            curves(
                cells,
                (("delays", "delay (ms)"), ("distractors", f"distractors in {config.delays[1]:g} ms")),
                (config.delays, (0, config.distractors)),
                50.0,
            ),
            "Accuracy in delayed match to sample against the delay, without distractors, and against the number of "
            "distractors. Bars are 95 % intervals over repetitions; training covered the grey range.",
            ("cells",),
        ),
        Picture(
            "across_time",
            matrices(cells, (config.shown, config.shown + config.delays[1])),
            "Accuracy of decoding the sample, for decoders trained at one time (vertical) and tested at another "
            "(horizontal). White lines mark the onset and the end of the delay.",
            ("cells",),
        ),
        Picture(
            "lesions",
            lesions(cells),
            f"Accuracy after a delay of {config.delays[1]:g} ms without distractors, intact and after lesions.",
            ("cells",),
        ),
        Picture(
            "stretch",
            curves(cells, (("stretch", "largest stretch"),), ((min(config.stretch), max(config.stretch)),), 100 / 24),
            "Accuracy in serial order (24 orders) against the largest stretch. Training covered the grey range.",
            ("cells",),
        ),
    ]
    summary = (
        f"{len(cells)} cells with about {config.parameters:,} weights each, {config.training.updates:,} updates with "
        f"batches of {config.training.batch}, {counted(config.repetitions, 'repetition')}, "
        f"{config.trials:,} test trials of each condition."
    )
    return Report("Cells as short-term memories", summary, pictures, tables(config, cells))


def tables(config: ShortTermMemory, cells: dict[str, Any]) -> list[Table]:
    """Return the accuracy in every test, and how well the sample is decoded during the delay."""
    found = []
    for test, caption in (
        ("delays", "Accuracy (%) by delay in ms, without distractors"),
        ("distractors", f"Accuracy (%) by number of distractors in {config.delays[1]:g} ms"),
        ("available", "Accuracy (%) of a linear decoder of the answer from memory and test, by delay in ms"),
        ("stretch", "Accuracy (%) in serial order by largest stretch"),
    ):
        columns = list(next(iter(cells.values()))[test])
        rows = [(cell, *(percent(row[test][key]) for key in columns)) for cell, row in cells.items()]
        found.append(Table(f"{caption}, mean [95 % interval over repetitions]", ("cell", *columns), rows))
    rows = [
        (cell, *(percent(row["lesions"][key]) if key in row["lesions"] else "" for key in LESIONS))
        for cell, row in cells.items()
    ]
    found.append(Table("Accuracy (%) after lesions", ("cell", *LESIONS.values()), rows))
    decoded = []
    for cell, row in cells.items():
        for name, across in row["across"].items():
            stability = ", ".join("-" if value is None else f"{value:.2f}" for value in across["stability"])
            decoded.append(
                (cell, str(row["units"]), f"{row['parameters']:,}", name, percent(across["in_delay"]), stability)
            )
    head = ("cell", "units m", "weights", "decoded from", "accuracy in the delay (%)", "stability of each repetition")
    chance = 100 * next(iter(next(iter(cells.values()))["across"].values()))["chance"]
    return [*found, Table(f"Decoding of the sample in the delay (chance {chance:.1f} %)", head, decoded)]


def percent(cell: dict[str, Any]) -> str:
    """Format an estimate in percent, with its interval."""
    return f"{100 * cell['mean']:.1f} [{100 * cell['low']:.1f}, {100 * cell['high']:.1f}]"


def bars(ax: Axes, places: Any, rows: list[dict[str, Any]], **options: Any) -> None:
    """Plot estimates in percent with their intervals."""
    means = np.array([100 * row["mean"] for row in rows])
    ends = np.array([[100 * (row["mean"] - row["low"]), 100 * (row["high"] - row["mean"])] for row in rows]).T
    ax.errorbar(places, means, ends.clip(0), ms=4, capsize=2, **options)


def curves(
    cells: dict[str, Any],
    tests: tuple[tuple[str, str], ...],
    trained: tuple[tuple[float, float], ...],
    chance: float,
) -> Figure:
    """Plot accuracy against the condition of one or more tests, with one curve per cell."""
    figure, places = pyplot.subplots(
        1, len(tests), figsize=(1.3 + 3.5 * len(tests), 3.4), sharey=True, layout="constrained", squeeze=False
    )
    for ax, (test, label), (low, high) in zip(places[0], tests, trained, strict=True):
        ax.axvspan(low, max(high, low + 1e-6), color="0.92", zorder=0)
        ax.axhline(chance, color="0.6", linewidth=0.8, linestyle=":", zorder=0)
        for number, (cell, row) in enumerate(cells.items()):
            x = np.array([float(key) for key in row[test]])
            x = x * (1 + 0.012 * (number - 2.5)) if test == "delays" else x + 0.03 * (number - 2.5)
            bars(ax, x, list(row[test].values()), fmt="o-", label=cell, linewidth=1.2)
        if test == "delays":
            ax.set_xscale("log")
            ticks = [float(key) for key in next(iter(cells.values()))[test]]
            ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
            ax.minorticks_off()
        ax.set(xlabel=label, ylim=(min(chance - 15.0, 100.0), 103.0))
    places[0][0].set_ylabel("accuracy (%)")
    figure.legend(*places[0][0].get_legend_handles_labels(), frameon=False, loc="outside right upper")
    return figure


def matrices(cells: dict[str, Any], delay: tuple[float, float]) -> Figure:
    """Plot the cross-temporal accuracy of each cell and variable."""
    panels = [(f"{cell}: {name}", across) for cell, row in cells.items() for name, across in row["across"].items()]
    columns = 5
    rows = -(-len(panels) // columns)
    figure, places = pyplot.subplots(
        rows, columns, figsize=(2.1 * columns, 2.2 * rows), layout="constrained", sharex=True, sharey=True
    )
    image = None
    for ax, (title, across) in zip(places.flat, panels, strict=False):
        times = np.array(across["times"])
        half = (times[1] - times[0]) / 2 if len(times) > 1 else 10.0
        extent = (times[0] - half, times[-1] + half, times[0] - half, times[-1] + half)
        image = ax.imshow(
            100 * np.array(across["accuracy"]), origin="lower", extent=extent, vmin=100 * across["chance"], vmax=100
        )
        for time in delay:
            ax.axvline(time, color="w", linewidth=0.8)
            ax.axhline(time, color="w", linewidth=0.8)
        ax.set_title(title.replace("synapses_f", "utilisation"), fontsize=9)
    for ax in list(places.flat)[len(panels) :]:
        ax.set_visible(False)
    figure.supxlabel("test time (ms)", fontsize=9)
    figure.supylabel("training time (ms)", fontsize=9)
    if image is not None:
        figure.colorbar(image, ax=places, label="accuracy (%)", shrink=0.8)
    return figure


def lesions(cells: dict[str, Any]) -> Figure:
    """Plot the accuracy of each cell, intact and lesioned."""
    figure, ax = pyplot.subplots(figsize=(6.5, 3.2), layout="constrained")
    for offset, (key, label) in zip((-0.24, -0.08, 0.08, 0.24), LESIONS.items(), strict=True):
        known = [(n, row["lesions"][key]) for n, row in enumerate(cells.values()) if key in row["lesions"]]
        bars(ax, [n + offset for n, _ in known], [cell for _, cell in known], fmt="o", label=label)
    ax.axhline(50.0, color="0.6", linewidth=0.8, linestyle=":", zorder=0)
    ax.set_xticks(range(len(cells)), list(cells))
    ax.set(ylabel="accuracy (%)", ylim=(35.0, 103.0))
    figure.legend(frameon=False, loc="outside upper center", ncols=2)
    return figure
