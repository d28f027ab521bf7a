"""Utilities that do not depend on networks: states, the clock, exceptions, files and logging."""
