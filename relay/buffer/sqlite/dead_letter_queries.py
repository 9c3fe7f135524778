"""A filter in, dead letters out, a page at a time: questions for the reader's connection.

A page is a window of ids, so that no statement looks at more than that many letters, however few
of them are meant.
"""

from dataclasses import dataclass

import apsw

from relay.buffer.sqlite.dead_letter_table import ENTRY_COLUMNS, entry_of, letter_of
from relay.buffer.sqlite.schema import fetch, fetch_value
from relay.buffer.views import LetterEntry, LetterFilter, StoredLetter, packed_index
from relay.model.records import DeadLetter

WINDOW = 1000
INGEST = "ingest"  # what people call the destination ""
NEWEST = 2**63 - 1
_ENTRY = f"SELECT {ENTRY_COLUMNS} FROM dead_letters "  # noqa: S608 - ours
_WANTED = (
    " (? = '' OR destination = ? OR (destination = '' AND ? = 'ingest'))"
    " AND (? = '' OR reason = ?) AND set_aside_ns >= ?"
)
_UP = "SELECT id FROM dead_letters WHERE id > ? ORDER BY id LIMIT 1 OFFSET ?"
_DOWN = "SELECT id FROM dead_letters WHERE id < ? ORDER BY id DESC LIMIT 1 OFFSET ?"


@dataclass(frozen=True, slots=True)
class LetterPage:
    """Letters in the order asked for, and after which id to go on (None: that was the end)."""

    entries: list[LetterEntry]
    edge: int | None


def oldest_first(connection: apsw.Connection, wanted: LetterFilter, after: int) -> LetterPage:
    """Those of a window of letters after id `after` that are meant."""
    edge = fetch_value(connection, _UP, (after, WINDOW - 1))
    until = NEWEST if wanted.until is None else wanted.until
    last = min(NEWEST if edge is None else int(edge), until)
    if wanted.ids:
        asked = [each for each in wanted.ids if after < each <= until]
        return LetterPage(_by_id(connection, wanted, asked), None)
    found = _entries(connection, wanted, after + 1, last)
    return LetterPage(found, None if edge is None or edge >= until else int(edge))


def newest_first(connection: apsw.Connection, wanted: LetterFilter, before: int) -> LetterPage:
    """Those of a window of letters before id `before` that are meant."""
    if wanted.ids:
        asked = [each for each in wanted.ids if each < before]
        return LetterPage(_by_id(connection, wanted, asked)[::-1], None)
    edge = fetch_value(connection, _DOWN, (before, WINDOW - 1))
    first = 0 if edge is None else int(edge)
    last = before - 1 if wanted.until is None else min(wanted.until, before - 1)
    found = _entries(connection, wanted, first, last)
    return LetterPage(found[::-1], None if edge is None else first)


def newest_id(connection: apsw.Connection) -> int:
    """The id of the newest letter; 0 when there is none."""
    return int(fetch_value(connection, "SELECT max(id) FROM dead_letters") or 0)


def bodies(connection: apsw.Connection, letter_ids: list[int]) -> list[StoredLetter]:
    """Those letters with their bodies, in that order; those that have gone are left out."""
    return [found for each in letter_ids if (found := letter_of(connection, each)) is not None]


def rows_with_traces(
    connection: apsw.Connection, trace_ids: frozenset[bytes], after_row: int, step: int
) -> tuple[int, int | None]:
    """How many kept rows among the next `step` hold one of the traces, and where to go on."""
    found = fetch(
        connection,
        "SELECT traces.row, ids, rows.id IS NOT NULL FROM traces LEFT JOIN rows"
        " ON rows.id = traces.row WHERE traces.row > ? ORDER BY traces.row LIMIT ?",
        (after_row, step),
    )
    held = sum(
        1
        for _row, ids, is_kept in found
        if is_kept and any(ids[at : at + 16] in trace_ids for at in range(0, len(ids), 16))
    )
    return held, found[-1][0] if len(found) == step else None


def _by_id(
    connection: apsw.Connection, wanted: LetterFilter, letter_ids: list[int]
) -> list[LetterEntry]:
    return [
        found
        for each in sorted(set(letter_ids))
        for found in _entries(connection, wanted, each, each)
    ]


def _entries(
    connection: apsw.Connection, wanted: LetterFilter, first: int, last: int
) -> list[LetterEntry]:
    name, reason = wanted.destination, wanted.reason
    found = fetch(
        connection,
        _ENTRY + "WHERE id >= ? AND id <= ? AND" + _WANTED + " ORDER BY id",
        (first, last, name, name, name, reason, reason, wanted.since_ns),
    )
    return [
        entry
        for columns in found
        if _is_of_trace((entry := entry_of(columns)).letter, wanted.trace)
    ]


def _is_of_trace(letter: DeadLetter, trace: str) -> bool:
    # Of ingest the words are what stood there: the text, or of protobuf the hex of the bytes.
    if not trace or (not letter.destination and letter.words in (trace, trace.encode().hex())):
        return True
    try:
        trace_id = bytes.fromhex(trace)
    except ValueError:
        return False
    return len(trace_id) == 16 and packed_index(letter.trace_ids, trace_id) is not None
