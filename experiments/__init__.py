"""Experiments, one program per scientific question. docs/design.md describes their common structure."""

import pcsim  # noqa: F401 - first, so that experiments can be stopped while they import the rest
