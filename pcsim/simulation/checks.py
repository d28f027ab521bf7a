"""Validation of the arguments of a run."""

from __future__ import annotations

from collections.abc import Sequence

from pcsim.core.exceptions import PcsimError, RecordError, SolverError, StimulusError, WiringError
from pcsim.network.wiring import Wiring
from pcsim.simulation.record import Kept, Record, kept_by

Records = Record | Sequence[Record] | None
ERRORS: dict[str, type[PcsimError]] = {
    "network": WiringError,
    "stimulus": StimulusError,
    "initial": StimulusError,
    "start": StimulusError,
    "record": RecordError,
}
"""argument of a run -> the exception raised if it does not match its annotation"""


def records_of(record: Records, network: Wiring) -> tuple[tuple[Record, ...], list[list[Kept]]]:
    """Return the records (by default, a record of the readout) and the entries that each record keeps.

    Raises RecordError for unknown names and for records without any entries.
    """
    if record is None:
        record = Record(states=[network.readout] if network.readout else list(network.populations))
    records = (record,) if isinstance(record, Record) else record
    kept = kept_by(records, network)
    for each, keys in zip(records, kept, strict=True):
        if not keys and each != Record():
            raise RecordError(
                given=f"{each}, which keeps nothing of {network.name!r}",
                expected="at least one name in states=, errors= or reduce=",
                remedy="pass Record(states='all'), or omit `record` to keep the readout",
            )
    return tuple(records), kept


def checked_end(begin: int, end: int) -> int:
    """Return `end`, the last step of a run. Raises SolverError if the run starts at or after this step."""
    if end <= begin:
        raise SolverError(
            given=f"a run that starts at step {begin} and ends at step {end}",
            expected="an end after the start",
            remedy=f"pass steps={begin + 100} or a later `until`; both are counted from the start of the first run",
        )
    return end
