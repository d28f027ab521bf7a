"""The notebooks in docs/notebooks are stored without outputs, and run without warnings."""

from __future__ import annotations

import base64
import json
import re
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.paths import ROOT

FOLDER = ROOT / "docs" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
DRAWS = re.compile(r"\b(?:plots\.(?!animation)\w+|plt\.subplots|show)\(")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_stored_without_outputs(path: Path) -> None:
    notebook = json.loads(path.read_text())
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    for cell in notebook["cells"]:
        assert not cell.get("outputs"), cell["id"]
        assert cell.get("execution_count") is None, cell["id"]
        assert not cell["metadata"], cell["id"]
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_links_to_files_exist(path: Path) -> None:
    for cell in json.loads(path.read_text())["cells"]:
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", "".join(cell["source"])):
            if cell["cell_type"] == "markdown" and "://" not in target:
                assert (path.parent / target).exists(), (cell["id"], target)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_and_draws_without_warnings(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reason = "executing notebooks requires the extra docs: pip install -e '.[docs]'"
    nbformat = pytest.importorskip("nbformat", reason=reason)
    nbclient = pytest.importorskip("nbclient", reason=reason)
    pytest.importorskip("ipykernel", reason=reason)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("MPLBACKEND", raising=False)  # the kernel draws inline
    notebook = nbformat.read(path, as_version=4)
    place = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3", resources=place).execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            _require_only_progress_bars(cell)
            if DRAWS.search(re.sub(r"^def .*?(?=^\S)", "", cell.source, flags=re.M | re.S)):
                _require_picture(cell)


def _require_only_progress_bars(cell: Any) -> None:
    """Fail if the cell has written to stderr, as warnings do, anything but progress bars."""
    written = "".join(output.text for output in cell.outputs if output.get("name") == "stderr")
    assert [line for line in re.split(r"[\r\n]", written) if line.strip() and "update" not in line] == [], cell.id


def _require_picture(cell: Any) -> None:
    """Fail unless the cell shows a picture that is not blank."""
    pictures = [output.data["image/png"] for output in cell.outputs if "image/png" in output.get("data", {})]
    assert pictures, cell.id
    for picture in pictures:
        assert np.asarray(Image.open(BytesIO(base64.b64decode(picture))).convert("L")).std() > 1, cell.id
