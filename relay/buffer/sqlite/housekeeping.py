"""Keeps the file in order, in short steps: checkpoints, retention, space, dead letters, vacuum.

Everything here happens after waiters were answered; no step should take more than about 20 ms.
"""

from collections.abc import Mapping

import apsw

from relay.buffer.backlog_name import backlog_name
from relay.buffer.settings import MIB, BufferSettings
from relay.buffer.sqlite import counters_table
from relay.buffer.sqlite.backlogs import Backlogs
from relay.buffer.sqlite.counters_table import CounterSchedule
from relay.buffer.sqlite.directory import StateDirectory
from relay.buffer.sqlite.disk_errors import is_no_space
from relay.buffer.sqlite.ledger import Ledger
from relay.buffer.sqlite.logfile import LogFile
from relay.buffer.sqlite.pending_acks import PendingAck
from relay.buffer.sqlite.rows import Group
from relay.buffer.sqlite.schema import CORRUPT_ERRORS, ODD_VALUES, fetch, number, transaction
from relay.buffer.sqlite.space.eviction import Eviction
from relay.buffer.sqlite.space.history import History
from relay.buffer.sqlite.space.hold_timers import HoldTimers
from relay.buffer.sqlite.space.retention import SHRINK_BYTES, Retention, shrink
from relay.buffer.sqlite.space.row_age import RowAges
from relay.buffer.sqlite.space.space import COMMIT_FACTOR, COMMIT_OVERHEAD_BYTES, Space
from relay.buffer.sqlite.space.time_to_full import Lookout
from relay.buffer.values import BufferStatistics

# While requests keep coming, house is kept, and told of, this often: after every commit both would
# cost as much as half of it.
BUSY_NS = 50_000_000
# While full, rows may become old or delivered at any time: look this often.
_FULL_SECONDS = 0.25
# With little going on, retention may be late by this much.
_EXPIRE_SECONDS = 0.25
_LETTERS_SECONDS = 60.0
_HOLDS_SECONDS = 5.0
# With less room than a usual request needs the buffer calls itself full, and refuses at once.
USUAL_NEED_BYTES = 64 * 1024


class Housekeeping:
    """What is due, and doing one step of it. Lives in the writer's thread."""

    def __init__(
        self,
        state_dir: StateDirectory,
        ages: RowAges,
        ledger: Ledger,
        backlogs: Backlogs,
    ) -> None:
        self._state_dir = state_dir
        settings = self._settings = ledger.settings
        self._ages = ages
        self._ledger = ledger
        self._backlogs = backlogs
        self._retention = Retention(settings, ages)
        self._history = History(settings)
        self._holds = HoldTimers(ages.clock_ns, ages.uptime_ns)
        self.eviction = Eviction(self._holds, ledger, backlogs)
        self._counters = CounterSchedule(self._all_counters)
        self._lookout = Lookout()
        self._wal_since_checkpoint = 0
        self._next_expire = 0.0  # by uptime, as the others
        self._next_letters = 0.0
        self._next_holds = 0.0
        self._expire_due: float | None = 0.0  # by uptime; None: nothing is deletable
        self._oldest: tuple[int, int] | None = None  # to be looked up
        self._has_more = False
        self._next_step_ns = 0  # by uptime, as the next one
        self._next_publish_ns = 0
        self._is_postponed = False  # a step that would be due
        self._is_unpublished = False
        self.space = Space(state_dir, settings)

    def look(self, file: LogFile) -> None:
        """Measure the file just opened, and take up what it holds for this process."""
        self._oldest = None
        self._history.look(file)
        counters = file.counters()
        self._counters.opened(counters)
        self._ages.opened(file.last_row, counters)
        self._holds.load(counters)
        self.eviction.load(counters)
        self.space.reserve.look()
        self.space.measure(file.connection)
        self.space.keep_reserve(file.connection)
        self._lookout.restart()

    def leave(self, file: LogFile) -> None:
        """Write down what the next process must know. Raises what SQLite raises."""
        self._look_at_holds(file)
        self._write_counters(file, is_last=True)
        self.eviction.say(is_last=True)

    def _write_counters(self, file: LogFile, *, is_last: bool = False) -> None:
        changes = self._counters.due(is_last=is_last)
        if changes:
            file.work(lambda it: counters_table.write(it.connection, changes))
            self._counters.written(changes)

    def _all_counters(self) -> dict[str, int]:
        return {**self._ages.counters(), **self._holds.counters(), **self.eviction.counters()}

    def publish(self, file: LogFile) -> None:
        """Tell how the file stands; what changes without a commit is left to who asks."""
        self._next_publish_ns = self._ages.uptime_ns() + BUSY_NS
        self._is_unpublished = False
        try:
            first_row, oldest_ns = self.oldest(file)
        except (*CORRUPT_ERRORS, *ODD_VALUES):
            first_row, oldest_ns = 0, 0  # what was committed is: the next step finds the damage
        outlook = self._lookout.found
        self._ledger.published = BufferStatistics(
            first_row=first_row,
            oldest_received_ns=oldest_ns,
            database_bytes=self.space.database_bytes,
            reserve_bytes=self.space.reserve.bytes,
            dead_letters=file.letters.counts,
            dead_letters_dropped=file.letters.dropped,
            owed_rows=outlook.owed.rows,
            owed_items=outlook.owed.items,
            owed_disk_bytes=outlook.owed_bytes,
            full_in_seconds=outlook.full_in_seconds,
            evicted_items={backlog_name(name): n for name, n in self.eviction.items.items()},
            last_evicted_ns=self.eviction.last_ns,
        )
        self._tell_end(file)

    def _tell_end(self, file: LogFile) -> None:
        """What every commit changes, at once."""
        self._ledger.sums = file.standing
        self._state_dir.high_water.write(file.last_row, file.totals, file.destinations)

    def oldest(self, file: LogFile) -> tuple[int, int]:
        """First row kept and its received time; zeros when nothing is kept."""
        if self._oldest is None:
            found = fetch(file.connection, "SELECT id, received_ns FROM rows ORDER BY id LIMIT 1")
            if not found:
                return 0, 0
            self._oldest = number(found[0][0]), number(found[0][1])
        return self._oldest

    def committed(self, file: LogFile, group: Group, acks: Mapping[str, PendingAck]) -> None:
        """A transaction of these was committed."""
        self._note_written(group.need_bytes, has_acks=bool(acks))
        is_news = self._oldest is None or group.letters or any(ack.letters for ack in acks.values())
        if is_news or self._ages.uptime_ns() >= self._next_publish_ns:
            self.publish(file)
        else:
            self._tell_end(file)
            self._is_unpublished = True

    def transacted(self, file: LogFile, need_bytes: int) -> None:
        """A transaction of its own was committed: anything may have come or gone."""
        self._note_written(need_bytes, has_acks=True)
        self._oldest = None
        self._history.note_remembered(file)
        self.space.measure(file.connection)
        self.publish(file)

    def _note_written(self, need_bytes: int, *, has_acks: bool) -> None:
        self.space.written_bytes += need_bytes * COMMIT_FACTOR + COMMIT_OVERHEAD_BYTES
        self._wal_since_checkpoint += need_bytes + COMMIT_OVERHEAD_BYTES // 4
        if has_acks:
            self._expire_due = 0.0  # ranges moved: look again what may go
        self._lookout.is_changed = True

    def reload(self, settings: BufferSettings, file: LogFile | None) -> None:
        """Hold to these from now on."""
        self._settings = settings
        self._retention = Retention(settings, self._ages)
        self._history.settings = settings
        self.space.reload(settings)
        if file is not None:
            self.space.keep_reserve(file.connection)  # before its old size counts as used
        self._lookout.restart()
        self._expire_due, self._next_expire = 0.0, 0.0

    # -- room ---------------------------------------------------------------------------------

    def fits_any(self, file: LogFile) -> bool:
        """Whether a usual request may be committed, by a fresh look at the disk."""
        self.space.measure(file.connection)
        return self.space.fits(file.connection, USUAL_NEED_BYTES)

    def make_room(self, file: LogFile, need_bytes: int) -> bool:
        """Cut the WAL, then let rows go in their order until so much fits, and a usual request.

        Returns whether a usual request fits now: if not, the buffer is full.
        """
        connection = file.connection
        self._cut_wal(file)
        # A request that could not fit into an empty buffer is no reason to empty it.
        is_possible = need_bytes * 2 < self._settings.max_size_bytes
        wanted = max(need_bytes, USUAL_NEED_BYTES) if is_possible else USUAL_NEED_BYTES
        if not self.space.fits(connection, wanted):
            self._look_at_holds(file)
        while not self.space.fits(connection, wanted):
            if not (
                self._history.make_room(file)
                or self._give_disk_back(file, wanted)
                or self._let_go(file, wanted)
            ):
                break
            self._cut_wal(file)
        return self.space.fits(connection, USUAL_NEED_BYTES)

    def _give_disk_back(self, file: LogFile, wanted: int) -> bool:
        """Pages that are free give no room to the WAL: on a full disk they have to go first."""
        free_bytes = self.space.freelist_bytes
        return self.space.needs_disk(wanted) and shrink(
            file.connection, freelist_bytes=free_bytes, keep_bytes=0
        )

    def _let_go(self, file: LogFile, wanted: int) -> int:
        """One step: delivered rows, or those that may go undelivered; returns how many."""
        gone = self._retention.make_room(file)
        # What others have put on the disk is no reason to drop what would not make room anyhow.
        if not gone and self.space.may_ever_fit(wanted):
            gone = self.eviction.step(file, self._settings, self._retention)
            for name, value in self.eviction.counters().items() if gone else ():
                self._counters.counted(name, value)
        if gone:
            self._history.note_remembered(file)
            self._oldest = None
        return gone

    def no_space(self, error: BaseException, file: LogFile | None) -> bool:
        """Whether `error` means that the file system is full: then the reserve is given back."""
        if not is_no_space(error, file.connection if file is not None else None):
            return False
        self.space.reserve.give_back()
        return True

    def open_on_full_disk(self) -> bool:
        """A file could not be opened: give the reserve back if that may be for want of room."""
        self.space.reserve.look()
        return self._state_dir.free_bytes() < MIB and self.space.reserve.give_back()

    def _look_at_holds(self, file: LogFile) -> None:
        self._next_holds = self._ages.uptime_seconds() + _HOLDS_SECONDS
        names = set(file.destinations)
        if not any(backlog_name(name).is_claimed for name in names):
            names = set()  # without any destination nothing may go
        owing = {name for name in names if file.clip(name, file.destinations[name].ranges)}
        self._holds.look(names, self._backlogs.health(), owing)

    def _cut_wal(self, file: LogFile) -> None:
        file.cut_wal()  # if a reader is in the middle of a statement, the next time will do
        self._wal_since_checkpoint = 0
        self.space.measure(file.connection)

    # -- steps --------------------------------------------------------------------------------

    def wait_seconds(self, *, is_full: bool) -> float:
        """How long the writer may sleep when nobody asks for anything: a minute at most."""
        if self._has_more:
            return 0.001
        if is_full:
            return _FULL_SECONDS
        if self._is_postponed:
            return max((self._next_step_ns - self._ages.uptime_ns()) / 1e9, 0.001)
        now = self._ages.uptime_seconds()
        waits = [self._lookout.wait_seconds(now), self._counters.wait_seconds()]
        waits.append(self._state_dir.high_water.wait_seconds())
        if self.space.missing_reserve_bytes:
            waits.append(_HOLDS_SECONDS)
        if self._expire_due is not None:
            waits.append(max(self._expire_due - now, _EXPIRE_SECONDS))
        return max(min(wait for wait in waits if wait is not None), 0.001)

    def postpones(self, *, is_full: bool) -> bool:
        """Whether the next step may wait for a moment: nobody needs room, nor is the WAL long."""
        self._is_postponed = (
            self._ages.uptime_ns() < self._next_step_ns
            and not is_full
            and not self._has_more
            and self._wal_since_checkpoint < self._settings.checkpoint_limit_bytes
        )
        return self._is_postponed

    def step(self, file: LogFile, *, is_idle: bool) -> bool:
        """Do what is due, one step of each; returns whether what is published may have changed."""
        self._next_step_ns = self._ages.uptime_ns() + BUSY_NS
        self._has_more = False
        file.keep_ledger()
        self._checkpoint(file)
        changed = self._expire(file)
        changed |= self._trim_letters(file)
        self._has_more |= self._history.step(file, now_ns=self._ages.clock_ns())
        changed |= self._look_about(file)
        if (
            is_idle
            and not changed
            and shrink(file.connection, freelist_bytes=self.space.freelist_bytes)
        ):
            self.space.measure(file.connection)
            self._wal_since_checkpoint += SHRINK_BYTES
            self._has_more = True
        return changed or self._is_unpublished

    def _look_about(self, file: LogFile) -> bool:
        """What is done every few seconds; returns whether there is news."""
        now = self._ages.uptime_seconds()
        is_due = now >= self._next_holds
        if is_due:
            self._look_at_holds(file)
        is_news = is_due and self.space.keep_reserve(file.connection)
        self._write_counters(file)
        self.eviction.say()
        drops_oldest = self._settings.when_full == "drop-oldest"
        may_lose = frozenset[str]().union(*self._holds.evictable(drops_oldest=drops_oldest))
        return self._lookout.look(file, self.space, now, may_lose) or is_news

    def _checkpoint(self, file: LogFile) -> None:
        if self._wal_since_checkpoint < self._settings.checkpoint_limit_bytes:
            return
        if self._state_dir.wal_bytes() > self._settings.truncate_limit_bytes:
            self._cut_wal(file)
        else:
            file.connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            self._wal_since_checkpoint = 0

    def _expire(self, file: LogFile) -> bool:
        now = self._ages.uptime_seconds()
        is_low = self.space.is_low
        if now < self._next_expire or (self._expire_due is None and not is_low):
            return False
        gone = 0
        if self._expire_due is not None and now >= self._expire_due:
            gone = self._retention.expire(file)
        if not gone and is_low:
            gone = self._history.make_room(file) or self._retention.make_room(file)
        if gone:
            self._has_more = True
            self._history.note_remembered(file)
            self._oldest = None
            self.space.measure(file.connection)
            self._wal_since_checkpoint += COMMIT_OVERHEAD_BYTES
        else:
            self._next_expire = now + _EXPIRE_SECONDS
            due = self._retention.next_due_seconds(file)
            self._expire_due = None if due is None else now + due
        return gone > 0

    def _trim_letters(self, file: LogFile) -> bool:
        now = self._ages.uptime_seconds()
        if now < self._next_letters and not file.letters.is_over():
            return False
        self._next_letters = now + _LETTERS_SECONDS
        if not file.letters.counts:
            return False
        # Letters have the wall clock's time alone: old is what is old by either clock, since one
        # that jumped back has just stamped the newest, and one that jumped on all before it.
        now_ns = min(self._ages.steady_ns(), self._ages.clock_ns())
        try:
            with transaction(file.connection):
                gone = file.letters.trim(now_ns=now_ns)
        except apsw.Error:
            file.letters.load()
            raise
        self._has_more |= gone > 0
        return gone > 0
