"""The open file: transactions that append rows and acknowledgements, in the writer's thread.

What is held in memory here (last row, sums, persisted ranges) is changed only after a COMMIT
came back, so a transaction that failed leaves no trace in either place.
"""

from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import replace
from operator import attrgetter
from typing import Any, TypeVar

import apsw

from relay.buffer import owed_ranges
from relay.buffer.backlog_name import UNCLAIMED, BacklogName, backlog_name
from relay.buffer.owed_ranges import Ranges
from relay.buffer.settings import BufferSettings
from relay.buffer.sqlite import counters_table, load, schema, signal_runs, sums
from relay.buffer.sqlite.dead_letter_table import DeadLetterTable
from relay.buffer.sqlite.high_water import HighWaterFile, LedgerCopy
from relay.buffer.sqlite.pending_acks import Delivery, PendingAck
from relay.buffer.sqlite.rows import Group
from relay.buffer.sqlite.schema import fetch
from relay.buffer.sqlite.signal_runs import FileSums, Run, SignalTotals
from relay.buffer.sqlite.types import Loaded, LoadedDestination, Persisted, Totals
from relay.model.records import OwedRange, Position, Signal

_INSERT_ROW = "INSERT INTO rows VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
_INSERT_TRACES = "INSERT INTO traces VALUES (?,?)"
_NO_ROWS = Totals()
Result = TypeVar("Result")


# What a transaction that fails must leave as it was.
_STATE = (
    "last_row",
    "totals",
    "gone",
    "gone_by_signal",
    "run",
    "destinations",
    "_last_delivery",
)
_state = attrgetter(*_STATE)


class LogFile:
    """`relay.db` while it is open for writing."""

    def __init__(
        self, connection: apsw.Connection, settings: BufferSettings, high_water: HighWaterFile
    ) -> None:
        self.connection = connection
        self._high_water = high_water
        # By the keys of backlogs, as on disk; what nobody asks for by its signal has one, too.
        self.destinations: dict[str, Persisted] = {}
        self._claimed: set[str] = set()  # backlogs when they were last looked at
        self._have_backlogs: set[Signal] = set()  # then
        self._last_delivery: dict[str, Delivery] = {}
        self._proper_gaps: Ranges = ()  # ids that rightly have no row; none ever comes back
        self._load()
        self.letters = DeadLetterTable(connection, settings)

    @property
    def kept(self) -> Totals:
        """Sums over the rows that are in the file now."""
        return self.totals - self.gone

    @property
    def standing(self) -> FileSums:
        """All of the sums, as they are now."""
        return FileSums(self.last_row, self.run, self.totals, self.gone, self.gone_by_signal)

    def owed_by_signal(self, but: Collection[str] = ()) -> dict[Signal, list[Ranges]]:
        """What backlogs are owed, but those; a signal that nobody ever had rows of is missing."""
        owed: dict[Signal, list[Ranges]] = {}
        for name, found in self.destinations.items():
            owed.setdefault(backlog_name(name).signal, []).extend(
                (found.ranges,) if name not in but else ()
            )
        return owed

    def clip(self, name: str, ranges: Ranges) -> Ranges:
        """What of the ranges of that backlog may hold rows of its signal."""
        return owed_ranges.clip(ranges, self.last_row_of(backlog_name(name).signal))

    def last_row_of(self, signal: Signal) -> int:
        """The newest row of `signal`, or a later one of another."""
        if self.run.signal is signal:
            return self.last_row
        found = signal_runs.stretches_down(self.connection, signal, 1, self.last_row)
        return next(found, (0, 0))[1]

    def _load(self) -> None:
        kept, self.gone = load.kept_totals(self.connection)  # of those ever, no longer kept
        # The same, where it is not spans.
        self.gone_by_signal: SignalTotals = counters_table.gone_by_signal(self.connection)
        newest, self.totals = load.newest(self.connection, kept)  # over all rows ever written
        self.run = signal_runs.last(self.connection)  # that the next row follows on
        for name, is_paused, ranges in load.destinations(self.connection):
            self.destinations[name] = Persisted(ranges, is_paused)
        every = [each.ranges for each in self.destinations.values()]
        self.last_row = max(newest, load.last_row(self.connection, every))

    def has_lost(self, gaps: Ranges, waiting: Iterable[Ranges] = ()) -> bool:
        """Whether any row of `gaps`, which a reader did not find, ought to be here: the table's
        ids are out of order, rows are missing that were not deleted, or one of these is there.
        `waiting` is owed beside what is on disk. Walks over all ids, about a second a million.
        """
        unknown = owed_ranges.subtract(gaps, self._proper_gaps)
        owed = (*(each.ranges for each in self.destinations.values()), *waiting)
        if not any(owed_ranges.intersection(unknown, ranges) for ranges in owed):
            return False
        proper = self._gaps_of_sound_table()
        if proper is None or owed_ranges.subtract(unknown, proper):
            return True
        self._proper_gaps = proper
        return False

    def _gaps_of_sound_table(self) -> Ranges | None:
        """All ids without a row; None when rows are missing or out of order.

        A row that a reader did not find may be met here, which is damage as well: pages that this
        connection has in memory may be sound while those on disk, which the reader sees, are not;
        and a walk goes from leaf to leaf, a look-up by the keys above them.
        """
        count, last = 0, 0
        gaps: list[OwedRange] = []
        for (row,) in self.connection.execute("SELECT id FROM rows ORDER BY id"):
            if not last < row <= self.last_row:
                return None
            if row > last + 1:
                gaps.append(OwedRange(Position(last + 1), Position(row)))
            count, last = count + 1, row
        gaps.append(OwedRange(Position(last + 1), Position(self.last_row + 1)))
        return owed_ranges.union(gaps) if count >= self.kept.rows else None

    def loaded(self) -> Loaded:
        """What couriers need to know of the file as it was opened."""
        return Loaded(
            self.last_row,
            {signal: self.last_row_of(signal) for signal in Signal},
            {
                name: LoadedDestination(
                    found,
                    self.sums(found.ranges, backlog_name(name).signal),
                    sums.oldest_ns(
                        self.connection,
                        owed_ranges.clip(found.ranges, self.last_row),
                        backlog_name(name).signal,
                    ),
                )
                for name, found in self.destinations.items()
            },
        )

    def sums(self, ranges: Ranges, signal: Signal) -> Totals:
        """Rows, items and bytes of `signal` in `ranges` (`sums`)."""
        return sums.sums(self.connection, owed_ranges.clip(ranges, self.last_row), signal)

    def work(self, run: Callable[["LogFile"], Result]) -> Result:
        """`run` in one transaction. Raises what it raises and what SQLite raises; then nothing of
        it is on disk (unless the very fsync failed), nor in memory here.
        """
        held = _state(self)
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            result = run(self)
            self._high_water.promise(self.destinations)
            self.connection.execute("COMMIT")
        except BaseException:
            self._put_back(held)
            self._roll_back()
            raise
        return result

    def _put_back(self, held: tuple[Any, ...]) -> None:
        for name, value in zip(_STATE, held, strict=True):
            setattr(self, name, value)

    def readmit(self, group: Group, owed_to: frozenset[str], *, now_ns: int) -> None:
        """Rows of one signal that come again, owed to the backlogs `owed_to` alone. For `work`."""
        self._insert(group, now_ns)
        if not group.rows:
            return
        signal = group.stored[0].signal
        for name, found in self.destinations.items():
            key = backlog_name(name)
            if key.signal is not signal:
                continue
            is_owed = key.is_among(owed_to, is_open=owed_ranges.is_open(found.ranges))
            ranges = owed_ranges.only_if(found.ranges, group.range, is_owed=is_owed)
            if ranges != found.ranges:
                self.write_destination(name, replace(found, ranges=ranges))

    def owe(self, name: str, ranges: Ranges) -> None:
        """Owe `ranges` to `name`, if there is such a destination. For `work`."""
        found = self.destinations.get(name)
        if found is not None:
            union = owed_ranges.union((*found.ranges, *ranges))
            self.write_destination(name, replace(found, ranges=union))

    def write_destination(self, name: str, state: Persisted) -> None:
        """Put `state` in the place of what is known of `name`. For `work`."""
        self.connection.execute(
            "INSERT OR REPLACE INTO destinations VALUES (?,?,?)",
            (name, int(state.is_paused), owed_ranges.encode(state.ranges)),
        )
        self.destinations = {**self.destinations, name: state}

    def settle(self, name: str, ranges: Ranges, *, at_ns: int, status: int) -> None:
        """Write down what became of `ranges`, which have an end each. For `work`."""
        last = self._last_delivery.get(name)
        for item in ranges:
            if item.end is not None:
                new = Delivery(item.start, item.end, at_ns, status, first_at_ns=at_ns)
                last = self._write_delivery(name, last, new)
        if last is not None:
            self._last_delivery = {**self._last_delivery, name: last}

    def keep_totals(self) -> None:
        """Write what was changed in `totals` and `gone`. For `work`."""
        self.connection.execute(
            "INSERT OR REPLACE INTO totals VALUES (1,?,?,?,?,?,?)",
            (
                self.totals.rows,
                self.totals.items,
                self.totals.raw_bytes,
                self.gone.rows,
                self.gone.items,
                self.gone.raw_bytes,
            ),
        )

    def add_counter(self, name: str, more: int) -> None:
        """Add to a count that outlives this process. For `work`, or inside a transaction."""
        counters_table.add(self.connection, name, more)

    def counters(self) -> dict[str, int]:
        """Every count that outlives this process, by name."""
        return counters_table.read(self.connection)

    def ledger(self) -> LedgerCopy:
        """What must outlive the file. Raises what SQLite raises."""
        salvages = fetch(self.connection, "SELECT file, state FROM salvages")
        return LedgerCopy(
            self.destinations,
            {
                name: value
                for name, value in self.counters().items()
                if name.startswith(counters_table.WITHOUT_ROWS) and value
            },
            {str(name): state for name, state in salvages if isinstance(state, bytes)},
        )

    def keep_ledger(self) -> None:
        """Let the sidecar follow, if that is due. Raises what SQLite raises."""
        if self._high_water.is_due(self.destinations):
            self._high_water.keep(self.ledger())

    def _insert(self, group: Group, now_ns: int) -> None:
        execute = self.connection.execute
        signal = self.run.signal
        runs: list[Run] = []
        for columns in group.rows:
            if columns.signal != signal:
                totals = Totals(columns.rows_before, columns.items_before, columns.bytes_before)
                self.run = Run(columns.id, Signal(columns.signal), self.run.sums_at(totals))
                runs.append(self.run)
                signal = self.run.signal
            execute(_INSERT_ROW, columns)
        if runs:
            signal_runs.write(self.connection, runs)
        for trace_ids in group.traces:
            execute(_INSERT_TRACES, trace_ids)
        if group.letters:
            self.letters.add(group.letters, now_ns=now_ns)
        if group.rows:
            self.last_row, self.totals = group.rows[-1].id, group.totals
            self._claim(group.sums)

    def _claim(self, signals: Iterable[Signal]) -> None:
        """Owe rows of these signals to the backlog of nobody while there is no other; where each of
        the others is closed, the event loop has begun one (`Backlogs.owe_only`).
        """
        if self._claimed == self.destinations.keys() and self._have_backlogs.issuperset(signals):
            return
        ever = self.run.sums_at(self.totals)
        found = [(backlog_name(name), each.ranges) for name, each in self.destinations.items()]
        claimed = {key.signal for key, _ in found if key.is_claimed}
        served = {k.signal for k, ranges in found if k.is_claimed and owed_ranges.is_open(ranges)}
        for signal in signals:
            name = BacklogName(UNCLAIMED, signal).text
            if signal in served and name in self.destinations:
                self.connection.execute("DELETE FROM destinations WHERE name = ?", (name,))
                self.destinations = {
                    each: state for each, state in self.destinations.items() if each != name
                }
            elif (
                signal not in claimed
                and name not in self.destinations
                and ever.get(signal, _NO_ROWS).rows
            ):
                self.write_destination(name, Persisted(owed_ranges.open_from(1), is_paused=False))
        self._claimed = set(self.destinations)
        self._have_backlogs = {backlog_name(name).signal for name in self.destinations}

    def commit(self, group: Group, acks: dict[str, PendingAck], *, now_ns: int) -> None:
        """Write `group` and `acks` in one transaction. Raises what SQLite raises; then nothing
        of it is on disk, unless the very fsync failed.
        """
        execute = self.connection.execute
        held, before = _state(self), self.destinations
        execute("BEGIN IMMEDIATE")
        try:
            if group.rows or group.letters:
                self._insert(group, now_ns)
            elif not acks:
                # A probe after trouble: a commit that writes nothing would prove nothing, and an
                # UPDATE to the same values writes nothing. This pragma always writes page 1.
                self.connection.pragma("user_version", schema.SCHEMA_VERSION)
            if acks:
                self._write_acks(acks, now_ns)
            if self.destinations is not before:
                self._high_water.promise(self.destinations)
            execute("COMMIT")
        except BaseException:
            self._put_back(held)
            self._roll_back()
            raise

    def _roll_back(self) -> None:
        with suppress(apsw.Error):
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
        with suppress(apsw.Error):
            self.letters.load()

    def _write_acks(self, acks: dict[str, PendingAck], now_ns: int) -> None:
        execute = self.connection.execute
        destinations, deliveries = dict(self.destinations), dict(self._last_delivery)
        changed = {name for name, ack in acks.items() if ack.is_removed}
        changed |= acks.keys() - destinations.keys()
        for name, ack in acks.items():
            if ack.is_removed:
                execute("DELETE FROM destinations WHERE name = ?", (name,))
                execute("DELETE FROM deliveries WHERE destination = ?", (name,))
                destinations.pop(name, None)
            if ack.is_present:
                state = Persisted(ack.ranges, ack.is_paused)
                if destinations.get(name) != state:
                    execute(
                        "INSERT OR REPLACE INTO destinations VALUES (?,?,?)",
                        (name, int(state.is_paused), owed_ranges.encode(state.ranges)),
                    )
                    destinations[name] = state
            for delivery in ack.deliveries:
                deliveries[name] = self._write_delivery(name, deliveries.get(name), delivery)
            if ack.letters:
                self.letters.add(ack.letters, now_ns=now_ns)
        self.destinations, self._last_delivery = destinations, deliveries
        if changed:
            self._claim({backlog_name(name).signal for name in changed})

    def _write_delivery(self, name: str, last: Delivery | None, new: Delivery) -> Delivery:
        execute = self.connection.execute
        if last is not None and last.takes(new.start, new.at_ns, new.status):
            execute(
                "UPDATE deliveries SET end_row = ?, end_span = ?, at_ns = ?"
                " WHERE id = ? AND destination = ?",
                (*new.end, new.at_ns, last.delivery_id, name),
            )
            # It may have been dropped meanwhile, and its id be another's: then it is inserted anew.
            if self.connection.changes():
                return replace(last, end=new.end, at_ns=new.at_ns)
        execute(
            "INSERT INTO deliveries VALUES (NULL,?,?,?,?,?,?,?)",
            (name, *new.start, *new.end, new.at_ns, new.status),
        )
        return replace(new, delivery_id=self.connection.last_insert_rowid())

    def cut_wal(self) -> bool:
        """Write the whole WAL back and cut it; False while a reader is in the middle of one."""
        self.connection.set_busy_timeout(0)
        try:
            self.connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        except (apsw.BusyError, apsw.LockedError):
            return False
        finally:
            self.connection.set_busy_timeout(2000)
        return True

    def write_back(self) -> None:
        """Write the whole WAL back into the database and begin it anew, if there is room.

        After an fsync that failed Linux takes for written what never was. A later commit behind
        that would be synced and yet be lost with it, since a WAL is read up to its first gap.
        Raises one of DISK_ERRORS, BusyError while somebody reads, one of CORRUPT_ERRORS.
        """
        with suppress(apsw.FullError):
            self.connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)

    def close(self, *, checkpoint: bool) -> None:
        """Close the connection; with `checkpoint` the WAL is written back and cut first."""
        if checkpoint:
            with suppress(apsw.Error, ValueError):  # a damaged text is for who opens it next
                self._high_water.keep(self.ledger())
        with suppress(apsw.Error):
            if checkpoint:
                self.cut_wal()
            else:
                schema.leave_wal(self.connection)
        with suppress(apsw.Error):
            self.connection.close(force=True)
