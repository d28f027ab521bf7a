"""What every experiment shares: presets on the command line, a folder that resumes, jobs in processes, a report."""

from __future__ import annotations

import argparse
import base64
import html
import math
import multiprocessing
import os
import platform
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
import tyro
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tqdm.auto import tqdm

from pcsim import Network
from pcsim.core import storage
from pcsim.core.exceptions import PcsimError, StorageError
from pcsim.network.weights import load_tensors
from pcsim.sweeps.executors import Processes, completed, one_thread
from pcsim.training import distributed

Config = TypeVar("Config")
Table = tuple[str, Sequence[str], Sequence[Sequence[str]]]
"""caption, head, rows"""


def parse(
    presets: Mapping[str, Config], arguments: Sequence[str] | None, description: str, flags: Mapping[str, str] = {}
) -> Config:
    """The configuration of a command line: `--preset NAME` chooses the defaults, every other option changes one.

    `flags` are options that stand for a preset of their own.

    Ends the program with status 2 and a message for an option that does not exist or a value out of range.
    """
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--preset", default="quick")
    given = sys.argv[1:] if arguments is None else list(arguments)
    for flag, preset in flags.items():
        if flag in given:
            given = ["--preset", preset, *(option for option in given if option != flag)]
    chosen, rest = first.parse_known_args(given)
    if chosen.preset not in presets:
        raise SystemExit(f"--preset {chosen.preset}: choose one of {', '.join(presets)}")
    default = presets[chosen.preset]
    known = ", ".join(presets)
    usage = f"{description}\n\nPresets (--preset): {known}. The defaults below are those of {chosen.preset}."
    return tyro.cli(type(default), default=default, args=rest, description=usage)


def main(run: Callable[[Config], None], config: Callable[[], Config]) -> None:
    """Run an experiment as a program: a failure the user can mend is a message and status 2; Ctrl-C can resume."""
    try:
        with distributed.process_group():
            run(config())
    except PcsimError as reason:
        print(f"\n{reason}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("\nStopped. Run the same command again to go on from here.", file=sys.stderr)
        raise SystemExit(130) from None


def claim(folder: Path, config: object) -> None:
    """Make `folder` this configuration's own, or go on in it. Raises StorageError if it belongs to another one."""
    mine = recorded(config)
    path = folder / "config.json"
    if distributed.rank() == 0:
        if path.exists():
            storage.sweep_partials(folder)
        else:
            storage.write_json(path, mine)
    distributed.barrier()
    theirs = storage.read_json(path)
    if theirs != mine:
        changed = [key for key in {**mine, **theirs} if mine.get(key) != theirs.get(key)]
        raise StorageError(
            given=f"{folder}, made with "
            + ", ".join(f"{key}={theirs.get(key)!r} (now {mine.get(key)!r})" for key in sorted(changed)),
            expected="the configuration it was begun with",
            remedy="choose another --out, delete the folder, or give the same options to resume",
        )


def recorded(config: object) -> dict[str, Any]:
    """The configuration that results depend on: not where files are, nor which or how many processes made them."""
    return {
        key: value
        for key, value in storage.plain(config).items()
        if key not in ("out", "mnist", "neural", "omniglot", "where", "workers", "checkpoint_every")
    }


def finite_or_none(values: Any) -> Any:
    """A number, or lists of them from an array, for JSON: what is not finite is None."""
    array = np.asarray(values, float)
    return [finite_or_none(inner) for inner in array] if array.ndim else float(array) if np.isfinite(array) else None


def finite_or_nan(values: Sequence[float | None]) -> list[float]:
    """Numbers from JSON: what was not finite is NaN again."""
    return [math.nan if value is None else value for value in values]


def pick_device(name: str) -> torch.device:
    """auto takes a GPU where there is one. Raises StorageError for cuda without one."""
    if name == "cuda" and not torch.cuda.is_available():
        raise StorageError(given="--device cuda", expected="a CUDA device", remedy="use --device cpu or auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def leave_the_rest_to_the_first() -> None:
    """Under torchrun, after what all processes do together (training): the others end here."""
    distributed.barrier()
    if distributed.rank() > 0:
        raise SystemExit(0)


def run_jobs(function: Callable[..., Any], jobs: Sequence[tuple], workers: int, title: str) -> Iterator[tuple]:
    """(job, function(*job)) as they end, in `workers` processes of one thread each, or here if there is one.

    Every job runs on one thread either way, so its result does not depend on `workers`.
    """
    if workers <= 1 or len(jobs) <= 1 or distributed.size() > 1:
        with one_thread():
            for job in tqdm(jobs, desc=title, disable=None):
                yield job, function(*job)
        return
    context = multiprocessing.get_context("spawn")
    lock = context.RLock()
    tqdm.set_lock(lock)
    with Processes(min(workers, len(jobs)), _take_a_line, (lock, context.Value("i", 0))) as executor:
        for done in tqdm(completed(executor, function, jobs), total=len(jobs), desc=title, disable=None):
            if done.reason is not None:
                raise done.reason
            yield done.arguments, done.result


_slot = 0


def _take_a_line(lock: Any, counter: Any) -> None:
    """In a new process: a line of the terminal for its progress bars."""
    global _slot
    tqdm.set_lock(lock)
    with counter.get_lock():
        counter.value += 1
        _slot = counter.value


def job_bar(description: str) -> Callable[..., tqdm]:
    """A progress bar for a job, on the line of its worker."""

    def make(*arguments: Any, **options: Any) -> tqdm:
        return tqdm(*arguments, desc=description, position=_slot, leave=False, disable=None, **options)

    return make


def environment(device: torch.device) -> dict[str, object]:
    """What the numbers may depend on besides the configuration."""
    packages = ("pcsim", "torch", "numpy", "torchdiffeq", "scipy")
    return {
        "versions": {name: version(name) for name in packages} | {"python": platform.python_version()},
        "device": torch.cuda.get_device_name() if device.type == "cuda" else f"cpu, {os.cpu_count()} cores",
        "threads_per_job": 1,
    }


def save_figure(picture: Figure | Axes, path: Path) -> None:
    """Write a figure (or the figure of an axes) as PNG."""
    figure = cast(Figure, picture.get_figure(root=True)) if isinstance(picture, Axes) else picture
    with storage.replacing(path) as partial:
        figure.savefig(partial, dpi=130, format="png")


STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 68rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
img { max-width: 100%; display: block; margin: .5rem 0 } figure { margin: 2rem 0 } h1 { font-size: 1.5rem }
table { border-collapse: collapse; margin: 1rem 0; font-size: .85rem } 
td, th { padding: .2rem .6rem; text-align: right }
td:first-child, th:first-child { text-align: left } tr { border-bottom: 1px solid #ddd }
figcaption { color: #444 } code { background: #f3f3f3; padding: 0 .2rem }
"""


def write_report(
    path: Path,
    title: str,
    summary: str,
    figures: Sequence[tuple[Path, str]],
    tables: Sequence[Table] = (),
    explorable: Sequence[tuple[Any, str]] = (),
) -> None:
    """One self-contained page: a summary, tables, and figures with a sentence each; plotly's can be explored."""
    parts = [f"<h1>{html.escape(title)}</h1>", f"<p>{html.escape(summary)}</p>"]
    for caption, head, rows in tables:
        parts.append(f"<h2>{html.escape(caption)}</h2><table><tr>{_cells('th', head)}</tr>")
        parts += [f"<tr>{_cells('td', row)}</tr>" for row in rows]
        parts.append("</table>")
    for number, (picture, sentence) in enumerate(explorable):
        fragment = picture.to_html(full_html=False, include_plotlyjs=number == 0, div_id=f"explore-{number}")
        parts.append(f"<figure>{fragment}<figcaption>{html.escape(sentence)}</figcaption></figure>")
    for figure, sentence in figures:
        kind = "gif" if figure.suffix == ".gif" else "png"
        data = base64.b64encode(figure.read_bytes()).decode()
        parts.append(
            f'<figure><img src="data:image/{kind};base64,{data}" alt="{html.escape(figure.stem)}">'
            f"<figcaption>{html.escape(sentence)}</figcaption></figure>"
        )
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{STYLE}</style>'
    storage.write_text(path, f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>')


def publish(
    out: Path,
    title: str,
    summary: str,
    figures: Sequence[tuple[str, Figure | Axes, str]],
    tables: Sequence[Table],
    seconds: float,
    explorable: Sequence[tuple[Any, str]] = (),
) -> None:
    """Save figures (name, picture, sentence), write `report.html`, print the tables and where to look next."""
    saved = []
    for name, picture, sentence in figures:
        save_figure(picture, out / f"{name}.png")
        saved.append((out / f"{name}.png", sentence))
    write_report(out / "report.html", title, summary, saved, tables, explorable)
    print(f"\n{title}")
    for caption, head, rows in tables:
        print(f"\n{caption}\n\n{text_table(head, rows)}")
    print(f"\nDone in {seconds:.0f} s. Open {out / 'report.html'}; numbers are in results.json.")


def trained(network: Network, checkpoint: Path, device: str) -> Network:
    """The network with what a training left in its checkpoint, ready for evaluation."""
    tensors, _ = storage.read_tensors(checkpoint, "training")
    load_tensors(network, storage.under("network/", tensors), str(checkpoint))
    return network.to(pick_device(device)).eval()


def _cells(tag: str, cells: Sequence[str]) -> str:
    return "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells)


def text_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The same table for a terminal."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    lines = [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in (head, *rows)
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])
