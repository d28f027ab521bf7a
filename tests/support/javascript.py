"""JavaScript in tests: scripts in node or a browser, and scripts inside a page in a headless browser."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

BROWSERS = ("chromium", "google-chrome", "chrome", "chromium-browser", "google-chrome-stable")
OPTIONS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--virtual-time-budget=20000")


@lru_cache
def browser() -> str | None:
    """Return the path of a Chromium, or None."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


def evaluate(script: str, folder: Path) -> Any:
    """Return the value of the expression `script`, as JSON, from node or else from a browser."""
    if node := shutil.which("node"):
        path = folder / "script.js"
        path.write_text(f"console.log(JSON.stringify({script}))")
        return json.loads(_output(node, str(path)))
    page = folder / "script.html"
    page.write_text("<!doctype html><html><body></body></html>")
    return in_page(page, f"return {script};")


def in_page(page: Path, body: str) -> Any:
    """Return what the async function with this `body` returns inside a page, as JSON; errors of the page are raised."""
    if browser() is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is on the PATH")
    script = (
        "<script>(async () => { let result; try { result = { value: await (async () => {" + body + "})() }; } "
        "catch (error) { result = { error: String(error.stack) }; } "
        'const place = document.createElement("pre"); place.id = "result"; '
        "place.textContent = JSON.stringify({ ...result, failed: globalThis.failed ?? null }); "
        "document.body.append(place); })();</script>"
    )
    first = "<script>addEventListener('error', (event) => { globalThis.failed = String(event.message); });</script>"
    copy = page.with_suffix(".test.html")
    copy.write_text(page.read_text().replace("<body>", f"<body>{first}").replace("</body>", f"{script}</body>"))
    printed = _output(str(browser()), *OPTIONS, "--dump-dom", copy.as_uri())
    found = re.search(r'<pre id="result">(.*?)</pre>', printed, re.S)
    assert found, printed[-2000:]
    result = json.loads(html.unescape(found[1]))
    assert not result.get("error") and not result["failed"], result
    return result["value"]


def _output(*command: str) -> str:
    made = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert made.returncode == 0, made.stderr[-2000:]
    return made.stdout
