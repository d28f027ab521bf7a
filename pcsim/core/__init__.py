"""Foundations that depend on no network: states, the clock, exceptions, files, the log."""
