"""The package: what it imports, its version, and the wheel and sdist (marker `slow`)."""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from support.paths import ENVIRONMENT, ROOT

import pcsim


def python(code: str, *, executable: str = sys.executable, **options: object) -> str:
    given = {"env": ENVIRONMENT, "capture_output": True, "text": True, "check": True}
    return subprocess.run([executable, "-c", code], **given | options).stdout


def test_import_is_lazy_and_complete() -> None:
    assert python("import sys, pcsim; print('torch' in sys.modules, 'matplotlib' in sys.modules)") == "False False\n"
    names = python(
        "import pcsim; print([n for n in pcsim.__all__ if getattr(pcsim, n) is None], pcsim.network.Network)"
    )
    assert names.startswith("[] <class")


def test_network_can_be_called_if_only_models_are_imported() -> None:
    code = "import torch; from pcsim.models import blt; print(blt((2, 2))(torch.rand(1, 1, 32, 32)).shape)"
    assert python(code) == "torch.Size([1, 10])\n"


def test_version_has_one_source() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert settings["project"]["dynamic"] == ["version"] and "version" not in settings["project"]
    source = (ROOT / settings["tool"]["hatch"]["version"]["path"]).read_text()
    assert f'VERSION = "{pcsim.__version__}"' in source
    assert f"## [{pcsim.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_experiments_import_their_own_package_relatively() -> None:
    """Their package is called `experiments` in a clone, and `pcsim.experiments` where pcsim was installed."""
    for path in (ROOT / "experiments").rglob("*.py"):
        assert not re.search(r"^\s*(from|import) experiments", path.read_text(), re.M), path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the wheel and the sdist."""
    pytest.importorskip("hatchling", reason="hatchling is not installed (group dev)")
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", folder], cwd=ROOT, check=True, capture_output=True
    )
    return folder


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the `bin` of a new environment with the wheel, and the dependencies of this one."""
    folder = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    here, there = (Path(sysconfig.get_path("purelib", vars=given)) for given in (None, {"base": str(folder)}))
    (there / "dependencies.pth").write_text(str(here))
    (wheel,) = built.glob("*.whl")
    subprocess.run([folder / "bin/pip", "install", "-q", "--no-deps", "--no-index", wheel], check=True)
    return folder / "bin"


def outside() -> dict[str, str]:
    return {name: value for name, value in ENVIRONMENT.items() if name != "PYTHONPATH"}


@pytest.mark.slow
def test_wheel_and_sdist_contain_what_they_must(built: Path) -> None:
    (wheel,), (sdist,) = built.glob("*.whl"), built.glob("*.tar.gz")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name.split("/")[0] for name in names} == {"pcsim", f"pcsim-{pcsim.__version__}.dist-info"}
    inside = [
        *((file, ROOT / "pcsim") for file in (ROOT / "pcsim").rglob("*")),
        *((file, ROOT) for file in (ROOT / "experiments").rglob("*")),
    ]
    for file, root in inside:
        if file.is_file() and "__pycache__" not in file.parts:
            assert f"pcsim/{file.relative_to(root).as_posix()}" in names
    with tarfile.open(sdist) as archive:
        members = {name.partition("/")[2] for name in archive.getnames()}
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    needed = (
        "pcsim/",
        "experiments/",
        "tests/",
        "docs/",
        "README.md",
        "CHANGELOG.md",
        "constraints.txt",
        "pyproject.toml",
    )
    assert {name for name in tracked if name.startswith(needed)} <= members


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_installed_wheel_runs_experiment_outside_clone(installed: Path, tmp_path: Path) -> None:
    options = {"cwd": tmp_path, "env": outside(), "capture_output": True, "text": True}
    assert subprocess.run([installed / "pcsim", "--version"], **options).stdout == f"pcsim {pcsim.__version__}\n"
    version = "from importlib.metadata import version; import pcsim; print(version('pcsim'), pcsim.__file__)"
    said = python(version, executable=str(installed / "python"), cwd=tmp_path, env=outside())
    assert said.split()[0] == pcsim.__version__ and str(ROOT) not in said
    words = ["attractors", "--preset", "smoke", "--repetitions", "2", "--workers", "2"]
    done = subprocess.run([installed / "pcsim", "run", *words], **options)
    assert done.returncode == 0 and "report.html" in done.stdout, done.stderr
    again = subprocess.run([installed / "python", "-m", "pcsim.experiments.attractors", *words[1:]], **options)
    assert again.returncode == 0, again.stderr


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_mypy_sees_types_of_installed_wheel(installed: Path, tmp_path: Path) -> None:
    pytest.importorskip("mypy", reason="mypy is not installed (group dev)")
    script = tmp_path / "user.py"
    script.write_text(
        "import pcsim\n"
        "from pcsim import RK4, Record, models, simulate\n"
        "reveal_type(models.blt)\n"
        "net = models.leaky_rcnn((8, 16), tau=(10.0, 20.0))\n"
        "reveal_type(simulate(net, pcsim.stimuli.digit_debris(fragments=3), solver=RK4(dt=1.0), until=5.0))\n"
        "pcsim.nonsense\n"
        "RK4(dt='x')\n"
    )
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--python-executable",
        installed / "python",
        "--cache-dir",
        tmp_path,
        script,
    ]
    done = subprocess.run(command, cwd=tmp_path, env=outside(), capture_output=True, text=True, check=False)
    assert "pcsim.simulation.run.Run" in done.stdout and "-> pcsim.network.network.Network" in done.stdout
    assert 'Module has no attribute "nonsense"' in done.stdout and "has incompatible type" in done.stdout, done.stdout
    assert "Found 2 errors" in done.stdout
