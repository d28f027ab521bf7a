"""Every Python block of the README and the docs runs, in order, in a separate namespace per page."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
from support.paths import ROOT
from support.small import SMALL

from pcsim.models import registry

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.S | re.M)


@pytest.mark.parametrize(
    "page", [p for p in PAGES if BLOCK.search(p.read_text())], ids=lambda p: str(p.relative_to(ROOT))
)
def test_page_code_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "MODELS", dict(registry.MODELS))  # a page may register a model
    module = ModuleType(f"docs_{page.stem}")
    monkeypatch.setitem(sys.modules, module.__name__, module)  # dataclasses look up their module
    names = module.__dict__
    text = page.read_text()
    for block in BLOCK.finditer(text):
        lines = "\n" * text[: block.start(1)].count("\n")
        exec(compile(lines + block.group(1), str(page), "exec"), names)
    for name, value in names.items():
        if name.startswith("test_"):
            value()


def test_model_pages_have_every_section_and_diagram() -> None:
    index = (ROOT / "docs" / "models" / "README.md").read_text()
    for name in dict.fromkeys(key.split("/")[0] for key in SMALL):
        (row,) = [line for line in index.splitlines() if f"`{name}`" in line and line.startswith("|")]
        page = (ROOT / "docs" / "models" / re.search(r"\]\(([^)]+)\)", row)[1]).read_text()
        assert re.search(r"!\[wiring of [^]]*\]\(", page), name
        for part in ("# ", "    ", "```python", "**Checked.**", "**Settings.**", "**Pitfalls.**", "**Source.**"):
            assert f"\n{part}" in f"\n{page}", (name, part)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_page_links_to_files_exist(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target
