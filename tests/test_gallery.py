"""Every script of the gallery runs alone, with public names only, and ends with one figure whose axes are filled."""

from __future__ import annotations

import ast
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import pytest
from support.paths import ROOT

import pcsim

matplotlib.use("Agg")
from matplotlib import pyplot as plt

SCRIPTS = sorted((ROOT / "docs" / "gallery").glob("plot_*.py"))
FAST = ("conduction_delays", "own_image", "sweep")
"""scripts that run by default"""
CLAIMS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "conduction_delays": lambda n: n["feedback"] == n["net"].arrivals["V4"] + 20.0,
    "dissimilarities": lambda n: n["found"] == sorted(n["found"]) and n["found"][-1] > 2 * n["found"][0],
    "extrapolation": lambda n: all(n["scored"].at(k) < n["scored"].at(k, "copy last frame") for k in (1, 2, 3, 4)),
    "hopfield": lambda n: n["wrong"][1] == 0 and (n["binary"]["energy"].diff(dim=0) <= 1e-4).all(),
    "learned_tau": lambda n: n["learned"][-1] < n["fixed"][-1] / 5 and min(n["after"]) < 9 and max(n["after"]) > 40,
    "lesion": lambda n: (
        n["distances"]["l1"][9] == 0 == n["distances"]["l2"][9]
        and n["distances"]["l1"][10] > n["distances"]["l2"][10]
        and n["distances"]["l1"][-1] < n["distances"]["l2"][-1]
    ),
    "mask": lambda n: n["correct"]["mask"][6:].mean() > n["correct"]["blank"][6:].mean(),
    "new_cell": lambda n: n["peaks"][1] < 0.8 * n["peaks"][0] and n["peaks"][2] > 0.95 * n["peaks"][0],
    "occlusion": lambda n: n["correct"]["recurrent (BLT)"][-1] > n["correct"]["feed-forward (B)"][-1] + 10,
    "own_image": lambda n: n["answers"][0.0][-1].argmax() == 5 and n["answers"][0.3][-1][5] < 0.05,
    "pcn_error": lambda n: n["runs"][1.8].errors["e0"][-1] < 0.01 and n["runs"][2.1].errors["e0"].diff(dim=0)[-1] > 0,
    "predictive_coding": lambda n: (
        (n["energy"].diff(dim=0) < 1e-5).all()
        and (n["run"].errors["e0"][-1] < 0.4 * n["run"].errors["e0"][0]).all()
        and (n["run"].errors["e1"][-1] > n["run"].errors["e1"][0]).all()
    ),
    "receptive_fields": lambda n: n["extent"](n["fields"]["sparse prior"]) < 0.8 * n["extent"](n["fields"]["no prior"]),
    "solution_times": lambda n: n["mean"].low > 0,
    "stability": lambda n: all((run[-1] > run[0]) == (side > 1) for (_, side), run in n["runs"].items()),
    "surprise": lambda n: (
        n["runs"]["another digit"].errors["e0"].mean(1)[200:].max() > n["runs"]["blank"].errors["e0"].mean(1).max()
    ),
    "sweep": lambda n: (n["left"][-1] - n["left"][0]).min() > (n["left"][:, -1] - n["left"][:, 0]).max(),
    "time_constants": lambda n: n["settled"]["l1"][-1] > 2 * n["settled"]["l1"][0],
    "wilson_cowan": lambda n: n["kind"] == "unstable" and n["run"]["e"][300:].std() > 0.03,
    "work_precision": lambda n: all(
        abs(n["orders"].orders[name] - order) < 0.2 for name, order in {"Euler": 1, "Heun": 2, "RK4": 4}.items()
    ),
}
"""what the caption of each script says about its picture"""


def scripts() -> list[object]:
    return [
        pytest.param(path, id=path.stem, marks=() if path.stem.removeprefix("plot_") in FAST else pytest.mark.slow)
        for path in SCRIPTS
    ]


@pytest.mark.parametrize("path", scripts())
def test_gallery_script_draws_what_its_caption_says(
    path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)  # a script needs no file of the repository
    monkeypatch.setattr(plt, "show", lambda: None)
    plt.close("all")
    try:
        names = runpy.run_path(str(path), run_name="__main__")
        (number,) = plt.get_fignums()
        figure = plt.figure(number)
        assert figure.axes
        for ax in figure.axes:
            assert ax.has_data() or ax.texts or ax.patches, ax
        figure.canvas.draw()
        assert CLAIMS[path.stem.removeprefix("plot_")](names)
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
            assert node.attr.startswith("__") or not node.attr.startswith("_"), node.attr
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert all(node in tree.body for node in imports)
    assert not any(node.level for node in imports if isinstance(node, ast.ImportFrom))


def test_gallery_has_a_title_page_and_scripts() -> None:
    assert len(SCRIPTS) >= 20
    assert {path.stem.removeprefix("plot_") for path in SCRIPTS} == set(CLAIMS)
    assert (ROOT / "docs" / "gallery" / "README.rst").read_text().startswith("Gallery\n=======\n")
