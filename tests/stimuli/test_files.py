"""Data set files: downloaded once, from the first mirror that responds; unreadable files are reported."""

from __future__ import annotations

import functools
import http.server
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pcsim import StorageError
from pcsim.stimuli import files


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """Yield the address of a folder with a file "known", served over HTTP."""
    pytest.importorskip("pooch", reason="pooch is not installed (extra data)")
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "known").write_bytes(b"content")
    quiet = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    handler = functools.partial(quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}/"
        running.shutdown()
        thread.join()


def test_cached_downloads_once_from_first_working_mirror(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = files.cached("set", "known", (f"{server}nowhere/", server), "VARIABLE", "the files")
    assert path.read_bytes() == b"content" and path.parent == tmp_path / "cache" / "pcsim" / "set"
    path.write_bytes(b"kept")
    again = files.cached("set", "known", (f"{server}nowhere/",), "VARIABLE", "the files")
    assert again.read_bytes() == b"kept", "an existing file must not be downloaded again"


def test_cached_names_every_failed_mirror(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(StorageError, match="set VARIABLE to it") as caught:
        files.cached("set", "unknown", (server, f"{server}nowhere/"), "VARIABLE", "the files")
    assert str(caught.value).count("404") >= 2 and not list((tmp_path / "cache").rglob("unknown*"))


def test_cached_without_pooch_names_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(StorageError, match=r"pcsim\[data\]"):
        files.cached("set", "known", (), "VARIABLE", "the files")


def test_unpacked_rejects_unreadable_file(tmp_path: Path) -> None:
    path = tmp_path / "cut.gz"
    path.write_bytes(b"\x1f\x8b\x08\x00 cut off")
    for wrong in (path, tmp_path / "absent"):
        with pytest.raises(StorageError, match="cannot be read"):
            files.unpacked(wrong)
