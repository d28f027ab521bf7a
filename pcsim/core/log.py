"""What pcsim says while it works: `logging.getLogger("pcsim")`, on standard error and beside progress bars.

logging.getLogger("pcsim").setLevel("WARNING")      silences it
"""

from __future__ import annotations

import logging
import sys

from tqdm.auto import tqdm

logger = logging.getLogger("pcsim")


class _BesideBars(logging.Handler):
    """Writes above the progress bars that are there."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stderr)


if not logger.handlers:  # one that a user has put there already is enough
    _handler = _BesideBars()
    _handler.setFormatter(logging.Formatter("pcsim: %(message)s"))
    logger.addHandler(_handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
