"""Searches find the best parameters, lose or repeat no trial, and resume after a kill with the same trials."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import chisquare, kstest
from support import searched
from support.paths import ENVIRONMENT

from pcsim import StorageError, SweepError
from pcsim.sweeps.journal import Journal
from pcsim.sweeps.lock import locked
from pcsim.sweeps.search import Search, Trial

pytest.importorskip("optuna", reason="optuna is not installed (extra sweep)")


def search(folder: Path, **options) -> Search:
    return Search(searched.score, partial(searched.propose, folder), folder, **{"count": 40, "stages": 3} | options)


def known(trials: list[Trial]) -> list[tuple]:
    return [(trial.number, trial.parameters, trial.values, trial.state) for trial in trials]


def command(folder: Path, where: str, count: int, at_once: int) -> list[str]:
    return [sys.executable, "-m", "support.searched", str(folder), where, str(count), str(at_once)]


def killed_while_it_runs(folder: Path, where: str, count: int, at_once: int, after: int) -> None:
    """Run a search and kill it after `after` more stages have started; fail if it ends before."""
    begun = lines(folder)
    running = subprocess.Popen(command(folder, where, count, at_once), env=ENVIRONMENT | {"PCSIM_SLOWLY": "0.05"})
    limit = time.monotonic() + 120
    while len(lines(folder)) < len(begun) + after:
        assert running.poll() is None and time.monotonic() < limit
        time.sleep(0.01)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()


def lines(folder: Path) -> list[str]:
    path = folder / "calls"
    return path.read_text().splitlines() if path.exists() else []


def test_search_finds_best_and_prunes_poor_trials(tmp_path: Path) -> None:
    trials = search(tmp_path, count=60).run()
    assert [trial.number for trial in trials] == list(range(60))
    best = max((trial for trial in trials if trial.state == "complete"), key=lambda trial: trial.score)
    assert best.config.kind == "sharp" and abs(best.config.x - 0.3) < 0.05
    states = Counter(trial.state for trial in trials)
    assert states["pruned"] > 5 and states["failed"] > 2 and not states["running"]
    assert all(trial.state != "pruned" for trial in trials[:20]), "random trials must not be pruned"
    for trial in trials:
        assert trial.config.kind == trial.parameters["kind"]
        if trial.state == "complete":
            assert trial.values == tuple(searched.score(trial.config, trial.number, stage) for stage in range(3))
        if trial.state == "pruned":
            assert len(trial.values) < 3
    begun = [trial.values[0] for trial in trials]
    assert np.nanmedian(begun[40:]) > np.nanmedian(begun[:20])


def test_search_later_trials_avoid_parameters_without_score(tmp_path: Path) -> None:
    """A third of random trials has no score; of 80 later ones, at most a tenth (measured: 6)."""
    failed = 0
    for seed in range(4):
        folder = tmp_path / str(seed)
        folder.mkdir()
        failed += sum(trial.state == "failed" for trial in search(folder, count=60, seed=seed).run()[40:])
    assert failed <= 8


def test_search_random_parameters_are_uniform_and_independent(tmp_path: Path) -> None:
    trials = search(tmp_path, count=300, random=300, stages=1).run()
    x = np.array([trial.config.x for trial in trials if trial.config.kind != "none"])
    assert kstest(x, "uniform", (-1.0, 2.0)).pvalue > 0.01
    kinds = Counter(trial.config.kind for trial in trials)
    assert chisquare(list(kinds.values())).pvalue > 0.01 and len(kinds) == 3
    assert abs(np.corrcoef(x[1:], x[:-1])[0, 1]) < 0.2


def test_search_resumes_after_any_line_of_its_journal(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir()
    expected = known(search(whole, count=9).run())
    lines_ = (whole / "journal.log").read_bytes().splitlines(keepends=True)
    for count in range(len(lines_)):
        cut.mkdir()
        # The next line was cut while it was written.
        (cut / "journal.log").write_bytes(b"".join(lines_[:count]) + lines_[count][: count % 40])
        assert known(search(cut, count=9).run()) == expected, f"killed after line {count}"
        shutil.rmtree(cut)


def test_search_refuses_changed_and_foreign_journals(tmp_path: Path) -> None:
    search(tmp_path, count=3).run()
    path = tmp_path / "journal.log"
    good = path.read_bytes()
    for place in np.random.default_rng(0).integers(len(good) - 1, size=64):
        bad = bytearray(good)
        bad[place] ^= 4
        path.write_bytes(bad)
        with pytest.raises(StorageError, match=r"journal\.log"):
            search(tmp_path, count=3).run()
        assert path.read_bytes() == bad
    path.write_text("notes of last week, without a last newline")
    with pytest.raises(StorageError, match="not the journal of a pcsim search"):
        search(tmp_path, count=3).run()
    assert path.read_text() == "notes of last week, without a last newline"


def test_search_journal_is_read_by_optuna(tmp_path: Path) -> None:
    import optuna
    from optuna.storages.journal import JournalFileBackend

    trials = search(tmp_path, count=5).run()
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(tmp_path / "journal.log")))
    study = optuna.load_study(study_name="search", storage=storage)
    assert [trial.params for trial in study.trials] == [trial.parameters for trial in trials]


def test_search_refuses_second_process(tmp_path: Path) -> None:
    with locked(tmp_path / "search.lock"), pytest.raises(SweepError, match="another process"):
        search(tmp_path, count=3).run()
    assert len(search(tmp_path, count=3).run()) == 3


def test_search_killed_twice_gives_same_trials(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    search(whole, count=30).run()
    killed_while_it_runs(killed, "here", 30, 1, after=20)
    killed_while_it_runs(killed, "here", 30, 1, after=15)
    assert 0 < len(search(killed, count=30).trials()) < 30
    search(killed, count=30).run()
    assert known(search(killed, count=30).trials()) == known(search(whole, count=30).trials())
    assert set(lines(killed)) == set(lines(whole))
    doubled = [call for call, count in Counter(lines(killed)).items() if count > 1]
    assert len(doubled) <= 2, "only killed stages may be repeated, once per kill"


@pytest.mark.slow
def test_search_killed_in_processes_keeps_each_trial_once(tmp_path: Path) -> None:
    for after in (25, 30, 20):
        killed_while_it_runs(tmp_path, "processes:2", 60, 2, after)
    subprocess.run(command(tmp_path, "processes:2", 60, 2), env=ENVIRONMENT, check=True)
    trials = search(tmp_path, count=60).trials()
    assert [trial.number for trial in trials] == list(range(60)) and all(t.state != "running" for t in trials)
    calls = Counter(lines(tmp_path))
    assert set(calls) == {f"{t.number} {stage}" for t in trials for stage in range(len(t.values))}
    assert sum(count - 1 for count in calls.values()) <= 2 * 3
    assert len({tuple(t.parameters.items()) for t in trials if t.config.kind != "none"}) == sum(
        t.config.kind != "none" for t in trials
    )


def test_search_repeats_trial_of_truncated_line(tmp_path: Path) -> None:
    trials = search(tmp_path, count=5).run()
    journal = search(tmp_path, count=5).journal
    journal.write_bytes(journal.read_bytes()[:-7])
    assert known(search(tmp_path, count=5).run()) == known(trials)


def test_search_reports_failures_and_retries_them(tmp_path: Path) -> None:
    failing = Search(
        searched.fails_for_round_ones, partial(searched.propose, tmp_path), tmp_path, count=12, stages=3, random=12
    )
    with pytest.raises(SweepError, match=r"12 trials without a score, the first being trial \d+: \w+Error: ") as told:
        failing.run()
    assert len(failing.trials()) == 12
    left = [trial.number for trial in failing.trials() if trial.state == "running"]
    assert {number % 2 for number in left} == {0, 1} and f"{len(left)} of 12" in str(told.value)
    assert ("is round" if left[0] % 2 == 0 else "'round', not a number") in str(told.value)
    (tmp_path / "mended").touch()
    assert all(trial.state != "running" for trial in failing.run())


def test_search_rejects_changed_settings(tmp_path: Path) -> None:
    search(tmp_path, count=3).run()
    with pytest.raises(SweepError, match="the settings with which the search was started"):
        search(tmp_path, count=3, stages=2).trials()
    with pytest.raises(SweepError, match=r"random=1, 3 trials\nexpected: a search with random=2, up to 6"):
        search(tmp_path, count=6).run()
    assert len(search(tmp_path, count=6, random=1).run()) == 6
    for wrong in (
        Search(searched.fails_for_round_ones, partial(searched.propose, tmp_path), tmp_path, count=3, stages=3),
        Search(searched.score, searched.propose_round, tmp_path, count=3, stages=3),
    ):
        with pytest.raises(SweepError, match=r"(score=fails_for_round_ones|propose=propose_round), up to 3"):
            wrong.run()
    with pytest.raises(SweepError, match="at least 1"):
        search(tmp_path, count=0)
    assert repr(search(tmp_path, count=3)).startswith("Search(3 trials")


def test_search_trials_only_reads_journal(tmp_path: Path) -> None:
    search(tmp_path, count=4).run()
    before = (tmp_path / "journal.log").read_bytes()
    assert len(search(tmp_path, count=4).trials()) == 4
    assert (tmp_path / "journal.log").read_bytes() == before


def test_journal_numbers_lines_of_several_writers(tmp_path: Path) -> None:
    """Lines of two processes, and of objects that have read different parts, are numbered without gaps."""
    path = tmp_path / "journal.log"
    program = (
        f"from pathlib import Path; from pcsim.sweeps.journal import Journal; journal = Journal(Path({str(path)!r}))"
    )
    program += "\nfor n in range(200): journal.append_logs([{'op_code': n}, {'op_code': n}])"
    writers = [subprocess.Popen([sys.executable, "-c", program], env=ENVIRONMENT) for _ in range(2)]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0]
    journal = Journal(path)
    assert len(list(journal.read_logs(0))) == 800
    Journal(path).append_logs([{"op_code": 1}])
    assert len(list(journal.read_logs(800))) == 1 and len(list(journal.read_logs(0))) == 801
    journal.append_logs([{"op_code": 2}])
    assert [entry["op_code"] for entry in Journal(path).read_logs(801)] == [2]
