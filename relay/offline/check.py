"""Finds everything that is wrong in a state directory: each row's checksum, and the rest.

Changes nothing. What is found is left to the daemon, which meets it when it reads there.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from relay.buffer.owed_ranges import intersection, open_from, row_range, subtract, union
from relay.buffer.sqlite import signal_runs
from relay.buffer.sqlite.dead_letter_table import stored_letter
from relay.buffer.sqlite.partial_rows import part_of
from relay.buffer.sqlite.quarantine import quarantined_files, wal_of
from relay.buffer.sqlite.rows import RowColumns
from relay.buffer.sqlite.schema import SCHEMA_VERSION, fetch
from relay.buffer.sqlite.types import DamagedRow
from relay.buffer.sqlite.wal import frames_of_generation
from relay.model.records import OwedRange, Position
from relay.offline.file import BROKEN, BufferFile, OwedDestination, open_buffer
from relay.salvage.losses import runs_of
from relay.salvage.pages import PageFiles
from relay.salvage.salvage import QuarantinedFile, described

# What each takes as one statement is bounded by the size of the table; `rows` is gone through here.
_SMALL_TABLES = (
    "traces",
    "destinations",
    "deliveries",
    "totals",
    "history",
    "tallies",
    "salvages",
    "signal_runs",
)
_LETTERS = 64
_PROGRESS_ROWS = 256

Progress = Callable[[int, int], None]


@dataclass(slots=True)
class DestinationFinding:
    """What a destination is owed of a signal, counted row by row."""

    name: str
    is_paused: bool
    rows: int = 0
    spans: int = 0
    raw_bytes: int = 0
    is_damaged: bool = False
    signal: str = "traces"


@dataclass(slots=True)
class CheckReport:
    """All that `check` found."""

    file: str
    is_running: bool = False
    rows: int = 0
    spans: int = 0
    raw_bytes: int = 0
    by_signal: dict[str, int] = field(default_factory=dict)  # items, by the word of a signal
    damaged_rows: list[int] = field(default_factory=list)
    missing_rows: list[tuple[int, int]] = field(default_factory=list)  # first and last id
    dead_letters: int = 0
    damaged_dead_letters: list[int] = field(default_factory=list)
    destinations: list[DestinationFinding] = field(default_factory=list)
    structure: list[str] = field(default_factory=list)  # what SQLite says of pages and trees
    set_aside: list[QuarantinedFile] = field(default_factory=list)

    @property
    def is_sound(self) -> bool:
        """Whether everything is as it was written."""
        return not (
            self.damaged_rows
            or self.missing_rows
            or self.damaged_dead_letters
            or self.structure
            or any(each.is_damaged for each in self.destinations)
        )


def check(state_dir: Path, progress: Progress) -> CheckReport:
    """Read every row and dead letter of the buffer in `state_dir`.

    `progress` gets rows looked at and about how many there are. Raises BufferUnavailable when
    there is nothing to read or it may not be read.
    """
    with open_buffer(state_dir) as file:
        found = CheckReport(str(file.path), file.is_running)
        found.set_aside = [described(path) for path in quarantined_files(state_dir)]
        _check_wal(file, found)
        owners: list[OwedDestination] = []
        try:
            version = file.connection.pragma("user_version")
            if version > SCHEMA_VERSION:
                found.structure.append(
                    f"schema {version} is newer than this version knows ({SCHEMA_VERSION})"
                )
                return found
            owners = file.destinations()
        except BROKEN as error:
            found.structure.append(str(error))
        found.destinations = [
            DestinationFinding(
                each.key.destination,
                each.is_paused,
                is_damaged=each.ranges is None,
                signal=each.key.signal.word,
            )
            for each in owners
        ]
        _check_rows(file, owners, found, progress)
        claimed = zip(owners, found.destinations, strict=True)
        found.destinations = [each for owner, each in claimed if owner.key.is_claimed]
        _check_letters(file, found)
        _check_tables(file, found)
        return found


def _check_wal(file: BufferFile, found: CheckReport) -> None:
    wal = wal_of(file.path)
    if file.is_running or not wal.exists() or not wal.stat().st_size:
        return  # a WAL that is being written cannot be told from one that is torn
    expected = frames_of_generation(wal)
    with PageFiles(file.path, wal) as files:
        valid = max(files.live.values(), default=-1) + 1
    if valid < expected:
        words = (
            f"only {valid} of {expected} frames are" if valid else f"none of {expected} frames is"
        )
        found.structure.append(f"WAL: {words} whole")


def _check_rows(
    file: BufferFile, owners: list[OwedDestination], found: CheckReport, progress: Progress
) -> None:
    try:
        total = file.row_count()
    except BROKEN:
        total = 0
    before: RowColumns | None = None
    looked = 0
    for columns, read in file.rows():
        looked += 1
        if looked % _PROGRESS_ROWS == 0:
            progress(looked, max(total, looked))
        if isinstance(read, DamagedRow):
            found.damaged_rows.append(columns.id)
            continue
        found.rows += 1
        found.spans += columns.items
        word = read.signal.word
        found.by_signal[word] = found.by_signal.get(word, 0) + columns.items
        found.raw_bytes += columns.raw_bytes
        if before is not None:
            found.missing_rows += _missing(file, before, columns, owners, found.damaged_rows)
        before = columns
        for owner, each in zip(owners, found.destinations, strict=True):
            _add_owed(owner, each, columns)
    progress(looked, looked)


def _missing(
    file: BufferFile,
    before: RowColumns,
    row: RowColumns,
    owners: list[OwedDestination],
    damaged: list[int],
) -> list[tuple[int, int]]:
    """First and last ids that were there between two whole rows, owed and not damaged.

    The sums before each of the two say whether there were any.
    """
    if row.rows_before == before.rows_before + 1 or row.id <= before.id:
        return []
    gap = (OwedRange(Position(before.id + 1), Position(row.id)),)
    owed = union(
        item
        for owner in owners
        for item in intersection(_of_signal(file, owner, gap), owner.ranges or ())
    )
    seen = (row_range(each) for each in damaged if before.id < each < row.id)
    return [(first, end - 1) for first, end in runs_of(subtract(owed, seen), row.id - 1)]


def _of_signal(
    file: BufferFile, owner: OwedDestination, gap: tuple[OwedRange, ...]
) -> tuple[OwedRange, ...]:
    """What of a gap between rows was of the owner's signal, if that can be told."""
    ((start, end),) = gap
    if end is None:
        raise ValueError("a gap has two ends")
    signal = owner.key.signal
    try:
        runs = list(signal_runs.stretches(file.connection, signal, start.row, end.row - 1))
    except BROKEN:
        return gap
    return tuple(OwedRange(Position(first), Position(last + 1)) for first, last in runs)


def _add_owed(owner: OwedDestination, found: DestinationFinding, row: RowColumns) -> None:
    if owner.key.signal != row.signal:
        return
    ranges = open_from(row.id) if owner.ranges is None else owner.ranges
    part = part_of(ranges, row.id, row.items, row.raw_bytes)
    found.rows += part.rows
    found.spans += part.items
    found.raw_bytes += part.raw_bytes


def _check_letters(file: BufferFile, found: CheckReport) -> None:
    try:
        for letters in file.chunks("dead_letters", limit=_LETTERS):
            for letter in map(stored_letter, letters):
                found.dead_letters += 1
                if letter.is_damaged:
                    found.damaged_dead_letters.append(letter.letter_id)
    except BROKEN as error:
        found.structure.append(f"dead_letters: {error}")


def _check_tables(file: BufferFile, found: CheckReport) -> None:
    """SQLite's own check; of all pages at once only where no daemon waits for its WAL meanwhile."""
    try:
        if file.connection.pragma("user_version") >= signal_runs.SINCE_SCHEMA:
            signal_runs.check(file.connection)
    except BROKEN as error:
        found.structure.append(f"signal_runs: {error}")
    tables = _SMALL_TABLES if file.is_running else ("",)
    for table in tables:
        argument = f"('{table}')" if table else ""
        try:
            said = fetch(file.connection, f"PRAGMA quick_check{argument}")
        except BROKEN as error:
            said = [(str(error),)]
        found.structure += [
            f"{table}: {words}" if table else str(words) for (words,) in said if words != "ok"
        ]
