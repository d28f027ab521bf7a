"""The `pcsim` command, also available as `python -m pcsim`."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pcsim.core.command_line import COMMAND, importing, program
from pcsim.core.exceptions import PcsimError, StorageError
from pcsim.core.version import VERSION

if TYPE_CHECKING:
    from pcsim.network import Network

MARKED_BY = {".png": "Software", ".pdf": "Creator", ".svg": "Creator"}
"""image file suffix -> metadata field for the name of the program that wrote the file"""


def list_models() -> None:
    """List all models with papers, parameter counts and edge counts, and all trained weights with their scores."""
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
    print("\ntrained weights, models.build(NAME, weights=...); `pcsim reproduce NAME.WEIGHTS` retrains them")
    trained: list[tuple[str, ...]] = [("name.weights", "kB", "score", "three seeds", "what is scored; trained on")]
    for name, card in models.weights.cards().items():
        score = card["scores"][card["headline"]]
        seeds = score["seeds"].values()
        spread = f"{min(seeds):.3g} to {max(seeds):.3g}" if len(seeds) > 1 else "one seed"
        text = f"{card['headline']}; {card['trained_on']}"
        trained.append((name, f"{card['bytes'] / 1000:.0f}", f"{score['mean']:.3g}", spread, text))
    _print_table(trained)


def _print_table(rows: Sequence[tuple[str, ...]]) -> None:
    """Print a table in which the first and last columns are left-aligned and all others right-aligned."""
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


def export_page(
    model: str,
    path: str | Path,
    *,
    weights: str | None = None,
    **options: Any,
) -> None:
    """Write a page on which a trained network recognises 32x32-pixel digits, average-pooled to its input size.

    model      a model with weights in pcsim, or a file written by `net.save`
    weights    name of the bundled weights; by default, the last in alphabetical order
    fragments  number of fragments of debris on ten of the images, by default 10; the other ten are clean
    spread     offsets of the digits from the centre, from 0 (none) to 1 (as published, the default)
    dt         Euler step in ms

    The other options are those of `pcsim.plots.export_page`. For bundled weights, their defaults are listed on the
    weights' card.
    """
    with importing():
        import torch

        from pcsim import plots, stimuli
        from pcsim.core import storage
        from pcsim.solvers import Euler

    net, about, own = _trained(model, weights)
    options = own | {name: value for name, value in options.items() if value is not None}
    occluded, spread, dt = options.pop("fragments", 10), options.pop("spread", 1.0), options.pop("dt", None)
    about |= {"images": f"10 under {occluded} fragments of debris, 10 clean"}
    pictures: list[torch.Tensor] = []
    labels: list[int] = []
    for fragments in (occluded, 0):
        drawn = stimuli.scenes(stimuli.Condition(fragments=fragments, spread=spread), 7, 0, 200)
        digits = drawn.identities[:, -1].tolist()
        pictures += [drawn.pixels()[digits.index(digit)] for digit in range(10)]
        labels += range(10)
    images = torch.stack(pictures)
    side = next(iter(net.inputs.values()))[-1]
    if images.shape[-1] % side == 0:
        images = torch.nn.functional.avg_pool2d(images, images.shape[-1] // side)
    options |= {"solver": None if dt is None else Euler(dt=dt), "about": about}
    plots.export_page(net, path, images, labels=torch.tensor(labels), **options)
    print(f"page saved to {path} ({storage.full_path(path).stat().st_size / 1e3:,.0f} kB); open it in a browser")


def _trained(model: str, weights: str | None) -> tuple[Network, dict[str, str], dict[str, Any]]:
    """Return a model with bundled weights or the network from a file, the origin of its weights, and page options."""
    with importing():
        from pcsim import models
        from pcsim.core import storage
        from pcsim.models import weights as included
        from pcsim.network import Network
        from pcsim.saved import load

    if storage.full_path(model).is_file() or Path(model).suffix:
        net = load(model)
        if not isinstance(net, Network):
            raise StorageError(
                given=f"{model}, a saved run",
                expected="a file with a network, written by net.save(...)",
                remedy="pass the file of the network that produced this run",
            )
        return net, {"file": Path(model).name}, {}
    models.paper(model)  # raises an error for unknown names
    known = included.available().get(model, ())
    if not known:
        raise StorageError(
            given=f"the model {model!r}, for which pcsim includes no weights",
            expected=f"one of {', '.join(included.available())}, or a file with a network",
            remedy=f"train the model, call net.save('{model}.pcsim'), and pass that file instead of the name",
        )
    chosen = weights or known[-1]
    net = models.build(model, weights=chosen)
    card = included.card(model, chosen)
    about = {"weights": chosen, "trained on": card["trained_on"], "seed of training": str(card["seed"])}
    return net, about, dict(card["recipe"]["page"])


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
    """Retrain a network whose weights ship with pcsim, and return whether its scores agree with the stored ones.

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
    """Return the name of the experiments package: part of pcsim if installed, next to pcsim in a clone."""
    if find_spec("pcsim.experiments") is not None:
        return "pcsim.experiments"
    clone = Path(__file__).parents[1]
    if not (clone / "experiments" / "base.py").is_file():
        raise PcsimError(
            given=f"{Path(__file__).parent}, a copy of pcsim without experiments",
            expected="pcsim as installed by pip, or a clone of its repository",
            remedy="install pcsim with pip",
        )
    sys.path.insert(0, str(clone))  # takes precedence over any other package of this name
    return "experiments"


# ---------------------------------------------------------------------- the command line


def _parser(command: str) -> argparse.ArgumentParser:
    """Return the parser for all commands; the options of an experiment are parsed by the experiment itself."""
    parser = argparse.ArgumentParser(command, description="Recurrent models of vision and predictive coding.")
    parser.add_argument("--version", action="version", version=f"pcsim {VERSION}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("models", help="list the models with their papers, parameter counts and edge counts")
    text = "print the wiring of a model in evaluation order"
    describing = commands.add_parser("describe", help=text, description=f"{text.capitalize()}.", allow_abbrev=False)
    describing.add_argument("name", metavar="NAME", help="a model listed by `pcsim models`")
    describing.add_argument("--draw", metavar="FILE", help="also draw its graph (.png, .pdf or .svg)")
    text = "write a page that runs a trained network in the browser"
    paging = commands.add_parser("export-page", help=text, description=f"{text.capitalize()}.", allow_abbrev=False)
    paging.add_argument("model", metavar="MODEL", help="a model with bundled weights, or a file written by net.save")
    paging.add_argument("path", metavar="FILE", help="the page, such as out.html")
    paging.add_argument(
        "--weights", metavar="NAME", help="name of the bundled weights (default: the last in alphabetical order)"
    )
    paging.add_argument("--readout", metavar="NAME", help="population whose values are shown instead of probabilities")
    paging.add_argument("--fragments", type=int, metavar="N", help="fragments of debris on half of the images")
    paging.add_argument("--spread", type=float, help="offsets of the digits, from 0 to 1")
    paging.add_argument(
        "--dt", type=float, metavar="MS", help="Euler step in continuous time (default: a tenth of tau)"
    )
    paging.add_argument("--until", type=float, metavar="MS", help="end of a run")
    text = "run an experiment, or list the experiments if no name is given"
    usage = f"{command} run [EXPERIMENT [OPTIONS]]"
    running = commands.add_parser("run", help=text, description=f"{text.capitalize()}.", usage=usage)
    running.add_argument("name", nargs="?", metavar="EXPERIMENT", help="its options are listed by EXPERIMENT --help")
    text = "retrain a network whose weights ship with pcsim, and compare its scores with the stored ones"
    again = commands.add_parser("reproduce", help=text, description=f"{text.capitalize()}.", allow_abbrev=False)
    again.add_argument("name", nargs="?", metavar="NAME", help="MODEL.WEIGHTS; if omitted, the names are listed")
    again.add_argument(
        "--out", metavar="FOLDER", help="output folder; to resume interrupted training, pass the same folder"
    )
    commands.add_parser("doctor", help="show versions, devices, data folders and missing extras")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the `pcsim` command; its exit statuses are listed in `pcsim.core.command_line`."""
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
            case "export-page":
                settings = {name: value for name, value in vars(options).items() if name != "command"}
                export_page(settings.pop("model"), settings.pop("path"), **settings)
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
