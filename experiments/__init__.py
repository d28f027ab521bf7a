"""Experiments, one script per scientific question; docs/design.md describes the contract they share."""
