"""The worker processes of a running program, found in /proc."""

from __future__ import annotations

import subprocess
from pathlib import Path


def children_of(parent: int) -> list[int]:
    listed = subprocess.run(["pgrep", "-P", str(parent)], capture_output=True, text=True, check=False).stdout
    return [int(word) for word in listed.split()]


def workers_of(parent: int) -> list[int]:
    """Return the processes that compute points, which are identified by their command lines."""
    found = []
    for child in children_of(parent):
        words = Path(f"/proc/{child}/cmdline").read_bytes().decode().replace("\0", " ")
        if "spawn_main" in words and "resource_tracker" not in words:
            found.append(child)
        found += workers_of(child)
    return found
