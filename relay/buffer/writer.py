"""Requests and moves in, commits and their news out: the one thread that writes and checkpoints.

One turn: take everything that waits, commit it in one transaction, answer all waiters with one
call into the event loop, and only then keep house (checkpoint, retention, vacuum), in short
steps. The loop's side never waits for a lock that is held during a write.
"""

import queue
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import structlog

from relay.buffer.ages import Ages
from relay.buffer.housekeeping import USUAL_NEED_BYTES, Housekeeping
from relay.buffer.jobs import perform
from relay.buffer.logfile import LogFile, Persisted, open_file
from relay.buffer.messages import (
    Answer,
    Append,
    Corrupt,
    Events,
    Flush,
    Message,
    Published,
    Reload,
    Work,
)
from relay.buffer.moves import PendingMoves
from relay.buffer.place import Place, time_label
from relay.buffer.rows import Group, build_group
from relay.buffer.schema import CORRUPT_ERRORS, DISK_ERRORS
from relay.buffer.settings import BufferSettings
from relay.buffer.trouble import limit_for, words_for
from relay.buffer.values import Loaded, Totals
from relay.counters import Counters
from relay.errors import BufferFull, BufferUnavailable, RelayError
from relay.records import DeadLetter

log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(__name__)

_PROBE_SECONDS = 1.0
_FILE_CHECK_SECONDS = 0.25


class _NoRoom(Exception):
    """The transaction does not fit."""


class Writer:
    """The thread and what it owns: the writing connection and everything measured with it."""

    def __init__(
        self,
        place: Place,
        settings: BufferSettings,
        counters: Counters,
        moves: PendingMoves,
        events: Events,
        *,
        vfs: str | None,
        ages: Ages,
    ) -> None:
        self._place = place
        self._settings = settings
        self._counters = counters
        self._moves = moves
        self._events = events
        self._vfs = vfs
        self._clock_ns = ages.clock_ns
        self._uptime = ages.uptime_ns
        self._queue: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._carried: Message | None = None
        self._in_hand: list[Answer] = []
        self._stopping = False
        self._file: LogFile | None = None
        self._known_totals = Totals()
        self._known_row = 0
        self._known_destinations: dict[str, Persisted] = {}
        self._set_asides = 0
        self._next_file_check = 0.0
        self._house = Housekeeping(place, settings, ages, events, moves)
        self._thread = threading.Thread(target=self._run, name="buffer-writer", daemon=True)
        self.generation = 0
        self.published = Published()
        self.is_full = False
        self.limit = ""  # which one, in words, while it is full
        self.last_error = ""
        self.last_commit_seconds = 0.0
        self._busy_since: float | None = None  # monotonic; while the disk has something to do

    # -- the loop's side ----------------------------------------------------------------------

    def open(self) -> Loaded:
        """Open or make the file and start the thread. Raises one of DISK_ERRORS."""
        try:
            file = open_file(self._place, self._settings, vfs=self._vfs)
        except DISK_ERRORS:
            if not self._house.open_on_full_disk():
                raise
            file = open_file(self._place, self._settings, vfs=self._vfs)
        self._set_asides = self._place.set_asides
        self._adopt(file, is_first=True)
        loaded = file.loaded()
        self._publish(file)
        self._thread.start()
        return loaded

    def put(self, message: Message) -> None:
        """Hand a message over; one wake-up a group, since a busy writer is not waiting."""
        self._queue.put(message)

    def join(self) -> None:
        """Wait until the thread has ended."""
        if self._thread.ident is not None:
            self._thread.join()

    @property
    def busy_seconds(self) -> float:
        """How long the disk has kept the thread by now, else 0.0."""
        since = self._busy_since
        return time.monotonic() - since if since is not None else 0.0

    # -- the thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            while not self._stopping:
                self._turn()
            self._commit_moves([])
            self._take_leave()
        except BaseException as caught:
            log.exception("buffer_writer_died")
            self.last_error = f"the writer died: {type(caught).__name__}"
            error = caught
        finally:
            if self._file is not None:
                self._file.close(checkpoint=error is None and not self.last_error)
            self._refuse_rest()
            self._events.died(error)

    def _take_leave(self) -> None:
        file = self._file
        if file is not None and not self.last_error:
            with suppress(BufferUnavailable), self._file_trouble():
                self._house.leave(file)

    def _refuse_rest(self) -> None:
        # In hand is what a turn had taken when it ended early; who was answered is not hurt.
        answers = self._in_hand
        while (message := self._next(0.0)) is not None:
            if isinstance(message, Append | Flush | Corrupt | Work) and message.answer is not None:
                answers.append(message.answer)
        self._events.refused(answers, BufferUnavailable("the buffer is closed"))

    def _next(self, timeout: float | None) -> Message | None:
        if self._carried is not None:
            message, self._carried = self._carried, None
            return message
        try:
            return self._queue.get(timeout != 0.0, timeout or None)
        except queue.Empty:
            return None

    def _turn(self) -> None:
        message = self._next(self._wait_seconds())
        self._in_hand = []
        appends: list[Append] = []
        flushes: list[Answer] = []
        size = 0
        has_flush = False
        work: Work | None = None
        while message is not None:
            if isinstance(message, Append):
                if appends and size + message.size > self._settings.transaction_limit_bytes:
                    self._carried = message
                    break
                appends.append(message)
                self._in_hand.append(message.answer)
                size += message.size
            elif isinstance(message, Flush):
                has_flush = True
                if message.answer is not None:
                    flushes.append(message.answer)
                    self._in_hand.append(message.answer)
            elif isinstance(message, Work):
                # One a turn, after what came before it: requests behind it wait for one job only.
                work = message
                self._in_hand.append(message.answer)
                break
            elif isinstance(message, Corrupt):
                self._in_hand.append(message.answer)
                with self._busy():
                    self._replace_reported(message)
            elif isinstance(message, Reload):
                self._reload(message.settings)
            else:
                self._stopping = True
            message = self._next(0.0)
        # Who waited too long was told so, and comes again.
        appends = [append for append in appends if not was_refused(append.answer)]
        if appends:
            self._append(appends)
        if flushes or has_flush or (self.last_error and not appends):
            self._commit_moves(flushes)
        if work is not None:
            self._work(work)
        self._keep_house()

    def _wait_seconds(self) -> float | None:
        if self.last_error:
            return _PROBE_SECONDS
        return self._house.wait_seconds(is_full=self.is_full)

    # -- committing ---------------------------------------------------------------------------

    def _append(self, appends: list[Append]) -> None:
        """Commit, or refuse, every one of `appends`: together, or singly if that fails."""
        try:
            with self._busy():
                group = self._commit(appends)
        except _NoRoom:
            if len(appends) == 1:
                self._events.refused([appends[0].answer], self.full())
                return
        except BufferUnavailable as error:
            self._events.refused([append.answer for append in appends], error)
            return
        except Exception as error:  # whatever the data may cause, one request must bear it alone
            if len(appends) == 1:
                log.exception("request_not_storable")
                self._events.refused(
                    [appends[0].answer],
                    BufferUnavailable(f"this request cannot be stored: {type(error).__name__}"),
                )
                return
        else:
            self._events.committed(appends, group)
            return
        for append in appends:
            self._append([append])

    def _commit(self, appends: list[Append]) -> Group:
        file = self._usable_file()
        group = self._build(file, appends)
        if not self._has_room(file, group.need_bytes):
            raise _NoRoom
        self._transact(group)
        return group

    def _has_room(self, file: LogFile, need_bytes: int) -> bool:
        """Whether so much fits, after what may give way for it has. Raises BufferUnavailable."""
        if self._house.fits(file, need_bytes):
            return True
        self._commit_moves([])
        file = self._usable_file()
        with self._file_trouble():
            self._note_full(is_full=not self._house.make_room(file, need_bytes))
            has_room = self._house.fits(file, need_bytes)
            self._publish(file)
        return has_room

    def _note_full(self, *, is_full: bool) -> None:
        if is_full != self.is_full:
            self.limit = self._house.space.limit() if is_full else ""
            log.warning("buffer_full" if is_full else "buffer_has_room", limit=self.limit)
        self.is_full = is_full

    def full(self) -> BufferFull:
        """What to tell somebody for whom there is no room."""
        return BufferFull(f"the buffer is full: {self.limit}" if self.limit else None)

    def _work(self, work: Work) -> None:
        """A transaction of its own, after everything that moved is on disk."""
        try:
            with self._busy():
                self._transact(None)
                need_bytes = work.job.need_bytes
                if need_bytes and not self._has_room(self._usable_file(), need_bytes):
                    raise self.full()
                file = self._usable_file()
                started = time.monotonic()
                with self._file_trouble():
                    result = perform(work.job, file, now_ns=self._clock_ns())
            self._counters.add_commit(time.monotonic() - started)
        except Exception as error:
            if not isinstance(error, RelayError):
                log.exception("buffer_job_failed", job=type(work.job).__name__)
            self._events.failed(work, error)
            return
        self._known_row, self._known_totals = file.last_row, file.totals
        self._house.note_job(file, need_bytes)
        self._publish(file)
        self._events.worked(work, result)

    def _build(self, file: LogFile, appends: list[Append]) -> Group:
        return build_group(
            [append.request for append in appends],
            after_row=file.last_row,
            totals=file.totals,
            settings=self._settings,
            uptime=self._uptime,
        )

    def _transact(self, group: Group | None) -> None:
        """One transaction with what moved. Raises BufferUnavailable when the disk refuses."""
        file = self._usable_file()
        moves = self._moves.take()
        if group is None and not moves and not self.last_error:
            return
        started = time.monotonic()
        with self._file_trouble():
            try:
                file.commit(group, moves, now_ns=self._clock_ns())
            except BaseException:
                self._moves.put_back(moves)
                raise
        self._moves.written()
        self.last_commit_seconds = time.monotonic() - started
        self._counters.add_commit(self.last_commit_seconds)
        if self.last_error:
            log.info("buffer_disk_recovered")
        self.last_error = ""
        self._known_row, self._known_totals = file.last_row, file.totals
        self._house.note_commit(group.need_bytes if group is not None else 0, has_moves=bool(moves))
        self._publish(file)

    def _commit_moves(self, answers: list[Answer]) -> None:
        try:
            with self._busy():
                self._transact(None)
        except BufferUnavailable as error:
            self._events.refused(answers, error)
            return
        except Exception:  # a dead letter that cannot be stored must not hold up the ranges
            log.exception("moves_not_storable")
            with suppress(BufferUnavailable):
                self._commit_moves_singly()
        self._events.done(answers)

    def _commit_moves_singly(self) -> None:
        """Ranges first, then each dead letter by itself; one that cannot be stored is logged."""
        file = self._usable_file()
        moves = self._moves.take()
        with self._file_trouble():
            try:
                for name, move in list(moves.items()):
                    letters, move.letters = move.letters, []
                    file.commit(None, {name: move}, now_ns=self._clock_ns())
                    move.deliveries, move.is_removed = [], False
                    while letters:
                        self._commit_letter(file, letters.pop(0))
                    del moves[name]
            finally:
                self._moves.put_back(moves)

    def _commit_letter(self, file: LogFile, letter: DeadLetter) -> None:
        group = Group(letters=[letter], totals=file.totals)
        try:
            file.commit(group, {}, now_ns=self._clock_ns())
        except (*DISK_ERRORS, *CORRUPT_ERRORS):
            raise
        except Exception:
            log.exception("dead_letter_not_storable", destination=letter.destination)

    # -- the file -----------------------------------------------------------------------------

    @contextmanager
    def _busy(self) -> Iterator[None]:
        """Let others see since when the disk keeps us: commits, opening and housekeeping alike."""
        before = self._busy_since
        self._busy_since = before or time.monotonic()
        try:
            yield
        finally:
            self._busy_since = before

    @contextmanager
    def _file_trouble(self) -> Iterator[None]:
        """Turn what SQLite says about the disk or the file into BufferUnavailable, and act."""
        try:
            yield
        except DISK_ERRORS as error:
            self._lose_file(error)
            raise BufferUnavailable(f"the buffer cannot write: {self.last_error}") from error
        except CORRUPT_ERRORS as error:
            self._replace(str(error))
            raise BufferUnavailable(
                "the buffer's file was found damaged and has just been replaced"
            ) from error

    def _usable_file(self) -> LogFile:
        """The open file, opened again if it was lost. Raises BufferUnavailable."""
        now = time.monotonic()
        if now >= self._next_file_check or self._file is None:
            missing = self._place.missing_file()
            if missing:
                self.last_error = f"{missing} was removed or replaced under the running relay"
                raise BufferUnavailable(
                    self.last_error, hint="put it back, or restart to begin a new one"
                )
            self._next_file_check = now + _FILE_CHECK_SECONDS
        if self._file is None:
            try:
                self._adopt(self._open_again())
            except DISK_ERRORS as error:
                self._lose_file(error)
                words = f"the buffer cannot be opened: {self.last_error}"
                raise BufferUnavailable(words) from error
        file = self._file
        if file is None:
            raise BufferUnavailable("the buffer is closed")
        return file

    def _open_again(self) -> LogFile:
        return open_file(
            self._place,
            self._settings,
            vfs=self._vfs,
            known=self._known_destinations,
            above_row=self._known_row,
        )

    def _adopt(self, file: LogFile, *, is_first: bool = False) -> None:
        """Use `file`: the one we had, or a new one after that was set aside."""
        self._file = file
        if self._place.set_asides != self._set_asides:
            self._set_asides = self._place.set_asides
            self.generation += 1
            self._moves.forget_places()
            self._events.replaced(file.last_row)
        elif not is_first and file.last_row > self._known_row:
            # A commit whose fsync failed is in it after all.
            self._events.appeared(file.last_row, file.totals - self._known_totals)
        self._known_row, self._known_totals = file.last_row, file.totals
        self._house.look(file)

    def _lose_file(self, error: Exception) -> None:
        """The disk refused: say so, and open the file anew at the next try."""
        connection = self._file.connection if self._file is not None else None
        words = words_for(error, connection)
        is_no_space = self._house.no_space(error, self._file)
        if is_no_space:
            self.is_full, self.limit = True, limit_for(error, connection)
        if words != self.last_error:  # it is tried every second
            log.error("buffer_disk_error", error=words)
        self.last_error = words
        if self._file is not None and not is_no_space:
            self._known_destinations = self._file.destinations
            self._file.close(checkpoint=False)
            self._file = None

    def _replace_reported(self, message: Corrupt) -> None:
        if message.generation == self.generation and self._file is not None:
            self._replace(message.words)
        self._events.done([message.answer])

    def _replace(self, words: str) -> None:
        """Set the file aside and open a new one with higher ids.

        Reading the old one back behind the new one is not here yet; its place is after the
        rename, as a thread of its own that appends what it can read.
        """
        file = self._file
        if file is None:
            return
        log.error("buffer_file_corrupt", error=words)
        self._known_destinations = file.destinations
        self._known_row = max(self._known_row, file.last_row)
        file.close(checkpoint=False)
        self._file = None
        try:
            self._place.set_aside(f"corrupt-{time_label()}")
            self._adopt(self._open_again())
        except DISK_ERRORS as error:
            self._lose_file(error)

    def _reload(self, settings: BufferSettings) -> None:
        self._settings = settings
        self._house.reload(settings, self._file)
        if self._file is not None:
            self._file.letters.settings = settings

    # -- housekeeping -------------------------------------------------------------------------

    def _keep_house(self) -> None:
        file = self._file
        if file is None or self.last_error:
            return
        is_idle = self._queue.empty() and self._carried is None
        with suppress(BufferUnavailable), self._busy(), self._file_trouble():
            changed = self._house.step(file, is_idle=is_idle)
            if self.is_full and self._house.fits_any(file):
                self._note_full(is_full=False)
            elif self.is_full:
                self._has_room(file, USUAL_NEED_BYTES)
            if changed:
                self._publish(file)

    def _publish(self, file: LogFile) -> None:
        self.published = self._house.published(file)

    @property
    def evictions_begun(self) -> int:
        """How often rows were deleted that were owed, as a reader may see it already."""
        return self._house.eviction.begun


def was_refused(answer: Answer) -> bool:
    """Whether somebody was told that his request is not kept, although it waits here still."""
    return answer.done() and not answer.cancelled()
