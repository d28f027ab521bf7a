"""The occlusion experiment on the command line: identical results after a kill, and protected folders."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.paths import ROOT

from pcsim.core import storage

of_one_run = pytest.mark.xdist_group("undisturbed")
TINY = ["--preset", "smoke", "--images", "120", "--test-images", "30", "--training.updates", "60"]


def command(out: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "experiments.occlusion", *TINY, "--out", str(out), *options]


def run(out: Path, *options: str, expect: int = 0) -> str:
    done = subprocess.run(command(out, *options), cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout + done.stderr


def numbers(out: Path) -> dict:
    found = storage.read_json(out / "results.json")
    assert found.pop("wall_time_s") > 0
    return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("occlusion") / "whole"
    printed = run(out)
    assert "report.html" in printed
    assert "debris-heavy" in printed
    return out


@of_one_run
def test_occlusion_writes_report_figures_and_results(undisturbed: Path) -> None:
    files = {path.name for path in undisturbed.iterdir()}
    assert {"config.json", "results.json", "report.html", "errors.png", "guesses.png", "network.png"} <= files
    page = (undisturbed / "report.html").read_text()
    assert page.count("data:image/png;base64,") == page.count("<figure>") == 7
    assert 'src="http' not in page
    found = numbers(undisturbed)
    assert found["parameters"] == {"B": 238, "BLT": 670}
    assert set(found["error"]) == {
        "clean", "debris-light", "debris-moderate", "debris-heavy", "clutter-light", "noise",
    }  # fmt: skip
    assert found["versions"]["torch"] and found["config"]["seed"] == 0
    for by_model in found["error"].values():
        assert all(0 <= e["low"] <= e["mean"] <= e["high"] <= 1 for e in by_model.values())


@of_one_run
def test_occlusion_killed_and_resumed_gives_same_numbers(undisturbed: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    process = subprocess.Popen(
        command(out, "--workers", "1"), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    first = out / "training" / "blt-0.safetensors"
    deadline = time.monotonic() + 200
    while not first.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert first.exists() and not (out / "results.json").exists()
    run(out, "--workers", "2")  # a second kill must not matter either
    assert numbers(out) == numbers(undisturbed)


def test_occlusion_workers_die_with_killed_parent(tmp_path: Path) -> None:
    out = tmp_path / "orphans"
    process = subprocess.Popen(
        command(out, "--training.updates", "100000", "--workers", "2"),
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 200
    while not list(out.glob("training/*.safetensors")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 30
    while alive(process.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not alive(process.pid)


def alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@of_one_run
def test_occlusion_rejects_folder_of_other_configuration(undisturbed: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*")}
    printed = run(undisturbed, "--seed", "5", expect=2)
    assert "seed=0 (now 5)" in printed and "pass a different --out" in printed
    assert {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*")} == before


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--models", "blt_x"), "did you mean"),
        (("--colour", "red"), "colour"),
        (("--width", "0"), "greater than 0"),
        (("--preset", "huge"), "invalid choice: 'huge'"),
        (("--digits", "handwritten", "--mnist", "nowhere"), "four idx files"),
    ],
)
def test_occlusion_names_wrong_option_and_writes_nothing(options: tuple[str, ...], said: str, tmp_path: Path) -> None:
    out = tmp_path / "never"
    arguments = [sys.executable, "-m", "experiments.occlusion", "--out", str(out), *options]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode != 0 and said in done.stdout + done.stderr
    assert not out.exists()


@of_one_run
def test_occlusion_names_damaged_checkpoint_and_keeps_it(undisturbed: Path, tmp_path: Path) -> None:
    out = tmp_path / "damaged"
    (out / "training").mkdir(parents=True)
    (out / "config.json").write_text((undisturbed / "config.json").read_text())
    content = bytearray((undisturbed / "training" / "blt-0.safetensors").read_bytes())
    content[-100] ^= 1
    (out / "training" / "blt-0.safetensors").write_bytes(bytes(content))
    printed = run(out, "--workers", "1", expect=2)
    assert "blt-0.safetensors" in printed and "do not match its SHA-256" in printed
    assert (out / "training" / "blt-0.safetensors").read_bytes() == bytes(content)
