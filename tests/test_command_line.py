"""The commands of `python -m pcsim`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from pcsim import models


def shell(*arguments: str, cwd: Path) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "pcsim", *arguments], cwd=cwd, capture_output=True, text=True, timeout=120, check=False
    )
    return done.returncode, done.stdout + done.stderr


def test_models_command_lists_papers_and_edges(tmp_path: Path) -> None:
    code, printed = shell("models", cwd=tmp_path)
    assert code == 0
    lines = {line.split()[0]: line for line in printed.splitlines() if line.strip()}
    assert list(lines)[1:] == list(models.available()), "a header line, then one line per model"
    assert lines["blt"].split()[1:7] == ["37,546", "3", "2", "1", "0", "0"] and "Spoerer" in lines["blt"]
    assert lines["prednet_kitti"].split()[1] == "6,915,948" and "Lotter et al. 2017" in lines["prednet_kitti"]


def test_describe_command_prints_and_draws_model(tmp_path: Path) -> None:
    code, printed = shell("describe", "hopfield_modern", cwd=tmp_path)
    assert code == 0 and "attention" in printed and "order" in printed
    assert (tmp_path / "hopfield_modern.png").stat().st_size > 5_000
    code, printed = shell("describe", "prednett", cwd=tmp_path)
    assert code != 0 and "did you mean 'prednet'" in printed and "Traceback" not in printed
