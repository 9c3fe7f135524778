"""Tells which rows are of which signal without looking at them (table `signal_runs`).

A run is a row and those after it up to the next run: all of one signal. A log of one signal has one
run, however long it is, so who wants another signal's rows passes over it in one look-up.

Each run holds the sums of every signal over all rows before it. So what one signal has between two
places is a difference; and a run that damage took away shows, since from one run to the next the
sums of that run's own signal alone may have grown. A run has a checksum, and which is the last one
stands in table `tallies`, too: whoever passes over rows by them must be sure.
"""

import itertools
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import apsw
import msgspec

from relay.buffer.sqlite.schema import fetch
from relay.buffer.sqlite.types import Totals
from relay.model.records import Signal

SINCE_SCHEMA = 3
"""The first schema that has the table."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[tuple[int, int, int, int]]).decode
_KEY = struct.Struct("<qq")
_LAST = "last_run"  # the count of that name says where it begins
_SELECT = "SELECT first_row, signal, sums FROM signal_runs "
# In one statement, since two may see two states of the file.
_SELECT_LAST = (
    "SELECT first_row, signal, sums, (SELECT value FROM tallies WHERE name = ?)"
    " FROM signal_runs ORDER BY first_row DESC LIMIT 1"
)
_NOTHING = Totals()
_CHECK_RUNS = 1000

SignalTotals = Mapping[Signal, Totals]
"""Sums by signal; one that has none may be missing."""


class Run(NamedTuple):
    """Rows from `first_row` on are of `signal`; `before` are the sums up to there."""

    first_row: int
    signal: Signal
    before: SignalTotals

    def sums_at(self, totals: Totals) -> dict[Signal, Totals]:
        """The sums by signal at a place in this run, where those over all signals are `totals`."""
        sums = dict(self.before)
        others = [each for signal, each in sums.items() if signal is not self.signal]
        sums[self.signal] = totals - sum(others, _NOTHING)
        return sums

    def is_followed_by(self, other: "Run") -> bool:
        """Whether no run is missing between the two: what came was of this one's signal alone."""
        return other.signal is not self.signal and all(
            other.before.get(each, _NOTHING) == self.before.get(each, _NOTHING)
            for each in Signal
            if each is not self.signal
        )


class FileSums(NamedTuple):
    """Sums over all rows ever written, those in `run` at their end, and over those that have gone;
    `gone_by_signal` lacks spans.
    """

    last_row: int
    run: Run
    totals: Totals
    gone: Totals
    gone_by_signal: SignalTotals

    @property
    def all_kept(self) -> Totals:
        """The sums over the rows that are kept, of every signal."""
        return self.totals - self.gone

    def kept(self, signal: Signal) -> Totals:
        """The sums over the rows of a signal that are kept."""
        gone = {**self.gone_by_signal}
        gone[Signal.TRACES] = self.gone - sum(self.gone_by_signal.values(), _NOTHING)
        ever = self.run.sums_at(self.totals)
        return ever.get(signal, _NOTHING) - gone.get(signal, _NOTHING)


def write(connection: apsw.Connection, runs: Sequence[Run]) -> None:
    """Add some runs, inside the caller's transaction."""
    connection.executemany("INSERT INTO signal_runs VALUES (?,?,?)", map(as_stored, runs))
    connection.execute("INSERT OR REPLACE INTO tallies VALUES (?,?)", (_LAST, runs[-1].first_row))


def as_stored(run: Run) -> tuple[int, int, bytes]:
    """A run as it is on disk."""
    packed = _encode(
        [
            (int(signal), each.rows, each.items, each.raw_bytes)
            for signal, each in run.before.items()
            if each != _NOTHING
        ]
    )
    return run.first_row, int(run.signal), _sealed(run.first_row, int(run.signal), packed)


def _sealed(first_row: int, signal: int, packed: bytes) -> bytes:
    checksum = zlib.crc32(packed, zlib.crc32(_KEY.pack(first_row, signal)))
    return checksum.to_bytes(4, "little") + packed


def of_stored(first_row: object, signal: object, stored: object) -> Run:
    """The run that `as_stored` told of. Raises CorruptError when it is not what was written."""
    try:
        if not (isinstance(first_row, int) and isinstance(signal, int)):
            raise TypeError
        if not isinstance(stored, bytes) or _sealed(first_row, signal, stored[4:]) != stored:
            raise ValueError
        before = {Signal(of): Totals(*numbers) for of, *numbers in _decode(stored[4:])}
        return Run(first_row, Signal(signal), before)
    except (TypeError, ValueError, struct.error, msgspec.MsgspecError):
        raise apsw.CorruptError("a run of rows is not what was written") from None


def _one(connection: apsw.Connection, rest: str, *bindings: int) -> Run | None:
    found = fetch(connection, f"{_SELECT}{rest} LIMIT 1", bindings)
    return of_stored(*found[0]) if found else None


def last(connection: apsw.Connection) -> Run:
    """The run that rows are added to. Raises CorruptError, as every function here."""
    found = fetch(connection, _SELECT_LAST, (_LAST,))
    if not found or found[0][3] not in (None, found[0][0]):
        raise apsw.CorruptError("the last run of rows is missing")
    return of_stored(*found[0][:3])


def at(connection: apsw.Connection, row: int) -> Run:
    """The run that `row` is in; the first there is for a row that has gone with its run."""
    run = _one(connection, "WHERE first_row <= ? ORDER BY first_row DESC", row)
    if run is None:
        run = _one(connection, "ORDER BY first_row")
        if run is None or fetch(
            connection, "SELECT 1 FROM rows WHERE id < ? LIMIT 1", (run.first_row,)
        ):
            raise apsw.CorruptError("the first run of rows is missing")
    return run


def _following(connection: apsw.Connection, run: Run) -> Run | None:
    """The run behind `run`."""
    found = _one(connection, "WHERE first_row > ? ORDER BY first_row", run.first_row)
    if found is None:
        last(connection)
    elif not run.is_followed_by(found):
        raise apsw.CorruptError("a run of rows is missing")
    return found


def _must_have_none(connection: apsw.Connection, signal: Signal, run: Run, before: Run) -> None:
    """Raise CorruptError when rows of `signal` came from the run `before` to the end of `run`.

    Both are of another signal: what is missing shows in the sums of the run behind them.
    """
    following = _one(connection, "WHERE first_row > ? ORDER BY first_row", run.first_row)
    if following is None:
        last(connection)
    behind = following or run
    if run.signal is signal or behind.before.get(signal) != before.before.get(signal):
        raise apsw.CorruptError("a run of rows is missing")


def stretches(
    connection: apsw.Connection, signal: Signal, first_row: int, last_row: int
) -> Iterator[tuple[int, int]]:
    """First and last id of each stretch of `signal` among those rows (both ends included)."""
    run = at(connection, first_row)
    while run.first_row <= last_row:
        if run.signal is signal:
            following = _following(connection, run)
            end = following.first_row - 1 if following is not None else last_row
            if max(first_row, run.first_row) <= min(end, last_row):
                yield max(first_row, run.first_row), min(end, last_row)
            if following is None or following.first_row > last_row:
                return
            run = following
        own = _one(
            connection,
            "WHERE signal = ? AND first_row > ? ORDER BY first_row",
            int(signal),
            run.first_row,
        )
        if own is None or own.first_row > last_row:
            _must_have_none(connection, signal, at(connection, last_row), run)
            return
        if own.before.get(signal) != run.before.get(signal):
            raise apsw.CorruptError("a run of rows is missing")
        run = own


def stretches_down(
    connection: apsw.Connection, signal: Signal, first_row: int, last_row: int
) -> Iterator[tuple[int, int]]:
    """The same, from the last one to the first."""
    end = last_row
    while end >= first_row:
        run = at(connection, end)
        if run.first_row > end:
            return
        if run.signal is not signal:
            before = _one(
                connection,
                "WHERE signal = ? AND first_row <= ? ORDER BY first_row DESC",
                int(signal),
                end,
            )
            following = _following(connection, before) if before is not None else None
            _must_have_none(connection, signal, run, following or at(connection, first_row))
            if before is None or following is None:
                return
            end = following.first_row - 1
            run = before
        else:
            _following(connection, run)
        if max(first_row, run.first_row) <= end:
            yield max(first_row, run.first_row), end
        end = run.first_row - 1


def check(connection: apsw.Connection) -> None:
    """Look at every run. Raises CorruptError when one is damaged or missing."""
    run = at(connection, 0)
    while True:
        # From the last one on, if it is there still: the oldest may go at any time.
        runs = fetch(
            connection,
            f"{_SELECT}WHERE first_row >= ? ORDER BY first_row LIMIT ?",
            (run.first_row, _CHECK_RUNS),
        )
        found = [of_stored(*each) for each in runs]
        if not all(one.is_followed_by(other) for one, other in itertools.pairwise(found)):
            raise apsw.CorruptError("a run of rows is missing")
        if len(found) < 2:
            break
        run = found[-1]
    last(connection)


def forget(connection: apsw.Connection, oldest_row: int) -> None:
    """Drop runs that lie wholly before the oldest row that is kept. For a transaction."""
    connection.execute(
        "DELETE FROM signal_runs WHERE first_row <"
        " (SELECT max(first_row) FROM signal_runs WHERE first_row <= ?)",
        (oldest_row,),
    )
