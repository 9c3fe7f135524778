"""A file just opened in, where it stands out: nothing that damage may have left in it raises here.

What SQLite gives back for a damaged cell need not be of its column's type, nor near the truth.
"""

from collections.abc import Iterable

import apsw
import structlog

from relay.buffer import owed_ranges
from relay.buffer.owed_ranges import Ranges
from relay.buffer.sqlite import signal_runs
from relay.buffer.sqlite.rows import RowColumns, read_row
from relay.buffer.sqlite.schema import fetch, fetch_value, number
from relay.buffer.sqlite.types import Totals
from relay.model.records import StoredRow

log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(__name__)

# Ids count from 1, or from microseconds since the epoch: above this lies only damage.
MAX_ROW = 1 << 53
_NEWEST_LOOKS = 64
_DESTINATIONS = (
    "SELECT name, paused, ranges FROM destinations WHERE typeof(name) = 'text'"  # none that was hit
)


def _id(value: object) -> int:
    """`value` if it can be a row's id or a sum over rows."""
    return number(value, below=MAX_ROW)


def kept_totals(connection: apsw.Connection) -> tuple[Totals, Totals]:
    """Table `totals`: over all rows ever written, and of those that have gone."""
    found = fetch(connection, "SELECT * FROM totals")
    numbers = [_id(each) for each in found[0][1:]] if found else [0] * 6
    return Totals(*numbers[:3]), Totals(*numbers[3:])


def newest(connection: apsw.Connection, kept: Totals) -> tuple[int, Totals]:
    """The newest row (0: there is none) and the sums up to it, by the newest row that is whole.

    Raises CorruptError where that is of another signal than its run says.
    """
    last = _id(fetch_value(connection, "SELECT max(id) FROM rows"))
    newest = last
    for _ in range(_NEWEST_LOOKS):
        found = fetch(
            connection, "SELECT * FROM rows WHERE id <= ? ORDER BY id DESC LIMIT 1", (newest,)
        )
        if not found:
            return last, kept
        row = RowColumns(*found[0])
        read = read_row(row)
        if isinstance(read, StoredRow):
            if signal_runs.at(connection, row.id).signal is not read.signal:
                raise apsw.CorruptError("a run of rows is missing")
            more = last - row.id
            return last, Totals(
                row.rows_before + 1 + more,
                row.items_before + row.items + more,
                row.bytes_before + row.raw_bytes,
            )
        newest = row.id - 1
    return last, kept


def destinations(connection: apsw.Connection) -> list[tuple[str, bool, Ranges]]:
    """Each destination, its pause and what it is owed."""
    found = []
    for name, paused, stored in fetch(connection, _DESTINATIONS):
        try:
            ranges = owed_ranges.decode(stored)
        except (ValueError, TypeError):
            # Sent twice is better than not at all.
            log.exception("owed_ranges_damaged", destination=name)
            first = _id(fetch_value(connection, "SELECT min(id) FROM rows"))
            ranges = owed_ranges.open_from(first or 1)
        found.append((name, paused == 1, ranges))
    return found


def last_row(connection: apsw.Connection, every: Iterable[Ranges]) -> int:
    """The highest id ever given, by all that speaks of one: an id must never come twice."""
    hints = [
        fetch_value(connection, "SELECT seq FROM sqlite_sequence WHERE name = 'rows'"),
        fetch_value(connection, "SELECT max(row) FROM traces"),
    ]
    hints += [
        place.row - 1
        for ranges in every
        for item in ranges
        for place in (item.start, item.end)
        if place is not None
    ]
    return max(_id(hint) for hint in hints)
