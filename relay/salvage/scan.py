"""Finds rows, dead letters and their neighbours on the pages of a quarantined file.

A row is handed out only when its own checksum is right. Three passes: the pages as SQLite sees
them; every other version of them (emptied pages, older frames of the WAL); and last the bytes of
each page searched for what the head of a row looks like, where the page's own head was destroyed.
"""

import bisect
import enum
import itertools
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

import apsw

from relay.buffer.owed_ranges import Ranges
from relay.buffer.sqlite import signal_runs
from relay.buffer.sqlite.dead_letter_table import stored_letter
from relay.buffer.sqlite.rows import RowColumns, checksum
from relay.buffer.sqlite.signal_runs import Run
from relay.buffer.values import StoredDeadLetter
from relay.model.records import OwedRange, Position, Signal
from relay.salvage import pages
from relay.salvage.pages import Cell, Leaf, PageFiles

_ROW_COLUMNS = (14,)
_LETTER_COLUMNS = (17, 18)  # without a signal, as earlier versions wrote them, and with
_TRACES_COLUMNS = (2,)
_RUN_COLUMNS = (3,)
# After so many pages without a find the caller gets a None, to let others have their turn.
_STEP_PAGES = 64
_ABOVE_ALL = 1 << 63
# The record header of a row: its size, NULL for the id, times, signal, encoding, flags, numbers: a
# small number is 0, 1 or a byte.
_HEAD = re.compile(
    rb"(?=[\x0f-\x18]\x00[\x05\x06][\x01-\x06\x08\x09][\x01\x08\x09][\x01\x08\x09][\x01\x08\x09]"
    rb"[\x01-\x06\x08\x09][\x01-\x06\x08\x09]{4}[\x01-\x06\x08\x09])",
    re.DOTALL,
)


class Wanted:
    """Ids that are looked for, from ranges of whole and part rows; fast to ask."""

    def __init__(self, ranges: Ranges) -> None:
        self._firsts = [item.start.row for item in ranges]
        self._ends = [
            (item.end.row + bool(item.end.item)) if item.end is not None else _ABOVE_ALL
            for item in ranges
        ]

    def touches(self, first_row: int, last_row: int) -> bool:
        """Whether any of them lies between those two, which are included."""
        return any(
            first <= last_row and end > first_row
            for first, end in zip(self._firsts, self._ends, strict=True)
        )

    def __contains__(self, row: int) -> bool:
        at = bisect.bisect_right(self._firsts, row) - 1
        return at >= 0 and row < self._ends[at]


@dataclass(frozen=True, slots=True)
class Anchor:
    """A row that is whole (or an end of the file): the sums before it and after it are known."""

    row: int
    rows_before: int
    spans_before: int
    rows_after: int
    spans_after: int


class KnownRun(NamedTuple):
    """Rows `first`…`end` (not included) are of `signal`; None: of any, a run is missing."""

    first: int
    end: int
    signal: Signal | None

    @property
    def range(self) -> OwedRange:
        """All of its rows."""
        return OwedRange(Position(self.first), Position(self.end))


class Pause(enum.Enum):
    """What comes between rows: others may have their turn."""

    STEP = 1
    PASS_OVER = 2


def _packed(first_row: int, leaf: Leaf) -> int:
    """A page to look at, sorted by its first row: there may be a quarter of a million a GiB."""
    return (first_row << 32 | leaf.frame + 1) << 32 | leaf.page


def _unpacked(place: int) -> Leaf:
    return Leaf(place & 0xFFFFFFFF, (place >> 32 & 0xFFFFFFFF) - 1)


class Scan:
    """One look through the files. Everything here blocks; for a thread of its own."""

    def __init__(self, files: PageFiles) -> None:
        self._files = files
        self.wanted = Wanted(())
        self.first_row = 0  # the lowest id the file can have had, by the rows found; 0: unknown
        self.highest = 0  # of the rows found
        self.last_row = 0  # the highest id the file had; 0: unknown

    def rows(self) -> Iterator[RowColumns | Pause]:
        """Rows of `wanted` that are whole, and pauses: at PASS_OVER the caller must have narrowed
        `wanted` before it goes on.
        """
        yield from self._by_leaves(is_live=True)
        yield Pause.PASS_OVER
        if self._may_miss():
            yield from self._by_leaves(is_live=False)
            yield Pause.PASS_OVER
        if self._may_miss():
            yield from self._by_heads()

    def _may_miss(self) -> bool:
        """Whether an id is wanted that the file can have had. Asked after the caller narrowed."""
        return self.wanted.touches(self.first_row, self.last_row or _ABOVE_ALL)

    def _by_leaves(self, *, is_live: bool) -> Iterator[RowColumns | Pause]:
        places: list[int] = []
        for number, (leaf, content) in enumerate(self._files.leaves(is_live=is_live)):
            ids = [cell.rowid for cell in _row_cells(leaf, content) if cell.rowid in self.wanted]
            if ids:
                places.append(_packed(min(ids), leaf))
            if number % _STEP_PAGES == 0:
                yield Pause.STEP
        places.sort()
        for place in places:
            leaf = _unpacked(place)
            for cell in _row_cells(leaf, self._files.read(leaf)):
                if cell.rowid in self.wanted:
                    yield self._whole(cell) or Pause.STEP

    def _by_heads(self) -> Iterator[RowColumns | Pause]:
        for is_live in (True, False):
            for _, content in self._files.leaves(is_live=is_live):
                for match in _HEAD.finditer(content):
                    for cell in _cells_with_head(content, match.start()):
                        if cell.rowid in self.wanted:
                            yield self._whole(cell) or Pause.STEP
                yield Pause.STEP

    def _whole(self, cell: Cell) -> RowColumns | None:
        for values in self._files.records(cell):
            row = _row(cell.rowid, values)
            if row is not None:
                first_row = row.id - row.rows_before
                self.first_row = min(self.first_row or first_row, first_row)
                self.highest = max(self.highest, row.id)
                return row
        return None

    def runs(self) -> list[KnownRun]:
        """Which rows are of which signal, by what is left of table `signal_runs`; in order."""
        found: dict[int, Run] = {}
        for is_live in (False, True):
            for leaf, content in self._files.leaves(is_live=is_live):
                for cell in _cells_of(leaf, content, _RUN_COLUMNS):
                    values = next(self._files.records(cell), [None] * 3)
                    with suppress(apsw.CorruptError):
                        run = signal_runs.of_stored(cell.rowid, values[1], values[2])
                        found[run.first_row] = run
        runs = [found[first] for first in sorted(found)]
        known = [KnownRun(0, runs[0].first_row, None)] if runs else []
        for run, following in itertools.pairwise(runs):
            signal = run.signal if run.is_followed_by(following) else None
            known.append(KnownRun(run.first_row, following.first_row, signal))
        return known + [KnownRun(run.first_row, _ABOVE_ALL, run.signal) for run in runs[-1:]]

    def letters(self, after: int) -> Iterator[StoredDeadLetter | None]:
        """Dead letters with a higher id than `after` that are whole, in order; None: go on.

        Emptied pages are left out: what was discarded must not come back.
        """
        free = self._files.free_pages()
        found: dict[int, Leaf] = {}
        for number, (leaf, content) in enumerate(self._files.leaves(is_live=True)):
            if leaf.page not in free:
                for cell in _cells_of(leaf, content, _LETTER_COLUMNS):
                    if cell.rowid > after:
                        found[cell.rowid] = leaf
            if number % _STEP_PAGES == 0:
                yield None
        for letter_id in sorted(found):
            leaf = found[letter_id]
            for cell in _cells_of(leaf, self._files.read(leaf), _LETTER_COLUMNS):
                if cell.rowid == letter_id:
                    yield self._letter(cell)

    def _letter(self, cell: Cell) -> StoredDeadLetter | None:
        for values in self._files.records(cell):
            letter = stored_letter((cell.rowid, *values[1:]))
            if not letter.is_damaged:
                return letter
        return None

    def anchors(self, runs: Sequence[tuple[int, int]]) -> list[tuple[Anchor | None, Anchor | None]]:
        """For each of the sorted half-open `runs` of ids the nearest whole rows around it."""
        firsts = [first for first, _ in runs]
        before: list[Anchor | None] = [None] * len(runs)
        after: list[Anchor | None] = [None] * len(runs)
        for is_live in (True, False):
            for leaf, content in self._files.leaves(is_live=is_live):
                for cell in _row_cells(leaf, content):
                    at = bisect.bisect_right(firsts, cell.rowid) - 1
                    nearest = after[at] if at >= 0 else None
                    is_after = at >= 0 and (nearest is None or cell.rowid < nearest.row)
                    follows = before[at + 1] if at + 1 < len(runs) else None
                    is_before = at + 1 < len(runs) and (follows is None or cell.rowid > follows.row)
                    row = self._whole(cell) if is_after or is_before else None
                    if row is None:
                        continue
                    if is_after:
                        after[at] = _anchor(row)
                    if is_before:
                        before[at + 1] = _anchor(row)
        for at in range(1, len(runs)):
            before[at] = before[at] or before[at - 1]
        for at in range(len(runs) - 2, -1, -1):
            after[at] = after[at] or after[at + 1]
        return list(zip(before, after, strict=True))

    def trace_ids(self, rows: set[int]) -> dict[int, bytes]:
        """The packed trace ids of `rows` as table `traces` has them; it has no checksum."""
        found: dict[int, bytes] = {}
        for leaf, content in self._files.leaves(is_live=True):
            for cell in _cells_of(leaf, content, _TRACES_COLUMNS):
                values = next(self._files.records(cell), []) if cell.rowid in rows else []
                ids = values[1] if values else None
                if isinstance(ids, bytes) and ids and len(ids) % 16 == 0:
                    found[cell.rowid] = ids
        return found


def _anchor(row: RowColumns) -> Anchor:
    return Anchor(
        row.id, row.rows_before, row.items_before, row.rows_before + 1, row.items_before + row.items
    )


def _cells_of(leaf: Leaf, content: bytes, columns: tuple[int, ...]) -> Iterator[Cell]:
    if pages.page_kind(leaf.page, content) != pages.TABLE_LEAF:
        return
    yield from (cell for cell in pages.cells(leaf.page, content) if cell.columns in columns)


def _row_cells(leaf: Leaf, content: bytes) -> Iterator[Cell]:
    return _cells_of(leaf, content, _ROW_COLUMNS)


def _cells_with_head(content: bytes, head: int) -> Iterator[Cell]:
    """Rows whose record begins at `head`: its size follows from its head, its id stands before."""
    try:
        kinds = pages.column_kinds(content[head:])
        size = content[head] + sum(pages.serial_size(kind) for kind in kinds)
    except ValueError:
        return
    if len(kinds) not in _ROW_COLUMNS:
        return
    for start in range(max(0, head - 9), head):
        try:
            rowid, end = pages.varint(content, start)
        except IndexError:
            continue
        cell = pages.cell_at(content, head, rowid, size) if end == head else None
        if cell is not None:
            yield cell


def _row(row: int, values: list[Any]) -> RowColumns | None:
    """The row, if every byte of it is as it was written."""
    is_row = (
        len(values) in _ROW_COLUMNS
        and values[0] is None
        and all(isinstance(number, int) for number in values[1:12])
        and all(isinstance(piece, bytes) for piece in values[12:])
    )
    columns = RowColumns(row, *values[1:]) if is_row else None
    return columns if columns is not None and checksum(columns) == columns.checksum else None
