"""What went wrong, in three parts: what was given, what was expected, what to do."""

from __future__ import annotations


class PcsimError(ValueError):
    """A failure that the user can mend. `given`, `expected` and `remedy` are whole phrases."""

    def __init__(self, *, given: str, expected: str, remedy: str) -> None:
        super().__init__(f"given: {given}\nexpected: {expected}\nremedy: {remedy}")
        self.given, self.expected, self.remedy = given, expected, remedy


class WiringError(PcsimError):
    """The graph is not a network: an unknown name, a zero-delay cycle, shapes that do not fit."""


class SolverError(PcsimError):
    """A solver that cannot advance this network, or cannot with this step."""


class StimulusError(PcsimError):
    """Something shown to a network that it cannot see: shape, type, values or times."""


class StorageError(PcsimError):
    """A file that is missing, damaged, or belongs to something else."""


class TrainingError(PcsimError):
    """A training that cannot start or go on."""


class PcsimWarning(UserWarning):
    """Something that runs, but is probably not what was meant."""
