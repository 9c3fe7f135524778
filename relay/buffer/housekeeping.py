"""An open file in, short steps of upkeep out: checkpoints, retention, dead letters, vacuum.

Everything here happens after waiters were answered; no step should take more than about 20 ms.
"""

import time
from collections.abc import Callable

import apsw

from relay.buffer.history import History
from relay.buffer.logfile import LogFile
from relay.buffer.place import Place
from relay.buffer.retention import SHRINK_BYTES, Retention, shrink
from relay.buffer.schema import fetch
from relay.buffer.settings import BufferSettings
from relay.buffer.space import COMMIT_OVERHEAD_BYTES, Space

# While full, rows may become old or delivered at any time: look this often.
_FULL_SECONDS = 0.25
# With little going on, retention may be late by this much.
_EXPIRE_SECONDS = 0.25
_LETTERS_SECONDS = 60.0
_LONGEST_WAIT_SECONDS = 60.0
# With less room than a usual request needs the buffer calls itself full, and refuses at once.
_USUAL_NEED_BYTES = 64 * 1024


class Housekeeping:
    """What is due, and doing one step of it. Lives in the writer's thread."""

    def __init__(self, place: Place, settings: BufferSettings, clock_ns: Callable[[], int]) -> None:
        self._place = place
        self._settings = settings
        self._clock_ns = clock_ns
        self._retention = Retention(settings)
        self._history = History(settings)
        self._wal_since_checkpoint = 0
        self._next_expire = 0.0  # monotonic
        self._next_letters = 0.0
        self._expire_due_ns: int | None = 0  # wall; None: nothing is deletable
        self._oldest: tuple[int, int] = (0, 0)
        self._oldest_is_known = False
        self._has_more = False
        self.space = Space(place, settings)

    def look(self, file: LogFile) -> None:
        """Measure the file just opened."""
        self._oldest_is_known = False
        self._history.look(file)
        self.space.measure(file.connection)

    def oldest(self, file: LogFile) -> tuple[int, int]:
        """First row kept and its received time; zeros when nothing is kept."""
        if not self._oldest_is_known:
            found = fetch(file.connection, "SELECT id, received_ns FROM rows ORDER BY id LIMIT 1")
            self._oldest = (int(found[0][0]), int(found[0][1])) if found else (0, 0)
            self._oldest_is_known = bool(found)
        return self._oldest

    def note_commit(self, need_bytes: int, *, has_moves: bool) -> None:
        """A transaction of about so many bytes was committed."""
        self.space.note_written(need_bytes)
        self._wal_since_checkpoint += need_bytes + COMMIT_OVERHEAD_BYTES // 4
        if has_moves:
            self._expire_due_ns = 0  # ranges moved: look again what may go

    def note_job(self, file: LogFile, need_bytes: int) -> None:
        """A job was committed: anything may have come or gone."""
        self.note_commit(need_bytes, has_moves=True)
        self._oldest_is_known = False
        self.space.measure(file.connection)

    def reload(self, settings: BufferSettings) -> None:
        """Hold to these from now on."""
        self._settings = settings
        self._retention = Retention(settings)
        self._history.settings = settings
        self.space.settings = settings
        self._expire_due_ns, self._next_expire = 0, 0.0

    # -- room ---------------------------------------------------------------------------------

    def fits(self, file: LogFile, need_bytes: int) -> bool:
        """Whether a transaction of about so many bytes may be committed."""
        if self.space.is_stale:
            self.space.measure(file.connection)
        return self.space.fits(need_bytes)

    def fits_any(self, file: LogFile) -> bool:
        """Whether a usual request may be committed, by a fresh look at the disk."""
        self.space.measure(file.connection)
        return self.fits(file, _USUAL_NEED_BYTES)

    def make_room(self, file: LogFile, need_bytes: int) -> bool:
        """Cut the WAL, then let delivered rows go until so much fits, and a usual request.

        Returns whether a usual request fits now: if not, the buffer is full.
        """
        self._cut_wal(file)
        # A request that could not fit into an empty buffer is no reason to empty it.
        is_possible = need_bytes * 2 < self._settings.max_size_bytes
        wanted = max(need_bytes, _USUAL_NEED_BYTES) if is_possible else _USUAL_NEED_BYTES
        while not self.space.fits(wanted):
            gone = self._history.give_way(file) or self._let_rows_go(file)
            self._cut_wal(file)
            if not gone:
                break
        return self.space.fits(_USUAL_NEED_BYTES)

    def _let_rows_go(self, file: LogFile) -> int:
        gone = self._retention.give_way(file)
        self._history.note_remembered(file)
        self._oldest_is_known = False
        return gone

    def _cut_wal(self, file: LogFile) -> None:
        connection = file.connection
        connection.set_busy_timeout(0)
        try:
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        except (apsw.BusyError, apsw.LockedError):
            pass  # a reader is in the middle of a statement: the next time will do
        finally:
            connection.set_busy_timeout(2000)
        self._wal_since_checkpoint = 0
        self.space.measure(connection)

    # -- steps --------------------------------------------------------------------------------

    def wait_seconds(self, *, is_full: bool) -> float | None:
        """How long the writer may sleep when nobody asks for anything; None: for ever."""
        if self._has_more:
            return 0.001
        if is_full:
            return _FULL_SECONDS
        if self._expire_due_ns is None:
            return None
        due = (self._expire_due_ns - self._clock_ns()) / 1e9
        return min(max(due, _EXPIRE_SECONDS), _LONGEST_WAIT_SECONDS)

    def step(self, file: LogFile, *, is_idle: bool) -> bool:
        """Do what is due, one step of each; returns whether what is kept may have changed."""
        self._has_more = False
        self._checkpoint(file)
        changed = self._expire(file)
        changed |= self._trim_letters(file)
        self._has_more |= self._history.step(file, now_ns=self._clock_ns())
        if (
            is_idle
            and not changed
            and shrink(file.connection, freelist_bytes=self.space.freelist_bytes)
        ):
            self.space.measure(file.connection)
            self._wal_since_checkpoint += SHRINK_BYTES
            self._has_more = True
        return changed

    def _checkpoint(self, file: LogFile) -> None:
        if self._wal_since_checkpoint < self._settings.wal_checkpoint_bytes:
            return
        if self._place.wal_bytes() > self._settings.wal_truncate_bytes:
            self._cut_wal(file)
        else:
            file.connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            self._wal_since_checkpoint = 0

    def _expire(self, file: LogFile) -> bool:
        now = time.monotonic()
        is_low = self.space.is_low
        if now < self._next_expire or (self._expire_due_ns is None and not is_low):
            return False
        now_ns = self._clock_ns()
        gone = 0
        if self._expire_due_ns is not None and now_ns >= self._expire_due_ns:
            gone = self._retention.expire(file, now_ns=now_ns)
        if not gone and is_low:
            gone = self._history.give_way(file) or self._retention.give_way(file)
        if gone:
            self._has_more = True
            self._history.note_remembered(file)
            self._oldest_is_known = False
            self.space.measure(file.connection)
            self._wal_since_checkpoint += COMMIT_OVERHEAD_BYTES
        else:
            self._next_expire = now + _EXPIRE_SECONDS
            self._expire_due_ns = self._retention.next_due_ns(file)
        return gone > 0

    def _trim_letters(self, file: LogFile) -> bool:
        now = time.monotonic()
        if now < self._next_letters and not file.letters.is_over():
            return False
        self._next_letters = now + _LETTERS_SECONDS
        if not file.letters.counts:
            return False
        try:
            with file.connection:
                gone = file.letters.trim(now_ns=self._clock_ns())
        except apsw.Error:
            file.letters.load()
            raise
        self._has_more |= gone > 0
        return gone > 0
