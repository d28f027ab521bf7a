"""The tables of `pcsim doctor` match the extras of pyproject.toml and the environment variables that the code reads."""

from __future__ import annotations

import re
import tomllib

import pytest
from support.paths import ROOT

from pcsim.core import doctor

DISTRIBUTIONS = {"dask": "distributed", "scikit-learn": "sklearn"}
"""distribution -> module, where the names differ"""


def test_doctor_knows_all_extras_and_their_packages() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    names = {
        extra: sorted(re.match(r"[\w-]+", package)[0] for package in packages)
        for extra, packages in extras.items()
        if extra not in ("all", "docs", "test")
    }
    assert {extra: sorted(modules) for extra, (modules, _) in doctor.EXTRAS.items()} == {
        extra: sorted(DISTRIBUTIONS.get(name, name) for name in packages) for extra, packages in names.items()
    }


def test_doctor_knows_all_variables() -> None:
    files = [*(ROOT / "pcsim").rglob("*.py"), *(ROOT / "experiments").rglob("*.py")]
    read = {name for file in files for name in re.findall(r'"(PCSIM_\w+)"', file.read_text())}
    assert set(doctor.VARIABLES) == read


def test_doctor_names_missing_package_and_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    found = doctor.find_spec
    monkeypatch.setattr(doctor, "find_spec", lambda name: None if name == "optuna" else found(name))
    monkeypatch.setenv("CXX", "no-such-compiler")
    report = doctor.report()
    assert 'optuna missing, for searches, pcsim run cell_search: pip install "pcsim[sweep]"' in report
    assert "no C++ compiler (no-such-compiler)" in report
    assert "scipy " in report
