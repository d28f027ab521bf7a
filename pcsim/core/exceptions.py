"""What went wrong, in three parts: what was given, what was expected, what to do."""

from __future__ import annotations

from collections.abc import Callable


class PcsimError(ValueError):
    """A failure that the user can mend. `given`, `expected` and `remedy` are whole phrases."""

    def __init__(self, *, given: str, expected: str, remedy: str) -> None:
        super().__init__(f"given: {given}\nexpected: {expected}\nremedy: {remedy}")
        self.given, self.expected, self.remedy = given, expected, remedy

    def __reduce__(self) -> tuple[Callable[..., PcsimError], tuple[type[PcsimError], str, str, str]]:
        # Exceptions cross process borders by their positional arguments, and these have none.
        return _rebuilt, (type(self), self.given, self.expected, self.remedy)


def _rebuilt(kind: type[PcsimError], given: str, expected: str, remedy: str) -> PcsimError:
    return kind(given=given, expected=expected, remedy=remedy)


class WiringError(PcsimError):
    """The graph is not a network: an unknown name, a zero-delay cycle, shapes that do not fit."""


class SolverError(PcsimError):
    """A solver that cannot advance this network, or cannot with this step."""


class StimulusError(PcsimError):
    """Something shown to a network that it cannot see: shape, type, values or times."""


class RecordError(PcsimError, KeyError):
    """Something that was not recorded, or cannot be."""

    def __str__(self) -> str:
        """As a failure of pcsim: a KeyError shows its message in quotes."""
        return str(self.args[0])


class StorageError(PcsimError):
    """A file that is missing, damaged, or belongs to something else."""


class TrainingError(PcsimError):
    """A training that cannot start or go on."""


class SweepError(PcsimError):
    """A sweep that cannot be made, or whose points failed."""


class PcsimWarning(UserWarning):
    """Something that runs, but is probably not what was meant."""
