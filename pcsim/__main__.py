"""Inspect the models from the command line.

python -m pcsim models                              list the models with their papers, parameter counts and edge counts
python -m pcsim describe NAME [--draw FILE]         print the wiring in evaluation order and draw the graph
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Annotated, cast

import torch
import tyro

from pcsim import models
from pcsim.core import storage
from pcsim.core.command_line import program
from pcsim.core.exceptions import StorageError
from pcsim.network.parts import KINDS

MARKED_BY = {".png": "Software", ".pdf": "Creator", ".svg": "Creator"}
"""image file suffix -> metadata field for the name of the program that wrote the file"""


def list_models() -> None:
    """List the registered models with their papers, parameter counts and edge counts by kind."""
    rows: list[tuple[str, ...]] = [("name", "parameters", *KINDS, "paper")]
    for name in models.available():
        with torch.device("meta"):  # only the shapes of the parameters are needed to count them
            net = models.build(name)
        kinds: list[str] = [edge.kind for edge in net.projections]
        count = net.parameter_count
        rows.append((name, f"{count:,}", *(str(kinds.count(kind)) for kind in KINDS), models.paper(name)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row[1:-1], widths[1:-1], strict=True)]
        print("  ".join([row[0].ljust(widths[0]), *cells, row[-1]]))


def describe(name: Annotated[str, tyro.conf.Positional], draw: Path | None = None) -> None:
    """Print the wiring of a model with its published settings in evaluation order, and save a drawing of its graph.

    Args:
        name: name of a registered model
        draw: image file to write (.png, .pdf or .svg); defaults to NAME.png
    """
    from matplotlib.figure import Figure

    from pcsim import plots

    path = storage.full_path(draw or f"{name}.png")
    kind = path.suffix.lower()
    if kind not in MARKED_BY:
        raise StorageError(
            given=f"--draw {path}",
            expected=f"a file name with one of the suffixes {', '.join(MARKED_BY)}",
            remedy=f"pass --draw {path.with_suffix('.png').name}",
        )
    net = models.build(name)
    print(net.describe())
    picture = io.BytesIO()  # matplotlib's own writers raise other exceptions if the disk is full
    figure = cast(Figure, plots.network(net).figure)
    figure.savefig(picture, dpi=150, format=kind[1:], metadata={MARKED_BY[kind]: storage.MARK})
    with storage.replacing(path) as partial:
        partial.write_bytes(picture.getvalue())
    print(f"drawing saved to {path}")


if __name__ == "__main__":
    with program():
        tyro.extras.subcommand_cli_from_dict(
            {"models": list_models, "describe": describe}, prog="python -m pcsim", description=__doc__
        )
