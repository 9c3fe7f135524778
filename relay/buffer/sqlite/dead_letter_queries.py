"""Dead letters for who looks at them, a page at a time: questions for the reader's connection.

A page is a window of ids, so that no statement looks at more than that many letters, however few
of them are meant.
"""

from collections.abc import Sequence
from functools import partial

import apsw

from relay.buffer.sqlite import counters_table
from relay.buffer.sqlite.dead_letter_table import (
    ENTRY_COLUMNS,
    entry_of,
    letter_of,
    newest_letters,
)
from relay.buffer.sqlite.reader import Ask
from relay.buffer.sqlite.schema import fetch, fetch_value
from relay.buffer.values import (
    DeadLetterEntry,
    DeadLetterFilter,
    DeadLetterPage,
    StoredDeadLetter,
    is_of_trace,
)

WINDOW = 1000
NEWEST = 2**63 - 1
_ENTRY = f"SELECT {ENTRY_COLUMNS} FROM dead_letters "  # noqa: S608 - ours
_WANTED = (
    " (? = '' OR destination = ? OR (destination = '' AND ? = 'ingest'))"
    " AND (? = '' OR reason = ?) AND (? = 0 OR signal = ?) AND set_aside_ns >= ?"
)
_UP = "SELECT id FROM dead_letters WHERE id > ? ORDER BY id LIMIT 1 OFFSET ?"
_DOWN = "SELECT id FROM dead_letters WHERE id < ? ORDER BY id DESC LIMIT 1 OFFSET ?"


class SqliteDeadLetterReader:
    """Looks at dead letters (`api.DeadLetterReader`)."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    async def newest(self, limit: int = 100) -> list[StoredDeadLetter]:
        """The newest, newest first, with their bodies."""
        return await self._ask(partial(newest_letters, limit=limit))

    async def newest_first(self, wanted: DeadLetterFilter, before: int) -> DeadLetterPage:
        """A step of those before id `before` that are meant."""
        return await self._ask(partial(newest_first, wanted=wanted, before=before))

    async def oldest_first(self, wanted: DeadLetterFilter, after: int) -> DeadLetterPage:
        """A step of those after id `after` that are meant."""
        return await self._ask(partial(oldest_first, wanted=wanted, after=after))

    async def newest_id(self) -> int:
        """The id of the newest; 0 when there is none."""
        return await self._ask(newest_id)

    async def bodies(self, letter_ids: Sequence[int]) -> list[StoredDeadLetter]:
        """Those with their bodies, in that order; those that have gone are left out."""
        return await self._ask(partial(bodies, letter_ids=letter_ids))

    async def dropped(self) -> dict[str, int]:
        """How many were given up for space or age, ever, by destination."""
        return await self._ask(partial(counters_table.read, prefix=counters_table.DROPPED_LETTERS))


def oldest_first(
    connection: apsw.Connection, wanted: DeadLetterFilter, after: int
) -> DeadLetterPage:
    """Those of a window of letters after id `after` that are meant."""
    edge = fetch_value(connection, _UP, (after, WINDOW - 1))
    until = NEWEST if wanted.until is None else wanted.until
    last = min(NEWEST if edge is None else int(edge), until)
    if wanted.ids:
        asked = [each for each in wanted.ids if after < each <= until]
        return DeadLetterPage(_by_id(connection, wanted, asked), None)
    found = _entries(connection, wanted, after + 1, last)
    return DeadLetterPage(found, None if edge is None or edge >= until else int(edge))


def newest_first(
    connection: apsw.Connection, wanted: DeadLetterFilter, before: int
) -> DeadLetterPage:
    """Those of a window of letters before id `before` that are meant."""
    if wanted.ids:
        asked = [each for each in wanted.ids if each < before]
        return DeadLetterPage(_by_id(connection, wanted, asked)[::-1], None)
    edge = fetch_value(connection, _DOWN, (before, WINDOW - 1))
    first = int(edge or 1)
    last = before - 1 if wanted.until is None else min(wanted.until, before - 1)
    found = _entries(connection, wanted, first, last)
    return DeadLetterPage(found[::-1], None if edge is None else first)


def newest_id(connection: apsw.Connection) -> int:
    """The id of the newest letter; 0 when there is none."""
    return int(fetch_value(connection, "SELECT max(id) FROM dead_letters") or 0)


def bodies(connection: apsw.Connection, letter_ids: Sequence[int]) -> list[StoredDeadLetter]:
    """Those letters with their bodies, in that order; those that have gone are left out."""
    return [found for each in letter_ids if (found := letter_of(connection, each)) is not None]


def _by_id(
    connection: apsw.Connection, wanted: DeadLetterFilter, letter_ids: list[int]
) -> list[DeadLetterEntry]:
    return [
        found
        for each in sorted(set(letter_ids))
        for found in _entries(connection, wanted, each, each)
    ]


def _entries(
    connection: apsw.Connection, wanted: DeadLetterFilter, first: int, last: int
) -> list[DeadLetterEntry]:
    name, reason, signal = wanted.destination, wanted.reason, int(wanted.signal or 0)
    found = fetch(
        connection,
        _ENTRY + "WHERE id >= ? AND id <= ? AND" + _WANTED + " ORDER BY id",
        (first, last, name, name, name, reason, reason, signal, signal, wanted.since_ns),
    )
    return [
        entry for columns in found if is_of_trace((entry := entry_of(columns)).letter, wanted.trace)
    ]
