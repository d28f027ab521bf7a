"""Experiments, one program per scientific question. docs/design.md describes their common structure."""
