"""Render the project's docstrings: lines `name  description` become definitions, equations literal blocks."""

from __future__ import annotations

import ast
import re
import sys
from textwrap import dedent
from typing import Any

from docutils import nodes
from sphinx import addnodes

PARAMETER = re.compile(r"([A-Za-z_.][\w.]*(?:, [A-Za-z_.][\w.]*)*) {2,}(\S.*)")
EQUATION = re.compile(r"[^.\s][^.]{0,24}? (?:=|<-) |(?:tau\w* )?d\w+/dt")
PROSE = re.compile(
    r"\.(?: |$)|: |, (?:the|a|an|or|which) |,? (?:where|with|and|for|of|if|in|as|by|over|from) ", re.ASCII
)
SPAN = re.compile(r"(``.+?``|`[^`]+`)")
ANNOTATED = re.compile(r"~?(?:typing\.)?Annotated\[")
TOKEN = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|[\[\](){},]")
NAME = re.compile(r"[A-Za-z_][\w.]*(?:\(\))?")


def process(*event: Any) -> None:
    """Rewrite the lines of a docstring in place, for autodoc."""
    _, what, name, item, _, lines = event
    paragraphs = re.split(r"\n\s*\n", "\n".join(lines).strip("\n"))
    lines[:] = [line for number, text in enumerate(paragraphs) for line in _paragraph(text, first=number == 0)]
    if what == "module" and (public := getattr(item, "__all__", None)):
        lines += _names(name, public)


def shorten(*event: Any) -> tuple[str | None, str | None]:
    """Leave out the metadata of annotated types, such as the range of a number, in a signature, for autodoc."""
    *_, given, returned = event
    return given and _plain(given), returned and _plain(returned)


def shorten_attributes(_: Any, doctree: nodes.document) -> None:
    """Leave out the same metadata in the types of attributes."""
    for node in list(doctree.findall(addnodes.desc_annotation)):
        if ANNOTATED.search(node.astext()):
            node.replace_self(addnodes.desc_annotation("", _plain(node.astext())))


def _plain(text: str) -> str:
    while found := ANNOTATED.search(text):
        depth, comma = 1, 0
        for token in TOKEN.finditer(text, found.end()):
            depth += {"[": 1, "(": 1, "{": 1, "]": -1, ")": -1, "}": -1}.get(token[0], 0)
            if depth == 1 and token[0] == ",":
                comma = comma or token.start()
            if not depth:
                break
        text = text[: found.start()] + text[found.end() : comma] + text[token.end() :]
    return text


def _names(module: str, public: list[str]) -> list[str]:
    """Return a table of the functions and classes that the page describes, each with its first sentence."""
    package = sys.modules[module]
    found = [name for name in public if hasattr(value := getattr(package, name), "__doc__") and callable(value)]
    return ["", ".. autosummary::", "   :nosignatures:", "", *(f"   {name}" for name in found), ""]


def _paragraph(text: str, *, first: bool) -> list[str]:
    rows = text.split("\n")
    if all(row.startswith("    ") for row in rows):
        code = dedent(text)
        return [f".. code-block:: {_language(code)}", "", *("   " + row for row in code.split("\n")), ""]
    if first and EQUATION.match(text):
        return _equation(" ".join(row.strip() for row in rows))
    made: list[str] = []
    indent = ""  # of the lines that continue a definition or a bullet
    for row in rows:
        if found := PARAMETER.fullmatch(row):
            made += [*([""] if made and indent != "   " else []), f"``{found[1]}``", f"   {_inline(found[2])}"]
            indent = "   "
        elif indent and row.startswith(" "):
            made.append(indent + _inline(row.strip()))
        elif row.startswith("- "):
            made += [*([""] if made and indent != "  " else []), "- " + _inline(row[2:])]
            indent = "  "
        else:
            made += [*([""] if indent else []), _inline(row.strip())]
            indent = ""
    return [*made, ""]


def _language(code: str) -> str:
    try:
        ast.parse(code)
    except SyntaxError:
        return "text"
    return "python"


def _equation(text: str) -> list[str]:
    """Return the first paragraph of a docstring that opens with an equation, which is set as code."""
    words = PROSE.search(text)
    cut = words.start() if words else len(text)
    equation = text[:cut].rstrip(" .;,:")
    return [f"``{equation}``{_inline(text[len(equation) :])}", ""]


def _inline(text: str) -> str:
    """Return text as reStructuredText: names in backticks are links where they are known, all else is literal."""
    parts = SPAN.split(text)
    for number, part in enumerate(parts):
        if part.startswith("``"):
            continue
        if part.startswith("`"):
            inner = part.strip("`")
            parts[number] = f":py:obj:`{inner.removesuffix('()')}`" if NAME.fullmatch(inner) else f"``{inner}``"
            if number + 1 < len(parts) and re.match(r"[A-Za-z0-9_]", parts[number + 1]):
                parts[number] += "\\ "
        else:
            parts[number] = re.sub(r"([\\*|_])", r"\\\1", part)
    return "".join(parts)
