"""Opens the file, whatever lies in the state directory: what cannot be used is quarantined.

A quarantined file is not looked into here. Whom it owed, who was paused and what was counted comes
from the ledger beside it (`high_water`), and from memory where the process is running; without
either everything is owed to everybody. The file that takes its place begins with that, in its first
transaction, and with a note (table `salvages`) that the other one is to be read back.
"""

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import apsw
import structlog

from relay.buffer import owed_ranges
from relay.buffer.backlog_name import backlog_name
from relay.buffer.settings import BufferSettings
from relay.buffer.sqlite import schema
from relay.buffer.sqlite.directory import StateDirectory, time_label
from relay.buffer.sqlite.disk_errors import remember_number
from relay.buffer.sqlite.high_water import HighWater, LedgerCopy
from relay.buffer.sqlite.logfile import LogFile
from relay.buffer.sqlite.private_files import open_private
from relay.buffer.sqlite.quarantine import (
    SalvageState,
    decode_state,
    encode_state,
    quarantined_files,
    report_of,
    state_of,
    wal_of,
)
from relay.buffer.sqlite.schema import fetch, fetch_value, number
from relay.buffer.sqlite.types import Loaded, Persisted, Totals
from relay.buffer.sqlite.wal import frames_of_generation
from relay.model.nouns import counted
from relay.model.reasons import Reason
from relay.model.records import DeadLetter, Encoding, OwedRange, Position

log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(__name__)

LOST_TAIL = "its WAL was lost, or an older copy was put in the place of relay.db"
# Rows that were lost with a WAL had ids, too, that must not come again.
_ID_JUMP = 1 << 20


@dataclass(slots=True)
class InheritedState:
    """What quarantined files leave to the one that takes their place."""

    destinations: dict[str, bool] = field(default_factory=dict)  # name -> paused
    salvages: dict[str, SalvageState] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    above_row: int = 0
    never_owed: OwedRange | None = None  # ids of this file that no row will have
    lost: tuple[OwedRange, Totals] | None = None  # rows that this file does not have any more
    owed: Mapping[str, Persisted] = field(default_factory=dict)  # of it, whatever it says itself
    is_unusable: bool = False  # what stands at `relay.db` now was found corrupt
    told: HighWater | None = None  # of the file that stands at `relay.db` now
    _known: HighWater | None = None

    def remember(self, known: Mapping[str, Persisted], last_row: int, totals: Totals) -> None:
        """What the running process knows of the file that stands at `relay.db` now."""
        self._known = HighWater(last_row, totals, ledger=LedgerCopy(known))

    def ask(self, state_dir: StateDirectory) -> None:
        """Find out what is known of the file that stands at `relay.db` now."""
        told = state_dir.high_water.read()
        if told is not None and told.ledger is not None:
            # It may have been put there by somebody else. Where there is none, it has gone.
            is_other = state_dir.database.exists() and not told.ledger.is_of(state_dir.database)
            told = replace(told, ledger=None) if is_other else told
        if self._known is not None:
            known = _ledger_of(self._known)
            ledger = replace(_ledger_of(told), destinations=known.destinations)
            told, self._known = replace(self._known, ledger=ledger), None
        self.told = told
        if told is not None:
            self.above_row = max(self.above_row, told.row)

    def add(self, quarantined: Path) -> None:
        """Take over what is known of `quarantined`, which stood at `relay.db` until now."""
        told, self.told = self.told, None
        ledger = _ledger_of(told)
        for name, each in ledger.destinations.items():
            self.destinations.setdefault(name, each.is_paused)
        for name, value in ledger.counts.items():
            self.counts[name] = self.counts.get(name, 0) + value
        for name, stored in ledger.salvages.items():
            with suppress(ValueError):
                self.salvages.setdefault(name, decode_state(stored))
        self.salvages[quarantined.name] = state_of(
            {name: each.ranges for name, each in ledger.destinations.items()},
            last_row=told.row if told is not None else 0,
            totals=told.totals if told is not None else None,
        )


def _ledger_of(told: HighWater | None) -> LedgerCopy:
    """What it tells beside its line, if anything."""
    return (told.ledger if told is not None else None) or LedgerCopy()


def open_file(
    state_dir: StateDirectory,
    settings: BufferSettings,
    *,
    vfs: str | None,
    inherited: InheritedState | None = None,
) -> tuple[LogFile, Loaded]:
    """Open `relay.db`, make it, or quarantine what cannot be used and make a new one.

    `inherited` is what a running process remembers, for a file that replaces one that failed.
    Raises one of schema.DISK_ERRORS.
    """
    is_first = inherited is None
    left = inherited or InheritedState()
    left.ask(state_dir)
    if left.is_unusable or state_dir.orphaned_wal() or state_dir.is_no_file():
        left.add(state_dir.quarantine(f"corrupt-{time_label()}"))
        left.is_unusable = False
    for _ in range(2):
        try:
            return _open_once(state_dir, settings, vfs, left, is_first=is_first)
        except schema.NewerSchema as newer:
            left.add(state_dir.quarantine(f"schema-{newer.version}-{time_label()}"))
        except (*schema.CORRUPT_ERRORS, *schema.ODD_VALUES, apsw.SQLError, apsw.IOError) as error:
            # Our statements are right: it is what they found.
            if isinstance(error, apsw.IOError) and not schema.is_damage(error):
                raise
            log.error("buffer_file_unusable", error=str(error))  # noqa: TRY400 - it is the file
            left.add(state_dir.quarantine(f"corrupt-{time_label()}"))
    return _open_once(state_dir, settings, vfs, left, is_first=is_first)


def _open_once(
    state_dir: StateDirectory,
    settings: BufferSettings,
    vfs: str | None,
    left: InheritedState,
    *,
    is_first: bool,
) -> tuple[LogFile, Loaded]:
    floor = max(left.above_row + 1, _floor_of_earlier_files(state_dir))
    is_new = not (state_dir.database.exists() and state_dir.database.stat().st_size)
    # Not in a running process: there the tail is a commit that was refused, whose sync had failed.
    torn = _torn_wal(state_dir, vfs, left.told) if is_first else None
    connection = schema.open_writer(state_dir.database, settings, floor=floor, vfs=vfs)
    try:
        with schema.bounded(connection):
            file = LogFile(connection, settings, state_dir.high_water)
            state_dir.fill_shared_memory()
            if not is_new and left.told is not None and left.told.misses(file.destinations):
                if torn is not None:
                    wal_of(torn).unlink()  # our copy: what it was made of is quarantined itself
                raise apsw.CorruptError("destinations are missing")
            with suppress(*((apsw.BusyError, apsw.LockedError) if is_first else ())):
                file.write_back()
            _heed(file, state_dir, left, torn, is_new=is_new, is_first=is_first)
            _restore(file, state_dir, left)
            loaded = file.loaded()
            ledger = file.ledger()
        state_dir.high_water.begin(state_dir.database, file.last_row, file.totals, ledger)
    except (*schema.CORRUPT_ERRORS, *schema.ODD_VALUES, apsw.SQLError, apsw.IOError) as error:
        remember_number(error, connection)
        schema.leave_wal(connection)
        connection.close(force=True)
        raise
    except BaseException:
        connection.close(force=True)
        raise
    state_dir.remember_files()
    return file, loaded


def _floor_of_earlier_files(state_dir: StateDirectory) -> int:
    """Ids of quarantined files must not come again: microseconds outrun any rate of rows."""
    written_ns = [path.stat().st_mtime_ns for path in state_dir.path.glob("relay.db.*")]
    # Since they were written the clock may have been set back.
    return max(time.time_ns(), *written_ns) // 1000 if written_ns else 1


def _torn_wal(state_dir: StateDirectory, vfs: str | None, told: HighWater | None) -> Path | None:
    """A copy of a WAL of which SQLite takes less than was committed, made before it is cut.

    SQLite takes a WAL up to the first frame whose checksum is wrong, says nothing, and writes over
    the rest. After a power loss that is as it should be: the rest was never synced, nor
    acknowledged. So it counts as damage only where rows are missing that `last-row` knows of.
    """
    if not state_dir.wal_bytes():
        return None
    expected = frames_of_generation(state_dir.wal)
    connection = schema.open_reader(state_dir.database, vfs=vfs)
    try:
        schema.refuse_foreign(connection)
        version = connection.pragma("user_version")
        found, _ = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)
        if found >= expected or (version and not _is_behind(connection, told)):
            return None
    finally:
        connection.close()
    if not found or not version:
        # The database alone is as old as the last checkpoint: both are quarantined together.
        raise apsw.CorruptError("the WAL cannot be used")
    copy = state_dir.free_name(f"corrupt-{time_label()}")
    with os.fdopen(open_private(state_dir.wal, os.O_RDONLY), "rb") as source:
        state_dir.copy_private(source, wal_of(copy))
    log.error("buffer_wal_damaged", file=wal_of(copy).name, taken=found, frames=expected)
    return copy


def _is_behind(connection: apsw.Connection, told: HighWater | None) -> bool:
    """Whether the file lacks rows that there were, as far as can be told."""
    last = fetch_value(connection, "SELECT seq FROM sqlite_sequence WHERE name = 'rows'")
    return told is None or number(last) < told.row


def _heed(
    file: LogFile,
    state_dir: StateDirectory,
    left: InheritedState,
    torn: Path | None,
    *,
    is_new: bool,
    is_first: bool,
) -> None:
    """Make up for what the file does not know of itself, by what is known of it."""
    seen_row, told = file.last_row, left.told
    if told is not None:
        left.lost = _lost_tail(file, told, is_new=is_new)
        if is_new and left.lost is not None:
            # There was a file: whoever reads it back finds nothing, and says what is lost.
            left.add(state_dir.free_name(f"corrupt-{time_label()}"))
            left.lost = None
        elif is_first and told.ledger is not None and seen_row < told.row:
            left.owed = told.ledger.destinations  # what was replayed, too, was in the lost WAL
    if torn is not None:
        left.lost = None  # it is read back first; what is lost then is named
        _owe_torn(file, torn, left, seen_row)


def _lost_tail(file: LogFile, told: HighWater, *, is_new: bool) -> tuple[OwedRange, Totals] | None:
    """Let the file go on where it ended; rows that are gone from there."""
    row, totals = told.row, told.totals
    if row < file.last_row or totals.rows <= file.totals.rows:
        file.last_row = max(row, file.last_row)
        return None
    lost = totals - file.totals
    if row == file.last_row and not is_new:
        # If rows are missing at its end, whoever reads there will find the gap.
        file.totals = totals
        return None
    hole = OwedRange(Position(file.last_row + 1), Position(row + 1))
    file.last_row, file.totals, file.gone = row, totals, file.gone + lost
    log.error(
        "buffer_rows_lost",
        rows=lost.rows,
        spans=lost.items,
        first_row=hole.start.row,
        last_row=row,
        reason=LOST_TAIL,
    )
    return hole, lost


def _owe_torn(file: LogFile, torn: Path, left: InheritedState, seen_row: int) -> None:
    """What stands behind the damage in the WAL is owed to everybody who was owed what came.

    `seen_row` is the last that SQLite sees.
    """
    end = file.last_row if file.last_row > seen_row else 0
    left.salvages[torn.name] = state_of(
        {
            name: owed_ranges.subtract(found.ranges, (owed_ranges.before(seen_row + 1),))
            for name, found in file.destinations.items()
        },
        last_row=end,
        totals=file.totals if end else None,
        is_guess=left.told is None,
    )
    file.last_row += _ID_JUMP
    left.never_owed = OwedRange(Position(seen_row + 1), Position(file.last_row + 1))


def _restore(file: LogFile, state_dir: StateDirectory, left: InheritedState) -> None:
    """In one transaction: names, pauses, counts, and what is to be read back."""
    noted = {name for (name,) in fetch(file.connection, "SELECT file FROM salvages")}
    sidecar = state_dir.high_water.read()
    for path in quarantined_files(state_dir.path):
        if path.name in noted or path.name in left.salvages or report_of(path).exists():
            continue
        # By an earlier version, or just before a crash: then the sidecar is still about it.
        ledger = sidecar.ledger if sidecar is not None else None
        left.told = sidecar if ledger is not None and ledger.is_of(path) else None
        left.add(path)
    salvages = {name: state for name, state in left.salvages.items() if name not in noted}
    missing = {
        name: is_paused
        for name, is_paused in left.destinations.items()
        if name not in file.destinations
    }
    if missing or salvages or left.counts or left.never_owed or left.lost or left.owed:
        file.work(lambda it: _write(it, missing, salvages, left))


def _write(
    file: LogFile,
    missing: Mapping[str, bool],
    salvages: Mapping[str, SalvageState],
    left: InheritedState,
) -> None:
    for name, each in left.owed.items():
        found = file.destinations.get(name)
        if found is not None:
            more = owed_ranges.clip(each.ranges, file.last_row)
            ranges = owed_ranges.union((*found.ranges, *more))
            file.write_destination(name, Persisted(ranges, each.is_paused))
    if left.never_owed is not None:
        _skip(file, left.never_owed)
    if left.lost is not None:
        _name_lost(file, *left.lost)
    for name, is_paused in missing.items():
        # Rows to come; those of the old file come again under new ids.
        ranges = owed_ranges.open_from(file.last_row + 1)
        file.write_destination(name, Persisted(ranges, is_paused))
    for name, state in salvages.items():
        file.connection.execute(
            "INSERT OR IGNORE INTO salvages VALUES (?,?,?,?)",
            (name, state.last_row, int(state.is_done), encode_state(state)),
        )
    for name, value in left.counts.items():
        file.add_counter(name, value)


def _skip(file: LogFile, hole: OwedRange) -> None:
    for name, found in file.destinations.items():
        ranges = owed_ranges.subtract(found.ranges, (hole,))
        if ranges != found.ranges:
            file.write_destination(name, replace(found, ranges=ranges))


def _name_lost(file: LogFile, hole: OwedRange, lost: Totals) -> None:
    first, last = hole.start.row, file.last_row
    rows = str(first) if first == last else f"{first}\N{EN DASH}{last}"
    letters = [
        DeadLetter(
            destination=backlog_name(name).destination,
            signal=backlog_name(name).signal,
            reason=Reason.DAMAGED_ON_DISK,
            words=f"rows {rows} ({counted(lost.items, 'item')}) are not in the buffer any more:"
            f" {LOST_TAIL}; what of them had been delivered is not known",
            items=0,
            affected=lost.items,
            encoding=Encoding.JSON,
            body=b"",
            row=first,
        )
        for name, found in file.destinations.items()
        if backlog_name(name).is_claimed and owed_ranges.overlaps(found.ranges, hole)
    ]
    file.letters.add(letters, now_ns=time.time_ns())
    _skip(file, hole)
    file.keep_totals()
