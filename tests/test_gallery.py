"""Every script of the gallery runs alone, with public names only, and ends with one figure whose axes are filled."""

from __future__ import annotations

import ast
import runpy
from pathlib import Path

import matplotlib
import pytest
from support.paths import ROOT

import pcsim

matplotlib.use("Agg")
from matplotlib import pyplot as plt

SCRIPTS = sorted((ROOT / "docs" / "gallery").glob("plot_*.py"))
FAST = ("conduction_delays", "own_image", "sweep")
"""scripts that run by default"""


def scripts() -> list[object]:
    return [
        pytest.param(path, id=path.stem, marks=() if path.stem.removeprefix("plot_") in FAST else pytest.mark.slow)
        for path in SCRIPTS
    ]


@pytest.mark.parametrize("path", scripts())
def test_gallery_script_draws_one_figure(path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # a script needs no file of the repository
    monkeypatch.setattr(plt, "show", lambda: None)
    plt.close("all")
    try:
        runpy.run_path(str(path), run_name="__main__")
        (number,) = plt.get_fignums()
        figure = plt.figure(number)
        assert figure.axes
        for ax in figure.axes:
            assert ax.has_data() or ax.texts or ax.patches, ax
        figure.canvas.draw()
    finally:
        plt.close("all")


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_gallery_script_is_short_and_uses_public_names(path: Path) -> None:
    tree = ast.parse(path.read_text())
    title, line, _, *caption = (ast.get_docstring(tree) or "").splitlines()
    assert line == "=" * len(title)
    assert caption
    assert path.read_text().rstrip().endswith("plt.show()")
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pcsim"):
            assert not any(alias.name.startswith("_") for alias in node.names)
            if node.module == "pcsim":
                assert {alias.name for alias in node.names} <= set(pcsim.__all__)
        if isinstance(node, ast.Attribute):
            assert not node.attr.startswith("_"), node.attr
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert all(node in tree.body for node in imports)
    assert not any(node.level for node in imports if isinstance(node, ast.ImportFrom))


def test_gallery_has_a_title_page_and_scripts() -> None:
    assert len(SCRIPTS) >= 20
    assert (ROOT / "docs" / "gallery" / "README.rst").read_text().startswith("Gallery\n=======\n")
