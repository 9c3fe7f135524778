"""The state directory in, an open file out, whatever lies there: what cannot be used goes aside.

What a file that is given up still tells (names, pauses, what is owed, counts) moves to the new one
in its first transaction, with a note (table `salvages`) that the old one is to be read back.
"""

import re
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import apsw
import structlog

from relay.buffer import owed_ranges
from relay.buffer.owed_ranges import Ranges
from relay.buffer.settings import BufferSettings
from relay.buffer.sqlite import schema
from relay.buffer.sqlite.directory import Place, time_label
from relay.buffer.sqlite.disk_errors import remember_number
from relay.buffer.sqlite.high_water import Standing
from relay.buffer.sqlite.load import number
from relay.buffer.sqlite.logfile import LogFile, Persisted
from relay.buffer.sqlite.schema import fetch, fetch_value
from relay.buffer.sqlite.types import Loaded, Totals
from relay.model.reasons import Reason
from relay.model.records import DeadLetter, Encoding, OwedRange, Position
from relay.salvage.losses import named
from relay.salvage.old_state import Remains, read_remains
from relay.salvage.pages import PageFiles, frames_of_generation
from relay.salvage.readmit import State, decode_state, encode_state

log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(__name__)

ASIDE = re.compile(r"relay\.db\.(?:corrupt|schema-\d+)-\d{8}T\d{6}Z(?:\.\d+)?")
LOST_TAIL = "its WAL was lost, or an older copy was put in the place of relay.db"
REPORT_SUFFIX = ".report.json"
# Rows that were lost with a WAL had ids, too, that must not come again.
_ID_JUMP = 1 << 20


@dataclass(slots=True)
class Left:
    """What files that were set aside leave to the one that takes their place."""

    destinations: dict[str, bool] = field(default_factory=dict)  # name -> paused
    salvages: dict[str, State] = field(default_factory=dict)
    tallies: dict[str, int] = field(default_factory=dict)
    above_row: int = 0
    never_owed: OwedRange | None = None  # ids of this file that no row will have
    lost: tuple[OwedRange, Totals] | None = None  # rows that this file does not have any more
    is_unusable: bool = False  # what stands at `relay.db` now was found corrupt
    mark: Standing | None = None  # what `last-row` says of it
    _known: Mapping[str, Persisted] | None = None
    _known_row: int = 0
    _known_totals: Totals | None = None

    def remember(self, known: Mapping[str, Persisted], last_row: int, totals: Totals) -> None:
        """What the running process knows of the file that stands at `relay.db` now: more than
        the file itself could tell.
        """
        self._known, self._known_row, self._known_totals = known, last_row, totals
        self.above_row = max(self.above_row, last_row)

    def misses(self, names: Iterable[str]) -> bool:
        """Whether `names` cannot be all destinations of the file that stands at `relay.db`."""
        return self._known is None and self.mark is not None and self.mark.misses(names)

    def add(self, aside: Path) -> None:
        """Take over what `aside` tells, and what is remembered of it."""
        remains = _remains_of(aside)
        found = dict(remains.destinations)
        last_row, totals = remains.last_row, None
        # Damage may leave fewer names than there were: then nobody knows who is owed what.
        is_guess = self.misses(found)
        if self._known is not None:
            found = {name: (each.is_paused, each.ranges) for name, each in self._known.items()}
            last_row, totals = self._known_row, self._known_totals
            self.mark = None
            self._known = None
        elif self.mark is not None and self.mark.row >= last_row:
            last_row, totals = self.mark.row, self.mark.totals
        self.mark = None
        for name, (is_paused, _) in found.items():
            self.destinations.setdefault(name, is_paused)
        for name, value in remains.tallies.items():
            self.tallies[name] = self.tallies.get(name, 0) + value
        for name, (_, _, stored) in remains.salvages.items():
            with suppress(ValueError):
                self.salvages.setdefault(name, decode_state(stored))
        self.salvages[aside.name] = state_of(
            {name: ranges for name, (_, ranges) in found.items()},
            last_row=last_row,
            totals=totals,
            is_guess=is_guess,
        )
        self.above_row = max(self.above_row, last_row, remains.last_row)


def state_of(
    ranges: Mapping[str, Ranges | None],
    *,
    last_row: int = 0,
    totals: Totals | None = None,
    is_guess: bool = False,
) -> State:
    """Nothing read back yet. A list of ranges that is None could not be read: it owes all."""
    is_guess |= not ranges or any(each is None for each in ranges.values())
    return State(
        {
            name: owed_ranges.encode(owed_ranges.open_from(1) if each is None else each)
            for name, each in ranges.items()
        },
        last_row=last_row,
        total_rows=totals.rows if totals else 0,
        total_spans=totals.spans if totals else 0,
        is_guess=is_guess,
    )


def _remains_of(aside: Path) -> Remains:
    try:
        with PageFiles(aside, wal_of(aside)) as files:
            return read_remains(files)
    except OSError as error:
        log.warning("buffer_file_unreadable", file=aside.name, error=str(error))
        return Remains()


def wal_of(aside: Path) -> Path:
    """The WAL beside a database."""
    return aside.with_name(aside.name + "-wal")


def report_of(aside: Path) -> Path:
    """Where it stands what was read back of a file, once that is done."""
    return aside.with_name(aside.name + REPORT_SUFFIX)


def files_set_aside(directory: Path) -> list[Path]:
    """Every database (or WAL without one) that was set aside here, oldest first."""
    names = {path.name.removesuffix("-wal") for path in directory.glob("relay.db.*")}
    return [directory / name for name in sorted(names) if ASIDE.fullmatch(name)]


def open_file(
    place: Place, settings: BufferSettings, *, vfs: str | None, left: Left | None = None
) -> tuple[LogFile, Loaded]:
    """Open `relay.db`, make it, or set aside what cannot be used and make a new one.

    `left` is what a running process remembers, for a file that replaces one that failed. Raises
    one of schema.DISK_ERRORS.
    """
    is_first = left is None
    left = left or Left()
    left.mark = place.mark.read()
    if left.mark is not None:
        left.above_row = max(left.above_row, left.mark.row)
    if left.is_unusable or place.orphaned_wal() or place.is_no_file():
        aside = place.set_aside(f"corrupt-{time_label()}")
        left.is_unusable = False
        left.add(aside)
    for is_last in (False, False, True):
        try:
            return _open_once(place, settings, vfs, left, is_first=is_first)
        except schema.NewerSchema as newer:
            left.add(place.set_aside(f"schema-{newer.version}-{time_label()}"))
        except (*schema.CORRUPT_ERRORS, *schema.ODD_VALUES, apsw.SQLError, apsw.IOError) as error:
            # Our statements are right: it is what they found.
            if is_last or (isinstance(error, apsw.IOError) and not schema.is_damage(error)):
                raise
            log.error("buffer_file_unusable", error=str(error))  # noqa: TRY400 - it is the file
            left.add(place.set_aside(f"corrupt-{time_label()}"))
    raise apsw.CantOpenError("no usable relay.db after setting two aside")


def _open_once(
    place: Place, settings: BufferSettings, vfs: str | None, left: Left, *, is_first: bool
) -> tuple[LogFile, Loaded]:
    floor = max(left.above_row + 1, _floor_of_earlier_files(place))
    is_new = not (place.database.exists() and place.database.stat().st_size)
    # Not in a running process: there the tail is a commit that was refused, whose sync had failed.
    torn = _torn_wal(place, vfs, left.mark) if is_first else None
    connection = schema.open_writer(place.database, settings, floor=floor, vfs=vfs)
    try:
        file = LogFile(connection, settings)
        place.fill_shared_memory()
        with suppress(*((apsw.BusyError, apsw.LockedError) if is_first else ())):
            file.write_back()
        last_row = file.last_row
        if left.mark is not None:
            if not is_new and left.misses(file.destinations):
                if torn is not None:
                    wal_of(torn).unlink()  # our copy: what it was made of goes aside itself
                raise apsw.CorruptError("destinations are missing")
            left.lost = _heed_mark(file, left.mark, is_new=is_new)
            if is_new and left.lost is not None:
                _look_for_file(place, left, left.mark)
        if torn is not None:
            left.lost = None  # it is read back first; what is lost then is named
            _owe_torn(file, torn, left, last_row)
        _restore(file, place, left)
        loaded = file.loaded()
    except (*schema.CORRUPT_ERRORS, *schema.ODD_VALUES, apsw.SQLError, apsw.IOError) as error:
        remember_number(error, connection)
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        connection.close(force=True)
        raise
    except BaseException:
        connection.close(force=True)
        raise
    place.remember_files()
    return file, loaded


def _floor_of_earlier_files(place: Place) -> int:
    """Ids of files set aside must not come again: microseconds outrun any rate of rows."""
    has_earlier = any(place.directory.glob("relay.db.*")) and not (
        place.database.exists() and place.database.stat().st_size
    )
    return time.time_ns() // 1000 if has_earlier else 1


def _torn_wal(place: Place, vfs: str | None, mark: Standing | None) -> Path | None:
    """A copy of a WAL of which SQLite takes less than was committed, made before it is cut.

    SQLite takes a WAL up to the first frame whose checksum is wrong, says nothing, and writes over
    the rest. After a power loss that is as it should be: the rest was never synced, nor
    acknowledged. So it counts as damage only where rows are missing that `mark` knows of.
    """
    if not place.wal_bytes():
        return None
    expected = frames_of_generation(place.wal)
    connection = schema.open_reader(place.database, vfs=vfs)
    try:
        version = connection.pragma("user_version")
        found, _ = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)
        if found >= expected or (version and not _is_behind(connection, mark)):
            return None
    finally:
        connection.close()
    if not found or not version:
        # The database alone is as old as the last checkpoint: both go aside together.
        raise apsw.CorruptError("the WAL cannot be used")
    aside = place.free_name(f"corrupt-{time_label()}")
    with place.wal.open("rb") as source:
        place.copy_private(source, wal_of(aside))
    log.error("buffer_wal_damaged", file=wal_of(aside).name, taken=found, frames=expected)
    return aside


def _is_behind(connection: apsw.Connection, mark: Standing | None) -> bool:
    """Whether the file lacks rows that there were, as far as can be told."""
    last = fetch_value(connection, "SELECT seq FROM sqlite_sequence WHERE name = 'rows'")
    return mark is None or number(last) < mark.row


def _heed_mark(file: LogFile, mark: Standing, *, is_new: bool) -> tuple[OwedRange, Totals] | None:
    """Make up for what the file does not know of its own end; rows that are gone from there."""
    row, totals = mark.row, mark.totals
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
        spans=lost.spans,
        first_row=hole.start.row,
        last_row=row,
        reason=LOST_TAIL,
    )
    return hole, lost


def _look_for_file(place: Place, left: Left, mark: Standing) -> None:
    """There is a mark and no file: whoever reads it back finds nothing, and says what is lost."""
    name = place.free_name(f"corrupt-{time_label()}").name
    left.salvages[name] = state_of({}, last_row=mark.row, totals=mark.totals)
    left.lost = None


def _owe_torn(file: LogFile, aside: Path, left: Left, last_row: int) -> None:
    """What stands behind the damage in the WAL is owed to everybody who was owed what came.

    `last_row` is the last that SQLite sees.
    """
    remains = _remains_of(aside)
    behind = {
        name: owed_ranges.subtract(found.ranges, (owed_ranges.before(last_row + 1),))
        for name, found in file.destinations.items()
    }
    for name, (is_paused, _) in remains.destinations.items():
        if name not in behind:
            behind[name] = owed_ranges.open_from(last_row + 1)
            left.destinations.setdefault(name, is_paused)
    end = file.last_row if file.last_row > last_row else 0
    left.salvages[aside.name] = state_of(
        behind, last_row=end or remains.last_row, totals=file.totals if end else None
    )
    file.last_row = max(file.last_row, remains.last_row) + _ID_JUMP
    left.never_owed = OwedRange(Position(last_row + 1), Position(file.last_row + 1))


def _restore(file: LogFile, place: Place, left: Left) -> None:
    """In one transaction: names, pauses, counts, and what is to be read back."""
    standing = dict(fetch(file.connection, "SELECT file, state FROM salvages"))
    salvages = {name: state for name, state in left.salvages.items() if name not in standing}
    for aside in files_set_aside(place.directory):
        if aside.name in standing or aside.name in salvages or report_of(aside).exists():
            continue
        # It was set aside by an earlier version, or just before a crash.
        earlier = Left()
        earlier.add(aside)
        salvages[aside.name] = earlier.salvages[aside.name]
        for name, is_paused in earlier.destinations.items():
            left.destinations.setdefault(name, is_paused)
        for name, value in earlier.tallies.items():
            left.tallies[name] = left.tallies.get(name, 0) + value
    missing = {
        name: is_paused
        for name, is_paused in left.destinations.items()
        if name not in file.destinations
    }
    if missing or salvages or left.tallies or left.never_owed or left.lost:
        file.work(lambda it: _write(it, missing, salvages, left))


def _write(
    file: LogFile, missing: Mapping[str, bool], salvages: Mapping[str, State], left: Left
) -> None:
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
    for name, value in left.tallies.items():
        file.add_counter(name, value)


def _skip(file: LogFile, hole: OwedRange) -> None:
    for name, found in file.destinations.items():
        ranges = owed_ranges.subtract(found.ranges, (hole,))
        if ranges != found.ranges:
            file.write_destination(name, replace(found, ranges=ranges))


def _name_lost(file: LogFile, hole: OwedRange, lost: Totals) -> None:
    last = hole.end.row - 1 if hole.end is not None else 0
    rows = named([(hole.start.row, last)])
    letters = [
        DeadLetter(
            destination=name,
            reason=Reason.DAMAGED_ON_DISK,
            words=f"rows {rows} ({lost.spans} spans) are not in the buffer any more: {LOST_TAIL};"
            " what of them had been delivered is not known",
            spans=0,
            affected=lost.spans,
            encoding=Encoding.JSON,
            body=b"",
            row=hole.start.row,
        )
        for name, found in file.destinations.items()
        if owed_ranges.overlaps(found.ranges, hole)
    ]
    file.letters.add(letters, now_ns=time.time_ns())
    _skip(file, hole)
    file.keep_totals()
