"""List the experiments: `python -m experiments`.

The list is read from the source files, because importing all experiments takes seconds.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from typing import NamedTuple, cast

from pcsim.core.command_line import program

FOLDER = Path(__file__).parent


class _Experiment(NamedTuple):
    """An experiment: the first sentence of its docstring, its presets, and its first example with its duration."""

    sentence: str
    presets: tuple[str, ...]
    example: str


def available() -> list[str]:
    """Return the names of the experiments: the modules and packages that define `run`."""
    files = {path.parent.name if path.stem == "__init__" else path.stem: path for path in _files()}
    return sorted(name for name, path in files.items() if "\ndef run(" in path.read_text())


def show(prefix: str) -> None:
    """Print the experiments with their presets and durations.

    prefix  what the user types before the name: "pcsim run " or "python -m experiments."
    """
    for name in available():
        experiment = _read(name)
        print(f"{name}\n    {experiment.sentence}\n    presets: {', '.join(experiment.presets)}")
        print(f"    {prefix}{experiment.example}\n")
    print(f"All options of an experiment: {prefix}NAME --help")


def _files() -> list[Path]:
    return [*FOLDER.glob("[!_]*.py"), *FOLDER.glob("*/__init__.py")]


def _read(name: str) -> _Experiment:
    file = FOLDER / f"{name}.py"
    start, options = (file, file) if file.exists() else (FOLDER / name / "__init__.py", FOLDER / name / "options.py")
    lines = (ast.get_docstring(ast.parse(start.read_text())) or "").splitlines()
    example = next(line for line in lines if line.startswith(f"    python -m experiments.{name} "))
    return _Experiment(lines[0], _presets(options), re.sub(" {2,}", "  ", example.partition("experiments.")[2]))


def _presets(path: Path) -> tuple[str, ...]:
    """Return the keys of the dict PRESETS that a file defines."""
    assigned = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Assign)]
    (presets,) = [node.value for node in assigned if ast.unparse(node.targets[0]) == "PRESETS"]
    return tuple(ast.literal_eval(key) for key in cast(ast.Dict, presets).keys if key is not None)


if __name__ == "__main__":
    with program():
        if len(sys.argv) > 1:
            print(f"python -m {__package__} takes no arguments; write python -m {__package__}.NAME", file=sys.stderr)
            raise SystemExit(2)
        show(f"python -m {__package__}.")
