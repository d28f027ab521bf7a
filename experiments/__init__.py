"""Experiments, each a program that answers one scientific question. docs/design.md describes their structure."""

import pcsim  # noqa: F401 - imported first, so that Ctrl-C also works during the other imports
