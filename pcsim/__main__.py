"""The command `pcsim`, also run by `python -m pcsim`."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import cast

from pcsim.core.command_line import COMMAND, importing, program
from pcsim.core.exceptions import PcsimError, StorageError
from pcsim.core.version import VERSION

MARKED_BY = {".png": "Software", ".pdf": "Creator", ".svg": "Creator"}
"""image file suffix -> metadata field for the name of the program that wrote the file"""


def list_models() -> None:
    """List the registered models with their papers, parameter and edge counts, and the trained weights with a score."""
    with importing():
        import torch

        from pcsim import models
        from pcsim.network.parts import KINDS

    rows: list[tuple[str, ...]] = [("name", "parameters", *KINDS, "paper")]
    for name in models.available():
        with torch.device("meta"):  # only the shapes of the parameters are needed to count them
            net = models.build(name)
        kinds: list[str] = [edge.kind for edge in net.projections]
        count = net.parameter_count
        rows.append((name, f"{count:,}", *(str(kinds.count(kind)) for kind in KINDS), models.paper(name)))
    _print_table(rows)
    print("\ntrained weights, models.build(NAME, weights=...); `pcsim reproduce NAME.WEIGHTS` trains them again")
    trained: list[tuple[str, ...]] = [("name.weights", "kB", "score", "three seeds", "what is scored; trained on")]
    for name, card in models.weights.cards().items():
        score = card["scores"][card["headline"]]
        seeds = score["seeds"].values()
        spread = f"{min(seeds):.3g} to {max(seeds):.3g}" if len(seeds) > 1 else "one seed"
        text = f"{card['headline']}; {card['trained_on']}"
        trained.append((name, f"{card['bytes'] / 1000:.0f}", f"{score['mean']:.3g}", spread, text))
    _print_table(trained)


def _print_table(rows: Sequence[tuple[str, ...]]) -> None:
    """Print rows of cells: the first and last column are aligned on the left, all others on the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row[1:-1], widths[1:-1], strict=True)]
        print("  ".join([row[0].ljust(widths[0]), *cells, row[-1]]))


def describe(name: str, draw: str | Path | None = None) -> None:
    """Print the wiring of a model with its published settings, in evaluation order.

    draw  image file (.png, .pdf or .svg) for a drawing of its graph
    """
    with importing():
        from pcsim import models
        from pcsim.core import storage

    path = None if draw is None else storage.full_path(draw)
    if path is not None and path.suffix.lower() not in MARKED_BY:
        raise StorageError(
            given=f"--draw {path}",
            expected=f"a file name with one of the suffixes {', '.join(MARKED_BY)}",
            remedy=f"pass --draw {path.with_suffix('.png').name}",
        )
    net = models.build(name)
    print(net.describe())
    if path is None:
        return
    with importing():
        from matplotlib.figure import Figure

        from pcsim import plots
    kind = path.suffix.lower()
    picture = io.BytesIO()  # matplotlib's own writers raise other exceptions when a disk is full
    figure = cast(Figure, plots.network(net).figure)
    figure.savefig(picture, dpi=150, format=kind[1:], metadata={MARKED_BY[kind]: storage.MARK})
    with storage.replacing(path) as partial:
        partial.write_bytes(picture.getvalue())
    print(f"drawing saved to {path}")


# ---------------------------------------------------------------------- experiments


def run_experiment(name: str | None, options: Sequence[str], command: str) -> None:
    """Run an experiment with command-line options; without a name, list the experiments."""
    package = _experiments()
    listing = import_module(f"{package}.__main__")
    if name is None:
        listing.show(f"{command} ")
        return
    if name not in listing.available():
        raise PcsimError(
            given=f"the experiment {name!r}",
            expected=f"one of {', '.join(listing.available())}",
            remedy=f"run `{command}` for a list with descriptions",
        )
    with importing():
        base, experiment = (import_module(f"{package}.{each}") for each in ("base", name))
    base.start(experiment, options, f"{command} {name}")


def reproduce(name: str | None, out: str | None) -> bool:
    """Train a network whose weights ship with pcsim again, and return whether its scores agree with those stored.

    Without a name, list the networks.
    """
    package = _experiments()
    with importing():
        work = import_module(f"{package}.reproduce")
    if name is None:
        print("\n".join(f"{each}\n    {recipe.task}" for each, recipe in work.RECIPES.items()))
        return True
    return bool(work.reproduce(name, None if out is None else Path(out)))


def _experiments() -> str:
    """Return the package of the experiments: part of pcsim where it was installed, beside it in a clone."""
    if find_spec("pcsim.experiments") is not None:
        return "pcsim.experiments"
    clone = Path(__file__).parents[1]
    if not (clone / "experiments" / "base.py").is_file():
        raise PcsimError(
            given=f"{Path(__file__).parent}, a pcsim without experiments",
            expected="pcsim as installed by pip, or a clone of its repository",
            remedy="install pcsim with pip",
        )
    sys.path.insert(0, str(clone))  # before any other package of this name
    return "experiments"


# ---------------------------------------------------------------------- the command line


def _parser(command: str) -> argparse.ArgumentParser:
    """Return the parser of all commands; `run` leaves the options of an experiment to the experiment."""
    parser = argparse.ArgumentParser(command, description="Recurrent models of vision and predictive coding.")
    parser.add_argument("--version", action="version", version=f"pcsim {VERSION}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("models", help="list the models with their papers, parameter counts and edge counts")
    text = "print the wiring of a model in evaluation order"
    describing = commands.add_parser("describe", help=text, description=f"{text.capitalize()}.", allow_abbrev=False)
    describing.add_argument("name", metavar="NAME", help="a model listed by `pcsim models`")
    describing.add_argument("--draw", metavar="FILE", help="also draw its graph (.png, .pdf or .svg)")
    text = "run an experiment, or list the experiments if no name is given"
    running = commands.add_parser("run", help=text, usage=f"{command} run [EXPERIMENT [OPTIONS]]", add_help=False)
    running.add_argument("name", nargs="?")
    text = "train a network whose weights ship with pcsim again, and compare its scores with those stored"
    again = commands.add_parser("reproduce", help=text, description=f"{text.capitalize()}.", allow_abbrev=False)
    again.add_argument("name", nargs="?", metavar="NAME", help="MODEL.WEIGHTS; if omitted, the names are listed")
    again.add_argument("--out", metavar="FOLDER", help="output folder, in which an interrupted training resumes")
    commands.add_parser("doctor", help="show versions, devices, data folders and missing extras")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command `pcsim`; its exit statuses are listed in `pcsim.core.command_line`."""
    command = f"python -m {COMMAND}" if Path(sys.argv[0]).stem == "__main__" else COMMAND
    given = list(sys.argv[1:] if arguments is None else arguments)
    with program():
        if given[:1] == ["run"] and given[1:2] not in (["-h"], ["--help"]):
            name = given[1] if len(given) > 1 else None
            run_experiment(name, given[2:], f"{command} run")
            return
        options = _parser(command).parse_args(given)
        match options.command:
            case "models":
                list_models()
            case "describe":
                describe(options.name, options.draw)
            case "run":
                run_experiment(None, (), f"{command} run")
            case "reproduce":
                if not reproduce(options.name, options.out):
                    raise SystemExit(1)
            case "doctor":
                with importing():
                    from pcsim.core import doctor
                print(doctor.report())


if __name__ == "__main__":
    main()
