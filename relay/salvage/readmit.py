"""Appends rows and dead letters of a quarantined file to the buffer, in transactions of their own.

How far the reading back has come is written in the same transaction (table `salvages`), so a crash
in the middle neither loses nor doubles anything.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from relay.buffer import owed_ranges
from relay.buffer.owed_ranges import Ranges
from relay.buffer.sqlite.logfile import LogFile
from relay.buffer.sqlite.partial_rows import share, spans_of
from relay.buffer.sqlite.quarantine import SalvageState, encode_state
from relay.buffer.sqlite.rows import ROW_OVERHEAD_BYTES, Group, RowColumns, read_parts, read_row
from relay.buffer.sqlite.schema import fetch_value
from relay.buffer.sqlite.transactions import Readmitted, Transaction
from relay.buffer.sqlite.types import Totals
from relay.buffer.values import StoredDeadLetter
from relay.model.errors import RelayError
from relay.model.records import DeadLetter, Encoding, OwedRange, Position, StoredRow
from relay.otlp.ids import trace_ids_of

NOBODY = ""  # rows of a file without destinations: for the first one to come


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


class Readmission(Transaction[SalvageState]):
    """Append `rows` with new ids, owed as `ranges` (in old ids) says, and `letters`."""

    def __init__(
        self,
        file: str,
        before: bytes,
        after: SalvageState,
        *,
        rows: Sequence[Found] = (),
        ranges: Mapping[str, Ranges] | None = None,
        letters: Sequence[StoredDeadLetter] = (),
        lost: Sequence[DeadLetter] = (),
    ) -> None:
        self._need_bytes = sum(
            len(row.columns.body) + len(row.columns.parts) + ROW_OVERHEAD_BYTES * 2 for row in rows
        ) + sum(len(each.letter.body) + ROW_OVERHEAD_BYTES for each in letters)
        self._file = file
        self._before = before
        self._after = after
        self._rows = rows
        self._ranges = dict(ranges or {})
        self._letters = letters
        self._lost = lost
        self._readmitted: list[Readmitted] = []

    @property
    def need_bytes(self) -> int:
        """About what the rows and letters take."""
        return self._need_bytes

    def run(self, file: LogFile, *, now_ns: int) -> SalvageState:
        """Raises Overtaken when the file on disk does not stand where this job began."""
        stored = fetch_value(
            file.connection, "SELECT state FROM salvages WHERE file = ?", (self._file,)
        )
        if stored != self._before:
            raise Overtaken
        self._readmitted = []
        totals, row_id = file.totals, file.last_row
        for run in self._runs():
            group, totals = _group(run, row_id, totals)
            row_id += len(group.rows)
            whole, parts = self._owing(run[0].columns, group)
            file.readmit(group, whole, now_ns=now_ns)
            for name, (ranges, _) in parts.items():
                file.owe(name, ranges)
            self._readmitted.append(Readmitted(group, whole, parts))
        for each in self._letters:
            file.letters.add([each.letter], now_ns=each.set_aside_ns)
        file.letters.add(self._lost, now_ns=now_ns)
        file.connection.execute(
            "UPDATE salvages SET done = ?, state = ? WHERE file = ?",
            (int(self._after.is_done), encode_state(self._after), self._file),
        )
        return self._after

    def readmitted(self) -> list[Readmitted]:
        """The rows that came again."""
        return self._readmitted

    def _runs(self) -> list[list[Found]]:
        """Rows that follow each other and are owed alike; one owed in part stands alone."""
        runs: list[list[Found]] = []
        last: frozenset[str] | None = None
        for row in self._rows:
            whole, parts = self._names(row.columns)
            if parts or whole != last or not runs:
                runs.append([])
            runs[-1].append(row)
            last = None if parts else whole
        return runs

    def _names(self, row: RowColumns) -> tuple[frozenset[str], dict[str, Ranges]]:
        item = owed_ranges.row_range(row.id)
        whole, parts = set(), {}
        for name, ranges in self._ranges.items():
            if not owed_ranges.overlaps(ranges, item):
                continue
            left = owed_ranges.subtract((item,), ranges)
            ours = owed_ranges.subtract((item,), left)
            stretches = [spans_of(each, row.id, row.spans) for each in ours]
            if sum(stop - first for first, stop in stretches) >= row.spans:
                whole.add(name)
            else:
                parts[name] = ours
        return frozenset(whole), parts

    def _owing(
        self, row: RowColumns, group: Group
    ) -> tuple[frozenset[str], dict[str, tuple[Ranges, Totals]]]:
        """By the first row of `group`, in its new ids."""
        whole, parts = self._names(row)
        new_id = group.rows[0].id
        shifted: dict[str, tuple[Ranges, Totals]] = {}
        for name, ranges in parts.items():
            stretches = [spans_of(each, row.id, row.spans) for each in ranges]
            sums = Totals(1, 0, 0)
            for first, stop in stretches:
                sums += Totals(0, stop - first, share(row.raw_bytes, row.spans, first, stop))
            shifted[name] = (
                tuple(
                    OwedRange(
                        Position(new_id, first),
                        Position(new_id + 1) if stop >= row.spans else Position(new_id, stop),
                    )
                    for first, stop in stretches
                    if first < stop
                ),
                sums,
            )
        return whole, shifted


def _group(rows: Sequence[Found], after_row: int, totals: Totals) -> tuple[Group, Totals]:
    """The same rows under new ids, with the sums of the new file."""
    group = Group()
    for columns, stored, trace_ids in rows:
        row_id = after_row + len(group.rows) + 1
        moved = columns.moved(
            row_id,
            rows_before=totals.rows,
            spans_before=totals.spans,
            bytes_before=totals.raw_bytes,
        )
        again = StoredRow(
            row_id,
            stored.received_ns,
            stored.encoding,
            stored.flags,
            stored.spans,
            stored.body,
            hops=stored.hops,
            signal=stored.signal,
        )
        group.add(moved, trace_ids, again)
        totals = totals + Totals(1, columns.spans, columns.raw_bytes)
    group.totals = totals
    return group, totals


def _trace_ids(columns: RowColumns, stored: StoredRow) -> bytes:
    """Taken from the body again, which has a checksum: table `traces` has none."""
    try:
        parts = read_parts(columns.parts)
    except ValueError:
        return trace_ids_of(stored.body, stored.encoding)
    comma = int(stored.encoding is Encoding.JSON)
    packed = []
    for number, part in enumerate(parts):
        is_last = number + 1 == len(parts)
        end = len(stored.body) if is_last else parts[number + 1].offset - comma
        ids = trace_ids_of(stored.body[part.offset : end], stored.encoding)
        size = 16 * part.trace_ids  # `parts` says how many are whose: that must stay right
        packed.append(ids[:size].ljust(size, b"\0"))
    return b"".join(packed)
