"""Exceptions with three parts: what was given, what was expected, and what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class PcsimError(ValueError):
    """A failure that the user can fix. `given`, `expected` and `remedy` are complete phrases."""

    def __init__(self, *, given: str, expected: str, remedy: str) -> None:
        super().__init__(f"given: {given}\nexpected: {expected}\nremedy: {remedy}")
        self.given, self.expected, self.remedy = given, expected, remedy

    def __reduce__(self) -> tuple[Callable[..., PcsimError], tuple[type[PcsimError], str, str, str]]:
        # Pickle restores an exception from its positional arguments, and these have none.
        return _rebuilt, (type(self), self.given, self.expected, self.remedy)


def _rebuilt(kind: type[PcsimError], given: str, expected: str, remedy: str) -> PcsimError:
    return kind(given=given, expected=expected, remedy=remedy)


class WiringError(PcsimError):
    """A graph that is not a network: an unknown name, a zero-delay cycle, shapes that do not fit."""


class SolverError(PcsimError):
    """A solver that cannot advance this network, or not with this step."""


class StimulusError(PcsimError):
    """A stimulus or an array of data whose shape, type, values or times do not fit."""


class RecordError(PcsimError, KeyError):
    """A record that was not made, or cannot be."""

    def __str__(self) -> str:
        """Return the message as it is; a KeyError would show it in quotes."""
        return str(self.args[0])


class StorageError(PcsimError):
    """A file that is missing, damaged, or of another kind than expected."""


class TrainingError(PcsimError):
    """A training that cannot start or continue."""


class SweepError(PcsimError):
    """A sweep that cannot be built, or whose points failed."""


@contextmanager
def needs_extra(extra: str, error: type[PcsimError], given: str, otherwise: str = "") -> Iterator[None]:
    """Raise `error` if an import inside fails, with the extra that installs the package.

    otherwise  what else the user can do
    """
    try:
        yield
    except ImportError as reason:
        package = (reason.name or str(reason)).partition(".")[0]
        remedy = f'pip install "pcsim[{extra}]"' + (f", or {otherwise}" if otherwise else "")
        raise error(given=given, expected=f"the package {package}", remedy=remedy) from reason


class PcsimWarning(UserWarning):
    """A setting that runs, but is probably not what was meant."""
