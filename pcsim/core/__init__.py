"""Utilities that do not depend on networks: states, the clock, exceptions, files and logging."""

__all__ = ["checks", "clock", "command_line", "exceptions", "kinds", "log", "state", "storage"]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
