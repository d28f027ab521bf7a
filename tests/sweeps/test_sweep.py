"""Sweeps: points run once, are identified by their content, and survive the death of workers."""

from __future__ import annotations

import json
import math
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import BrokenExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support import swept
from support.paths import ENVIRONMENT
from support.processes import workers_of
from support.swept import Setting

from pcsim.core.exceptions import PcsimWarning, StorageError, SweepError
from pcsim.sweeps import executors
from pcsim.sweeps.executors import Processes, completed, executor_named
from pcsim.sweeps.lock import locked
from pcsim.sweeps.sweep import Sweep, Table, changed, grid, names, sample

POINTS = grid({"tau.0": [5.0, 10.0], "seed": range(3)})


def small(folder: Path, **options: object) -> Sweep:
    return Sweep(swept.measure, Setting(), POINTS, folder, **options)


def same(first: Table, second: Table) -> bool:
    """Return True if two tables are bitwise equal."""
    return first.points == second.points and all(
        a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)
        for a, b in zip(first.results, second.results, strict=True)
    )


def test_grid_is_all_combinations_with_linked_names() -> None:
    assert grid({("a", "b"): [(1, 2), (3, 4)], "c": range(2)}) == [
        {"a": 1, "b": 2, "c": 0},
        {"a": 1, "b": 2, "c": 1},
        {"a": 3, "b": 4, "c": 0},
        {"a": 3, "b": 4, "c": 1},
    ]
    assert grid({("a", "b"): [5.0]}) == [{"a": 5.0, "b": 5.0}], "one value must apply to all linked names"
    assert type(grid({"a": np.linspace(0, 1, 2)})[0]["a"]) is float


def test_sample_fills_ranges_evenly() -> None:
    ranges = {"tau": (1.0, 100.0, "log"), "gain": (0.0, 2.0)}
    drawn = sample(ranges, 20, seed=3)
    for name, cut in (("tau", np.geomspace(1, 100, 21)), ("gain", np.linspace(0, 2, 21))):
        assert np.histogram([point[name] for point in drawn], cut)[0].tolist() == [1] * 20, (
            "each part must be drawn once"
        )
    assert drawn == sample(ranges, 20, seed=3) and drawn != sample(ranges, 20, seed=4)
    freely = [point["tau"] for point in sample(ranges, 4_000, how="random")]
    assert np.mean(np.array(freely) < 10.0) == pytest.approx(0.5, abs=0.03), "log ranges must be sampled evenly in log"
    for wrong in ((2.0, 1.0), (0.0, 1.0, "log"), (1.0, 2.0, "linear")):
        with pytest.raises(SweepError, match="low, high"):
            sample({"tau": wrong}, 3)


def test_changed_sets_values_by_dotted_name() -> None:
    new = changed(Setting(), {"solver.dt": 1, "tau.1": 40, "options.gain": 0.5, "lesion": "top_down"})
    assert new == Setting((10.0, 40.0), swept.Solver(1.0), {"gain": 0.5}, "top_down")
    assert type(new.solver.dt) is float and Setting().tau == (10.0, 20.0)
    assert names(Setting()) == ["tau.0", "tau.1", "solver.dt", "options.gain", "lesion", "seed", "kept"]
    for wrong in ("solver.dT", "tau.2", "seed.0"):
        with pytest.raises(SweepError, match=r"tau\.0, tau\.1, solver\.dt"):
            changed(Setting(), {wrong: 1.0})
    with pytest.raises(SweepError, match=r"solver\.dt = 'fast'"):
        changed(Setting(), {"solver.dt": "fast"})


def test_sweep_ids_depend_on_content_only(tmp_path: Path) -> None:
    sweep = small(tmp_path)
    assert sweep.ids == small(tmp_path / "other").ids and len(set(sweep.ids)) == 6
    as_whole = Sweep(swept.measure, Setting(), [{"tau.0": 5, "seed": 0}], tmp_path)
    assert as_whole.ids == sweep.ids[:1], "5 and 5.0 must be the same point"
    elsewhere = Sweep(swept.measure, Setting(kept=tmp_path), POINTS, tmp_path)
    assert elsewhere.ids == sweep.ids, "the folder must not affect the id"
    assert Sweep(swept.slowly, Setting(), POINTS, tmp_path).ids != sweep.ids, "another function must change the id"
    assert Sweep(swept.measure, Setting(lesion="top_down"), POINTS, tmp_path).ids != sweep.ids
    with pytest.raises(SweepError, match="twice"):
        Sweep(swept.measure, Setting(), [*POINTS, {"tau.0": 10, "seed": 2}], tmp_path)
    with pytest.raises(SweepError, match="top level of a module"):
        Sweep(lambda setting: {}, Setting(), POINTS, tmp_path)


def test_table_holds_every_point_and_result(tmp_path: Path) -> None:
    table = small(tmp_path).run(progress=False)
    assert len(table) == 6 and table.axes == ("tau.0", "seed") and table.columns == ("ratio", "curve", "lesion")
    assert table["ratio"].tolist() == [0.2] * 3 + [0.1] * 3 and table["lesion"].tolist() == ["None"] * 6
    assert np.array_equal(table["curve"][4], 20.0 * np.random.default_rng(1).random(3))
    assert table.over("ratio", "tau.0").tolist() == [[0.2] * 3, [0.1] * 3]
    assert table.over("curve", "tau.0", "seed").shape == (2, 3, 1, 3)
    assert table.where(tau__0=5.0)["ratio"].tolist() == [0.2] * 3
    labelled = table.to_xarray()
    assert labelled.sizes == {"tau.0": 2, "seed": 3, "curve_0": 3} and labelled["tau.0"].values.tolist() == [5.0, 10.0]
    assert labelled["ratio"].sel({"tau.0": 5.0}).values.tolist() == [0.2] * 3
    assert np.array_equal(labelled["curve"].sel({"tau.0": 10.0, "seed": 1}), table["curve"][4])
    assert set(labelled["lesion"].values.ravel()) == {"None"} and "failure" not in labelled
    uneven = Table(table.points[:4], table.results[:4])
    assert np.isnan(uneven.over("ratio", "tau.0")[1]).tolist() == [False, True, True], "missing points must be NaN"
    for call in (lambda: table["tau"], lambda: table.where(tau=5.0)):
        with pytest.raises(SweepError, match=r"tau\.0, seed"):
            call()
    ragged = Table([{"a": 0}, {"a": 1}], [{"x": np.zeros(2)}, {"x": np.zeros(3)}])
    assert [len(value) for value in ragged["x"]] == [2, 3]
    with pytest.raises(SweepError, match="one shape"):
        ragged.over("x", "a")


def test_sweep_folder_extends_resumes_reads_and_merges(tmp_path: Path) -> None:
    half = Sweep(swept.measure, Setting(), POINTS[:3], tmp_path / "a")
    half.run(progress=False)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "a" / "points").iterdir()}
    whole = small(tmp_path / "a")
    assert whole.missing() == [3, 4, 5] and len(whole.table()) == 3 and "3 to do" in repr(whole)
    whole.run(progress=False)
    assert all(path.stat().st_mtime_ns == at for path, at in before.items()), "finished points must not be rewritten"
    other = small(tmp_path / "b")
    Sweep(swept.measure, Setting(), POINTS[2:], tmp_path / "c").run(progress=False)
    assert (other.merge(tmp_path / "a"), other.merge(tmp_path / "c")) == (6, 0)
    assert same(other.table(), whole.table())
    damaged = other.path(other.ids[0])
    *others, last = damaged.read_bytes()
    damaged.write_bytes(bytes([*others, last ^ 1]))
    with pytest.raises(StorageError):
        other.table()


@pytest.mark.parametrize("where", ["processes:2", "together"])
def test_sweep_gives_same_bits_in_processes_and_together(where: str, tmp_path: Path) -> None:
    here = small(tmp_path / "here").run(progress=False)
    if where == "together":
        there = Sweep(swept.together, Setting(), POINTS, tmp_path / "there", together=4).run(progress=False)
    else:
        there = small(tmp_path / "there").run(where, progress=False)
    assert same(here, there)


@pytest.mark.parametrize("where", ["here", "processes:2", "together"])
def test_sweep_marks_failed_points_and_continues(where: str, tmp_path: Path) -> None:
    points = grid({"seed": range(5)})
    if where == "together":
        sweep = Sweep(swept.together_unless_odd, Setting(), points, tmp_path, together=4)
    else:
        sweep = Sweep(swept.odd_ones_fail, Setting(), points, tmp_path)
    with pytest.warns(PcsimWarning, match=r"2 of 5 points.*'seed': 1.*ValueError: seed 1 is odd"):
        table = sweep.run("here" if where == "together" else where, progress=False)
    assert sweep.missing() == [1, 3] and table["seed"].tolist() == [0, 1, 2, 3, 4] and "2 failed" in repr(table)
    assert table.failures == {1: "ValueError: seed 1 is odd", 3: "ValueError: seed 3 is odd"}
    assert np.isnan(table["ratio"]).tolist() == [False, True, False, True, False]
    assert np.isnan(table["curve"]).all(1).tolist() == [False, True, False, True, False]
    assert table["lesion"].tolist() == ["None", "", "None", "", "None"]
    assert np.isnan(table.over("ratio", "seed")[:, 0]).tolist() == [False, True, False, True, False]
    assert table.where(seed=3).failures == {0: "ValueError: seed 3 is odd"} and not table.where(seed=2).failures
    labelled = table.to_xarray()
    assert labelled["failure"].values.tolist() == ["", "ValueError: seed 1 is odd", "", "ValueError: seed 3 is odd", ""]
    assert np.isnan(labelled["ratio"].values).tolist() == [False, True, False, True, False]


def test_sweep_retries_failed_points_and_removes_marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = Sweep(swept.odd_ones_fail, Setting(), grid({"seed": range(2)}), tmp_path)
    with pytest.warns(PcsimWarning):
        sweep.run(progress=False)
    monkeypatch.setattr(sweep, "function", swept.measure)  # the cause was mended in a module that the function imports
    table = sweep.run(progress=False)
    assert not table.failures and not np.isnan(table["ratio"]).any() and len(list((tmp_path / "points").iterdir())) == 2


def test_sweep_raises_for_bugs_and_when_all_points_fail(tmp_path: Path) -> None:
    sweep = Sweep(swept.names_unknown, Setting(), grid({"seed": range(3)}), tmp_path / "bug")
    with pytest.raises(SweepError, match=r"1 of 3 points.*'seed': 1.*NameError: name 'undefined' is not defined"):
        sweep.run(progress=False)
    assert "NameError" in sweep.table().failures[1] and sweep.missing() == [1]
    with pytest.raises(SweepError, match=r"2 of 2 points.*seed 1 is odd"):
        Sweep(swept.odd_ones_fail, Setting(), grid({"seed": [1, 3]}), tmp_path / "all").run(progress=False)
    with pytest.raises(SweepError, match="a result 'ragged' of type list"):
        Sweep(swept.returns_a_list_of_lists, Setting(), [{"seed": 1}], tmp_path).run(progress=False)


def test_to_xarray_pads_curves_of_unequal_length(tmp_path: Path) -> None:
    sweep = Sweep(swept.longer, Setting(), grid({("tau.0", "tau.1"): [5.0, 10.0], "seed": [0, 3, 2]}), tmp_path)
    with pytest.warns(PcsimWarning, match="2 of 6 points"):
        table = sweep.run(progress=False)
    data = table.to_xarray()
    assert data.sizes == {"tau.0": 2, "seed": 3, "curve_0": 3}, "linked names share a dimension"
    assert data["tau.1"].dims == ("tau.0",) and data["tau.1"].values.tolist() == [5.0, 10.0]
    assert data["seed"].values.tolist() == [0, 2, 3]
    nan = math.nan
    assert np.array_equal(data["curve"][0], [[1, nan, nan], [1, 2, 3], [nan, nan, nan]], equal_nan=True)
    assert data["curve_0_length"].values.tolist() == [[1, 3, 0], [1, 3, 0]]
    assert np.array_equal(data["count"][1], [0, 2, nan], equal_nan=True)
    assert data["name"].values.tolist() == [["seed 0", "seed 2", ""]] * 2
    assert data["failure"].values[:, 2].tolist() == ["ZeroDivisionError: seed 3"] * 2


def test_to_xarray_keeps_types_and_labels_values_that_are_not_numbers() -> None:
    points = [{"taus": taus, "lesion": lesion} for taus in ([1, 2], [3, 4]) for lesion in (None, "top_down")]
    table = Table(points, [{"n": number, "even": number % 2 == 0} for number in range(4)])
    data = table.to_xarray()
    assert data["n"].dtype.kind == "i" and data["even"].dtype == bool and data.sizes == {"taus": 2, "lesion": 2}
    assert data["n"].sel(taus="[3, 4]", lesion="top_down").item() == 3 and data["n"].sel(lesion="None")[0] == 0
    assert table.over("n", "taus", "lesion")[..., 0].tolist() == [[0, 1], [2, 3]]
    part = Table(points[:3], table.results[:3]).to_xarray()
    assert np.array_equal(part["n"], [[0, 1], [2, math.nan]], equal_nan=True), "points that are missing must be NaN"
    for wrong in (Table(points[:1] * 2, table.results[:2]), Table(points[:2], [{"x": 1.0}, {"x": np.ones(2)}])):
        with pytest.raises(SweepError):
            wrong.to_xarray()
    with pytest.raises(SweepError, match="a column of strings"):
        Table(points[:1], [{"name": "x"}]).over("name", "lesion")


def test_processes_dead_worker_loses_only_its_call(tmp_path: Path) -> None:
    with Processes(2) as executor:
        outcomes = list(completed(executor, swept.dies_at_first, [(tmp_path, value) for value in range(2)]))
        assert sorted(outcome.result for outcome in outcomes) == [0, 1]
        (lost,) = completed(executor, swept.always_dies, [(3,)], tries=1)
        assert lost.result is None and isinstance(lost.reason, SweepError)
        assert re.search("(?s)died 1 time .*terminated abruptly.*fewer workers", str(lost.reason))
        assert isinstance(lost.reason.__cause__, BrokenExecutor)
        (lost,) = completed(executor, swept.always_dies, [(3,)], tries=2)
        assert "died 2 times" in str(lost.reason)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # warnings of other packages
@pytest.mark.parametrize("where", ["dask:2", "slurm:cluster=local,timeout_min=5"])
def test_sweep_gives_same_bits_on_clusters(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Instead of SLURM, submitit's local executor starts the jobs as processes."""
    pytest.importorskip("distributed" if where.startswith("dask") else "submitit", reason="extra cluster")
    monkeypatch.setenv("PYTHONPATH", ENVIRONMENT["PYTHONPATH"])
    assert same(small(tmp_path / "there").run(where, progress=False), small(tmp_path / "here").run(progress=False))
    with pytest.warns(PcsimWarning, match=r"(?s)2 of 5 points.*seed 1 is odd"):
        Sweep(swept.odd_ones_fail, Setting(), grid({"seed": range(5)}), tmp_path).run(where, progress=False)


def test_slurm_call_lost_after_leaving_queue_without_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use a fake squeue that prints a file; tests/cluster/real_slurm.py uses a real SLURM cluster."""
    queue = tmp_path / "queue"
    queue.write_text("7_0\n7_1\n")
    squeue = tmp_path / "squeue"
    squeue.write_text(f'#!/bin/sh\necho "$*" > {tmp_path}/asked\ncat {queue}\n')
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(executors, "QUEUE_S", 0.05)

    class Job:
        def __init__(self, number: str) -> None:
            self.job_id = number
            self.paths = SimpleNamespace(result_pickle=tmp_path / number, stderr="7.err")

        def result(self) -> str:
            return f"result of {self.job_id}"

    watched = executors._Queue()
    done, lost = (executors._SlurmCall(Job(number), watched) for number in ("7_0", "7_1"))
    assert not done.done() and not lost.done()
    (tmp_path / "7_0").touch()
    assert done.done() and done.result() == "result of 7_0" and not lost.done()
    queue.write_text("8\n")
    time.sleep(0.1)
    assert not lost.done(), "the file system may still be writing its result"
    time.sleep(0.1)
    assert lost.done() and "--me" in (tmp_path / "asked").read_text()
    with pytest.raises(BrokenExecutor, match=r"7_1 has left the queue.*7\.err"):
        lost.result()
    late = executors._SlurmCall(Job("8"), watched)
    assert not late.done(), "a queue listed before submission must be ignored"
    queue.unlink()
    time.sleep(0.1)
    assert not late.done(), "no job may be lost while squeue fails"


@pytest.mark.parametrize("name", ["processes:0", "processes:many", "moon", "slurm"])
def test_executor_named_rejects_unknown_names(name: str, tmp_path: Path) -> None:
    with pytest.raises((SweepError, RuntimeError)), executor_named(name, tmp_path) as executor:
        executor.submit(abs, -1)


def undisturbed(folder: Path) -> Table:
    points = grid({"tau.0": [5.0, 10.0, 20.0, 40.0], "solver.dt": [0.1, 0.2, 0.5], "seed": range(5)})
    return Sweep(swept.slowly, Setting(), points, folder).table()


def count(folder: Path) -> int:
    return len(list(folder.glob("points/*.safetensors")))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="workers are found in /proc")
@pytest.mark.parametrize("where", ["processes:2", "dask:2"])
def test_sweep_survives_killed_workers_and_parents(where: str, tmp_path: Path) -> None:
    if where.startswith("dask"):
        pytest.importorskip("distributed", reason="extra cluster")
    calm, wild = tmp_path / "calm", tmp_path / "wild"
    program = [sys.executable, "-m", "support.swept", str(calm), "here"]
    subprocess.run(program, check=True, timeout=300, env=ENVIRONMENT)
    dice, kills = random.Random(0), 0
    command = [sys.executable, "-m", "support.swept", str(wild), where]
    slow, told = ENVIRONMENT | {"PCSIM_SLOWLY": "0.7"}, tmp_path / "told"
    for planned in (3, 3, 4, 0):
        done = count(wild)
        with told.open("w") as stderr:
            parent = subprocess.Popen(command, env=slow, stderr=stderr, start_new_session=True)
        left = planned
        while left and parent.poll() is None:
            time.sleep(dice.uniform(0.2, 0.6))
            workers = workers_of(parent.pid)
            # Kill only after points have been completed: a Dask cluster does not start with a dead worker.
            if workers and count(wild) > done:
                os.kill(dice.choice(workers), signal.SIGKILL)
                left, kills = left - 1, kills + 1
        if planned:
            time.sleep(0.3)
            assert parent.poll() is None, told.read_text()
            os.kill(parent.pid, signal.SIGKILL)
        parent.wait(timeout=300)
    assert kills == 10 and parent.returncode == 0, told.read_text()
    assert len(undisturbed(wild)) == 60 and same(undisturbed(wild), undisturbed(calm))
    assert len(list((wild / "points").iterdir())) == 60, "every point must have exactly one file"


SCRIPT = """
from support import swept
from support.paths import ENVIRONMENT
from pcsim.sweeps import Sweep, grid
Sweep(swept.measure, swept.Setting(), grid({"seed": range(2)}), FOLDER).run("processes:1", progress=False)
"""


@pytest.mark.slow
def test_sweep_script_without_main_guard_names_guard(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.replace("FOLDER", repr(str(tmp_path / "out"))))
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=200, env=ENVIRONMENT, check=False
    )
    assert done.returncode and "if __name__ == '__main__'" in done.stderr


def test_completed_accepts_calls_added_while_running() -> None:
    calls, found = [(1,), (2,)], []
    with executor_named("here", Path()) as here:
        for outcome in completed(here, math.factorial, calls):
            found.append((outcome.arguments[0], outcome.result))
            if len(calls) < 6:
                calls.append((len(calls) + 1,))
    assert sorted(found) == [(n, math.factorial(n)) for n in range(1, 7)]


def test_sweep_identity_includes_code_of_function_and_arguments(tmp_path: Path) -> None:
    """Two scripts may both define `measure`: their results must not be taken for each other's."""
    ids = []
    for body in ("return {'x': setting.seed}", "return {'x': setting.seed + 1}", "return {'x': abs(setting.seed)}"):
        space: dict[str, Any] = {}
        exec(f"def measure(setting):\n    {body}", space)
        ids.append(Sweep(space["measure"], Setting(), POINTS, tmp_path).ids[0])
    space = {}
    exec("def measure(setting):\n    'A docstring.'\n\n    # and a comment\n    return {'x': setting.seed}", space)
    assert len(set(ids)) == 3 and Sweep(space["measure"], Setting(), POINTS, tmp_path).ids[0] == ids[0]
    partials = [Sweep(partial(swept.scaled, by), Setting(), POINTS, tmp_path).ids[0] for by in (1.0, 2.0)]
    assert partials[0] != partials[1]


def test_sweep_of_partial_runs(tmp_path: Path) -> None:
    table = Sweep(partial(swept.scaled, 3.0), Setting(), POINTS, tmp_path).run(progress=False)
    assert table["ratio"] == pytest.approx(3.0 * small(tmp_path).run(progress=False)["ratio"])


def test_sweep_refuses_configuration_that_cannot_be_identified(tmp_path: Path) -> None:
    for value in (math.nan, object()):
        with pytest.raises(SweepError, match="cannot be used to identify a point"):
            Sweep(swept.measure, {"seed": 0, "gain": value}, [{"seed": 1}], tmp_path)


def test_two_processes_share_one_sweep(tmp_path: Path) -> None:
    """Each of 60 points is computed once, although two programs run the whole sweep at the same time."""
    environment = ENVIRONMENT | {"PCSIM_SLOWLY": "0.02", "PCSIM_CALLS": str(tmp_path / "calls")}
    command = [sys.executable, "-m", "support.swept", str(tmp_path), "here"]
    both = [subprocess.Popen(command, env=environment) for _ in range(2)]
    assert [process.wait(timeout=120) for process in both] == [0, 0]
    calls = (tmp_path / "calls").read_text().split()
    assert len(calls) == 60 and len(set(calls)) == 2, "both processes must take part, and no point be computed twice"
    assert not list(tmp_path.rglob("*.lock"))


def test_sweep_takes_over_point_of_killed_process(tmp_path: Path) -> None:
    sweep = small(tmp_path)
    sweep.path("x").parent.mkdir(parents=True)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        with locked(sweep._lock(0)):
            os.write(write, b".")
            time.sleep(60)
    os.read(read, 1)
    killer = threading.Timer(1.0, os.kill, (child, signal.SIGKILL))
    killer.start()
    begun = time.monotonic()
    assert len(sweep.run(progress=False)) == 6 and time.monotonic() - begun > 0.9
    os.waitpid(child, 0)


def test_processes_that_are_starting_end_with_a_failed_block(tmp_path: Path) -> None:
    script = tmp_path / "starting.py"
    script.write_text(
        "import multiprocessing, time\n"
        "from pcsim.sweeps.executors import Processes\n"
        "if __name__ == '__main__':\n"
        "    try:\n"
        "        with Processes(1) as executor:\n"
        "            executor.submit(time.sleep, 300)\n"
        "            time.sleep(0.2)\n"
        "            raise KeyError\n"
        "    except KeyError:\n"
        "        while multiprocessing.active_children():\n"
        "            time.sleep(0.05)\n"
    )
    done = subprocess.run([sys.executable, str(script)], env=ENVIRONMENT, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


SESSION = """
import json, sys
from dataclasses import dataclass
import numpy as np
from pcsim.sweeps import Sweep, grid

GAIN = 2.0
@dataclass(frozen=True)
class Setting:
    tau: float = 1.0
    def doubled(self):
        return 2 * self.tau
def helper(tau):
    return GAIN * tau
def measure(setting):
    if setting.tau == 3.0:
        raise ValueError("too slow")
    return {"x": helper(setting.doubled())}
ids = lambda: Sweep(measure, Setting(), grid({"tau": [1.0]}), sys.argv[1]).ids[0]
found = [ids(), ids()]
GAIN = 3.0
found.append(ids())
GAIN = 2.0
found.append(ids())
def helper(tau):
    return GAIN + tau
found.append(ids())
class Setting(Setting):
    def doubled(self):
        return 3 * self.tau
found.append(ids())
table = Sweep(measure, Setting(), grid({"tau": [1.0, 2.0, 3.0]}), sys.argv[1]).run("processes:2", progress=False)
print(json.dumps([found, table["x"].tolist(), table.failures[2]]))
"""


def test_function_typed_into_session_runs_on_processes(tmp_path: Path) -> None:
    """With `python -c`, as in a notebook, `__main__` cannot be imported."""
    command = [sys.executable, "-W", "ignore", "-c", SESSION, str(tmp_path)]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert not done.stderr and done.returncode == 0
    (first, again, other_value, old_value, other_helper, _), x, failure = json.loads(done.stdout)
    assert first == again == old_value and len({first, other_value, other_helper}) == 3
    assert x[:2] == [2.0 + 3.0, 2.0 + 6.0] and math.isnan(x[2]) and failure == "ValueError: too slow"


def test_sweep_identity_includes_defaults(tmp_path: Path) -> None:
    ids = []
    for default in ("1", "2", "(2, None)"):
        space: dict[str, Any] = {}
        exec(f"def measure(setting, gain={default}):\n    return {{'x': gain}}", space)
        ids.append(Sweep(space["measure"], Setting(), POINTS, tmp_path).ids[0])
    assert len(set(ids)) == 3


def test_interrupted_sweep_says_what_is_kept_and_resuming_too(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    calls = 0

    class Interrupted(executors.SerialExecutor):
        def submit(self, function: Any, /, *arguments: Any, **options: Any) -> Any:
            def call() -> Any:
                nonlocal calls
                calls += 1
                if calls == 3:
                    raise KeyboardInterrupt
                return function(*arguments, **options)

            return SimpleNamespace(done=lambda: True, result=call)

    sweep = small(tmp_path)
    count = len(sweep.points)
    with pytest.raises(KeyboardInterrupt):
        sweep.run(Interrupted())
    assert f"2 of {count} points are kept; run again to resume" in capsys.readouterr().err
    sweep.run()
    assert f"2 of {count} points are kept from earlier runs" in capsys.readouterr().err
    sweep.run()
    assert "kept" not in capsys.readouterr().err
