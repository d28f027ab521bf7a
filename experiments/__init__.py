"""Experiments, one program per scientific question. docs/design.md describes their common structure."""

import pcsim  # noqa: F401 - imported first, so that Ctrl-C also works during the other imports
