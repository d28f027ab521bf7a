"""Progress bars, and reports of what is kept if a computation is interrupted."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from pcsim.core.log import logger

with warnings.catch_warnings():
    # In a notebook without ipywidgets, tqdm.auto warns and falls back on text, which suffices for a bar.
    warnings.filterwarnings("ignore", "IProgress not found")
    from tqdm.auto import tqdm as _auto

COLUMNS, ROWS = 79, 20
"""size assumed for a terminal that does not report its size, in which tqdm would draw nothing"""


class tqdm(_auto):  # type: ignore[misc]  # noqa: N801 - the customary name
    """A tqdm progress bar that also appears in terminals of unknown size, such as those of `script` and `ssh -tt`."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        with suppress(OSError, ValueError, AttributeError):
            if os.get_terminal_size((options.get("file") or sys.stderr).fileno()).columns == 0:
                options = {"ncols": COLUMNS, "nrows": ROWS, **options}
        super().__init__(*arguments, **options)


@contextmanager
def resumable(kept: Callable[[], str]) -> Iterator[None]:
    """Report what is kept, such as "3 of 10 points", if the block is interrupted by Ctrl-C."""
    try:
        yield
    except KeyboardInterrupt:
        logger.warning(f"{kept()} are kept; run again to resume")
        raise


__all__ = ["resumable", "tqdm"]
