"""Imports point one way, and rooms stay small."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "pcsim"
# From the bottom up: a room may import from those named before it (docs/design.md has the drawing).
ROOMS = """
exceptions memory storage clock state program history rules connections parts wiring variants description
graph weights models solvers adaptive stepping stimuli recording simulate together prediction gradients parallel
training plasticity analysis frame_training assemblies subject executors sweep search plots __main__
"""


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "pcsim":
            parts = node.module.split(".")
            rooms |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
    return rooms


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_one_way(path: Path) -> None:
    room = room_of(path)
    if room == "__init__":
        return
    for other in imported_rooms(path) - {room}:
        if not guarded(path, other):
            assert ROOMS.split().index(other) < ROOMS.split().index(room), f"{room} imports {other}"


def guarded(path: Path, room: str) -> bool:
    """Whether `room` is imported for annotations only."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            return room in ast.unparse(node)
    return False


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_rooms_and_functions_stay_small(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= 500
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 80, node.name


def test_no_file_can_run_code_and_heavy_packages_stay_out() -> None:
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text()
        for forbidden in ("weights_only=False", "allow_pickle=True", "torchvision", "import timm", "pickle"):
            # A word of its own: submitit calls a path `result_` and that.
            assert not re.search(rf"\b{re.escape(forbidden)}\b", text), f"{path}: {forbidden}"
        top = {a.name for n in ast.parse(text).body if isinstance(n, ast.Import) for a in n.names}
        assert not top & {"scipy", "xarray", "torchdiffeq", "sklearn"}, path


def test_experiments_use_public_names_only() -> None:
    import pcsim

    for path in (PACKAGE.parent / "experiments").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("pcsim"):
                assert not any(alias.name.startswith("_") for alias in node.names)
                if node.module == "pcsim":
                    assert {alias.name for alias in node.names} <= set(pcsim.__all__)
