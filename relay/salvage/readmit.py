"""Appends rows and dead letters of a quarantined file to the buffer, in transactions of their own.

How far the reading back has come is written in the same transaction (table `salvages`), so a crash
in the middle neither loses nor doubles anything.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from relay.buffer import owed_ranges
from relay.buffer.backlog_name import backlog_name
from relay.buffer.owed_ranges import Ranges
from relay.buffer.sqlite.logfile import LogFile
from relay.buffer.sqlite.partial_rows import part_of
from relay.buffer.sqlite.quarantine import SalvageState, encode_state
from relay.buffer.sqlite.rows import (
    ROW_OVERHEAD_BYTES,
    Group,
    RowColumns,
    checksum,
    read_parts,
    read_row,
)
from relay.buffer.sqlite.schema import fetch_value
from relay.buffer.sqlite.transactions import Readmitted, Transaction
from relay.buffer.sqlite.types import Totals
from relay.buffer.values import StoredDeadLetter
from relay.model.errors import RelayError
from relay.model.records import DeadLetter, Encoding, OwedRange, Position, StoredRow
from relay.otlp.ids import trace_ids_of


class Overtaken(RelayError):
    """The buffer's file was replaced meanwhile: begin again from what the new one says."""

    code = "overtaken"


class Found(NamedTuple):
    """A row as it was found: its columns, its value, and its trace ids from its body."""

    columns: RowColumns
    stored: StoredRow
    trace_ids: bytes


def found_row(columns: RowColumns) -> Found:
    """Unzips it and reads its spans' trace ids: not for the writer's thread."""
    stored = read_row(columns)
    if not isinstance(stored, StoredRow):
        raise TypeError("the row's checksum was right a moment ago")
    return Found(columns, stored, _trace_ids(columns, stored))


@dataclass
class Readmission(Transaction[SalvageState]):
    """Append `rows` with new ids, owed as `ranges` (in old ids, by backlog) says, and `letters`.

    `before` is how far the file `name` was read back by then, as it stands on disk.
    """

    name: str
    before: bytes
    after: SalvageState
    rows: Sequence[Found] = ()
    ranges: Mapping[str, Ranges] = field(default_factory=dict)
    letters: Sequence[StoredDeadLetter] = ()
    lost: Sequence[DeadLetter] = ()
    _readmitted: list[Readmitted] = field(default_factory=list)

    @property
    def need_bytes(self) -> int:
        """About what the rows and letters take."""
        return sum(
            len(row.columns.body) + len(row.columns.parts) + ROW_OVERHEAD_BYTES * 2
            for row in self.rows
        ) + sum(len(each.letter.body) + ROW_OVERHEAD_BYTES for each in self.letters)

    def run(self, file: LogFile, *, now_ns: int) -> SalvageState:
        """Raises Overtaken when the file on disk does not stand where this transaction began."""
        query = "SELECT state FROM salvages WHERE file = ?"
        if fetch_value(file.connection, query, (self.name,)) != self.before:
            raise Overtaken
        self._readmitted = []
        for run in self._runs():
            row = run[0].columns
            group = _group(run, file.last_row, file.totals)
            whole, sums = self._owing(row)
            parts = {
                name: (_shifted(self.ranges[name], row.id, group.rows[0].id), part)
                for name, part in sums.items()
            }
            file.readmit(group, whole, now_ns=now_ns)
            for name, (ranges, _) in parts.items():
                file.owe(name, ranges)
            self._readmitted.append(Readmitted(group, whole, parts))
        for each in self.letters:
            file.letters.add([each.letter], now_ns=each.set_aside_ns)
        file.letters.add(self.lost, now_ns=now_ns)
        file.connection.execute(
            "UPDATE salvages SET done = ?, state = ? WHERE file = ?",
            (int(self.after.is_done), encode_state(self.after), self.name),
        )
        return self.after

    def readmitted(self) -> list[Readmitted]:
        """What was appended."""
        return self._readmitted

    def _runs(self) -> list[list[Found]]:
        """Rows of one signal that follow each other and are owed alike; one owed in part stands
        alone.
        """
        runs: list[list[Found]] = []
        last: frozenset[str] | None = None
        for row in self.rows:
            whole, parts = self._owing(row.columns)
            is_other = not runs or runs[-1][0].stored.signal is not row.stored.signal
            if parts or whole != last or is_other:
                runs.append([])
            runs[-1].append(row)
            last = None if parts else whole
        return runs

    def _owing(self, row: RowColumns) -> tuple[frozenset[str], dict[str, Totals]]:
        """Who is owed all of a row, and who how much of it."""
        owed = {
            name: part_of(ranges, row.id, row.items, row.raw_bytes)
            for name, ranges in self.ranges.items()
            if backlog_name(name).signal == row.signal
        }
        whole = frozenset(
            name for name, part in owed.items() if part.rows and part.items >= row.items
        )
        return whole, {name: part for name, part in owed.items() if part.rows and name not in whole}


def _shifted(ranges: Ranges, row: int, new_row: int) -> Ranges:
    """What lies in `row` of `ranges`, as places in `new_row`."""
    return tuple(
        OwedRange(
            Position(new_row, start.item),
            end and Position(end.row + new_row - row, end.item),
        )
        for start, end in owed_ranges.intersection((owed_ranges.row_range(row),), ranges)
    )


def _group(rows: Sequence[Found], after_row: int, totals: Totals) -> Group:
    """The same rows under new ids, with the sums of the new file."""
    group = Group(totals=totals)
    for row_id, (columns, stored, trace_ids) in enumerate(rows, after_row + 1):
        sums = group.totals
        moved = columns._replace(
            id=row_id,
            rows_before=sums.rows,
            items_before=sums.items,
            bytes_before=sums.raw_bytes,
        )
        moved = moved._replace(checksum=checksum(moved))
        group.add(moved, trace_ids, replace(stored, row=row_id))
        group.totals = sums + Totals(1, columns.items, columns.raw_bytes)
    return group


def _trace_ids(columns: RowColumns, stored: StoredRow) -> bytes:
    """Taken from the body again, which has a checksum: table `traces` has none."""
    try:
        parts = read_parts(columns.parts)
    except ValueError:
        return trace_ids_of(stored.body, stored.encoding, stored.signal)
    comma = int(stored.encoding is Encoding.JSON)
    packed = []
    for number, part in enumerate(parts):
        is_last = number + 1 == len(parts)
        end = len(stored.body) if is_last else parts[number + 1].offset - comma
        ids = trace_ids_of(stored.body[part.offset : end], stored.encoding, stored.signal)
        size = 16 * part.trace_ids  # `parts` says how many are whose: that must stay right
        packed.append(ids[:size].ljust(size, b"\0"))
    return b"".join(packed)
