"""Imports point one way, files stay small, and one step calls few functions."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

import pcsim
from pcsim import Euler, Iterate, models, simulate

PACKAGE = Path(pcsim.__file__).parent
# From the bottom up: each package may import only those listed before it (see the figure in docs/design.md).
ROOMS = (
    *("core", "stimuli", "rules", "connections", "network", "models", "solvers", "simulation", "analysis"),
    *("saved", "training", "dynamics", "brain", "sweeps", "plots", "__main__"),
)
PUBLIC = (
    *("RK4", "Dopri5", "Euler", "ExponentialEuler", "Heun", "Iterate", "TorchDiffEq"),
    *("Network", "Population", "Projection", "Batched", "batched"),
    *("simulate", "load", "Simulator", "rollout", "initial_state", "predict", "Forecast", "Full"),
    *("Record", "Run", "Settled", "Snapshot", "Status", "Clock"),
    *("PcsimError", "PcsimWarning", "RecordError", "SolverError", "StimulusError", "StorageError", "SweepError"),
    *("TrainingError", "WiringError"),
    *(
        "analysis",
        "brain",
        "connections",
        "core",
        "dynamics",
        "models",
        "plots",
        "rules",
        "stimuli",
        "sweeps",
        "training",
    ),
)
ENGINE = ("core", "network", "solvers", "simulation", "training")
FILES = sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def module_of(path: Path) -> str:
    parts = ("pcsim", *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path) -> set[str]:
    """Return the project's modules that a file imports at the top, in functions, or for type checking."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "pcsim":
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.split(".")[0] == "pcsim"}
    modules = {module_of(file) for file in FILES}
    return {name if name in modules else name.rpartition(".")[0] for name in found}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_one_way(path: Path) -> None:
    room = room_of(path)
    if room == "__init__":
        return
    for module in imported(path):
        other = module.split(".")[1] if "." in module else "__init__"
        assert other != "__init__", f"{room} imports the top-level package"
        assert other == room or ROOMS.index(other) < ROOMS.index(room), f"{room} imports {other}"


def imports_of_rooms() -> dict[str, set[str]]:
    """Return, for each package, the other packages that its files import."""
    found: dict[str, set[str]] = {
        room_of(path): set() for path in FILES if path.name != "__init__.py" or path.parent != PACKAGE
    }
    for path in FILES:
        if (room := room_of(path)) in found:
            found[room] |= {module.split(".")[1] for module in imported(path)} - {room}
    return found


def drawn_rooms() -> dict[str, tuple[int, set[str]]]:
    """Return, for each package, its layer and imports according to docs/design.md."""
    rows = re.findall(
        r"^\| (\d+) \| `(\w+)` \|[^|]*\|([^|]*)\|$", (PACKAGE.parent / "docs/design.md").read_text(), re.M
    )
    return {room: (int(floor), set(re.findall(r"\w+", imports))) for floor, room, imports in rows}


def test_design_table_matches_imports() -> None:
    edges = imports_of_rooms()

    def floor(room: str) -> int:
        return 1 + max((floor(other) for other in edges[room]), default=0)

    assert drawn_rooms() == {room: (floor(room), others) for room, others in edges.items()}
    assert len(edges) <= 16
    assert max(floor(room) for room in edges) <= 12


def test_imports_check_finds_run_time_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = PACKAGE / "core" / "clock.py"
    text = path.read_text() + "\ndef late():\n    from pcsim.simulation import simulate\n    return simulate\n"
    monkeypatch.setattr(Path, "read_text", lambda self, *args: text if self == path else "")
    with pytest.raises(AssertionError, match="core imports simulation"):
        test_imports_point_one_way(path)


def test_modules_are_not_shadowed_by_public_functions() -> None:
    """`import pcsim.X as x` gives the module: no function that its package exports has the same name.

    Names in other packages do not matter: `pcsim.plots.network` draws a network, and `pcsim.network` is a package.
    """
    modules = {name: importlib.import_module(name) for name in map(module_of, FILES) if not name.endswith("__main__")}
    functions = {
        (exporter if hasattr(module, "__path__") else exporter.rpartition(".")[0], name)
        for exporter, module in modules.items()
        for name in getattr(module, "__all__", ())
        if inspect.isroutine(getattr(module, name))
    }
    for name, module in modules.items():
        parent, _, last = name.rpartition(".")
        assert (parent, last) not in functions, name
        assert not parent or getattr(modules[parent], last) is module, name


def test_public_names_match_list() -> None:
    """Adding or removing a public name requires changing this list."""
    assert sorted(pcsim.__all__) == sorted(PUBLIC)
    assert set(pcsim.__all__) <= set(dir(pcsim))


def public_modules(module: ModuleType = pcsim) -> list[ModuleType]:
    """Return a module and the modules among its public names, and so on; figures are imported on first use."""
    names = [name for name in getattr(module, "__all__", ()) if name != "plots"]
    inner = [getattr(module, name) for name in names]
    return [module, *(each for part in inner if isinstance(part, ModuleType) for each in public_modules(part))]


def test_dir_lists_public_names_only() -> None:
    found = {module.__name__: module for module in public_modules()}
    assert {"pcsim", "pcsim.models", "pcsim.models.weights", "pcsim.brain.similarity", "pcsim.connections"} <= {*found}
    for name, module in found.items():
        if not name.startswith("pcsim.core."):
            assert dir(module) == sorted(module.__all__), name


def names_defined(path: Path) -> set[str]:
    return {node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}


def test_functions_used_in_one_file_are_private() -> None:
    others = [*FILES, *(PACKAGE.parent / "experiments").rglob("*.py"), *(PACKAGE.parent / "tests").rglob("*.py")]
    pages = (PACKAGE.parent / "docs").rglob("*.md")
    words = {path: set(re.findall(r"\w+", path.read_text())) for path in (*others, *pages)}
    for path in FILES:
        for name in names_defined(path):
            is_used = any(name in used for other, used in words.items() if other != path)
            assert is_used or name.startswith("_") or path.name == "__main__.py", f"{path}: {name}"
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pcsim"):
                assert not any(alias.name.startswith("_") for alias in node.names), path


def test_imports_have_no_cycle() -> None:
    """Cycles between files count too, also under TYPE_CHECKING; an `__init__` may import all files of its folder."""
    edges = {module_of(file): imported(file) - {module_of(file)} for file in FILES if file.name != "__init__.py"}
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path[path.index(module) :], module))
        if module not in done:
            for other in edges.get(module, ()):
                visit(other, (*path, module))
            done.add(module)

    for module in edges:
        visit(module, ())


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_and_functions_stay_small(path: Path) -> None:
    text = path.read_text()
    lines, length = (400, 60) if room_of(path) in ENGINE else (500, 80)
    assert text.count("\n") <= lines
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.lineno < length, node.name


def test_experiment_scripts_have_at_most_300_lines() -> None:
    shared = ("base.py", "report.py")
    scripts = [path for path in (PACKAGE.parent / "experiments").rglob("*.py") if path.name not in shared]
    assert scripts
    assert {path.name: n for path in scripts if (n := path.read_text().count("\n")) > 300} == {}


def test_repository_has_no_stray_files() -> None:
    """A file written into the working folder by mistake must not be committed."""
    root = PACKAGE.parent
    if not (root / ".git").exists():
        pytest.skip("needs the git repository")
    listed = subprocess.run(["git", "ls-files"], cwd=root, check=True, capture_output=True, text=True).stdout
    folders = {".ci", ".github", "docs", "experiments", "pcsim", "tests"}
    files = {".gitignore", ".pre-commit-config.yaml", "CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "LICENSE"}
    files |= {"README.md", "constraints.txt", "pyproject.toml"}
    assert {path.split("/")[0] for path in listed.splitlines()} <= folders | files


def test_package_files_have_no_pickle_or_heavy_imports() -> None:
    for path in FILES:
        text = path.read_text()
        for forbidden in (
            "weights_only=False",
            "allow_pickle=True",
            "import torchvision",
            "from torchvision",
            "import timm",
            "pickle",
        ):
            # Match whole words only, because submitit has a path called `result_pickle`.
            assert not re.search(rf"\b{re.escape(forbidden)}\b", text), f"{path}: {forbidden}"
        body = ast.parse(text).body
        top = {alias.name for node in body if isinstance(node, ast.Import) for alias in node.names}
        top |= {node.module or "" for node in body if isinstance(node, ast.ImportFrom)}
        slow = {"scipy", "xarray", "torchdiffeq", "sklearn", "pooch", "optuna", "plotly", "av", "dask", "submitit"}
        slow |= {"pandas", "pynwb", "h5py"}
        assert not {name.split(".")[0] for name in top} & slow, path


def test_run_leaves_module_containers_unchanged() -> None:
    """Modules must not cache networks, programs or fingerprints; only a Simulator does."""
    before = {name: len(value) for name, value in module_containers()}
    net = models.leaky_rcnn((2, 3), tau=(10.0, 20.0), image=(1, 8, 8))
    simulate(net, torch.rand(1, 1, 8, 8), solver=Euler(dt=1.0), until=400.0)
    sim = pcsim.Simulator(net, solver=Euler(dt=1.0))
    sim(torch.rand(1, 1, 8, 8), until=400.0)
    assert {name: len(value) for name, value in module_containers()} == before


def module_containers() -> list[tuple[str, object]]:
    found = []
    for name, module in list(sys.modules.items()):
        if name.startswith(("pcsim.core", "pcsim.network", "pcsim.solvers", "pcsim.simulation", "pcsim.training")):
            found += [
                (f"{name}.{key}", value) for key, value in vars(module).items() if isinstance(value, dict | list | set)
            ]
    return found


def calls_of_a_step(net: pcsim.Network, solver: object, steps: int) -> tuple[int, int]:
    """Return the number of calls (torch included) in a run, and the depth of a rule's forward below `simulate`."""
    count = deepest = 0
    stack: list[str] = []

    def trace(frame: object, event: str, _: object) -> None:
        nonlocal count, deepest
        path = frame.f_code.co_filename
        count += event == "call"
        if not path.startswith(str(PACKAGE)):
            return
        if event == "call":
            stack.append(frame.f_code.co_name)
            if stack[-2:] == ["evaluate", "forward"] and "/rules/" in path:
                deepest = max(deepest, len(stack) - stack.index("simulate"))
        elif event == "return" and stack:
            stack.pop()

    images = torch.rand(2, *net.inputs["image"])
    sys.setprofile(trace)
    try:
        simulate(net, images, solver=solver, steps=steps)
    finally:
        sys.setprofile(None)
    return count, deepest


@pytest.mark.parametrize("solver", [Euler(dt=1.0), pcsim.RK4(dt=1.0), Iterate()])
def test_step_calls_few_functions(solver: object) -> None:
    """The depth was 13 before the engine was rewritten; calls were 87, 363 and 99 before layers bypassed modules."""
    discrete = isinstance(solver, Iterate)
    net = (
        models.blt(channels=(3, 3), image=(1, 8, 8))
        if discrete
        else models.leaky_rcnn((3, 4), tau=(10.0, 20.0), image=(1, 8, 8))
    )
    calls_of_a_step(net, solver, 1)  # fills caches that last for the process
    few, depth = calls_of_a_step(net, solver, 10)
    more, _ = calls_of_a_step(net, solver, 11)
    assert 0 < depth <= 6
    assert 0 < more - few <= (60 if not isinstance(solver, pcsim.RK4) else 200)


def test_experiments_use_public_names_only() -> None:
    for path in (PACKAGE.parent / "experiments").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("pcsim"):
                assert not any(alias.name.startswith("_") for alias in node.names)
                if node.module == "pcsim":
                    assert {alias.name for alias in node.names} <= set(pcsim.__all__)
