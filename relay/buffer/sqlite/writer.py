"""Commits requests and acknowledgements: the one thread that writes and checkpoints.

One turn: take everything that waits, commit it in one transaction, answer all waiters with one
call into the event loop, and only then keep house (checkpoint, retention, vacuum), in short
steps. The loop's side never waits for a lock that is held during a write.
"""

import queue
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial

import apsw
import structlog

from relay.buffer.settings import BufferSettings
from relay.buffer.sqlite.append_timeout import stalled
from relay.buffer.sqlite.backlogs import Backlogs
from relay.buffer.sqlite.commands import (
    Append,
    Command,
    Corrupt,
    Flush,
    Reload,
    Transact,
    Waiter,
)
from relay.buffer.sqlite.directory import StateDirectory
from relay.buffer.sqlite.housekeeping import USUAL_NEED_BYTES, Housekeeping
from relay.buffer.sqlite.ledger import Ledger
from relay.buffer.sqlite.lifecycle import Lifecycle
from relay.buffer.sqlite.logfile import LogFile
from relay.buffer.sqlite.rows import Group, build_group
from relay.buffer.sqlite.schema import CORRUPT_ERRORS, DISK_ERRORS, ODD_VALUES
from relay.buffer.sqlite.space.row_age import RowAges
from relay.buffer.sqlite.types import Loaded
from relay.model.errors import BufferUnavailable, RelayError
from relay.model.records import DeadLetter

log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(__name__)

_PROBE_SECONDS = 1.0
_MOST_ODD_VALUES = 3


class _NoRoom(Exception):
    """The transaction does not fit."""

    def __init__(self, need_bytes: int) -> None:
        self.need_bytes = need_bytes


class Writer:
    """The thread and what it owns: the writing connection and everything measured with it."""

    def __init__(
        self,
        state_dir: StateDirectory,
        ledger: Ledger,
        backlogs: Backlogs,
        ages: RowAges,
        *,
        vfs: str | None,
    ) -> None:
        self._settings = ledger.settings
        self._counters = ledger.counters
        self._ledger = ledger
        self._acks = ledger.pending
        self._backlogs = backlogs
        self._clock_ns = ages.clock_ns
        self._uptime = ages.uptime_ns
        self._queue = ledger.commands
        self._carried: Command | None = None
        self._in_hand: list[Waiter] = []
        self._stopping = False
        self._odd_values = 0
        self._house = Housekeeping(state_dir, ages, ledger, backlogs)
        self.lifecycle = Lifecycle(state_dir, ledger, backlogs, self._house, vfs=vfs)
        self._thread = threading.Thread(target=self._run, name="buffer-writer", daemon=True)
        self.busy_since: float | None = None  # monotonic; while the disk has something to do

    # -- the loop's side ----------------------------------------------------------------------

    def open(self) -> Loaded:
        """Open or make the file and start the thread. Raises one of DISK_ERRORS."""
        loaded = self.lifecycle.open()
        self._house.publish(self.lifecycle.usable())
        self._thread.start()
        return loaded

    def join(self) -> None:
        """Wait until the thread has ended."""
        if self._thread.ident is not None:
            self._thread.join()

    def refuse_early(self, stall_seconds: float) -> None:
        """Raise BufferFull or BufferUnavailable when a request would be refused or wait in vain."""
        if self.lifecycle.is_full:
            raise self.lifecycle.full()
        since = self.busy_since
        if since is not None and (seconds := time.monotonic() - since) > stall_seconds:
            raise BufferUnavailable(stalled(seconds))

    @property
    def busy_seconds(self) -> float:
        """How long the disk has kept the thread by now, else 0.0."""
        since = self.busy_since
        return time.monotonic() - since if since is not None else 0.0

    # -- the thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            while not self._stopping:
                self._turn()
            self._commit_acks([])
            self._take_leave()
        except BaseException as caught:
            log.exception("buffer_writer_died")
            self.lifecycle.last_error = f"the writer died: {type(caught).__name__}"
            error = caught
        finally:
            self.lifecycle.close(checkpoint=error is None)
            self._refuse_rest()
            self._ledger.death = error
            self._ledger.post(self._backlogs.ended.set)

    def _take_leave(self) -> None:
        file = self.lifecycle.file
        if file is not None and not self.lifecycle.last_error:
            with suppress(BufferUnavailable), self.lifecycle.trouble():
                self._house.leave(file)

    def _refuse_rest(self) -> None:
        # In hand is what a turn had taken when it ended early; who was answered is not hurt.
        waiters = self._in_hand
        while (command := self._next(0.0)) is not None:
            if (waiter := getattr(command, "waiter", None)) is not None:
                waiters.append(waiter)
        self._ledger.refuse(waiters, BufferUnavailable("the buffer is closed"))

    def _next(self, timeout: float) -> Command | None:
        if self._carried is not None:
            command, self._carried = self._carried, None
            return command
        try:
            return self._queue.get(timeout=timeout)
        except queue.Empty:
            return None

    def _turn(self) -> None:
        command = self._next(self._wait_seconds())
        self._in_hand = []
        appends: list[Append] = []
        flushes: list[Waiter] = []
        size, most_bytes = 0, self._settings.transaction_limit_bytes
        has_flush = False
        transact: Transact | None = None
        while command is not None:
            if isinstance(command, Append):
                if appends and size + command.size > most_bytes:
                    self._carried = command
                    break
                appends.append(command)
                self._in_hand.append(command.waiter)
                size += command.size
            elif isinstance(command, Flush):
                has_flush = True
                if command.waiter is not None:
                    flushes.append(command.waiter)
                    self._in_hand.append(command.waiter)
            elif isinstance(command, Transact):
                # One a turn, after what came before it: requests behind it wait for one only.
                transact = command
                self._in_hand.append(command.waiter)
                break
            elif isinstance(command, Corrupt):
                self._in_hand.append(command.waiter)
                with self._busy():
                    self.lifecycle.replace_reported(command)
            elif isinstance(command, Reload):
                self._reload(command.settings)
            else:
                self._stopping = True
            command = self._next(0.0)
        # Who waited too long was told so, and retries.
        appends = [append for append in appends if not was_refused(append.waiter)]
        if appends:
            self._append(appends)
        if flushes or has_flush or (self.lifecycle.last_error and not appends):
            self._commit_acks(flushes)
        if transact is not None:
            self._run_transaction(transact)
        self._keep_house()

    def _wait_seconds(self) -> float:
        if self.lifecycle.last_error:
            return _PROBE_SECONDS
        return self._house.wait_seconds(is_full=self.lifecycle.is_full)

    # -- committing ---------------------------------------------------------------------------

    def _append(self, appends: list[Append]) -> None:
        """Commit, or refuse, every one of `appends`: together, or singly if that fails."""
        try:
            with self._busy():
                try:
                    group = self._commit(appends)
                except _NoRoom as error:
                    if not self._make_room(error.need_bytes):
                        raise
                    group = self._commit(appends)
        except BufferUnavailable as error:
            self._ledger.refuse([append.waiter for append in appends], error)
        except Exception as error:  # whatever the data may cause, one request must bear it alone
            if len(appends) > 1:
                for append in appends:
                    self._append([append])
            elif isinstance(error, _NoRoom):
                self._ledger.refuse([appends[0].waiter], self.lifecycle.full())
            else:
                log.exception("request_not_storable")
                words = f"this request cannot be stored: {type(error).__name__}"
                self._ledger.refuse([appends[0].waiter], BufferUnavailable(words))
        else:
            self._ledger.post(self._backlogs.on_committed, appends, group)

    def _commit(self, appends: list[Append]) -> Group:
        """One transaction of `appends` and what was settled; of nothing only to probe the disk.

        Raises _NoRoom, and BufferUnavailable when the disk refuses.
        """
        requests = [append.request for append in appends]
        with self.lifecycle.writable() as file:
            group = build_group(
                requests,
                after_row=file.last_row,
                totals=file.totals,
                settings=self._settings,
                uptime=self._uptime,
            )
            if appends and not self._house.space.fits(file.connection, group.need_bytes):
                raise _NoRoom(group.need_bytes)
            acks = self._acks.take() if self._acks.waiting else {}
            if not appends and not acks and not self.lifecycle.last_error:
                return group
            started = time.monotonic()
            try:
                file.commit(group, acks, now_ns=self._clock_ns())
            except BaseException:
                self._acks.put_back(acks)
                raise
            seconds = time.monotonic() - started
        if acks:
            self._acks.written()
        self._counters.commits += 1
        self._counters.commit_seconds_sum += seconds
        self._counters.recent_commit_seconds.append(seconds)
        self._house.committed(file, group, acks)
        if any(ack.is_removed for ack in acks.values()):
            # Before whoever removed it is answered: else a crash might bring it back.
            with suppress(BufferUnavailable), self.lifecycle.trouble():
                file.keep_ledger()
        return group

    def _make_room(self, need_bytes: int) -> bool:
        """Let go what may go; whether so much fits then. Raises BufferUnavailable."""
        self._commit_acks([])
        file = self.lifecycle.usable()
        with self.lifecycle.trouble():
            is_full = not self._house.make_room(file, need_bytes)
            has_room = self._house.space.fits(file.connection, need_bytes)
            self._house.publish(file)  # who sees that there is room sees what went for it
            self.lifecycle.note_full(is_full=is_full)
        return has_room

    def _run_transaction(self, command: Transact) -> None:
        """A transaction of its own, after everything that was settled is on disk."""
        transaction = command.transaction
        need_bytes = transaction.need_bytes
        try:
            with self._busy():
                self._commit([])
                connection = self.lifecycle.usable().connection
                has_room = not need_bytes or self._house.space.fits(connection, need_bytes)
                if not has_room and not self._make_room(need_bytes):
                    raise self.lifecycle.full()
                with self.lifecycle.writable() as file:
                    started = time.monotonic()
                    run = partial(transaction.run, now_ns=self._clock_ns())
                    result = run(file) if transaction.is_upkeep else file.work(run)
                    seconds = time.monotonic() - started
        except Exception as error:
            if not isinstance(error, RelayError):
                log.exception("buffer_job_failed", job=type(transaction).__name__)
            self._ledger.refuse([command.waiter], error)
            return
        self._counters.commits += 1
        self._counters.commit_seconds_sum += seconds
        self._counters.recent_commit_seconds.append(seconds)
        self._house.transacted(file, need_bytes)
        readmitted = transaction.readmitted()
        self._ledger.post(self._backlogs.on_transacted, command.waiter, result, readmitted)

    def _commit_acks(self, waiters: list[Waiter], *, is_again: bool = False) -> None:
        had_reserve = bool(self._house.space.reserve.bytes)
        try:
            with self._busy():
                self._commit([])
        except BufferUnavailable as error:
            if had_reserve and not self._house.space.reserve.bytes and not is_again:
                self._commit_acks(waiters, is_again=True)  # there is room for it now
            else:
                self._ledger.refuse(waiters, error)
            return
        except Exception:  # a dead letter that cannot be stored must not hold up the ranges
            log.exception("moves_not_storable")
            with suppress(BufferUnavailable):
                self._commit_acks_singly()
        self._ledger.resolve(waiters)

    def _commit_acks_singly(self) -> None:
        """Ranges first, then each dead letter by itself; one that cannot be stored is logged."""
        file = self.lifecycle.usable()
        acks = self._acks.take()
        with self.lifecycle.trouble():
            try:
                for name, ack in list(acks.items()):
                    letters, ack.letters = ack.letters, []
                    file.commit(Group(), {name: ack}, now_ns=self._clock_ns())
                    ack.deliveries, ack.is_removed = [], False
                    while letters:
                        self._commit_letter(file, letters.pop(0))
                    del acks[name]
            finally:
                self._acks.put_back(acks)

    def _commit_letter(self, file: LogFile, letter: DeadLetter) -> None:
        try:
            file.commit(Group(letters=[letter]), {}, now_ns=self._clock_ns())
        except (*DISK_ERRORS, *CORRUPT_ERRORS):
            raise
        except Exception:
            log.exception("dead_letter_not_storable", destination=letter.destination)

    @contextmanager
    def _busy(self) -> Iterator[None]:
        """Let others see since when the disk keeps us: commits, opening and housekeeping alike."""
        before = self.busy_since
        self.busy_since = before or time.monotonic()
        try:
            yield
        finally:
            self.busy_since = before

    def _reload(self, settings: BufferSettings) -> None:
        self._settings = settings
        self.lifecycle.reload(settings)
        self._house.reload(settings, self.lifecycle.file)

    # -- housekeeping -------------------------------------------------------------------------

    def _keep_house(self) -> None:
        file = self.lifecycle.file
        if file is None or self.lifecycle.last_error:
            return
        if self._house.postpones(is_full=self.lifecycle.is_full):
            return
        is_idle = self._queue.empty() and self._carried is None
        with suppress(BufferUnavailable), self._busy(), self.lifecycle.trouble():
            try:
                changed = self._house.step(file, is_idle=is_idle)
            except ODD_VALUES as error:
                # Where it happens in one file after the other, it is our mistake.
                self._odd_values += 1
                if self._odd_values > _MOST_ODD_VALUES:
                    raise
                log.exception("buffer_value_damaged")
                raise apsw.CorruptError(f"a value that cannot be: {error}") from error
            if changed:
                self._house.publish(file)
            if self.lifecycle.is_full and self._house.fits_any(file):
                self.lifecycle.note_full(is_full=False)
            elif self.lifecycle.is_full:
                self._make_room(USUAL_NEED_BYTES)


def was_refused(waiter: Waiter) -> bool:
    """Whether somebody was told that his request is not kept, although it waits here still."""
    return waiter.done() and not waiter.cancelled()
