"""Every Python block of the README and the docs runs, in order, in a separate namespace per page."""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
from support.paths import ROOT
from support.small import SMALL

import pcsim
from pcsim.models import registry

DOCS = ROOT / "docs"
BUILT = {"_build", "gallery_pages"}
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md")),
    *sorted(page for page in DOCS.rglob("*.md") if page.relative_to(DOCS).parts[0] not in BUILT),
]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.S | re.M)
TREE = re.compile(r"^```\{toctree\}\n(.*?)^```", re.S | re.M)
HEADING = re.compile(r"^#+ (.*)$", re.M)


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


def test_page_links_to_headings_exist() -> None:
    for page in PAGES:
        for target, anchor in re.findall(r"\]\(([^)#:]*\.md)?#([^)]+)\)", page.read_text()):
            linked = page.parent / target if target else page
            assert anchor in {_anchor(title) for title in HEADING.findall(linked.read_text())}, (
                page.name,
                target,
                anchor,
            )


def _anchor(title: str) -> str:
    """Return the anchor that forges and MyST give to a heading."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def test_every_page_is_in_the_contents() -> None:
    listed = {DOCS / "index.md"}
    for page in PAGES:
        for block in TREE.findall(page.read_text()):
            entries = [line for line in block.splitlines() if line and not line.startswith(":")]
            kept = [entry for entry in entries if entry.split("/")[0] not in BUILT]
            pages = [(page.parent / f"{entry}.md").resolve() for entry in kept]
            listed |= {page if page.exists() else page.with_suffix(".ipynb") for page in pages}
    assert {page for page in PAGES if DOCS in page.parents} | set((DOCS / "notebooks").glob("*.ipynb")) == listed


def test_reference_has_every_public_name() -> None:
    """Packages are documented whole, by automodule; the names of `pcsim` itself are listed one by one."""
    page = (DOCS / "api" / "pcsim.md").read_text()
    listed = set(re.findall(r"^\.\. auto(?:class|function|exception):: (\w+)", page, re.M))
    packages = {name for name in pcsim.__all__ if inspect.ismodule(getattr(pcsim, name))}
    assert listed == set(pcsim.__all__) - packages
    documented = re.findall(r"automodule:: pcsim\.(\w+)", "".join(p.read_text() for p in (DOCS / "api").glob("*.md")))
    assert packages <= set(documented)


def test_citation_has_version() -> None:
    assert f"\nversion: {pcsim.__version__}\n" in (ROOT / "CITATION.cff").read_text()
