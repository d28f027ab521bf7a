"""Exceptions whose messages state what was given, what was expected and what to do."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class PcsimError(ValueError):
    """An error that the user can fix. `given`, `expected` and `remedy` are the three parts of the message."""

    def __init__(self, *, given: str, expected: str, remedy: str) -> None:
        super().__init__(f"given: {given}\nexpected: {expected}\nremedy: {remedy}")
        self.given, self.expected, self.remedy = given, expected, remedy

    def __reduce__(self) -> tuple[Callable[..., PcsimError], tuple[type[PcsimError], str, str, str]]:
        # Pickle rebuilds exceptions from positional arguments, but this class takes keyword arguments only.
        return _rebuilt, (type(self), self.given, self.expected, self.remedy)


def _rebuilt(kind: type[PcsimError], given: str, expected: str, remedy: str) -> PcsimError:
    return kind(given=given, expected=expected, remedy=remedy)


class WiringError(PcsimError):
    """An invalid network, for example with an unknown name, a zero-delay cycle or mismatched shapes."""


class SolverError(PcsimError):
    """A solver that cannot advance the given network, or cannot use the given step size."""


class StimulusError(PcsimError):
    """A stimulus or data array with an invalid shape or type, or with invalid values or times."""


class RecordError(PcsimError, KeyError):
    """A record that is missing from a run or cannot be computed."""

    def __str__(self) -> str:
        """Return the message without the quotes that KeyError would add."""
        return str(self.args[0])


class StorageError(PcsimError):
    """A file that is missing, damaged or of the wrong kind."""


class TrainingError(PcsimError):
    """A training run that cannot be started or continued."""


class SweepError(PcsimError):
    """A sweep that cannot be built, or in which some points have failed."""


@contextmanager
def needs_extra(extra: str, error: type[PcsimError], given: str, otherwise: str = "") -> Iterator[None]:
    """Turn an ImportError inside the context into `error`, naming the pip extra that installs the package.

    otherwise  an alternative remedy
    """
    try:
        yield
    except ImportError as reason:
        package = (reason.name or str(reason)).partition(".")[0]
        remedy = f'pip install "pcsim[{extra}]"' + (f", or {otherwise}" if otherwise else "")
        raise error(given=given, expected=f"the package {package}", remedy=remedy) from reason


class PcsimWarning(UserWarning):
    """A setting that works but is probably not intended."""


def warn(message: str) -> None:
    """Issue a PcsimWarning that points to the line of user code that called pcsim."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("pcsim."):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, PcsimWarning, stacklevel=level)
