"""The pcsim logger, `logging.getLogger("pcsim")`, which writes to standard error above any progress bars.

logging.getLogger("pcsim").setLevel("WARNING")      hides progress messages
"""

from __future__ import annotations

import logging
import sys

from tqdm import tqdm

logger = logging.getLogger("pcsim")


class _BesideBars(logging.Handler):
    """A handler that writes above progress bars."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stderr)


if not logger.handlers:  # keep any handler that the user has added
    _handler = _BesideBars()
    _handler.setFormatter(logging.Formatter("pcsim: %(message)s"))
    logger.addHandler(_handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
