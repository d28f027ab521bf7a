"""Reports of experiments: figures, an HTML page, and tables printed to the terminal."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, cast

import jinja2
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pcsim.core import storage


class Picture(NamedTuple):
    """A figure on the report page.

    name      file name without extension
    sentence  caption
    numbers   keys of the results shown in the figure; () for a diagram
    """

    name: str
    figure: Figure | Axes
    sentence: str
    numbers: tuple[str, ...]


class Table(NamedTuple):
    """A table of strings, shown on the report page and printed to the terminal."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]

    @property
    def has_words(self) -> list[bool]:
        """Whether each column is the first or contains only words. These columns are left-aligned, others right."""
        return [
            column == 0 or not any(re.match(r"(> )?[-+]?\d", row[column]) for row in self.rows)
            for column in range(len(self.head))
        ]


@dataclass(frozen=True)
class Report:
    """A report page. `explorable` contains interactive plotly figures with captions."""

    title: str
    summary: str
    pictures: Sequence[Picture]
    tables: Sequence[Table] = ()
    explorable: Sequence[tuple[Any, str]] = field(default=())


def publish(out: Path, report: Report, results: Mapping[str, Any], caution: str = "") -> None:
    """Save the figures and their data, write `report.html`, and print the tables and the path of the page.

    caution  a sentence shown above the numbers
    """
    figures = []
    for picture in report.pictures:
        path = out / f"{picture.name}.png"
        save_figure(picture.figure, path)
        if picture.numbers:
            storage.write_json(out / f"{picture.name}.json", {key: results[key] for key in picture.numbers})
        figures.append({"picture": picture, "data": base64.b64encode(path.read_bytes()).decode()})
    explorable = [
        (figure.to_html(full_html=False, include_plotlyjs=number == 0, div_id=f"explore-{number}"), sentence)
        for number, (figure, sentence) in enumerate(report.explorable)
    ]
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    template = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    page = template.get_template("report.html.j2")
    storage.write_text(
        out / "report.html", page.render(report=report, caution=caution, figures=figures, explorable=explorable)
    )
    print(f"\n{report.title}")
    if caution:
        print(f"\n{caution}")
    for table in report.tables:
        print(f"\n{table.caption}\n\n{text_table(table)}")
    print(f"\nDone in {results['wall_time_s']:.0f} s. Open {out / 'report.html'}; all numbers are in results.json.")


def counted(number: int, noun: str) -> str:
    """Return a number with its noun in the singular or plural, such as "1 repetition" or "3 repetitions"."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def save_figure(picture: Figure | Axes, path: Path) -> None:
    """Save a figure, or the figure that contains the axes, as a PNG file, and close it."""
    figure = cast(Figure, picture.get_figure(root=True)) if isinstance(picture, Axes) else picture
    with storage.replacing(path) as partial:
        figure.savefig(partial, dpi=130, format="png", metadata={"Software": storage.MARK})
    pyplot.close(figure)


def text_table(table: Table) -> str:
    """Format a table as aligned plain text."""
    lines = (table.head, *table.rows)
    widths = [max(len(row[column]) for row in lines) for column in range(len(table.head))]
    columns = list(zip(widths, table.has_words, strict=True))
    text = [
        "  ".join(
            cell.ljust(width) if has_words else cell.rjust(width)
            for cell, (width, has_words) in zip(row, columns, strict=True)
        )
        for row in lines
    ]
    return "\n".join([text[0].rstrip(), "-" * len(text[0]), *(line.rstrip() for line in text[1:])])
