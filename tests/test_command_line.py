"""The command `pcsim`, and the endings of all programs: statuses, signals, closed pipes, full disks."""

from __future__ import annotations

import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
import time
from dataclasses import fields
from importlib import import_module
from pathlib import Path

import pytest
import torch
from support.paths import ENVIRONMENT, ROOT, TESTS

import pcsim
from pcsim import models
from pcsim.__main__ import describe, export_page
from pcsim.core import command_line, storage

ATTRACTORS = ("experiments.attractors", "--preset", "smoke")


def start(*words: str, **options: object) -> subprocess.Popen:
    given = {"cwd": ROOT, "env": ENVIRONMENT, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-m", *words], **given | options)


def shell(*arguments: str, cwd: Path, **options: object) -> tuple[int, str]:
    process = start("pcsim", *arguments, cwd=cwd, **options)
    printed, said = process.communicate(timeout=120)
    return process.returncode, (printed or "") + said


def test_models_command_lists_papers_and_edges(tmp_path: Path) -> None:
    code, printed = shell("models", cwd=tmp_path)
    assert code == 0
    table, trained = printed.split("\n\n")
    lines = {line.split()[0]: line for line in table.splitlines()}
    assert list(lines)[1:] == list(models.available()), "a header line, then one line per model"
    assert {line.split()[0] for line in trained.splitlines()[2:]} == {*models.weights.cards()}
    assert lines["blt"].split()[1:7] == ["37,546", "3", "2", "1", "0", "0"] and "Spoerer" in lines["blt"]
    assert lines["prednet_kitti"].split()[1] == "6,915,948" and "Lotter et al. 2017" in lines["prednet_kitti"]


def test_describe_command_draws_only_with_option(tmp_path: Path) -> None:
    code, printed = shell("describe", "hopfield_modern", cwd=tmp_path)
    assert code == 0 and "attention" in printed and "order" in printed and not list(tmp_path.iterdir())
    code, printed = shell("describe", "hopfield_modern", "--draw", "net.png", cwd=tmp_path)
    assert code == 0 and "net.png" in printed and (tmp_path / "net.png").stat().st_size > 5_000


def test_export_page_command_writes_trained_models_and_saved_networks(tmp_path: Path) -> None:
    code, printed = shell("export-page", "blt_b", "b.html", "--weights", "clutter-light", "--dt", "2", cwd=tmp_path)
    text = (tmp_path / "b.html").read_text()
    assert code == 0 and "page saved to b.html (" in printed and "Euler(dt=2.0)" in text
    assert (
        '["weights", "clutter-light"]' in text and '["seed of training", "0"]' in text and text.count('"label": 3') == 2
    )
    net = models.predictive_coding(((1, 32, 32), (4,), (10,)))
    net.save(tmp_path / "net.pcsim")
    options = {"readout": "r2", "dt": 0.5, "until": 5.0, "spread": 0.2}
    export_page(str(tmp_path / "net.pcsim"), tmp_path / "pc.html", **options)
    text = (tmp_path / "pc.html").read_text()
    assert '"steps": 10' in text and "Euler(dt=0.5)" in text and '["file", "net.pcsim"]' in text


def test_export_page_command_refuses_untrained_and_unknown_models(tmp_path: Path) -> None:
    untrained = {"rcnn": "no weights", "blx": "did you mean 'blt'", "net.pcsim": "net.pcsim"}
    for model, message in untrained.items():
        with pytest.raises(pcsim.PcsimError, match=message):
            export_page(model, tmp_path / "page.html")
    with pytest.raises(pcsim.StorageError, match="debris-light"):
        export_page("blt", tmp_path / "page.html", weights="none")
    run = pcsim.simulate(models.blt((2, 2)), torch.rand(1, 1, 32, 32), solver=pcsim.Iterate())
    run.save(tmp_path / "a.run")
    with pytest.raises(pcsim.StorageError, match="a saved run"):
        export_page(str(tmp_path / "a.run"), tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_version_and_help_do_not_import_torch(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise SystemExit('torch was imported')")
    for words in ("--version", "--help", "run", "run --help", "describe --help", "export-page --help"):
        process = start("pcsim", *words.split(), cwd=ROOT, env=ENVIRONMENT | {"PYTHONPATH": f"{tmp_path}:{ROOT}"})
        printed, said = process.communicate(timeout=60)
        assert process.returncode == 0 and not said and printed, words
    assert start("pcsim", "--version").communicate(timeout=60)[0] == f"pcsim {pcsim.__version__}\n"


def test_run_command_runs_experiment_with_its_options(tmp_path: Path) -> None:
    code, printed = shell("run", *ATTRACTORS[1:], "--out", "x", cwd=tmp_path)
    assert code == 2 and "'--preset'" in printed, "the name of the experiment comes first"
    words = ("run", "attractors", *ATTRACTORS[1:], "--repetitions", "2", "--workers", "2", "--out", "x")
    code, printed = shell(*words, cwd=tmp_path)  # two workers: their functions must be importable
    assert code == 0 and (tmp_path / "x" / "report.html").exists(), printed
    before = (tmp_path / "x" / "config.json").read_bytes()
    process = start("experiments.attractors", *words[2:], cwd=tmp_path)
    assert process.communicate(timeout=120)[1] == "" and process.returncode == 0, "the same experiment, so it resumes"
    assert (tmp_path / "x" / "config.json").read_bytes() == before


def test_usage_shows_what_was_typed(tmp_path: Path) -> None:
    code, printed = shell("run", "attractors", "--help", cwd=tmp_path)
    assert code == 0 and printed.startswith("usage: python -m pcsim run attractors [-h]")
    assert "--preset {smoke,quick,standard,large}" in printed and "(default: quick)" in printed
    assert "    python -m pcsim run attractors --preset standard " in printed
    printed, _ = start("experiments.attractors", "--preset", "large", "--help").communicate(timeout=60)
    assert printed.startswith("usage: python -m experiments.attractors [-h]") and "(default: large)" in printed
    script = tmp_path / "pcsim"  # as pip writes it
    script.write_text("import sys\nfrom pcsim.__main__ import main\nif __name__ == '__main__':\n    sys.exit(main())\n")
    for words, usage in ((["--help"], "usage: pcsim [-h]"), (["run", "occlusion", "-h"], "usage: pcsim run occlusion")):
        done = subprocess.run(
            [sys.executable, script, *words], env=ENVIRONMENT, capture_output=True, text=True, check=True
        )
        assert done.stdout.startswith(usage)


def test_list_of_experiments_is_complete() -> None:
    for words, before in {"pcsim run": "python -m pcsim run ", "experiments": "python -m experiments."}.items():
        listed, said = start(*words.split()).communicate(timeout=60)
        assert not said and re.findall(r"^\w+$", listed, re.M) == sorted(NAMES)
        for name in NAMES:
            module = import_module(f"experiments.{name}")
            (entry,) = re.findall(rf"^{name}\n    (.*)\n    presets: (.*)\n    (.*)\n", listed, re.M)
            assert entry[:2] == (module.__doc__.splitlines()[0], ", ".join(module.PRESETS))
            assert re.search(r"minute|about \d+ s", entry[2]) and entry[2].startswith(f"{before}{name}")


def test_doctor_reports_folders_and_missing_extras(tmp_path: Path) -> None:
    code, printed = shell("doctor", cwd=tmp_path, env=ENVIRONMENT | {"PCSIM_MNIST": "/proc/no", "PCSIM_NEURAL": "/tmp"})
    assert code == 0 and f"pcsim {pcsim.__version__} in {ROOT / 'pcsim'}" in printed
    assert "PCSIM_MNIST: /proc/no does not exist" in printed and "PCSIM_NEURAL: /tmp (" in printed
    assert "cpu:" in printed and "C++ compiler" in printed and "cuda:" in printed


# ---------------------------------------------------------------------- command lines and their statuses


def endings(lines: list[list[str]], folder: Path, seconds: float = 60.0) -> list[dict]:
    """Return the status of each command line, and what it wrote to standard output and error."""
    command = [sys.executable, str(TESTS / "support" / "command_lines.py"), str(seconds)]
    options = {"cwd": folder, "env": ENVIRONMENT, "capture_output": True, "text": True, "check": True}
    return [json.loads(row) for row in subprocess.run(command, input=json.dumps(lines), **options).stdout.splitlines()]


def unexpected(lines: list[list[str]], rows: list[dict], allowed: set[int]) -> list[tuple[str, dict]]:
    """Return the command lines that end otherwise than documented."""
    return [
        (" ".join(words), row)
        for words, row in zip(lines, rows, strict=True)
        if row["status"] not in allowed or "Traceback" in row["said"] or (row["status"] == 2 and not row["said"])
    ]


def test_wrong_command_lines_end_with_status_2(tmp_path: Path) -> None:
    file, link, foreign = tmp_path / "file", tmp_path / "link", tmp_path / "foreign.png"
    file.touch()
    link.symlink_to(tmp_path / "missing" / "x")
    foreign.write_bytes(b"precious")
    folders = [file, file / "x", link, "/proc/x", tmp_path / ("x" * 300), "~nobody-of-this-name/x", "/dev/null"]
    options = (
        *("--units x", "--units -1", "--units 1.5", "--units", "--unit 3", "--seed -1", "--seed 99999999999999999999"),
        *("--workers 0", "--corruption 2", "--corruption nan", "--corruption", "--loads inf", "--nope", "stray"),
        *("--preset nope", "--preset"),
    )
    others = (
        "speed --works nope",
        "speed --works",
        "speed --works W1_small --against nope",
        "speed --works e --device tpu",
        "occlusion --models nope",
        "occlusion --digits handwritten --mnist /nowhere",
        "pcn_cycles --cycles -1 1",
        "local_learning --hidden 0",
        "extrapolation --data /nowhere",
        "object_solution_time --neural /nowhere",
        "time_constants --networks nope",
    )
    commands = ("", "nope", "models x", "describe", "describe nope", "describe blt --dra x.png", "run nope", "doctor x")
    lines = [["pcsim", *words.split()] for words in commands]
    lines += [["pcsim", "describe", "blt", "--draw", *picture] for picture in ([], ["x.jpg"], ["x"], [str(foreign)])]
    lines += [[*ATTRACTORS, "--out", str(tmp_path / "out"), *words.split()] for words in options]
    lines += [[*ATTRACTORS, "--out", str(folder)] for folder in ("", *folders)] + [[*ATTRACTORS, "--out="]]
    for words in others:
        name, *rest = words.split()
        lines.append([f"experiments.{name}", "--preset", "smoke", "--out", str(tmp_path / name), *rest])
    assert not unexpected(lines, endings(lines, tmp_path), {2})
    assert foreign.read_bytes() == b"precious" and not (tmp_path / "out").exists()


VALUES = (
    *("", "x", "-1", "0", "1", "2", "3", "nan", "inf", "1e-300", "1e300", "1.5", "0.1", "None", "True", "[]", "~", "é"),
    *(
        "\x01",
        "a b",
        "100000000000",
        "99999999999999999999",
        "-99999999999999999999",
        "--",
        "-h",
        "blt",
        "/proc/nowhere",
    ),
)
NAMES = (
    *("attention", "attractors", "cell_search", "convergence", "extrapolation", "grouping"),
    *(
        "learned_time_constants",
        "local_learning",
        "object_solution_time",
        "occlusion",
        "pcn_cycles",
        "plasticity",
        "recurrent_cells",
        "routing",
    ),
    *("short_term_memory", "speed", "time_constants", "transfer"),
)


def generated(count: int, folder: Path) -> list[list[str]]:
    """Return random command lines: options of the programs with random values."""
    draw, lines = random.Random(0), []
    for number in range(count):
        if draw.random() < 0.2:
            words = draw.sample(
                ["models", "describe", "describe", "--draw", f"{folder}/x.png", *VALUES], draw.randint(0, 3)
            )
            lines.append(["pcsim", *words])
            continue
        name = draw.choice(NAMES)
        options = [field.name for field in fields(import_module(f"experiments.{name}").PRESETS["smoke"])]
        words = []
        for option in draw.sample(options, draw.choice([1, 1, 2])):
            words += [f"--{option.replace('_', '-')}", *draw.choices(VALUES, k=draw.choice([0, 1, 1, 1, 2]))]
        lines.append([f"experiments.{name}", "--preset", "smoke", "--out", f"{folder}/{number}", *words])
    return lines


@pytest.mark.parametrize("count", [25, pytest.param(500, marks=pytest.mark.slow)])
@pytest.mark.timeout(3_000)
def test_generated_command_lines_end_as_documented(count: int, tmp_path: Path) -> None:
    """A valid command line is stopped by SIGTERM after a second, which is status 143."""
    lines = generated(count, tmp_path)
    rows = endings(lines, tmp_path, seconds=1.0)
    assert not unexpected(lines, rows, {0, 2, 143}) and sum(row["status"] == 2 for row in rows) > count / 2


def test_experiment_expands_home_in_out(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    process = start(*ATTRACTORS, "--out=~/x", cwd=tmp_path / "here", env={**ENVIRONMENT, "HOME": str(tmp_path)})
    assert process.communicate(timeout=120)[1] == "" and process.returncode == 0
    assert (tmp_path / "x" / "results.json").exists() and not list((tmp_path / "here").iterdir())


# ---------------------------------------------------------------------- output that cannot be written


@pytest.mark.parametrize("words", ["pcsim --help", "pcsim models", "experiments.attractors --help"])
@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
def test_closed_pipe_discards_output(words: str, unbuffered: str) -> None:
    read, write = os.pipe()
    os.close(read)
    process = start(*words.split(), stdout=write, env={**ENVIRONMENT, "PYTHONUNBUFFERED": unbuffered})
    os.close(write)
    assert process.communicate(timeout=120)[1] == "" and process.returncode == 0


@pytest.mark.parametrize("words", ["pcsim models", "experiments.attractors --help"])
def test_full_device_as_output_is_reported(words: str) -> None:
    with open("/dev/full", "w") as full:
        process = start(*words.split(), stdout=full)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 2 and "standard output" in said and "No space left" in said and "Traceback" not in said


def test_closed_streams_are_no_error() -> None:
    command = f"{sys.executable} -m pcsim models >&- 2>&-"
    assert subprocess.run(command, shell=True, cwd=ROOT, env=ENVIRONMENT, check=False).returncode == 0


def few_bytes() -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, 2_000))


@pytest.mark.parametrize("kind", ["png", "pdf", "svg"])
def test_drawing_replaces_own_picture_only_when_complete(kind: str, tmp_path: Path) -> None:
    picture = tmp_path / f"x.{kind}"
    describe("hopfield", picture)
    before = picture.read_bytes()
    code, printed = shell("describe", "hopfield", "--draw", picture.name, cwd=tmp_path, preexec_fn=few_bytes)
    assert code == 2 and "cannot be written (File too large" in printed and "Traceback" not in printed
    assert picture.read_bytes() == before and list(tmp_path.iterdir()) == [picture]
    describe("blt", picture)
    assert picture.read_bytes() != before, "a picture drawn by pcsim may be replaced"


def test_experiment_on_full_disk_ends_with_status_2(tmp_path: Path) -> None:
    process = start(*ATTRACTORS, "--out", str(tmp_path / "o"), preexec_fn=few_bytes)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 2 and "cannot be written (File too large" in said and "Traceback" not in said


# ---------------------------------------------------------------------- signals


def wait_until_begun(process: subprocess.Popen) -> None:
    """Wait until a program handles SIGTERM: before, Python itself is starting."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        (caught,) = [line for line in Path(f"/proc/{process.pid}/status").read_text().splitlines() if "SigCgt" in line]
        if int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1:
            return
        time.sleep(0.001)


def living(session: int) -> list[str]:
    """Return the processes of a session that have not ended."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, of = path.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        found += [path.parent.name] if int(of) == session and state not in "ZX" else []
    return found


def stop(words: tuple[str, ...], number: signal.Signals, after: float, *, everyone: bool) -> tuple[int, str]:
    """Send a signal to a program, or as a terminal does to all its processes; return its status and its messages."""
    process = start(*words, start_new_session=True)
    wait_until_begun(process)
    time.sleep(after)
    if process.poll() is None:
        os.killpg(process.pid, number) if everyone else process.send_signal(number)
    _, said = process.communicate(timeout=60)
    until = time.monotonic() + 10
    while living(process.pid) and time.monotonic() < until:
        time.sleep(0.02)
    assert not living(process.pid), "worker processes must end with the program"
    return process.returncode, said


MOMENTS = (0.0, 0.05, 0.2, 0.5, 1.0, 1.5)
DONE = (0, "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_command_says_so_in_one_line(number: signal.Signals) -> None:
    for after in MOMENTS:
        ended = stop(("pcsim", "models"), number, after, everyone=after > 0.1)
        assert ended == (128 + number, f"{command_line.STOPPED}\n") or (after >= 1 and ended == DONE), (after, ended)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moments", [(1.5, 4.0), pytest.param((*range(8), 2.5, 3.5, 4.5), marks=pytest.mark.slow)])
def test_stopped_experiment_ends_its_workers_and_resumes(
    number: signal.Signals, moments: tuple[float, ...], tmp_path: Path
) -> None:
    words = (*ATTRACTORS, "--repetitions", "3", "--workers", "2", "--out", str(tmp_path))
    for after in moments:
        ended = stop(words, number, after, everyone=after > 2)
        assert ended in ((128 + number, f"{command_line.STOPPED}\n"), DONE), (after, ended)
    process = start(*words)
    assert (
        process.communicate(timeout=200)[1] == "" and process.returncode == 0 and (tmp_path / "results.json").exists()
    )
    assert not list(tmp_path.rglob(".*"))


def test_partial_files_of_killed_experiment_are_removed(tmp_path: Path) -> None:
    from experiments import base

    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    with storage.replacing(tmp_path / "results.json") as partial:
        partial.touch()
        killed = tmp_path / partial.name.replace(f".{os.getpid()}-", f".{ended.pid}-")
        killed.touch()
        base.claim(tmp_path, base.Options())
        assert not killed.exists() and partial.exists(), "this process is alive"


SWALLOWED = {
    "by a destructor": """
class Slow:
    def __del__(self):
        print("ready", flush=True)
        time.sleep(60)
with program():
    Slow()
""",
    "by a library": """
command_line.PATIENCE_S = 0.5
with program():
    try:
        print("ready", flush=True)
        time.sleep(60)
    except BaseException:
        time.sleep(60)
""",
    "and turned into another exception": """
with program():
    try:
        print("ready", flush=True)
        time.sleep(60)
    except BaseException:
        raise ImportError("no such module") from None
""",
}


@pytest.mark.parametrize("swallowed", SWALLOWED.values(), ids=SWALLOWED)
def test_signal_that_is_swallowed_ends_program(swallowed: str) -> None:
    code = f"import time\nfrom pcsim.core import command_line\nfrom pcsim.core.command_line import program\n{swallowed}"
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": ROOT, "env": ENVIRONMENT}
    process = subprocess.Popen([sys.executable, "-c", code], **options)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGTERM)  # as `timeout` does
    _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (143, f"{command_line.STOPPED}\n")


def test_bug_ends_with_status_1_and_lack_of_memory_with_2() -> None:
    code = "import sys, torch\nfrom pcsim.core.command_line import program\nwith program():\n    "
    for statement, status in (("1 / 0", 1), ("torch.empty(2**60)", 2), ("bytearray(2**60)", 2)):
        done = subprocess.run(
            [sys.executable, "-c", code + statement], env=ENVIRONMENT, capture_output=True, check=False
        )
        assert done.returncode == status and (b"Traceback" in done.stderr) == (status == 1)


def test_importing_pcsim_leaves_signals_of_other_programs_alone() -> None:
    code = "import signal, pcsim; print(signal.getsignal(2) is signal.default_int_handler, signal.getsignal(15).name)"
    done = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.stdout == "True SIG_DFL\n"
