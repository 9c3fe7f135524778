"""What is kept, as OTLP JSON: a line for each row, of all of it or of what was asked for."""

from collections.abc import Iterator

import msgspec

from relay.buffer.sqlite.partial_rows import cut_here, stretches
from relay.buffer.sqlite.types import DamagedRow
from relay.buffer.values import packed_index
from relay.model.errors import RelayError
from relay.model.records import Encoding, Signal, StoredRow
from relay.offline.file import BufferFile, OwedDestination
from relay.otlp.ids import trace_ids_of
from relay.otlp.signals import WIRE
from relay.otlp.trace_items import entries_of_trace, json_fragment


def lines(
    file: BufferFile,
    *,
    destination: str | None = None,
    oldest_ns: int = 0,
    trace_id: bytes = b"",
    signal: Signal | None = None,
) -> Iterator[bytes | DamagedRow]:
    """A request with each row alone, as any OTLP/HTTP endpoint takes it; or a damaged row.

    Of what `destination` is still owed, of what came at `oldest_ns` or later, of what is of
    `trace_id` (16 bytes), of one `signal`. Raises RelayError for an unknown destination, and what
    SQLite raises.
    """
    owners = _owners_of(file, destination) if destination else None
    for read in _rows(file, owners, oldest_ns, trace_id):
        if signal not in (None, read.signal):
            continue
        line = read if isinstance(read, DamagedRow) else _line_of(read, trace_id)
        if line:
            yield line


def _owners_of(file: BufferFile, name: str) -> dict[int, OwedDestination]:
    """What that destination is owed, by signal. Raises RelayError with the names there are."""
    known = [each for each in file.destinations() if each.key.is_claimed]
    found = {int(each.key.signal): each for each in known if each.key.destination == name}
    if not found:
        names = ", ".join(sorted({each.key.destination for each in known})) or "none"
        raise RelayError(f"nothing is owed to {name!r}", hint=f"known here: {names}")
    return found


def _rows(
    file: BufferFile,
    owners: dict[int, OwedDestination] | None,
    oldest_ns: int,
    trace_id: bytes,
) -> Iterator[StoredRow | DamagedRow]:
    """What was asked for, a row at a time: what `owners` are owed of each, if they are given."""
    for columns, read in file.rows_of_trace(trace_id) if trace_id else file.rows():
        owner = owners.get(read.signal) if owners is not None else None
        if owners is not None and (owner is None or not owner.owes(columns.id)):
            continue
        if read.received_ns < oldest_ns and isinstance(read, StoredRow):
            continue
        if owner is None or owner.ranges is None or isinstance(read, DamagedRow):
            yield read
            continue
        for first, stop in stretches(owner.ranges, columns.id, read.items):
            yield cut_here(read, first, stop)


def _line_of(row: StoredRow, trace_id: bytes) -> bytes:
    """The line of a row, or of a trace's items in it; empty when there are none."""
    wire = WIRE[row.signal]
    if trace_id:
        if packed_index(trace_ids_of(row.body, row.encoding, row.signal), trace_id) is None:
            return b""
        key = wire.lists[Encoding.JSON].entries
        return msgspec.json.encode({key: entries_of_trace(row, trace_id)})
    return wire.json_request % json_fragment(row)
