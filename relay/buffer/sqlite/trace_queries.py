"""What the disk tells of a trace: questions for the reader's thread, each short.

Of rows that are kept and of rows that have gone (`history`), of deliveries and of dead letters.
No statement takes more than about 50 ms: a scan goes a step at a time, and the steps get smaller
where rows hold many ids.
"""

import time
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import apsw

from relay.buffer.sqlite.dead_letter_table import ENTRY_COLUMNS, entry_of
from relay.buffer.sqlite.reader import is_encoding, split_parts
from relay.buffer.sqlite.rows import Part, signal_of
from relay.buffer.sqlite.schema import fetch, fetch_value
from relay.buffer.values import ReachesBack, StoredDeadLetter, packed_index
from relay.model.records import Encoding, Signal

MOST_ROWS = 1000  # of one trace that are told
FIRST_STEP = 20_000
_LEAST_STEP = 500
_MOST_STEP = 40_000
_SLOW_SECONDS = 0.015
_FAST_SECONDS = 0.006
_DELIVERIES = 4_000
_LETTERS = 2_000
_PLACES = 50
_COUNTED_ROWS = 1000


class PartPlace(NamedTuple):
    """One request in a row that holds the trace asked for."""

    row: int
    encoding: Encoding
    part: Part
    first_item: int  # its place in the row
    is_kept: bool = True  # False: only what history tells
    signal: Signal = Signal.TRACES


@dataclass(frozen=True, slots=True)
class DeliveredEntry:
    """A row of table `deliveries`."""

    destination: str
    start: tuple[int, int]
    end: tuple[int, int]
    at_ns: int
    status: int


@dataclass(slots=True)
class TraceFinding:
    """Everything on disk about one trace."""

    places: list[PartPlace] = field(default_factory=list)
    deliveries: list[DeliveredEntry] = field(default_factory=list)  # as they were settled
    letters: list[StoredDeadLetter] = field(default_factory=list)  # without bodies


class TraceStep(NamedTuple):
    """Rows of a trace among the next many, and how to go on."""

    rows: list[int]
    after_row: int | None  # where to go on; None: that was the end
    step: int  # how many to look at next


def trace_rows(
    connection: apsw.Connection, trace_id: bytes, after_row: int, step: int
) -> TraceStep:
    """Rows holding the trace among the `step` after `after_row`, kept ones and others."""
    started = time.monotonic()
    count, last = fetch(
        connection,
        "SELECT count(*), max(row) FROM"
        " (SELECT row FROM traces WHERE row > ? ORDER BY row LIMIT ?)",
        (after_row, step),
    )[0]
    if not count:
        return TraceStep([], None, step)
    hits = fetch(
        connection,
        "SELECT row, ids FROM traces WHERE row > ? AND row <= ? AND instr(ids, ?) > 0",
        (after_row, last, trace_id),
    )
    rows = [row for row, ids in hits if packed_index(ids, trace_id) is not None]
    return TraceStep(rows, last if count == step else None, _next_step(step, started))


def _next_step(step: int, started: float) -> int:
    seconds = time.monotonic() - started
    if seconds > _SLOW_SECONDS:
        return max(step // 2, _LEAST_STEP)
    return min(step * 2, _MOST_STEP) if seconds < _FAST_SECONDS else step


def trace_places(
    connection: apsw.Connection, trace_id: bytes, rows: Sequence[int]
) -> list[PartPlace]:
    """The requests of `rows` (few) that hold the trace, in their order."""
    places: list[PartPlace] = []
    for row in rows:
        for is_kept, signal, encoding, parts, ids in fetch(
            connection,
            "SELECT 1, signal, encoding, parts, ids FROM rows JOIN traces ON traces.row = id"
            " WHERE id = ?1 UNION ALL SELECT 0, signal, encoding, parts, ids FROM history"
            " JOIN traces USING (row) WHERE row = ?1",
            (row,),
        ):
            first_item = 0
            for part, own_ids in split_parts(parts, ids):
                if packed_index(own_ids, trace_id) is not None and is_encoding(encoding):
                    of = signal_of(signal) or Signal.TRACES
                    places.append(
                        PartPlace(row, Encoding(encoding), part, first_item, bool(is_kept), of)
                    )
                first_item += part.items
    return places


def trace_deliveries(
    connection: apsw.Connection, rows: Sequence[int], after: int
) -> tuple[list[DeliveredEntry], int | None]:
    """Deliveries of `rows` (sorted) among the next many, and where to go on (None: end)."""
    last = fetch_value(
        connection,
        "SELECT max(id) FROM (SELECT id FROM deliveries WHERE id > ? ORDER BY id LIMIT ?)",
        (after, _DELIVERIES),
    )
    if last is None:
        return [], None
    # A trace may lie in few rows far apart: three numbers of each tell which speak of one.
    wanted = [
        delivery_id
        for delivery_id, first, end in fetch(
            connection,
            "SELECT id, start_row, end_row + (end_span > 0) FROM deliveries"
            " WHERE id > ? AND id <= ? AND start_row <= ? AND end_row >= ?",
            (after, last, rows[-1], rows[0]),
        )
        if bisect_left(rows, first) < bisect_left(rows, end)
    ]
    found = [
        entry
        for delivery_id in wanted
        for entry in fetch(
            connection,
            "SELECT destination, start_row, start_span, end_row, end_span, at_ns, status"
            " FROM deliveries WHERE id = ?",
            (delivery_id,),
        )
    ]
    entries = [
        DeliveredEntry(name, (start_row, start_span), (end_row, end_span), at_ns, status)
        for name, start_row, start_span, end_row, end_span, at_ns, status in found
    ]
    return entries, last


def rows_within(rows: Sequence[int], start: tuple[int, int], end: tuple[int, int]) -> Sequence[int]:
    """Those of `rows` (sorted) that a delivery speaks of."""
    behind = end[0] + 1 if end[1] else end[0]
    return rows[bisect_left(rows, start[0]) : bisect_left(rows, behind)]


def trace_letters(
    connection: apsw.Connection, trace_id: bytes, text: str, after: int
) -> tuple[list[StoredDeadLetter], int | None]:
    """Dead letters of the trace, or refused on the way in for the id `text`, without bodies."""
    last = fetch_value(
        connection,
        "SELECT max(id) FROM (SELECT id FROM dead_letters WHERE id > ? ORDER BY id LIMIT ?)",
        (after, _LETTERS),
    )
    if last is None:
        return [], None
    found = fetch(
        connection,
        f"SELECT {ENTRY_COLUMNS} FROM dead_letters WHERE id > ? AND id <= ?"  # noqa: S608 - ours
        " AND (instr(trace_ids, ?) > 0 OR (destination = '' AND ? <> '' AND words = ?))",
        (after, last, trace_id, text, text),
    )
    letters = []
    for entry in map(entry_of, found):
        letter = entry.letter
        is_refused_for_it = not letter.destination and letter.words == text
        if is_refused_for_it or packed_index(letter.trace_ids, trace_id) is not None:
            letters.append(StoredDeadLetter(entry.letter_id, entry.set_aside_ns, letter))
    return letters, last


def letters_of(
    connection: apsw.Connection, trace_ids: frozenset[bytes], after: int
) -> tuple[list[tuple[bytes, StoredDeadLetter]], int | None]:
    """Dead letters of destinations among the next many, each with every one of those traces that
    it is about, and where to go on (None: end).
    """
    found = fetch(
        connection,
        f"SELECT {ENTRY_COLUMNS} FROM dead_letters WHERE id > ? ORDER BY id LIMIT ?",  # noqa: S608 - ours
        (after, _LETTERS),
    )
    letters = []
    for entry in map(entry_of, found):
        ids = entry.letter.trace_ids
        letter = StoredDeadLetter(entry.letter_id, entry.set_aside_ns, entry.letter)
        own = {ids[at : at + 16] for at in range(0, len(ids), 16)}
        letters += [(trace_id, letter) for trace_id in own & trace_ids]
    return letters, found[-1][0] if len(found) == _LETTERS else None


def reaches_back(connection: apsw.Connection) -> ReachesBack:
    """Received time of the oldest row that is kept, and of the oldest that is known of; or 0."""
    kept = fetch_value(connection, "SELECT received_ns FROM rows ORDER BY id LIMIT 1")
    known = fetch_value(connection, "SELECT received_ns FROM history ORDER BY row LIMIT 1")
    times = [int(each) for each in (kept, known) if each is not None]
    return ReachesBack(int(kept or 0), min(times, default=0))


def count_kept(
    connection: apsw.Connection, trace_ids: frozenset[bytes], after_row: int
) -> tuple[int, int | None]:
    """How many kept rows among the next many hold one of the traces, and where to go on."""
    found = fetch(
        connection,
        "SELECT traces.row, ids, rows.id IS NOT NULL FROM traces LEFT JOIN rows"
        " ON rows.id = traces.row WHERE traces.row > ? ORDER BY traces.row LIMIT ?",
        (after_row, _COUNTED_ROWS),
    )
    held = sum(
        1
        for _row, ids, is_kept in found
        if is_kept and any(ids[at : at + 16] in trace_ids for at in range(0, len(ids), 16))
    )
    return held, found[-1][0] if len(found) == _COUNTED_ROWS else None


def batches(rows: Sequence[int]) -> list[Sequence[int]]:
    """`rows` in runs that `trace_places` may be asked for at once."""
    return [rows[at : at + _PLACES] for at in range(0, len(rows), _PLACES)]
