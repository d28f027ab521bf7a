"""Progress bars."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

from support.paths import ENVIRONMENT

BAR = """
from pcsim.core.progress import tqdm
with tqdm(total=5, initial=2, disable=None) as bar:
    bar.update(3)
"""


def test_bar_appears_in_terminal_without_size() -> None:
    ours, theirs = pty.openpty()  # its size is 0 x 0
    subprocess.run([sys.executable, "-c", BAR], stderr=theirs, check=True, env=ENVIRONMENT)
    os.close(theirs)
    shown = os.read(ours, 10_000).decode()
    assert "2/5" in shown and "5/5" in shown


def test_import_of_bar_does_not_warn_about_ipywidgets() -> None:
    """The warning of tqdm.auto in a notebook without ipywidgets, as tqdm itself issues it."""
    code = (
        "import warnings, sys; sys.modules['ipywidgets'] = None; warnings.simplefilter('error')\n"
        "import tqdm.autonotebook as a, tqdm.std as s, types\n"
        "fake = types.ModuleType('tqdm.auto')\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'tqdm.auto':\n"
        "            warnings.warn('IProgress not found. Please update jupyter and ipywidgets.', s.TqdmWarning)\n"
        "sys.meta_path.insert(0, Finder())\n"
        "import pcsim.core.progress\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=ENVIRONMENT)
    assert "IProgress" not in done.stderr and done.returncode == 0, done.stderr
