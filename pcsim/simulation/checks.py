"""Checks of the arguments of a run, before it begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pcsim.core.exceptions import RecordError, SolverError, StimulusError, WiringError
from pcsim.network.network import Network
from pcsim.network.wiring import Wiring
from pcsim.simulation.record import Kept, Record, kept_by
from pcsim.simulation.run import Snapshot

Records = Record | Sequence[Record] | None


def require_beginning(start: object, initial: object) -> None:
    """Raise StimulusError unless they are a Snapshot and a dict of memories, or None."""
    if not isinstance(start, Snapshot | None):
        raise StimulusError(
            given=f"start={type(start).__name__}", expected="the `final` of a run", remedy="write start=run.final"
        )
    if not isinstance(initial, Mapping | None):
        raise StimulusError(
            given=f"initial={type(initial).__name__}",
            expected="a dict {memory: (batch, ...)}",
            remedy="write initial={'r1': values}; run.final.state is such a dict, start=run.final goes on from there",
        )


def require_network(network: object) -> None:
    """Raise WiringError for anything but a network."""
    if not isinstance(network, Network):
        raise WiringError(
            given=f"a {type(network).__name__}",
            expected="a pcsim.Network",
            remedy="build one, or write pcsim.models.build('blt')",
        )


def records_of(record: Records, network: Wiring) -> tuple[tuple[Record, ...], list[list[Kept]]]:
    """Return the records, by default one of the read-out, and what each keeps.

    Raises WiringError for anything but records, RecordError for a record that keeps nothing or unknown names.
    """
    if record is None:
        record = Record(states=[network.readout] if network.readout else list(network.populations))
    records = (record,) if isinstance(record, Record) else record
    if not isinstance(records, Sequence) or not all(isinstance(each, Record) for each in records):
        raise WiringError(
            given=f"record={record!r}",
            expected="a Record, or a list of them",
            remedy="write record=Record(states=[...], errors='all')",
        )
    kept = kept_by(records, network)
    for each, keys in zip(records, kept, strict=True):
        if not keys and each != Record():
            raise RecordError(
                given=f"{each} of {network.name!r}, which keeps nothing",
                expected="names in states=, errors= or reduce=",
                remedy="write Record(states='all'), or leave the record out to keep the read-out",
            )
    return tuple(records), kept


def checked_end(begin: int, end: int) -> int:
    """Return the step that a run ends with. Raises SolverError if the run starts at or after its end."""
    if end <= begin:
        raise SolverError(
            given=f"an end after {end} steps, and a start after {begin} steps",
            expected="a later end",
            remedy=f"pass steps={begin + 100}, or a later until: both count from the first start",
        )
    return end
