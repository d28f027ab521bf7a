"""Report page of `experiments.speed`, and its tables for the docs."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from pcsim.core import storage

from ..report import Picture, Report, Table
from .options import Speed


def report(config: Speed, results: dict[str, Any]) -> Report:
    """Build the report page, and write its tables for the docs to speed.md in the same folder."""
    rows = results["rows"]
    tables = [made for threads in config.threads for made in tables_of(rows, threads)]
    storage.write_text(config.out / "speed.md", markdown(tables, rows, results))
    against_plain = [row for row in rows if "pcsim" in row["seconds"] and row["baseline"] == "plain"]
    sentence = "Time divided by the time of the plain loop. Bars span the quartiles over rounds."
    return Report(
        "Speed",
        "Times are relative to a plain PyTorch loop with the same arithmetic, timed in alternation. Values below "
        "1 are faster than the plain loop. " + provenance(results),
        [Picture("speed", figure(against_plain), sentence, ("rows",))] if against_plain else [],
        [*tables, Table("Workloads", ["workload", "description"], descriptions(rows))],
    )


def ratios(row: dict[str, Any], name: str) -> np.ndarray:
    """Return the time of an implementation divided by that of the plain loop, for each round."""
    return np.array(row["seconds"][name]) / np.array(row["seconds"][row["baseline"]])


MARKS = {
    "pcsim": ("o", "C3"),
    "pcsim first run": ("x", "C3"),
    "pcsim compiled": ("s", "C1"),
    "plain channels_last": ("D", "C2"),
    "plain compiled": ("v", "C4"),
    "torchdiffeq": ("^", "C0"),
    "fabricpc": ("P", "C5"),
    "ngclearn": ("X", "C6"),
    "pcx": ("h", "C8"),
    "jax": ("*", "C7"),
    "torch's products": ("|", "k"),
}
"""implementation -> (marker, colour), in column order"""


def tables_of(rows: list[dict[str, Any]], threads: int) -> list[Table]:
    """Return two tables: times relative to the plain loop, and the cost of options."""
    mine = [row for row in rows if row["threads"] == threads]
    by = f", {threads} thread{'s' * (threads > 1)}"
    against = [row for row in mine if "pcsim" in row["seconds"]]
    options = [row for row in mine if "pcsim" not in row["seconds"]]
    made = [table(against, f"Time relative to the plain loop{by}")] if against else []
    return made + ([table(options, f"Cost of options: time relative to pcsim without them{by}")] if options else [])


def table(rows: list[dict[str, Any]], caption: str) -> Table:
    """Return a table with one row per workload."""
    others = sorted({name for row in rows for name in row["seconds"]} - {*MARKS, "plain"})
    columns = [name for name in (*MARKS, *others) if any(name in row["seconds"] for row in rows)]
    head = ("workload", "plain, ms", *columns)

    def cell(row: dict[str, Any], name: str) -> str:
        if name not in row["seconds"]:
            return ""
        if row["baseline"] != "plain":
            return f"{statistics.median(row['seconds'][name]) * 1e3:.3g} ms"
        low, middle, high = np.quantile(ratios(row, name), (0.25, 0.5, 0.75))
        return f"{middle:.2f} ({low:.2f}-{high:.2f})"

    body = [
        (
            row["work"],
            f"{statistics.median(row['seconds']['plain']) * 1e3:.3g}" if "plain" in row["seconds"] else "",
            *(cell(row, name) for name in columns),
        )
        for row in rows
    ]
    return Table(caption, head, body)


def markdown(tables: Sequence[Table], rows: list[dict[str, Any]], facts: dict[str, Any]) -> str:
    """Format the tables in Markdown for the docs."""
    lines = [f"<!-- {storage.MARK} -->", "", provenance(facts), ""]
    for caption, head, body in tables:
        lines += [f"**{caption}** (median, quartiles)", "", "| " + " | ".join(head) + " |"]
        lines += ["|" + "---|" * len(head), *("| " + " | ".join(row) + " |" for row in body), ""]
    lines += ["| workload | description |", "|---|---|"]
    return "\n".join([*lines, *(f"| {name} | {what} |" for name, what in descriptions(rows)), ""])


def provenance(facts: dict[str, Any]) -> str:
    """Return a line with the date, device, CPU and package versions."""
    versions = ", ".join(f"{package} {number}" for package, number in facts["versions"].items())
    return f"{facts['date']}, {facts['device']} ({facts['cpu']}), {versions}."


def descriptions(rows: list[dict[str, Any]]) -> list[list[str]]:
    """Return the name and description of each distinct workload."""
    return [[name, what] for name, what in {row["work"]: row["what"] for row in rows}.items()]


def figure(rows: list[dict[str, Any]]) -> Figure:
    """Plot the relative time of each implementation and workload on a log axis."""
    rows = [row for row in rows if row["threads"] == rows[0]["threads"]][::-1]
    names = [name for name in MARKS if any(name in row["seconds"] for row in rows)]
    picture = Figure(figsize=(8.0, 0.36 * len(rows) + 1.6), layout="constrained")
    axes = picture.subplots()
    for name in names:
        marker, colour = MARKS[name]
        places = [place for place, row in enumerate(rows) if name in row["seconds"]]
        low, middle, high = np.array([np.quantile(ratios(rows[p], name), (0.25, 0.5, 0.75)) for p in places]).T
        spread = (middle - low, high - middle)
        axes.errorbar(middle, places, xerr=spread, fmt=marker, color=colour, label=name, ms=9 if marker == "|" else 5)
    axes.axvline(1.0, color="0.6", lw=1)
    axes.set_yticks(range(len(rows)), [row["work"] for row in rows])
    axes.set_xscale("log")
    ticks = (0.05, 0.07, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0)
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("time / time of a plain PyTorch loop")
    axes.grid(axis="both", color="0.92")
    picture.legend(loc="outside upper center", ncols=3, frameon=False)
    return picture
