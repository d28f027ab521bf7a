"""Inspect the models from the command line.

python -m pcsim models                              list the models with papers, parameter counts and edge counts
python -m pcsim describe NAME [--draw FILE]         print the wiring in evaluation order and draw the graph
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, cast

import torch
import tyro

from pcsim import models
from pcsim.core.exceptions import PcsimError
from pcsim.network.validate import KINDS


def list_models() -> None:
    """List the registered models with their papers, parameter counts and edge counts by kind."""
    rows: list[tuple[str, ...]] = [("name", "parameters", *KINDS, "paper")]
    for name in models.available():
        with torch.device("meta"):  # counting parameters needs their shapes, not their values
            net = models.build(name)
        kinds: list[str] = [edge.kind for edge in net.projections]
        count = net.parameter_count
        rows.append((name, f"{count:,}", *(str(kinds.count(kind)) for kind in KINDS), models.paper(name)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row[1:-1], widths[1:-1], strict=True)]
        print("  ".join([row[0].ljust(widths[0]), *cells, row[-1]]))


def describe(name: Annotated[str, tyro.conf.Positional], draw: Path | None = None) -> None:
    """Print the wiring of a model as published, in evaluation order, and save a drawing of its graph.

    Args:
        name: name of a registered model
        draw: image file to write (.png, .pdf or .svg); NAME.png by default
    """
    from matplotlib.figure import Figure

    from pcsim import plots

    net = models.build(name)
    print(net.describe())
    path = draw or Path(f"{name}.png")
    cast(Figure, plots.circuit(net).figure).savefig(path, dpi=150)
    print(f"drawing saved to {path}")


if __name__ == "__main__":
    try:
        tyro.extras.subcommand_cli_from_dict(
            {"models": list_models, "describe": describe}, prog="python -m pcsim", description=__doc__
        )
    except PcsimError as reason:
        sys.exit(f"error: {reason}")
