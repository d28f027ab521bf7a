"""Mutation testing: apply random single changes to pcsim's code, and check whether a test fails.

    python -m pytest --cov=pcsim --cov-context=test --cov-report=       record which test runs which line, in .coverage
    python tests/mutation/mutate.py --count 200 --seed 0                test mutants of seven packages in a copy
    python tests/mutation/mutate.py --again --tests 600                 test the survivors again, with more tests

A mutant has one changed operator, comparison, constant, keyword argument, condition or return value. The tests that
reach its line run (at most `--tests`, those of the same package first) until the first failure; a mutant that exceeds
the limit of processor time is counted as killed (`how` is "stopped"). Results are appended to a file, so an interrupted
run can continue.
Needs pytest-cov. Equivalent mutants survive, and must be reviewed manually.
"""

from __future__ import annotations

import argparse
import ast
import copy
import itertools
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from coverage import CoverageData

ROOT = Path(__file__).parents[2]
ROOMS = ("core", "rules", "network", "solvers", "simulation", "sweeps", "analysis")
MOST_WORK, FOR_EACH, LONGEST = 180, 3, 3600.0
"""seconds of processor time, in all and for each test, and of waiting, after which the tests of a mutant are stopped"""

COMPARISONS = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
OPERATORS = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
}


def changes(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """Yield every mutation of a node, with its kind."""
    new = copy.deepcopy(node)
    if isinstance(new, ast.Compare) and type(new.ops[0]) in COMPARISONS:
        new.ops[0] = COMPARISONS[type(new.ops[0])]()
        yield "comparison", new
    elif isinstance(new, ast.BinOp) and type(new.op) in OPERATORS:
        if not isinstance(new.op, ast.Mod | ast.BitOr) or not isinstance(new.left, ast.JoinedStr | ast.Constant):
            new.op = OPERATORS[type(new.op)]()
            yield "operator", new
    elif isinstance(new, ast.BoolOp):
        new.op = ast.Or() if isinstance(new.op, ast.And) else ast.And()
        yield "and/or", new
    elif isinstance(new, ast.UnaryOp) and isinstance(new.op, ast.Not | ast.USub):
        yield "sign or not", new.operand
    elif isinstance(new, ast.Constant) and isinstance(new.value, bool):
        yield "constant", ast.Constant(not new.value)
    elif isinstance(new, ast.Constant) and isinstance(new.value, int | float):
        yield "constant", ast.Constant(new.value + 1)
    elif isinstance(new, ast.If | ast.IfExp | ast.While):
        new.test = ast.UnaryOp(ast.Not(), new.test)
        yield "condition", new
    elif isinstance(new, ast.Return) and new.value is not None and not isinstance(new.value, ast.Constant):
        new.value = ast.Constant(None)
        yield "returns None", new
    elif isinstance(new, ast.Call) and new.keywords and all(k.arg for k in new.keywords):
        new.keywords.pop()
        yield "keyword argument", new


def sites(path: Path) -> Iterator[tuple[int, str, int]]:
    """Yield (number of the node, kind of change, line) for every mutant of a file."""
    tree = ast.parse(path.read_text())
    skipped = {id(inner) for node in ast.walk(tree) for inner in _never_changed(node)}
    for number, node in enumerate(ast.walk(tree)):
        if id(node) not in skipped:
            for kind, _ in changes(node):
                yield number, kind, node.lineno  # type: ignore[attr-defined]


def mutated(path: Path, number: int) -> str:
    """Return the source of a file with one node changed."""
    tree = ast.parse(path.read_text())
    old = next(node for n, node in enumerate(ast.walk(tree)) if n == number)
    ((_, new),) = changes(old)
    return ast.unparse(ast.fix_missing_locations(_Swap(old, new).visit(tree)))


def _never_changed(node: ast.AST) -> Iterator[ast.AST]:
    """Yield nodes without effect at run time: annotations, messages and code under TYPE_CHECKING."""
    if isinstance(node, ast.FunctionDef):
        for annotated in (node.returns, *(a.annotation for a in ast.walk(node.args) if isinstance(a, ast.arg))):
            yield from ast.walk(annotated) if annotated else ()
    elif isinstance(node, ast.AnnAssign):
        yield from ast.walk(node.annotation)
    elif (
        isinstance(node, ast.Raise | ast.JoinedStr | ast.Assert)
        or (isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING")
        or (isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "warn")
    ):
        yield from ast.walk(node)


class _Swap(ast.NodeTransformer):
    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self.old, self.new = old, new

    def visit(self, node: ast.AST) -> ast.AST:
        return self.new if node is self.old else self.generic_visit(node)


def tests_of(data: CoverageData, path: Path, line: int, most: int) -> list[str]:
    """Return at most `most` tests that run a line or, if it runs at import, any line of its file.

    Tests of the same package come first; the others are sampled at regular intervals.
    """
    place = path.relative_to(ROOT).as_posix()
    (measured,) = (file for file in data.measured_files() if file.endswith(place))
    by_line = data.contexts_by_lineno(measured)

    def named(contexts: Iterable[str]) -> set[str]:
        return {context.rpartition("|")[0] or context for context in contexts} - {""}

    found = named(by_line.get(line, [])) or named(itertools.chain.from_iterable(by_line.values()))
    room = path.relative_to(ROOT / "pcsim").parts[0]
    names = sorted(found, key=lambda name: (f"tests/{room}/" not in name, name))
    own = [name for name in names if f"tests/{room}/" in name][:most]
    rest = names[len(own) :]
    return own + rest[:: max(1, len(rest) // max(1, most - len(own)))][: most - len(own)]


def outcome(copied: Path, tests: list[str]) -> str:
    """Return "passed" if all tests pass on a changed copy, else "failed", or "stopped" if they took too long.

    The limit is on processor time, because other programs that slow the tests down would make mutants look killed.
    """
    most = MOST_WORK + FOR_EACH * len(tests)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-n",
        "0",
        "-x",
        "-q",
        "-p",
        "no:cacheprovider",
        "-o",
        "timeout=0",
        *tests,
    ]
    with subprocess.Popen(
        command,
        cwd=copied,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (most, most)),
    ) as running:
        try:
            status = running.wait(LONGEST)
        except subprocess.TimeoutExpired:
            os.killpg(running.pid, signal.SIGKILL)
            return "stopped"
    return "passed" if status == 0 else "stopped" if status < 0 else "failed"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--count", type=int, default=200)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--tests", type=int, default=60, help="maximum number of tests per mutant")
    options.add_argument("--coverage", default=".coverage", help="coverage file from pytest --cov-context=test")
    options.add_argument("--out", type=Path, default=Path("mutants.jsonl"))
    options.add_argument("--part", default="0/1", help="k/n: every n-th mutant from k on, to split the work")
    options.add_argument("--again", action="store_true", help="test only the mutants that have survived")
    chosen = options.parse_args()
    data = CoverageData(chosen.coverage)
    data.read()
    files = sorted(
        path for room in ROOMS for path in (ROOT / "pcsim" / room).glob("*.py") if path.name != "__init__.py"
    )
    every = [(path, *site) for path in files for site in sites(path)]
    drawn = random.Random(chosen.seed).sample(every, min(chosen.count, len(every)))
    part, parts = map(int, chosen.part.split("/"))
    rows = [json.loads(row) for row in chosen.out.read_text().splitlines()] if chosen.out.exists() else []
    known = {row["number"] for row in rows}
    if chosen.again:
        known = set(range(chosen.count)) - {row["number"] for row in rows if row["survived"]}
    with tempfile.TemporaryDirectory() as folder:
        copied = Path(folder) / "project"
        ignored = shutil.ignore_patterns(".venv", ".git", "results", "__pycache__", ".*_cache", ".hypothesis")
        shutil.copytree(ROOT, copied, ignore=ignored)
        for number, (path, node, kind, line) in enumerate(drawn):
            if number % parts != part or number in known:
                continue
            place = path.relative_to(ROOT)
            tests = tests_of(data, path, line, chosen.tests)
            (copied / place).write_text(mutated(path, node))
            how = outcome(copied, tests) if tests else "passed"
            shutil.copy(path, copied / place)
            row = {"number": number, "file": str(place), "line": line, "kind": kind, "tests": len(tests)}
            source = path.read_text().splitlines()[line - 1].strip()
            with chosen.out.open("a") as out:
                out.write(json.dumps(row | {"survived": how == "passed", "how": how, "source": source}) + "\n")
    latest = {row["number"]: row for row in map(json.loads, chosen.out.read_text().splitlines())}
    rows = list(latest.values())
    print(f"{sum(not row['survived'] for row in rows)} of {len(rows)} killed")


if __name__ == "__main__":
    main()
